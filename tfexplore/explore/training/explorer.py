"""The training explorer: loss, accuracy and firing rates, live, and what one hidden neuron does with one test image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import nn

from tfexplore.data import currents
from tfexplore.explore.base.controls import Choice, Slider, moved
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.training import figure
from tfexplore.explore.training.networks import WALKS, shared, subject, tuned
from tfexplore.explore.training.observe import SHOWN, Traces, TrainingRun, accuracy, examine, firing_rates, spiking
from tfexplore.nn.networks import BATCH, fit, mlp

SLOW = 0.2  # seconds of a batch from which on the page would seem frozen
DRAWN = 0.5  # seconds between two drawings: a browser draws no faster than it can
LIVELY = {"mlp": 44, "conv": 37}  # neurons worth looking at once they are trained
PARAMETERS = {"tau": "tau", "threshold": "v_threshold"}  # of the spiking layers, by control


class Training(Runner):
    r"""Trains a spiking network, live: loss, accuracy and firing rates, one neuron's potential, and its layer's spikes.

    Every batch's images become constant currents over T time steps; the loss is the cross-entropy of the output's mean over
    time, and Adam minimises it by backpropagation through time with surrogate gradients.

    Args:
        network: "mlp", "conv", or a module of yours that maps currents `[T, B, *features]` to `[T, B, classes]`. Yours is not
            changed: every Start trains a copy, `result.net`, in which the walk sets the backend of every layer.
        data: for a module of yours, (x_train, y_train, x_test, y_test) with x `[n, *features]` and y `[n]`; by default the
            digits.
        walk: the order in which the (layer, time) grid is computed: "fused", "layer by layer" or "step by step".
        steps: time steps `T`.
        hidden: neurons in each hidden layer of "mlp".
        epochs: passes over the training images.
        rate: Adam's learning rate; by default one that suits the network.
        neuron: the row of the raster whose neuron is shown; by default a lively one.
        seed: of the weights and of the order of the batches. What else is random (Dropout) draws from torch's generator.

    Controls: walk, steps, hidden (mlp), tau and threshold (where all spiking layers share one), epochs; layer, digit and
    neuron choose at any time what is observed; start, stop, resume.

    Result: `tfexplore.explore.training.observe.TrainingRun`, with `losses`, `accuracies`, `rates` and the trained `net`.

    Raises:
        TypeError: if data is no four tensors of the right kinds.
        ValueError: if network or walk is none of those allowed, or a module of yours cannot be trained on the data.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> training = explore.training("mlp", epochs=1, hidden=16, steps=4)
        >>> len(asyncio.run(training.run()).losses)
        23

    Surrogate gradients: Neftci, Mostafa and Zenke, IEEE Signal Processing Magazine 36, 2019.
    """

    caption = (
        "Left: loss of every batch, and accuracy on the test images after every epoch. Middle: potential of one hidden "
        "neuron for one test image (up to h, then reset to v; dots are spikes), and the spikes of its layer. "
        "Right: that image, and the share of all time steps in which the neurons of each layer fire."
    )
    resumable = True

    walk = Choice("walk", tuple(WALKS), help="the order in which the (layer, time) grid is computed")
    steps = Slider("time steps T", 2, 64)
    hidden = Slider("hidden neurons", 16, 512, step=16)
    tau = Slider("time constant τ", 1.0, 8.0, step=0.5, help="membrane time constant, in time steps")
    threshold = Slider("threshold", 0.1, 10.0, step=0.1, help="potential from which a neuron fires")
    epochs = Slider("epochs", 1, 20)
    layer = Choice("hidden layer shown", (), help="layer of the potential and of the raster")
    digit = Slider("test image shown", 0, 0)
    neuron = Slider("hidden neuron shown", 0, SHOWN - 1, help="its row in the raster")

    def __init__(
        self, network: str | nn.Module = "mlp", data: Sequence[object] | None = None, *, walk: str = "fused",
        steps: int = 16, hidden: int = 128, epochs: int = 6, rate: float | None = None, neuron: int | None = None,
        seed: int = 0,
    ) -> None:  # fmt: skip
        if walk not in WALKS:
            raise ValueError(f"walk must be one of {', '.join(map(repr, WALKS))}, but got {walk!r}.")
        self.base, self.data, suitable, name = subject(network, data, walk, steps, hidden=hidden, seed=seed)
        self.rate, self.seed = rate or suitable, seed
        self.traces: Traces
        self._neuron = LIVELY.get(name) if neuron is None else neuron
        self._busy = threading.Lock()  # nothing observes a network while it learns in a background thread
        kind, names = type(self), list(spiking(self.base))
        super().__init__(
            walk=walk, steps=steps, hidden=hidden if name == "mlp" else None, epochs=epochs,
            **{control: shared(self.base, parameter) for control, parameter in PARAMETERS.items()},
            layer=kind.layer.at(names[-1], options=names),
            digit=kind.digit.at(0, label=f"test {'image' if data is None else 'example'} shown",
                                high=len(self.data.test_labels) - 1),
        )  # fmt: skip

    def begin(self) -> None:
        self.update()
        if self._neuron is None:
            self.change_layer()
        else:
            self.neuron = self._neuron  # the slider keeps it within the raster

    # -- what the controls do --------------------------------------------------------------------------------------

    def net(self) -> nn.Module:
        """A new, untrained network according to the controls."""
        base = mlp(self.hidden, self.seed) if "hidden" in self.controls else self.base
        return tuned(base, self.walk, **{p: getattr(self, c) for c, p in PARAMETERS.items() if c in self.controls})

    def look(self) -> TrainingRun:
        return TrainingRun(self.walk, self.net())

    def update(self) -> None:
        """Another network, untrained."""
        self.abandon()
        self.result = self.look()
        self.untrained(self.result)
        self.show_traces()
        self.say(self.sentence())

    @moved("epochs")
    def change_epochs(self) -> None:
        """Nothing begins anew: a run reads after every batch how far it goes."""

    @moved("layer")
    def change_layer(self) -> None:
        """Another layer: shows a neuron that fires now and then, so that there is something to see."""
        self.retrace()
        with self.quietly():
            self.neuron = self.traces.liveliest()
        self.draw()

    @moved("digit", "neuron")
    def show_traces(self) -> None:
        """Shows what the network, as it is now, does with the chosen image."""
        self.retrace()
        self.draw()

    def retrace(self) -> None:
        with self._busy:
            self.traces = examine(self.result.net, self.data, self.digit, self.steps, self.layer)
        with self.quietly():
            self.controls["neuron"].max = len(self.traces.cells) - 1

    # -- the work --------------------------------------------------------------------------------------------------

    def untrained(self, run: TrainingRun) -> None:
        """The firing rates before the first batch."""
        run.rates = [(0, firing_rates(run.net, self.data, self.steps))]

    def alone(self, work: Callable[[], None]) -> None:
        with self._busy:
            work()

    def work(self, result: TrainingRun) -> Iterator[object]:
        steps, walk, net = self.steps, WALKS[self.walk][0], result.net
        self.say_compiling()
        yield self.in_background(lambda: walk(self.net(), currents(self.data.train_images[:2], 2)).sum().backward())
        yield self.in_background(partial(self.alone, partial(self.untrained, result)))
        batches = fit(net, self.data, walk, steps, self.rate, self.seed)
        in_epoch = -(-len(self.data.train_labels) // BATCH)

        def learn() -> None:
            begin = time.perf_counter()
            result.losses.append(next(batches))
            result.seconds += time.perf_counter() - begin

        def test() -> None:
            result.accuracies.append((len(result.losses), accuracy(net, self.data, walk, steps)))

        def rates() -> None:
            result.rates.append((len(result.losses), firing_rates(net, self.data, steps)))

        drawn, examined, slow = 0.0, True, True
        while True:
            done = len(result.losses)
            over = done >= in_epoch * self.epochs  # the slider may be moved meanwhile
            if over or (done and time.perf_counter() - drawn > DRAWN):
                yield self.piece(rates, slow)
                if not examined:
                    self.retrace()
                self.draw()
                self.say(result.sentence())
                examined, drawn = True, time.perf_counter()
            if over:
                return
            before = result.seconds
            yield self.piece(learn, slow)
            slow = result.seconds - before > SLOW
            if len(result.losses) % in_epoch == 0:
                yield self.piece(test, slow=True)
                examined = False

    def piece(self, work: Callable[[], None], slow: bool) -> object:
        """Slow work is done in the background, so that the page stays alive; for short work a thread costs more than it saves."""
        if slow:
            return self.in_background(partial(self.alone, work))
        work()
        return None

    # -- what is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.traces, self.neuron)

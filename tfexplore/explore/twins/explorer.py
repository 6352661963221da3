"""The twins explorer: the same training by backpropagation through time and with the levels walked back, live."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from tfexplore.explore.base.controls import Choice, Scale, Slider, moved
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.policies import tasks
from tfexplore.explore.twins import figure
from tfexplore.explore.twins.trainings import BPTT, KEEPS, Twins, fit, memory, network
from tfexplore.measure import clock
from tfexplore.nn.networks import BATCH, images

DRAWN = 0.5  # seconds between two drawings
STEPS = (4, 8, 16, 32, 64)


class TwinsExplorer(Runner):
    """Trains three reversible levels on the digits twice, from the same weights on the same batches, and compares what it takes.

    One training keeps everything of every time step (BPTT), the other what you choose; the levels are then computed again in its
    backward pass. They take turns batch by batch, so that noise on the machine hits both alike.

    Args:
        keep: "bits", "levels" or "last": what the second training keeps.
        steps: time steps `T`: 4, 8, 16, 32 or 64.
        epochs: passes over the training images.
        seed: of the weights and of the order of the batches.

    Controls: keep, steps, epochs; start, stop, resume.

    Result: `tfexplore.explore.twins.trainings.Twins`, with `losses`, `accuracies` and `memory` of both.

    Raises:
        ValueError: if an argument is none of those allowed; at the start, if keep is not safe for so many steps.

    Example:
        >>> from tfexplore import explore
        >>> explore.twins(steps=4).result.keep
        'bits'

    Hu et al., High-Performance Temporal Reversible Spiking Neural Networks, ICML 2024.
    """

    caption = (
        "Left: loss of every batch and, after every epoch, accuracy on the test images; backpropagation through time (BPTT) "
        "solid, the levels walked back dashed and on top of it. Right: what the tensors of one training step hold at once, at "
        "most, without the weights."
    )
    resumable = True

    keep = Choice("second one keeps", KEEPS, help="of every time step")
    steps = Scale("time steps T", {steps: str(steps) for steps in STEPS})
    epochs = Slider("epochs", 1, 10)

    def __init__(self, keep: str = "bits", *, steps: int = 16, epochs: int = 3, seed: int = 0) -> None:
        self.seed, self.data = seed, images()
        super().__init__(keep=keep, steps=steps, epochs=epochs)

    def look(self) -> Twins:
        return Twins(self.keep, self.steps, clock.machine())

    @moved("epochs")
    def change_epochs(self) -> None:
        """Nothing begins anew: a run reads after every batch how far it goes."""

    def work(self, result: Twins) -> Iterator[object]:
        nets = {keep: network(keep, result.steps, self.seed) for keep in result.losses}
        self.say_compiling()
        for keep in reversed(result.losses):  # what is not safe is refused first
            yield (
                found := self.in_background(
                    partial(memory, network(keep, result.steps, self.seed), self.data, result.steps)
                )
            )
            result.memory[keep] = found.result()
        result.memory = {keep: result.memory[keep] for keep in result.losses}
        trainings = {keep: fit(net, self.data, result.steps, self.seed) for keep, net in nets.items()}
        in_epoch, drawn = -(-len(self.data.train_labels) // BATCH), 0.0

        def learn(keep: str) -> None:
            begin = time.perf_counter()
            result.losses[keep].append(next(trainings[keep]))
            result.seconds[keep] += time.perf_counter() - begin

        while (done := len(result.losses[BPTT])) < in_epoch * self.epochs:
            for keep in list(nets)[:: 1 if done % 2 else -1]:
                yield self.in_background(partial(learn, keep))
            if (done + 1) % in_epoch == 0:
                for keep, net in nets.items():
                    yield (right := self.in_background(partial(tasks.accuracy, net, self.data, result.steps)))
                    result.accuracies[keep].append(right.result())
            if time.perf_counter() - drawn > DRAWN:
                self.show_all(result)
                drawn = time.perf_counter()
        self.show_all(result)

    def show_all(self, result: Twins) -> None:
        self.draw()
        self.say(result.sentence())

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.epochs)

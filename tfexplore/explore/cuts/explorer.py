"""The cuts explorer: which neurons' gradient through time matters?"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

from torch import nn

from tfexplore.explore.base.controls import Choice, Slider, moved
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.cuts import experiment, figure
from tfexplore.explore.cuts.experiment import ALL, CONTROLS, CUT, KEPT, SETS, Point
from tfexplore.explore.cuts.networks import NAMES, subject
from tfexplore.explore.cuts.runs import CutRuns
from tfexplore.explore.training.observe import spiking
from tfexplore.nn.residual import Residual, residual

SHOWN = {
    "every set": SETS,
    "stage ends kept": (KEPT, CONTROLS[KEPT], ALL),
    "stage ends cut": (CUT, CONTROLS[CUT], ALL),
}
EVERY = 10
"""Batches between two measurements."""


class Cuts(Runner):
    r"""Cuts the gradient through time in some layers of neurons, and compares what is left with the full gradient.

    A network trains by full backpropagation through time. Now and then, for one batch and the weights of that moment, the
    gradient of the convolutions' weights is computed again with the gradient through time cut in some layers of neurons:
    everywhere but at the ends of the stages, only there, everywhere, and, as controls, in as many layers chosen at random. The
    cosine with the full gradient says how much of its direction is left.

    The two built-in networks have four stages of two blocks (`tfexplore.nn.residual`) and learn the digits, with a border of
    one zero, so that the last stage has 2 x 2 pixels.

    Args:
        network: "ms" (currents are added), "sew" (spikes are added), or a module of yours that maps currents `[T, B, *features]`
            to `[T, B, classes]`; every seed trains a copy of it.
        ends: for a module of yours, the names of the layers of neurons at the ends of its stages; by default its `stage_ends`.
        data: (x_train, y_train, x_test, y_test) with x `[n, *features]` and y `[n]`; by default the digits.
        steps: time steps `T`.
        batches: of 64 images, in each training.
        seeds: how many trainings, in another order of batches and, but for a module of yours, from other weights.
        draws: random choices of layers for each control and seed.
        channels: maps in the first stage of a built-in network.
        rate: Adam's learning rate.

    Controls: network (built-in), steps, batches, seeds, draws; shown chooses at any time what is drawn; start, stop, resume.

    Result: `tfexplore.explore.cuts.runs.CutRuns`.

    Raises:
        TypeError: if data is no four tensors of the right kinds.
        ValueError: if network or ends name nothing that there is, or a module of yours cannot be trained on the data.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> cuts = explore.cuts("sew", channels=2, batches=10, seeds=1, steps=2)
        >>> asyncio.run(cuts.run()).batches()
        [0, 10]

    The question is that of Hu et al., "High-Performance Temporal Reversible Spiking Neural Networks with O(L) Training Memory and
    O(1) Inference Cost", ICML 2024; the random controls are not in it.
    """

    caption = (
        "Left: cosine between the gradient with cuts and the full one, of the convolutions' weights on the same batch; thin for "
        "every seed and draw, thick for their mean. Right: after training, the cosine where this one layer alone has no gradient "
        "through time, from the first layer to the last, with a line from the lowest seed to the highest. A cut changes only the "
        "gradients of weights before it: compare layers with their neighbours in depth."
    )
    resumable = True

    network = Choice("network", NAMES, help="what shortcuts add: currents (MS) or spikes (SEW)")
    steps = Slider("time steps T", 1, 16)
    batches = Slider("training batches", EVERY, 400, step=EVERY, help="of 64 images")
    seeds = Slider("seeds", 1, 8, help="trainings from other weights, in another order of batches")
    draws = Slider("random draws", 1, 8, help="choices of layers for each random control")
    shown = Choice("cuts shown", tuple(SHOWN), help="which sets of cuts are drawn")

    def __init__(
        self, network: str | nn.Module = "ms", ends: Sequence[str] | None = None, data: Sequence[object] | None = None, *,
        steps: int = 4, batches: int = 40, seeds: int = 3, draws: int = 2, channels: int = 4, rate: float = 5e-3,
    ) -> None:  # fmt: skip
        self.subject, self.channels, self.rate = subject(network, ends, data, steps), channels, rate
        chosen = None if self.subject.own is network else network
        super().__init__(network=chosen, steps=steps, batches=batches, seeds=seeds, draws=draws)

    def net(self, seed: int) -> nn.Module:
        """A network to train: the built-in one of this seed, or a copy of one's own."""
        mine = self.subject.own
        return residual(self.network, channels=self.channels, seed=seed) if mine is None else copy.deepcopy(mine)

    def look(self) -> CutRuns:
        net = self.net(0)
        if isinstance(net, Residual) and self.subject.own is None:
            return CutRuns(NAMES[self.network], tuple(spiking(net)), net.stage_ends)
        return CutRuns("Your network", tuple(spiking(net)), self.subject.ends)

    @moved("shown")
    def change_shown(self) -> None:
        """Nothing is measured anew."""
        self.draw()

    def work(self, result: CutRuns) -> Iterator[object]:
        self.say_compiling()
        for seed in range(self.seeds):
            yield from self.training(result, seed)
            self.draw()
        self.say(result.sentence())

    def training(self, result: CutRuns, seed: int) -> Iterator[object]:
        """One seed: measurements while it trains, and then of each layer alone."""
        net, data, steps, batches, run = self.net(seed), self.subject.data, self.steps, self.batches, list[Point]()
        sets = experiment.cut_sets(result.layers, result.ends, self.draws, seed)
        measured = experiment.points(
            net, data, sets, steps=steps, batches=batches, every=EVERY, rate=self.rate, seed=seed
        )
        while not run or run[-1].batches + EVERY <= batches:
            yield self.in_background(lambda: run.append(next(measured)))
            if len(run) == 1:
                result.runs.append(run)
            self.draw()
            right = f"{run[-1].accuracy:.0%} of the test images classified correctly"
            self.say(f"Seed {seed + 1} of {self.seeds}, batch {run[-1].batches} of {batches}: {right}.")
        yield self.in_background(lambda: result.alone.append(experiment.alone(net, data, steps=steps, seed=seed)))

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, SHOWN[self.shown], self.batches)

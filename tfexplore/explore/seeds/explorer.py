"""The seeds explorer: the same training fused and in eager torch, from several seeds; do both learn the same?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfexplore.data import Split
from tfexplore.explore.base.controls import Choice, Slider
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.seeds import figure
from tfexplore.explore.seeds.pairs import DTYPES, LAYERED, REFERENCES, STEPPED, SeedPairs
from tfexplore.explore.training.networks import WALKS, own, try_out, tuned
from tfexplore.explore.training.observe import accuracy
from tfexplore.measure import clock
from tfexplore.nn.networks import BATCH, RATES, built_in, fit


class Seeds(Runner):
    """Trains fused and in eager torch from the same seeds, and compares losses and accuracies.

    In each pair of trainings both walks begin with the same weights and see the same batches in the same order. They take
    turns batch by batch, so that noise on the machine hits both alike.

    Args:
        network: "mlp", "conv", or a function that makes a network of yours from a seed; it gets the digits as currents
            `[T, B, 64]` or, where it has a `Conv2d`, `[T, B, 1, 8, 8]`.
        reference: what stands beside fused: "step by step" or "layer by layer". A network with BatchNorm in training mode is
            another computation step by step, so compare it layer by layer.
        seeds: how many pairs of trainings.
        epochs: passes over the training images in each training.
        steps: time steps `T`.
        hidden: neurons in each hidden layer of "mlp".
        precision: "float32" or "float64", of weights, images and state.

    Controls: seeds, epochs, steps, precision; start, stop, resume.

    Result: `tfexplore.explore.seeds.pairs.SeedPairs`, with a `Pair` for each seed and the `seconds` of each walk.

    Raises:
        ValueError: if network, reference or precision is none of those allowed.
        TypeError: if network is a module, and no function that makes one.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> seeds = explore.seeds(seeds=1, epochs=1, steps=2, hidden=16)
        >>> [len(pair.losses["fused"]) for pair in asyncio.run(seeds.run()).pairs]
        [23]
    """

    caption = (
        "Left and middle: loss and test accuracy, thin for each seed, thick for the mean of the seeds; the reference solid, "
        "fused dashed and on top of it. Right: how far apart the two losses of the same batch are, one line for each seed, on a "
        "logarithmic axis; where they have the same bits there is nothing to draw."
    )
    resumable = True

    seeds = Slider("seeds", 1, 8, help="trainings from other weights, in another order of batches")
    epochs = Slider("epochs", 1, 10)
    steps = Slider("time steps T", 2, 32)
    precision = Choice("precision", tuple(DTYPES), help="about 7 digits (float32) or 16 (float64)")

    def __init__(
        self, network: str | Callable[[int], nn.Module] = "mlp", *, reference: str = STEPPED, seeds: int = 3, epochs: int = 3,
        steps: int = 8, hidden: int = 128, precision: str = "float32",
    ) -> None:  # fmt: skip
        if isinstance(network, nn.Module):
            raise TypeError("network must be a function that makes a network from a seed, but got a network.")
        if reference not in REFERENCES:
            raise ValueError(f"reference must be one of {', '.join(map(repr, REFERENCES))}, but got {reference!r}.")
        self.network, self.reference, self.hidden = network, reference, hidden
        if callable(network):
            self.data = own(made := network(0), None)
            if reference == STEPPED and any(isinstance(module, _BatchNorm) for module in made.modules()):
                raise ValueError(
                    f"reference must be {LAYERED!r} for a network with BatchNorm, which step by step is another computation."
                )
            try_out(tuned(made, reference), self.data, reference, steps)
        else:
            _, self.data = built_in(network, hidden=hidden)
        super().__init__(seeds=seeds, epochs=epochs, steps=steps, precision=precision)

    def look(self) -> SeedPairs:
        name = "your network" if callable(self.network) else self.network
        tests = len(self.data.test_labels)
        return SeedPairs(name, self.reference, self.precision, self.epochs, tests, clock.machine())

    def work(self, result: SeedPairs) -> Iterator[object]:
        seeds, steps, dtype = self.seeds, self.steps, DTYPES[result.dtype]
        images = {key: getattr(self.data, key).to(dtype) for key in ("train_images", "test_images")}
        data = self.data._replace(**images)
        self.say_compiling()
        yield self.in_background(lambda: [next(run) for _, run in self.runs(0, data, 2).values()])
        in_epoch = -(-len(data.train_labels) // BATCH)
        total, drawn = result.epochs * in_epoch, time.perf_counter()
        for seed in range(seeds):
            pair, runs = result.begin(), self.runs(seed, data, steps)
            for batch in range(1, 1 + total):
                for walk in result.walks[:: 1 if batch % 2 else -1]:
                    begin = time.perf_counter()
                    loss = next(runs[walk][1])
                    result.seconds[walk] += time.perf_counter() - begin
                    pair.losses[walk].append(loss)
                if batch % in_epoch == 0:
                    for walk, (right, _) in runs.items():
                        pair.accuracies[walk].append(right())
                if time.perf_counter() - drawn > 0.5:
                    self.draw()
                    self.say(f"Seed {seed + 1} of {seeds}, batch {batch} of {total}.")
                    drawn = time.perf_counter()
                yield None
        self.draw()
        self.say(result.sentence())

    def runs(self, seed: int, data: Split, steps: int) -> dict[str, tuple[Callable[[], float], Iterator[float]]]:
        """For each walk, its test accuracy and its training: from the same weights, on the same batches."""

        def run(walk: str) -> tuple[Callable[[], float], Iterator[float]]:
            schedule, _ = WALKS[walk]
            made, rate = self.made(seed)
            net = tuned(made, walk).to(data.train_images.dtype)
            training = fit(net, data, schedule, steps, rate, seed)
            return lambda: accuracy(net, data, schedule, steps), training

        return {walk: run(walk) for walk in self.result.walks}

    def made(self, seed: int) -> tuple[nn.Module, float]:
        """The network of this seed, and Adam's learning rate."""
        if callable(self.network):
            return self.network(seed), RATES["conv"]
        return built_in(self.network, seed, self.hidden)[0], RATES[self.network]

    def sheet(self) -> Sheet:
        return figure.sheet(self.result)

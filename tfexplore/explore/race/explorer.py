"""The race explorer: the same two layers of neurons step by step, layer by layer and fused."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator

from tfexplore.backends import choose
from tfexplore.explore.base.controls import Slider
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.race import figure
from tfexplore.explore.race.times import RaceTimes
from tfexplore.measure import clock
from tfexplore.measure.contestants import check, contestants
from tfexplore.neurons.parameters import checked_count

ROUNDS, ENOUGH = 7, 10.0  # after so many seconds no new round begins
MOST_STEPS, MOST_NEURONS = 256, 200_000  # neurons of a layer
LARGEST = 12_800_000  # time steps times neurons: the eager ways keep some 20 tensors of T x N


class Race(Runner):
    """Three ways through the same two layers of LIF neurons, timed against each other.

    Each way is one training pass, forward and backward, on one random current. Before anything is timed, all must give the
    same spikes and, up to rounding, the same gradient. Then they take turns, so that a busy machine slows all of them.

    Args:
        steps: time steps `T`, from 1 to 256.
        neurons: in each of the two layers, at most 200,000; fewer where T times N would not fit into memory.
        device: "cpu", "cuda" or another of PyTorch's; by default the GPU, if there is one.

    Controls: steps, neurons, start, stop.

    Result: `tfexplore.explore.race.times.RaceTimes`, with the median `seconds` by way, and the `speedup`.

    Raises:
        ValueError: if steps or neurons is no whole number, or out of range.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> race = explore.race(steps=4, neurons=1000)
        >>> sorted(asyncio.run(race.run()).seconds)
        ['fused', 'layer by layer', 'step by step']
    """

    caption = "Median time of one training pass (forward and backward) of two layers of LIF neurons; shorter is faster."

    steps = Slider("time steps T", 1, MOST_STEPS, help="time steps in one pass")
    neurons = Slider("neurons per layer", 1000, MOST_NEURONS, step=1000, help="neurons in each of the two layers")

    def __init__(self, steps: int = 32, neurons: int = 50_000, device: str | None = None) -> None:
        self.device = clock.or_gpu(device)
        checked_count("steps", steps, MOST_STEPS)
        checked_count("neurons", neurons, MOST_NEURONS)
        super().__init__(steps=steps, neurons=neurons)

    @property
    def room(self) -> int:
        """The most neurons of a layer for which memory suffices, in thousands."""
        return min(MOST_NEURONS, LARGEST // self.steps // 1000 * 1000)

    def update(self) -> None:
        with self.quietly():
            self.controls["neurons"].max = self.room
        super().update()

    def look(self) -> RaceTimes:
        return RaceTimes(self.steps, self.neurons, clock.machine(self.device), choose("auto", self.device).name)

    def work(self, result: RaceTimes) -> Iterator[object]:
        self.say_compiling(self.device)
        work = contestants(result.steps, result.neurons, device=self.device)
        yield self.in_background(functools.partial(check, work))  # correct before fast
        taken: dict[str, list[float]] = {}
        for run in self.in_turn(work, ROUNDS, ENOUGH, self.device, taken):
            yield run
            result.seconds = {name: statistics.median(seconds) for name, seconds in taken.items()}
            self.draw()
            self.say(result.sentence())

    def sheet(self) -> Sheet:
        return figure.sheet(self.result)

"""The whole-step explorer: a training step as it stands, captured as one program, and by torch.compile, timed in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tfexplore.explore.base.controls import Scale, Slider, Tick
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.whole_step import figure
from tfexplore.explore.whole_step.times import COMPILED, EAGER, WAYS, StepTimes, made, training
from tfexplore.measure import clock
from tfexplore.measure.contestants import why_not_compiled

WARM, ROUNDS, ENOUGH = 12, 40, 6.0
"""Steps before any is timed, which must have the same losses; rounds; seconds after which no other round begins."""
STEPS = (4, 8, 16, 32, 64)


class WholeStep(Runner):
    r"""One training step three ways: as it stands, with Python at every step; as one program, by `capture`; by `torch.compile`.

    All start from the same weights, see the same batches, and must have the same losses, up to rounding for `torch.compile`.

    .. math:: n_\text{pays} = \frac{\text{seconds before}}{\text{seconds of a step as it stands} - \text{of one that way}}

    Args:
        steps: time steps `T`: 4, 8, 16, 32 or 64.
        hidden: neurons of the hidden layer.
        compiled: time `torch.compile` too, which takes some ten seconds to compile and needs a C++ compiler on a CPU.

    Controls: steps, hidden, compiled; start, stop.

    Result: `tfexplore.explore.whole_step.times.StepTimes`, with `before`, `seconds` and `apart` by way.

    Raises:
        ValueError: if an argument is none of those allowed.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> found = asyncio.run(explore.whole_step(steps=4, hidden=32).run())
        >>> sorted(found.seconds), found.apart["captured"]
        (['as it stands', 'captured'], 0.0)
    """

    caption = (
        "Left: the median time of one training step. Right: the time of a whole training, on logarithmic axes, with what has to "
        "be done before; a diamond marks the step from which on a way is ahead."
    )

    steps = Scale("time steps T", {steps: str(steps) for steps in STEPS})
    hidden = Slider("hidden neurons", 32, 512, step=32)
    compiled = Tick("torch.compile too", help="takes some ten seconds more")

    def __init__(self, steps: int = 16, hidden: int = 128, *, compiled: bool = False) -> None:
        super().__init__(steps=steps, hidden=hidden, compiled=compiled)

    def look(self) -> StepTimes:
        return StepTimes(self.steps, self.hidden, clock.machine("cpu"))

    def work(self, result: StepTimes) -> Iterator[object]:
        self.say_compiling()
        yield self.in_background(self.kernels)
        reason = why_not_compiled("cpu") if self.compiled else ""
        ways = [way for way in WAYS if way != COMPILED or (self.compiled and not reason)]
        work: dict[str, Callable[[], object]] = {}
        losses: dict[str, list[float]] = {}
        spent: dict[str, float] = {}
        for way in ways:
            self.say(f"The first steps: {way}.")
            yield self.in_background(partial(self.first_steps, way, work, losses, spent))
        taken: dict[str, list[float]] = {}
        for run in self.in_turn(work, ROUNDS, ENOUGH, "cpu", taken):
            yield run
            if len(taken) == len(ways):
                result.seconds = {way: statistics.median(seconds) for way, seconds in taken.items()}
                usual = WARM * result.seconds[EAGER]
                result.before = {way: max(0.0, spent[way] - usual) if way != EAGER else 0.0 for way in ways}
                result.apart = {
                    way: max(abs(a - b) for a, b in zip(values, losses[EAGER], strict=True))
                    for way, values in losses.items()
                }
                self.draw()
                self.say(f"{result.sentence()}{f' torch.compile cannot run here: {reason}' if reason else ''}")

    def kernels(self) -> None:
        """Compiles ours, which all ways run, so that none of them is charged with it."""
        step, batches = training(self.steps, self.hidden)
        step(*batches[0])

    def first_steps(
        self, way: str, work: dict[str, Callable[[], object]], losses: dict[str, list[float]], spent: dict[str, float]
    ) -> None:
        """The first steps of a way: their losses, and the seconds that they took."""
        step, batches = training(self.steps, self.hidden)
        run: Any = made(way, step)
        begin = time.perf_counter()
        losses[way] = [run(*batch).item() for batch in batches[:WARM]]
        spent[way] = time.perf_counter() - begin
        work[way] = partial(run, *batches[WARM])

    def sheet(self) -> Sheet:
        return figure.sheet(self.result)

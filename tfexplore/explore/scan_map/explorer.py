"""The explorer of the map: which way through the time steps is the fastest, over T and N, recorded and measured here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfexplore.explore.base.controls import Choice, Scale, moved
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.scan_map import figure, measured
from tfexplore.explore.scan_map.cells import FASTEST, UNITS, Cells, ScanMap, winner
from tfexplore.explore.scan_map.ways import CHUNKED, NEURONS, PASSES, WAYS
from tfexplore.measure import clock, results

STEPS = tuple(2**k for k in range(4, 17))
COUNTS = (*(digit * 10**k for k in range(6) for digit in (1, 2, 5)), 10**6)
PREDICTED = "predicted, this machine"
LARGEST = 2**24
"""Time steps times neurons of a point that Start measures: a second or two."""


class ScanMapExplorer(Runner):
    """The map of what is parallel in time: every cell is a number of time steps T and of neurons N.

    The baseline is the serial fused kernel. A cell has the colour of the fastest way whose spikes are the serial kernel's, and
    the time of the best way beside the serial kernel as a multiple of that one's. The cells were recorded by `tfexplore bench
    scan`; the dashed line is the border that the predicted cost draws. Start measures the chosen T and N on this machine.

    Args:
        neuron: a name in `tfexplore.explore.scan_map.ways.NEURONS`, such as "LIF, no reset".
        passes: "forward" or "forward + backward".
        shown: "fastest", or of the chosen way "time", "work", "depth", "words" or "rounds".
        way: whose: "chunked", "speculative", "fixed point", "cut", "PSN" or "sliding PSN".
        steps: time steps T of the point that Start measures, a power of two from 16 to 65,536.
        neurons: its N, from 1 to 1,000,000.

    Controls: neuron, passes, shown, way, machine, steps, neurons, start, stop.

    Result: `tfexplore.explore.scan_map.cells.ScanMap`; in `own` what Start has measured.

    Raises:
        ValueError: if an argument is none of those allowed.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> scan_map = explore.scan_map(steps=256, neurons=5)
        >>> row = asyncio.run(scan_map.run()).own[256, 5]
        >>> row["work"]["serial"], row["depth"]["serial"]
        (1280, 256)
    """

    caption = (
        "Time steps T to the right, neurons N upwards, both logarithmic. Each cell has the colour of the fastest way, and as a "
        "number the time of the best way beside the serial kernel, as a multiple of that one's: below 1 it is faster. PSN, "
        "another equation, never wins a cell. Blank cells have too many element-steps to be run."
    )

    neuron = Choice("neuron", list(NEURONS))
    passes = Choice("passes", PASSES, help="training needs both, inference the forward pass only")
    shown = Choice("shown", {key: key for key in UNITS}, help="what the cells show")
    way = Choice("of which way", WAYS[1:], help="for time, work, depth, words and rounds")
    machine = Choice("machine", ())
    steps = Scale("time steps T", {t: f"{t:,}" for t in STEPS}, help="of the point that Start measures")
    neurons = Scale("neurons N", {n: f"{n:,}" for n in COUNTS}, help="of the point that Start measures")

    def __init__(
        self, neuron: str = "LIF, no reset", *, passes: str = PASSES[0], shown: str = FASTEST, way: str = CHUNKED,
        steps: int = 16_384, neurons: int = 1,
    ) -> None:  # fmt: skip
        self.records = {record.machine: record for record in results.records(benchmark="scan")}
        self.here = clock.machine("cpu")
        self.own: dict[tuple[str, str], Cells] = {}
        machines = [*sorted(self.records, key=lambda name: name != self.here), PREDICTED]
        super().__init__(
            neuron=neuron, passes=passes, shown=shown, way=way, steps=steps, neurons=neurons,
            machine=Choice("machine", machines, help="where the cells were recorded; or what is predicted for this one"),
        )  # fmt: skip

    # -- what the controls do --------------------------------------------------------------------------------------

    def look(self) -> ScanMap:
        record = self.records.get(self.machine)
        if record is None:
            cells, where = measured.predictions(self.neuron, self.passes), ""
        else:
            mine = [r for r in record.rows if (r["neuron"], r["passes"]) == (self.neuron, self.passes) and "T" in r]
            cells, where = {(row["T"], row["N"]): row for row in mine}, record.label
        own = self.own.setdefault((self.neuron, self.passes), {})
        return ScanMap(self.neuron, self.passes, where, cells, self.here, (self.steps, self.neurons), own)

    @moved("shown", "way", "steps", "neurons")
    def choose(self) -> None:
        """The same map, seen otherwise: a run under way goes on."""
        self.show_control("way", self.shown != FASTEST)
        self.result.at = self.steps, self.neurons
        self.draw()
        self.say(self.sentence())

    def update(self) -> None:
        self.abandon()
        self.result = self.look()
        self.choose()

    def work(self, result: ScanMap) -> Iterator[object]:
        steps, neurons = at = result.at
        check_size(steps, neurons)
        self.say_compiling("cpu")
        yield (made := self.in_background(lambda: measured.Case(result.neuron, result.passes, steps, neurons)))
        case = made.result()
        yield (checked := self.in_background(case.check))  # correct before fast
        checked.result()
        taken: dict[str, list[float]] = {}
        yield from self.in_turn(case.work, measured.MOST, measured.ENOUGH, "cpu", taken)
        yield (counted := self.in_background(lambda: case.row(taken)))
        result.own[at] = counted.result()
        self.draw()
        self.say(self.sentence())

    # -- what is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.shown, self.way)

    def sentence(self) -> str:
        return self.result.sentence(self.shown, self.way)

    def winner(self, steps: int, neurons: int) -> str:
        """The fastest exact way at this T and N, measured: here before, else in the cells, else here now (a second or two).

        Args:
            steps: time steps T.
            neurons: N.

        Returns:
            Its name, such as "serial" or "chunked"; a way that is not clearly faster than the serial kernel does not win.
        """
        result: Any = self.result
        row = result.own.get((steps, neurons)) or (result.cells.get((steps, neurons)) if result.machine else None)
        if row is None:
            check_size(steps, neurons)
            row = result.own[steps, neurons] = measured.now(self.neuron, self.passes, steps, neurons)
            self.choose()
        return winner(row)


def check_size(steps: int, neurons: int) -> None:
    if steps * neurons > LARGEST:
        raise ValueError(
            f"T times N must be at most {LARGEST:,} here, but got {steps:,} times {neurons:,}: choose fewer, or record the "
            "whole map with `tfexplore bench scan`."
        )

"""What is parallel in time, and when does it win? Every way through T time steps against the serial fused kernel, over T and N.

LIF neurons without reset, with a soft and a hard one (`full`: LI too), a spike in ten steps; forward, and forward + backward.
At every T and N the ways of `tfexplore.explore.scan_map.ways` that can compute it: spikes (and gradients) are compared with the
serial kernel's first, then all are timed in turn. A row has, by way:

    median_ms, quartiles_ms    of one pass; runs: how many of each were timed
    work, depth, words, rounds what it cost, as counted: element-steps and combinations; the longest chain of them; words moved
    predicted                  the time as a multiple of the serial kernel's, by the predicted cost
    apart                      of an exact way, what differs from the serial kernel's result: the share of flipped spikes (sums in
                               another order), the error of the gradient; nothing where there is no difference
    equation                   where it computes something else
    reasons                    why it was not run at this T and N

The last row of each neuron and kind of pass has the reasons that hold for every T and N, and the crossover: for each N the
smallest T from which on the chunked scan beats the serial kernel, measured and predicted; None where it never does.
`explore.scan_map` draws the map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.harness import DEFAULT, FULL, QUICK, Row, Stage, load
from tfexplore.explore.scan_map.cells import Cells, crossover, short, times, winner
from tfexplore.explore.scan_map.measured import now
from tfexplore.explore.scan_map.ways import CHUNKED, FIXED, NEURONS, PASSES, SERIAL, SLOW, TOO_MANY, WAYS, never

WHAT = "The serial fused kernel, scans, fixed points and PSN over T and N: time, and counted work, depth, words and rounds."
STEPS: dict[str, Sequence[int]] = {
    QUICK: (64, 1024, 16_384), DEFAULT: [4**k for k in range(2, 9)], FULL: [2**k for k in range(4, 17)],
}  # fmt: skip
COUNTS: dict[str, Sequence[int]] = {QUICK: (1, 100, 10_000), DEFAULT: [10**k for k in range(7)]}
COUNTS[FULL] = COUNTS[DEFAULT]
ROOM = {QUICK: 2**20, DEFAULT: 2**25, FULL: 2**27}
"""The most time steps times neurons of a cell."""
LIMIT = {QUICK: 2**20, DEFAULT: 2**23, FULL: 2**28}
"""The most element-steps of one run, of a way that goes through all of it many times."""
SECONDS = {QUICK: 0.05, DEFAULT: 0.15, FULL: 1.0}
"""Of timing at each T and N, beyond a few runs of each way."""
KINDS = {FULL: [(neuron, passes) for neuron in NEURONS for passes in PASSES]}
KINDS[DEFAULT] = [kind for kind in KINDS[FULL] if kind[0] != "LI" and kind != (SLOW, PASSES[1])]
KINDS[QUICK] = KINDS[DEFAULT]
"""Neurons and passes. Backward, a neuron that forgets slowly is as the others."""


def run(stage: Stage, size: str) -> Iterator[Row]:
    for neuron, passes in KINDS[size]:
        cells: Cells = {}
        without: dict[int, dict[str, str]] = {}  # by N: more time steps take no fewer rounds
        for steps, count in plane(size):
            began = load()
            row = now(
                neuron, passes, steps, count, limit=LIMIT[size], without=without.get(count, {}), enough=SECONDS[size],
                device=stage.device,
            )  # fmt: skip
            cells[steps, count] = row
            if FIXED not in without.setdefault(count, {}) and row["reasons"].get(FIXED, "").startswith(TOO_MANY):
                without[count][FIXED] = f"{TOO_MANY} at T = {steps:,} already"
            size_alone = {way: why for way, why in row["reasons"].items() if not never(way, neuron, passes)}
            yield row | {"load": began, "reasons": size_alone}
        yield crossed(neuron, passes, cells, size)


def plane(size: str) -> list[tuple[int, int]]:
    """Every T and N that there is room for."""
    return [(t, n) for n in COUNTS[size] for t in STEPS[size] if t * n <= ROOM[size]]


def crossed(neuron: str, passes: str, cells: Cells, size: str) -> Row:
    """Where the chunked scan begins to win, and which cells each way wins."""
    won: dict[str, int] = {}
    for row in cells.values():
        won[winner(row)] = won.get(winner(row), 0) + 1
    left = len(STEPS[size]) * len(COUNTS[size]) - len(cells)
    reasons = {way: why for way in WAYS if (why := never(way, neuron, passes))}
    reasons |= {"left out": f"{left} cells in which T times N is more than {ROOM[size]:,}"} if left else {}
    found = {"measured": crossover(cells), "predicted": crossover(cells, predicted=True)}
    return {"neuron": neuron, "passes": passes, "crossover": found, "won": won, "reasons": reasons, "median_ms": {}}


def lines(row: Row) -> Iterator[str]:
    """A row as text: a cell in one line; the crossover as a table over N."""
    if "crossover" in row:
        yield f"{row['neuron']}, {row['passes']}: cells won: " + ", ".join(f"{k} {v}" for k, v in row["won"].items())
        yield from (f"  {name}: {reason}" for name, reason in row["reasons"].items())
        yield f"  from which T on {CHUNKED} beats {SERIAL}"
        for name, found in row["crossover"].items():
            cells = (f"N={n:,}: {'never' if t is None else f'{t:,}'}" for n, t in found.items())
            yield f"  {name:<10}" + ", ".join(cells)
        return
    taken, ratios = row["median_ms"], times(row)
    said = [f"{way} {short(ratio)}" for way, ratio in ratios.items() if way != SERIAL]
    said += [f"({way} {short(taken[way] / taken[SERIAL])})" for way in taken if way not in ratios]
    said += [f"predicted {short(ratio)}" for way, ratio in row["predicted"].items() if way == CHUNKED]
    said += [f"{way} apart {max(found.values()):.0e}" for way, found in row["apart"].items()]
    place = f"{row['neuron']:<25}{row['passes']:<19}T={row['T']:<6} N={row['N']:<8}"
    yield f"{place}serial {taken[SERIAL]:9.4f} ms   {', '.join(said)}"

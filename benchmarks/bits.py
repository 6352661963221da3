"""Spikes as bits: a shuffled batch from a data set in memory, and a training step of layers that save their input spikes.

batch   of random spikes, one in ten: the float32 data set indexed and put time first; the packed one indexed and unpacked, or
        left packed. The batches are compared first. data_bytes: of the data set.
step    forward and backward of several layers, Linear or convolution, each followed by a LIF that keeps bits: with the spikes
        saved as floats or as bits (`nn.BitSaving`). The gradients are compared, bit for bit. peak_bytes: of all tensors that the
        step holds at once, at most (on a CPU counted, see `measure.peaks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

import tfexplore
from benchmarks.harness import DEFAULT, FULL, QUICK, Row, Stage, load
from tfexplore import FoldTime, surrogates
from tfexplore.data import Packed, PackedDataset, pack, unpack
from tfexplore.measure.clock import samples
from tfexplore.measure.peaks import peak
from tfexplore.nn import BitSaving

WHAT = "A batch from a data set of bits against float32 in memory; a training step that saves its spikes as bits or floats."
BATCHES: dict[str, tuple[tuple[int, int, tuple[int, ...], int], ...]] = {
    QUICK: ((64, 32, (50,), 16),),
    DEFAULT: ((1000, 96, (700,), 128), (1000, 32, (2, 34, 34), 64)),
}
"""Samples, T, features, B: the second and third are like SHD's and N-MNIST's."""
STEPS = {QUICK: (("linear", 8, 8, 64, 2),), DEFAULT: (("linear", 32, 64, 1024, 4), ("conv", 8, 32, 16, 4))}
"""Kind, T, B, width or channels (at 32 x 32), depth."""
BATCHES[FULL], STEPS[FULL] = BATCHES[DEFAULT], STEPS[DEFAULT]
FLOATS, BITS, STAYS = "float32", "bits", "bits, left packed"
ROUNDS = {QUICK: 3, DEFAULT: 15, FULL: 51}


def run(stage: Stage, size: str) -> Iterator[Row]:
    for count, steps, features, together in BATCHES[size]:
        yield batch(count, steps, features, together, stage.device, ROUNDS[size])
    for kind, steps, together, width, depth in STEPS[size]:
        yield step(kind, steps, together, width, depth, stage.device, ROUNDS[size])


def spikes(*shape: int, device: str) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.1).float().to(device)


def batch(count: int, steps: int, features: tuple[int, ...], size: int, device: str, rounds: int) -> Row:
    x, labels = spikes(count, steps, *features, device=device), torch.arange(count, device=device)
    dataset = PackedDataset(pack(x, 1), labels)
    drawn = torch.Generator().manual_seed(0)

    def floats() -> Tensor:
        chosen = torch.randperm(count, generator=drawn)[:size].to(device)
        return x[chosen].transpose(0, 1).contiguous()

    def bits(packed: bool = False) -> Tensor | Packed:
        found: Tensor | Packed = next(dataset.batches(size, shuffle=drawn, packed=packed))[0]
        return found

    work: dict[str, Callable[[], Any]] = {FLOATS: floats, BITS: bits, STAYS: lambda: bits(packed=True)}
    made = {}
    for name, one in work.items():
        drawn.manual_seed(1)
        made[name] = one()
    if not torch.equal(made[FLOATS], made[BITS]) or not torch.equal(unpack(made[STAYS]), made[FLOATS]):
        raise RuntimeError("the batches differ; nothing was timed.")
    case = {"what": "batch", "samples": count, "T": steps, "features": list(features), "B": size}
    held = {FLOATS: x.nbytes + labels.nbytes, BITS: dataset.nbytes, STAYS: dataset.nbytes}
    return case | {"data_bytes": held} | timed(work, device, rounds)


def network(kind: str, width: int, depth: int, wrap: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)

    def weights() -> nn.Module:
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        return nn.Linear(width, width, bias=False) if kind == "linear" else FoldTime(conv)

    def neurons() -> nn.Module:
        return tfexplore.LIF(v_threshold=0.1, surrogate=surrogates.Rectangle(), keep="bits")

    return nn.Sequential(*(layer for _ in range(depth) for layer in (wrap(weights()), neurons())))


def step(kind: str, steps: int, size: int, width: int, depth: int, device: str, rounds: int) -> Row:
    x = spikes(steps, size, *((width,) if kind == "linear" else (width, 32, 32)), device=device)
    nets = {
        name: network(kind, width, depth, wrap).to(device) for name, wrap in ((FLOATS, lambda m: m), (BITS, BitSaving))
    }

    def work(net: nn.Sequential) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: torch.autograd.grad(net(x).sum(), list(net.parameters()))

    works = {name: work(net) for name, net in nets.items()}
    if device == "cpu" and not all(map(torch.equal, works[FLOATS](), works[BITS]())):
        raise RuntimeError("the gradients depend on what is saved; nothing was timed.")
    most = {name: peak(works[name], [x, *net.parameters()]).held for name, net in nets.items()}
    case = {"what": "step", "kind": kind, "T": steps, "B": size, "width": width, "depth": depth}
    return case | {"spikes_bytes": depth * x.nbytes, "peak_bytes": most} | timed(works, device, rounds)


def timed(work: dict[str, Callable[[], Any]], device: str, rounds: int) -> Row:
    *_, taken = samples(work, rounds, device)
    low_high = {name: quantiles(values, n=4) for name, values in taken.items()}
    return {
        "rounds": rounds, "load": load(),
        "median_ms": {name: 1e3 * median(values) for name, values in taken.items()},
        "quartiles_ms": {name: [1e3 * q[0], 1e3 * q[2]] for name, q in low_high.items()},
    }  # fmt: skip


def lines(row: Row) -> Iterator[str]:
    """A row as text."""
    yield ", ".join(f"{key}={value}" for key, value in row.items() if not isinstance(value, dict))
    key = "data_bytes" if row["what"] == "batch" else "peak_bytes"
    yield f"  {'':<20}{'median ms':>10}{'low':>10}{'high':>10}{key.replace('_bytes', ' MiB'):>12}"
    for name, ms in row["median_ms"].items():
        low, high = row["quartiles_ms"][name]
        yield f"  {name:<20}{ms:>10.3f}{low:>10.3f}{high:>10.3f}{row[key][name] / 2**20:>12.2f}"

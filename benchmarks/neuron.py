"""One LIF layer, forward and backward: fused on the CPU against the eager loop, side by side in one run.

    python benchmarks/neuron.py                  the large case and the grid, about two minutes on two cores
    python benchmarks/neuron.py --quick          the large case alone
    python benchmarks/neuron.py --json out.json  the figures with the machine's name

Soft reset, ATan, float32, a dense random gradient. Every contestant runs once a round, so that noise hits all alike; the
medians are printed, after the results were compared. "plain loop" is a loop as written by hand, without tfexplore.
"copy" copies a tensor of x's size (two words per element-step): the unit of memory-bound work.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tfexplore
from tfexplore.measure import machine, rounds

LARGE = (32, 16 * 32768)
GRID = [(steps, neurons) for steps in (4, 32, 256) for neurons in (10**3, 10**5, 10**6) if steps * neurons <= 5 * 10**7]
FUSED = {"fused, keep=input": "input", "fused, keep=potential": "potential"}


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return g / (1 + (math.pi * u).square())


def plain_loop(x: Tensor, tau: float = 2.0) -> Tensor:
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        v = v + x_t - v / tau  # in the order of the generated code: another one would move a spike in a million
        s = Spike.apply(v - 1.0)
        v = v - s.detach()
        spikes.append(s)
    return torch.stack(spikes)


def contestants(steps: int, neurons: int) -> dict[str, Callable[[], Tensor]]:
    torch.manual_seed(0)
    x, g = torch.randn(steps, 16, neurons // 16, requires_grad=True), torch.randn(steps, 16, neurons // 16)

    def trained(layer: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        def work() -> Tensor:
            return torch.autograd.grad(layer(x), x, g)[0]

        return work

    layers = {"plain loop": plain_loop, "eager": tfexplore.LIF(backend="torch")}
    layers |= {name: tfexplore.LIF(backend="numba", keep=keep) for name, keep in FUSED.items()}
    target = torch.empty_like(g)
    return {name: trained(layer) for name, layer in layers.items()} | {"copy": lambda: target.copy_(g)}


def check(work: dict[str, Callable[[], Tensor]]) -> None:
    """Correct before fast."""
    expected = work["eager"]()
    for name in ("plain loop", *FUSED):
        error = (work[name]() - expected).abs().max() / expected.abs().max()
        if not error <= 1e-6:
            raise SystemExit(f"{name}: the gradient is off by {error:.1e}")


def measured(steps: int, neurons: int, count: int) -> dict[str, float]:
    work = contestants(steps, neurons)
    check(work)
    *_, medians = rounds(work, count)
    return {name: 1e3 * seconds for name, seconds in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the large case alone")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file")
    options = parser.parse_args()

    print(f"LIF, soft reset, ATan, float32, forward + backward, median ms; {machine()}; torch {torch.__version__}")
    print(
        f"{'T':>4} {'N':>8}" + "".join(f"{name:>23}" for name in contestants(1, 16)) + f"{'fastest eager / fused':>23}"
    )
    results = []
    for steps, neurons in [LARGE] if options.quick else [LARGE, *GRID]:
        count = min(200, max(7, 2 * 10**7 // (steps * neurons)))
        medians = measured(steps, neurons, count)
        ratio = min(medians["plain loop"], medians["eager"]) / max(medians[name] for name in FUSED)
        print(
            f"{steps:4} {neurons:8}" + "".join(f"{t:23.3f}" for t in medians.values()) + f"{ratio:22.1f}x", flush=True
        )
        results.append({"T": steps, "N": neurons, "rounds": count, "median_ms": medians, "ratio": ratio})
    if options.json:
        about = {
            "machine": machine(),
            "torch": torch.__version__,
            "what": " ".join((__doc__ or "").split("\n\n")[2].split()),
        }
        options.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The ways through T time steps that the map compares, and what each can compute.

serial         the fused kernel, one step after the other: the baseline
chunked        chunks of time at once, a serial walk over their ends, the chunks again from their true starts
speculative    chunks at once from guessed starts, again and again until no start changes
fixed point    all spikes guessed, a scan (in plain torch), compared; again until nothing changes
cut            the hard reset's exact scan: a spike cuts the past off
PSN            spikes of a product with a T x T matrix, and sliding PSN, of the last few steps: another equation, without reset
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from tfexplore import neurons, scan
from tfexplore.explore.scan_map import counts
from tfexplore.explore.scan_map.counts import Counts
from tfexplore.neurons.affine import cuts
from tfexplore.neurons.affine import why_not as not_affine
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import step_of
from tfexplore.nn.layers import Layer
from tfexplore.scan.fixed_point import solve

WAYS = SERIAL, CHUNKED, SPECULATIVE, FIXED, CUT, PSN, SLIDING = (
    "serial", "chunked", "speculative", "fixed point", "cut", "PSN", "sliding PSN",
)  # fmt: skip
EXACT = WAYS[:5]
"""Those with the serial kernel's spikes."""
LABELS = {
    SERIAL: "the serial kernel", CHUNKED: "the chunked scan", SPECULATIVE: "the speculative scan", FIXED: "the fixed point",
    CUT: "the hard reset's cut", PSN: "PSN, another equation,", SLIDING: "sliding PSN, another equation,",
}  # fmt: skip
SLOW = "LIF, soft reset, τ = 20"
NEURONS: dict[str, Neuron] = {
    "LI": neurons.LI(),
    "LIF, no reset": neurons.LIF(reset="none"),
    "LIF, soft reset": neurons.LIF(),
    "LIF, hard reset": neurons.LIF(reset="hard"),
    SLOW: neurons.LIF(tau=20.0),
}
"""τ = 2, the library's own, unless it says another: of a spike, nothing is left after a few steps."""
PASSES = FORWARD, BOTH = ("forward", "forward + backward")
RATE = 0.1
"""Spikes of a neuron per time step."""
WINDOW = 32
"""Steps that a sliding PSN sees."""
LARGEST_MATRIX, PSN_LIMIT, SLIDING_LIMIT = 4096, 128, 16
"""T of a PSN; how many multiplications of each go for an element-step, where a way is left out as too long."""
TOO_MANY = "too many rounds"
"""What the reason begins with where a fixed point was given up."""
STRETCH = 16
"""Steps that a cut scans in a round: a spike comes after ten, on average."""
MUST, ROUND = 4, 2**15
"""Rounds of a fixed point, at least; a round goes for so many element-steps, at least."""


@dataclass(frozen=True)
class Way:
    """run: one pass, which returns the spikes and, with a backward pass, the gradient of x.   counts: what a run costs."""

    run: Callable[[], tuple[Tensor, ...]]
    counts: Callable[[], Counts]


def equation(way: str) -> str:
    return {
        PSN: "s = H(W x + b), W of T x T: no leak, no reset, a weight for every pair of steps",
        SLIDING: f"as PSN, with the same {WINDOW} weights at every step",
    }.get(way, "")


def never(way: str, neuron: str, passes: str) -> str:
    """Why a way cannot compute this at any size, or ""."""
    step, both = step_of(NEURONS[neuron]), passes == BOTH
    affine = not not_affine(step)
    if way == CHUNKED and not both and not affine:
        return f"the forward pass stays serial: {not_affine(step)}"
    if way in (SPECULATIVE, FIXED) and affine:
        return "there is nothing to guess: no spike comes back"
    if way == CUT and not cuts(step):
        return "a spike does not cut the past off"
    if way in (FIXED, CUT) and both:
        return "a forward pass only: backward, given the spikes, it is the chunked scan"
    if way in (PSN, SLIDING) and step.fire is None:
        return f"it spikes, and {type(NEURONS[neuron]).__name__} does not"
    return ""


def why_not(way: str, neuron: str, passes: str, steps: int, count: int, limit: float) -> str:
    """Why a way is not run, or "".   limit: element-steps that it may take."""
    if reason := never(way, neuron, passes):
        return reason
    products = {PSN: (steps, PSN_LIMIT), SLIDING: (WINDOW, SLIDING_LIMIT)}
    if way in (CHUNKED, SPECULATIVE) and not counts.in_pieces(NEURONS[neuron], steps, count, passes == BOTH, way):
        return f"not cut: {count:,} neurons side by side are enough, and it is the serial kernel"
    if way == PSN and steps > LARGEST_MATRIX:
        return f"its matrix of {steps:,} x {steps:,} is left out beyond {LARGEST_MATRIX:,}"
    if way in products and (takes := products[way][0] * steps * count) > (most := products[way][1] * limit):
        return f"{takes:.0e} multiplications are more than {most:.0e}"
    if way == CUT and 2 * RATE * steps * max(STRETCH * count, ROUND // 4) > limit:
        return f"{TOO_MANY}: one or two for each of a neuron's {RATE * steps:,.0f} spikes"
    if way == FIXED and MUST * steps * count > limit:
        return f"{MUST} rounds, the least, would take more than {limit:.0e} element-steps"
    return ""


def made(way: str, name: str, x: Tensor, gradient: Tensor | None, limit: float) -> Way:
    """A way on x [T, 1, N], forward, and backward where there is a gradient of its output.

    limit: element-steps of a run; a fixed point that would take more raises RuntimeError.
    """
    neuron, steps, both, found = NEURONS[name], len(x), gradient is not None, [0]
    if way in (SERIAL, CHUNKED, SPECULATIVE):
        run = both_passes(Layer(neuron, schedule=way), x, gradient)
        return Way(run, lambda: counts.layer(neuron, x, both, way))
    if way == FIXED:
        chunk, most = max(1, isqrt(steps)), max(1, min(steps, int(limit / max(x.numel(), ROUND))))

        def iterate() -> tuple[Tensor, ...]:
            try:
                solved = solve(neuron, x, how="chunked", chunk=chunk, most=most)
            except RuntimeError as error:
                raise RuntimeError(f"{TOO_MANY}: more than {most:,}") from error
            found[0] = solved.rounds
            return (solved.out,)

        return Way(iterate, lambda: counts.of_rounds("chunked", neuron, steps, x[0].numel(), chunk, found[0]))
    if way == CUT:

        def restart() -> tuple[Tensor, ...]:
            cut = scan.cut(neuron, x, chunk=STRETCH)
            found[0] = cut.rounds
            return (cut.out,)

        return Way(restart, lambda: counts.of_rounds("sequential", neuron, STRETCH, x[0].numel(), STRETCH, found[0]))
    layer = scan.PSN(steps) if way == PSN else scan.SlidingPSN(WINDOW)
    weights = sum(p.numel() for p in layer.parameters())
    return Way(both_passes(layer, x, gradient), lambda: counts.product(layer, x, both, weights))


def both_passes(layer: torch.nn.Module, x: Tensor, gradient: Tensor | None) -> Callable[[], tuple[Tensor, ...]]:
    """Forward without a gradient, or forward and backward to x."""

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (layer(x),)

    def both() -> tuple[Tensor, ...]:
        given = x.detach().requires_grad_()
        out = layer(given)
        return out.detach(), *torch.autograd.grad(out, given, gradient)

    return forward if gradient is None else both


def predicted(neuron: str, passes: str, steps: int, count: int) -> dict[str, float]:
    """The chunked scan's time as a multiple of the serial kernel's, by the predicted cost; nothing where no pass is cut.

    >>> few, many = (predicted("LIF, no reset", "forward", 65_536, n)["chunked"] for n in (1, 500))
    >>> few < 1 < many
    True
    """
    ratio = counts.predicted(NEURONS[neuron], steps, count, passes == BOTH)
    return {} if never(CHUNKED, neuron, passes) or ratio is None else {CHUNKED: float(f"{ratio:.3g}")}

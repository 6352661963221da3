"""The ways through T time steps that the map compares: what each can compute, and what it costs as counted.

serial         the fused kernel, one step after the other: the baseline
chunked        chunks of time at once, a serial walk over their ends, the chunks again from their true starts
speculative    chunks at once from guessed starts, again and again until no start changes
fixed point    all spikes guessed, a scan, compared; again until nothing changes
cut            the hard reset's exact scan: a spike cuts the past off
PSN            spikes of a product with a T x T matrix, and sliding PSN, of the last few steps: another equation, without reset
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tfexplore import neurons, scan
from tfexplore.codegen.keep import fastest
from tfexplore.codegen.traffic import traffic_of, words
from tfexplore.neurons.affine import cuts
from tfexplore.neurons.affine import why_not as not_affine
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import step_of
from tfexplore.nn.layers import Layer

WAYS = SERIAL, CHUNKED, SPECULATIVE, FIXED, CUT, PSN, SLIDING = (
    "serial", "chunked", "speculative", "fixed point", "cut", "PSN", "sliding PSN",
)  # fmt: skip
EXACT = WAYS[:5]
"""Those with the serial kernel's spikes."""
LABELS = {
    SERIAL: "the serial kernel", CHUNKED: "the chunked scan", SPECULATIVE: "the speculative scan", FIXED: "the fixed point",
    CUT: "the hard reset's cut", PSN: "PSN, another equation,", SLIDING: "sliding PSN, another equation,",
}  # fmt: skip
NEURONS: dict[str, Neuron] = {
    "LI": neurons.LI(),
    "LIF, no reset": neurons.LIF(reset="none"),
    "LIF, soft reset": neurons.LIF(),
    "LIF, hard reset": neurons.LIF(reset="hard"),
}
PASSES = FORWARD, BOTH = ("forward", "forward + backward")
RATE = 0.1
"""Spikes of a neuron per time step."""
WINDOW = 32
"""Steps that a sliding PSN sees."""


@dataclass(frozen=True)
class Counts:
    """What one run costs.

    Args:
        work: element-steps, and combinations of two of them; of a matrix product, its multiplications.
        depth: how many of them follow one upon the other.
        words: read from or written to memory.
        rounds: how often all is gone through.
    """

    work: int
    depth: int
    words: int
    rounds: int = 1


@dataclass(frozen=True)
class Way:
    """run: one pass, which returns the spikes and, with a backward pass, the gradient of x.   counts: what the last run cost."""

    run: Callable[[], tuple[Tensor, ...]]
    counts: Callable[[], Counts]


def equation(way: str) -> str:
    return {
        PSN: "s = H(W x + b), W of T x T, lower triangular: no reset, no leak, a weight for every pair of steps",
        SLIDING: f"as PSN, with the same {WINDOW} weights at every step",
    }.get(way, "")


def why_not(way: str, neuron: str, passes: str, steps: int, count: int, limit: float) -> str:
    """Why a way is not run, or "".   limit: element-steps that it may take."""
    step = step_of(NEURONS[neuron])
    affine = not not_affine(step)
    if way == CHUNKED and passes == FORWARD and not affine:
        return "the forward pass stays serial: " + not_affine(step)
    if way in (SPECULATIVE, FIXED) and affine:
        return "there is nothing to guess: no spike comes back"
    if way == CUT and not cuts(step):
        return "a spike does not cut the past off"
    if way in (FIXED, CUT) and passes == BOTH:
        return "a forward pass only"
    if way in (PSN, SLIDING) and not NEURONS[neuron].spiking:
        return "it spikes, and this neuron does not"
    if (takes := estimated(way, steps, count)) > limit:
        return f"too long: about {takes:.0e} element-steps in one run, more than {limit:.0e}"
    return ""


def estimated(way: str, steps: int, count: int) -> float:
    """Element-steps that one run takes, roughly: a fixed point needs about a round for every fifth step at the usual rate."""
    each = {FIXED: RATE * 2 * steps, CUT: RATE * steps, PSN: steps / 32}
    return each.get(way, 1.0) * steps * count


def made(way: str, neuron: str, x: Tensor, gradient: Tensor | None) -> Way:
    raise NotImplementedError


def predicted(*a):
    return {}

"""What one run costs, counted and not timed: work, depth, words and rounds of each way through T time steps.

    serial              T steps of N neurons in each pass; with keep="input" the backward pass computes them again, chunk by chunk
    chunked, forward    the chunks twice (phases 1 and 3), and one combination at each border (phase 2)
    chunked, backward   the same; phase 1 also carries along what a unit gradient at a chunk's end becomes
    speculative         the chunks that really ran in each round, and all again from their true starts
    fixed point, cut    the scan of one round, counted while it runs (`scan.work`), times the rounds
    PSN                 the multiplications of the product; its words are the least there can be

Words are those of the fused loops as derived (`codegen.traffic`), with the copies into the layout of chunks and out of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import torch
from torch import Tensor

from tfexplore.backends import Given, chunked, folded
from tfexplore.codegen.keep import fastest
from tfexplore.codegen.schedule import length
from tfexplore.codegen.schedule import predicted as cycles_of
from tfexplore.codegen.traffic import accesses_of, words
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.affine import affine_of
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import by_value, step_of
from tfexplore.scan.relaxations import Relaxation
from tfexplore.scan.work import counted

COPY = 2
"""Words of a copy: one read, one written."""
CALL = 200_000
"""Cycles of a layer's pass whatever its size, most of them in Python: 0.16 ms for two of them (docs/speed.md, small layers)."""


@dataclass(frozen=True)
class Counts:
    """What one run costs.

    Args:
        work: element-steps, and combinations of two of them; of a matrix product, its multiplications.
        depth: how many of them follow one upon the other.
        words: read from or written to memory.
        rounds: how often a guess was tried.
        chunk: the length of the forward pass's chunks (of the backward pass's where only that has any); 0 without chunks.
    """

    work: int
    depth: int
    words: int
    rounds: int = 1
    chunk: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.work + other.work, self.depth + other.depth, self.words + other.words, max(self.rounds, other.rounds),
            self.chunk or other.chunk,
        )  # fmt: skip


def variant_of(neuron: Neuron, both: bool, schedule: str) -> Variant:
    step = step_of(neuron)
    return Variant(step, keep=fastest(step, "numba") if both else "nothing", schedule=schedule)


def layer(neuron: Neuron, x: Tensor, both: bool, schedule: str) -> Counts:
    """Of a layer on x [T, 1, N]."""
    variant, (steps, count) = variant_of(neuron, both, schedule), (len(x), x[0].numel())
    total = Counts(0, 0, 0)
    for loop in ("forward", "backward")[: 1 + both]:
        chunk = length(variant, loop, steps, count, torch.get_num_threads())
        if not chunk:
            total += in_one_piece(variant, loop, steps, count)
        elif loop == "forward" and schedule == "speculative":
            total += guessed(variant, x, neuron, chunk)
        else:
            total += in_chunks(variant, loop, steps, count, chunk)
    return total


def in_pieces(neuron: Neuron, steps: int, count: int, both: bool, schedule: str) -> bool:
    """Whether any pass cuts time into chunks at this size; else it is the serial kernel's."""
    variant, threads = variant_of(neuron, both, schedule), torch.get_num_threads()
    return any(length(variant, loop, steps, count, threads) for loop in ("forward", "backward")[: 1 + both])


def predicted(neuron: Neuron, steps: int, count: int, both: bool) -> float | None:
    """The predicted cycles of the chunked schedule, as a multiple of the serial one's; None where no pass is cut."""
    variant, threads, cut, serial = variant_of(neuron, both, "chunked"), torch.get_num_threads(), 0.0, 0.0
    if not in_pieces(neuron, steps, count, both, "chunked"):
        return None
    for loop in ("forward", "backward")[: 1 + both]:
        cycles = cycles_of(variant, loop, steps, count, threads)
        serial += CALL + cycles.serial
        cut += CALL + (cycles.chunked if length(variant, loop, steps, count, threads) else cycles.serial)
    return cut / serial


def in_one_piece(variant: Variant, loop: str, steps: int, count: int) -> Counts:
    again = recomputes(variant, loop)
    moved = words(accesses_of(variant), loop) * steps * count
    return Counts((1 + again) * steps * count, steps + again * variant.chunk, ceil(moved))


def in_chunks(variant: Variant, loop: str, steps: int, count: int, chunk: int) -> Counts:
    """The three phases: forward the first computes ends only, backward it carries along what a unit gradient becomes."""
    pieces, again = ceil(steps / chunk), recomputes(variant, loop)
    affine = affine_of(variant.step, given_spikes=True)
    alone = 0 if loop == "backward" or affine.constant(variant.step) else len(variant.step.before)
    longest = chunk + again * variant.chunk
    moved = words(accesses_of(variant), loop) + (1 + alone) * read(variant, loop) + copies(variant, loop)
    return Counts(
        (2 + alone) * (1 + again) * steps * count + (pieces - 1) * count, 2 * longest + pieces - 1,
        ceil(moved * steps * count), chunk=chunk,
    )  # fmt: skip


def guessed(variant: Variant, x: Tensor, neuron: Neuron, chunk: int) -> Counts:
    """Of a speculative forward pass: the chunks that ran, and the last pass from the true starts."""
    steps, count = len(x), x[0].numel()
    ran = chunked.speculate(folded, variant, x, Given(steps, by_value(neuron), None, None, count, chunk=chunk)).ran
    tried = int(ran.sum()) * chunk * count
    later = tried - steps * count if len(ran) else 0  # what runs again is laid out again
    last = (words(accesses_of(variant), "forward") + copies(variant, "forward")) * steps * count
    moved = read(variant, "forward") * tried + COPY * later + last
    return Counts(tried + steps * count, (len(ran) + 1) * chunk, ceil(moved), rounds=len(ran), chunk=chunk)


def read(variant: Variant, loop: str) -> Fraction:
    """Words per element-step that a pass reads: all that the first phase moves."""
    found = (access.words for access in accesses_of(variant) if (access.kernel, access.action) == (loop, "reads"))
    return sum(found, Fraction(0))


def recomputes(variant: Variant, loop: str) -> int:
    """1 where the backward pass computes each chunk's steps again."""
    return int(loop == "backward" and variant.keeps == "input")


def copies(variant: Variant, loop: str) -> int:
    """Words per element-step of the copies into the layout of chunks, once for both phases, and out of it."""
    if loop == "forward":
        return 2 * COPY  # x, out
    return (2 + (variant.keeps == "input")) * COPY  # g_out, g_x, x


def of_rounds(way: str, neuron: Neuron, steps: int, count: int, chunk: int, rounds: int) -> Counts:
    """Of so many rounds of a scan in plain torch, each over these steps."""
    one = counted(way, neuron, steps, count, chunk, rounds)
    return Counts(one.work, one.depth, one.words, rounds, chunk)


def product(layer: Relaxation, x: Tensor, both: bool, weights: int) -> Counts:
    """Of a PSN: backward, x's gradient is another product. Its words: x, the weights and the spikes, each once."""
    steps, count = len(x), x[0].numel()
    work = layer.work(steps, count)
    passes = 1 + both
    return Counts(passes * work.work, passes * work.depth, passes * (2 * steps * count + weights))

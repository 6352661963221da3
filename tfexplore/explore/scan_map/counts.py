"""What one run costs, counted and not timed: work, depth, words and rounds of each way through T time steps.

    serial              T steps of N neurons in each pass; with keep="input" the backward pass computes them again, chunk by chunk
    chunked, forward    the chunks twice (phases 1 and 3), and one combination at each border (phase 2)
    chunked, backward   the same, and in phase 1 again for each state: what a chunk makes of a unit gradient at its end
    speculative         the chunks that really ran in each round, and all again from their true starts
    fixed point, cut    the scan of one round, counted while it runs (`scan.pairs.Count`), times the rounds
    PSN                 the multiplications of the product; its words are the least there can be

Words are those of the fused loops as derived (`codegen.traffic`), with the copies into the layout of chunks and out of it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from tfexplore.backends import Given, chunked, folded
from tfexplore.codegen.keep import fastest
from tfexplore.codegen.schedule import length
from tfexplore.codegen.traffic import accesses_of, words
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.affine import affine_of
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import by_value, step_of
from tfexplore.scan.pairs import Count
from tfexplore.scan.pairs import chunked as scan_in_chunks
from tfexplore.scan.relaxation import Relaxation

COPY = 2
"""Words of a copy: one read, one written."""


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


def in_one_piece(variant: Variant, loop: str, steps: int, count: int) -> Counts:
    again = recomputes(variant, loop)
    moved = words(accesses_of(variant), loop) * steps * count
    return Counts((1 + again) * steps * count, steps + again * variant.chunk, ceil(moved))


def in_chunks(variant: Variant, loop: str, steps: int, count: int, chunk: int) -> Counts:
    """The three phases."""
    pieces, states, again = ceil(steps / chunk), len(variant.step.before), recomputes(variant, loop)
    forward = loop == "forward"
    alone = (0 if affine_of(variant.step).constant(variant.step) else states) if forward else states
    phase = (1 + again) * steps * count
    longest = chunk + again * variant.chunk
    plain = chunked.without_backward(variant) if forward else variant
    moved = (1 + alone) * words(accesses_of(plain), loop) + words(accesses_of(variant), loop)
    return Counts(
        (2 + alone) * phase + (pieces - 1) * count, 2 * longest + pieces - 1,
        ceil((moved + (2 + alone) * copies(variant, loop)) * steps * count), chunk=chunk,
    )  # fmt: skip


def guessed(variant: Variant, x: Tensor, neuron: Neuron, chunk: int) -> Counts:
    """Of a speculative forward pass: the chunks that ran, and the last pass from the true starts."""
    steps, count = len(x), x[0].numel()
    given = Given(steps, by_value(neuron), None, None, count, chunk=chunk)
    ran = chunked.speculate(folded, variant, x, given).ran
    tried = int(ran.sum()) * chunk * count
    moved = words(accesses_of(chunked.without_backward(variant)), "forward") + copies(variant, "forward")
    last = (words(accesses_of(variant), "forward") + copies(variant, "forward")) * steps * count
    return Counts(
        tried + steps * count, (len(ran) + 1) * chunk, ceil(moved * tried + last), rounds=len(ran), chunk=chunk
    )


def recomputes(variant: Variant, loop: str) -> int:
    """1 where the backward pass computes each chunk's steps again."""
    return int(loop == "backward" and variant.keeps == "input")


def copies(variant: Variant, loop: str) -> int:
    """Words per element-step of the copies into the layout of chunks and out of it."""
    if loop == "forward":
        return 2 * COPY  # x, out
    return (2 + (variant.keeps == "input")) * COPY  # g_out, g_x, x


def fixed_point(rounds: int, steps: int, count: int, chunk: int) -> Counts:
    """Of so many rounds, each a chunked scan in plain torch."""
    one = of_scan(steps, chunk)
    work, moved = rounds * one.work * count, rounds * one.words * count
    return Counts(work, rounds * one.depth, moved, rounds, chunk)


@functools.lru_cache(maxsize=256)
def of_scan(steps: int, chunk: int) -> Count:
    """Of one neuron with one state."""
    count, one = Count(), torch.ones(steps, 1, 1)
    scan_in_chunks(one, one, torch.ones(1, 1), chunk, count=count)
    return count


def product(layer: Relaxation, x: Tensor, both: bool, weights: int) -> Counts:
    """Of a PSN: backward, x's gradient is another product. Its words: x, the weights and the spikes, each once."""
    steps, count = len(x), x[0].numel()
    work = layer.work(steps, count)
    passes = 1 + both
    return Counts(passes * work.operations, passes * work.depth, passes * (2 * steps * count + weights))

# mypy: allow-untyped-defs
"""Puzzles of notebook 08, spikes as bits: eight steps packed into a byte, and one of them read without unpacking the rest.

What is expected comes from the spikes that were packed, and from `numpy.packbits`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from tfexplore.puzzles.puzzle import Array, Case, Function, Memory, Puzzle

NOTEBOOK = "08_data_and_jit"


def pack_eight(s, packed):
    """Eight steps of spikes s [8, N], 0 or 1, into the bytes packed [N]: step 0 is the highest bit, step 7 the lowest."""
    ### BEGIN SOLUTION
    byte = np.zeros(len(packed), np.uint8)
    for t in range(8):
        byte = byte * 2 + s[t].astype(np.uint8)
    packed[:] = byte
    ### END SOLUTION


def read_bit(packed, t):
    """The spikes of time step t, 0 or 1 for each neuron, out of the bytes packed [T / 8, N]; step 0 is the highest bit."""
    ### BEGIN SOLUTION
    return (packed[t // 8] >> (7 - t % 8)) & 1
    ### END SOLUTION


def spikes(steps: int, neurons: int, seed: int = 0) -> Array:
    made: Array = (np.random.default_rng(seed).random((steps, neurons)) < 0.3).astype(np.float32)
    return made


def in_bytes(function: Function, memory: Memory, s: Array) -> Array:
    packed = memory.output("packed", (s.shape[1],), np.uint8)
    function(s=memory.input("s", s), packed=packed)
    return packed.array


def pack_cases() -> list[Case]:
    one = np.array([[0, 1, 0, 0, 1, 0, 1, 1]], np.float32).T
    cases = []
    for name, s in (("one neuron: 0 1 0 0 1 0 1 1", one), ("48 neurons", spikes(8, 48))):
        case = Case(
            name, {"s": s}, np.packbits(s.astype(bool), axis=0)[0], ("neuron i",), run=in_bytes,
            budget=1 + Fraction(1, 32), elements=s.size, registers=2 * s.shape[1],
        )  # fmt: skip
        cases.append(case)
    return cases


def from_bytes(function: Function, memory: Memory, packed: Array, t: int) -> Any:
    found = function(packed=memory.input("packed", packed), t=t)
    return None if found is None else np.asarray(found)


def read_cases() -> list[Case]:
    s = spikes(24, 40, seed=1)
    packed = np.packbits(s.astype(bool), axis=0)
    return [
        Case(
            f"step {t} of 24, 40 neurons", {"packed": packed, "t": t}, s[t], ("neuron i",), run=from_bytes,
            budget=Fraction(1, 4), elements=s.shape[1], registers=3 * s.shape[1],
        )
        for t in (0, 7, 13, 16)
    ]  # fmt: skip


def into(compute: Function) -> Function:
    """A common mistake of packing: what these bytes become instead."""

    def slip(s, packed):
        packed[:] = compute(s[:])

    return slip


PLACES = 2 ** np.arange(8)[:, None]

PUZZLES = (
    Puzzle(
        pack_eight,
        NOTEBOOK,
        "eight steps in a byte",
        """
A spike is 0 or 1, yet as a float32 it takes 32 bits. Here are eight time steps of spikes, `s` [8, N]. Write them into `packed`
[N], one *byte* for each neuron: step 0 is the byte's highest bit (worth 128), step 7 its lowest (worth 1). So the spikes
0 1 0 0 1 0 1 1 are 64 + 8 + 2 + 1 = 75. Read each spike once, and write each byte once.
""",
        (
            "What is step `t` worth? Step 0 128, step 1 64, and so on: 2 to the power of `7 - t`.",
            "Keep the byte that you make in a variable of your own: whoever adds to `packed` step by step reads it each time.",
            "From the first step on: double what you have, and add the spike. `byte = byte * 2 + s[t]`, eight times.",
        ),
        pack_cases,
        "byte",
        {
            "The bits are in the opposite order: step 0 must be the highest bit, worth 128.": into(
                lambda s: (s * PLACES).sum(0)
            ),
            "That counts the spikes, so it is lost when they came. Each step has a place of its own in the byte.": into(
                lambda s: s.sum(0)
            ),
            "Every bit is one place too high, and the first has fallen out of the byte: step 7 is worth 1.": into(
                lambda s: (s * PLACES[::-1] * 2).sum(0) % 256
            ),
        },
    ),
    Puzzle(
        read_bit,
        NOTEBOOK,
        "a bit, without unpacking",
        """
The spikes of T time steps are packed along time, eight to a byte: `packed` [T / 8, N], and the first step of each byte is its
highest bit. Return the spikes of time step `t`, 0 or 1 for each neuron. Leave the rest packed: one byte of each neuron is all
that you need to read.
""",
        (
            "In which row of `packed` is step `t`? Eight steps share a row.",
            "Row `t // 8`, and in it bit `t % 8` from the highest on. `byte >> k` moves a byte `k` places to the right.",
            "Move the bit to the lowest place, `7 - t % 8` places, and cut off what is left of it with `& 1`.",
        ),
        read_cases,
        "spike",
        {
            "The bits are counted from the wrong end: the first step of a byte is its highest bit.": (
                lambda packed, t: (packed[t // 8] >> (t % 8)) & 1
            ),
            "What stands left of the bit is still there: `& 1` leaves the lowest bit alone.": (
                lambda packed, t: packed[t // 8] >> (7 - t % 8)
            ),
            "That is the whole byte. One of its bits is wanted.": lambda packed, t: packed[t // 8],
            "Row 0 has the first eight steps only: the step is in row `t // 8`.": (
                lambda packed, t: (packed[0] >> (7 - t % 8)) & 1
            ),
        },
    ),
)

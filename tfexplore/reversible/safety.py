r"""What may be saved for the backward pass, and how far a level can be inverted from its last state.

The inverse of a step, :math:`(c_t - F) / \alpha`, multiplies the rounding error of :math:`c_t` by :math:`1/|\alpha|` and adds
one of its own, so k steps leave :math:`\sum_{j=1}^{k} |\alpha|^{-j}` of them: some :math:`k \log_2 1/|\alpha|` bits of the
mantissa's 24 are lost (53 in float64). Where levels are read as numbers, F passes errors on and adds to that: with a gain of 1,
a bit more at each step (`tfexplore bench inverse` measured growth by 3.6 a step at 0.5, 2 from alpha alone). Where they are read
through comparisons, the error has no effect at first; then a state within it of its threshold is seen on the other side, one
spike flips, and the inverse of all that follows is another network's. So as many bits are wanted as make a flip unlikely among
all the neurons, where states are spread out. Ones that lie on a threshold, as sums of few whole spikes do, may flip any time;
bits know no such case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

KEEP = ("graph", "levels", "bits", "last")
MANTISSA = {torch.float32: 24, torch.float64: 53}
WANTED, FOR_ALPHA = 14, 18
"""Bits of a reconstructed state that must be right where F sees it as a number, and where only alpha's gradient does."""


@dataclass(frozen=True)
class Choice:
    """What is kept of the levels, and why.

    Args:
        name: `"graph"`, `"levels"`, `"bits"` or `"last"`.
        reason: one sentence.
        anchors: the states are kept as numbers at every so many steps; None where only the last are.
    """

    name: str
    reason: str
    anchors: int | None = None


def wanted(compared: int) -> int:
    """The bits of a state that must be right; compared: how many neurons are read through comparisons, 0 for none.

    Of N states, some N 2^-b lie within an error of 2^-b of their threshold. Five bits more are for states of up to 4 or so, and
    for a flip that is unlikely at every step: behind the first one, errors of the size of a spike spread from step to step.

    >>> wanted(0), wanted(10_000)
    (14, 19)
    """
    return WANTED if compared == 0 else 5 + math.ceil(math.log2(compared))


def lost(steps: int, least: float) -> float:
    r"""The bits that the inverse of so many steps loses: :math:`\log_2 \sum_j a^{-j}`, with a = `least`, the smallest magnitude.

    >>> [round(lost(16, alpha), 1) for alpha in (0.5, 0.9, 1.0)], lost(1, 0.0)
    ([17.0, 5.5, 4.0], inf)
    """
    if least == 0 and steps:
        return math.inf
    # in powers of 2, which cannot overflow
    most = max(0.0, -math.log2(least)) * steps
    return most + math.log2(sum(2.0 ** (-math.log2(least) * j - most) for j in range(1, steps + 1))) if steps else 0.0


def most_steps(least: float, dtype: torch.dtype, bits: int, at_most: int = 1 << 16) -> int:
    """How many steps can be inverted, of `at_most`, with so many bits left.

    >>> [most_steps(alpha, torch.float32, 18) for alpha in (0.5, 0.9, 0.0)]
    [5, 18, 0]
    """
    low, high = 0, at_most
    while low < high:  # lost grows with the steps
        middle = (low + high + 1) // 2
        low, high = (middle, high) if lost(middle, least) <= MANTISSA[dtype] - bits else (low, middle - 1)
    return low


def choose(
    keep: str, anchors: int | None, steps: int, least: float, dtype: torch.dtype, why_not_bits: str, compared: int = 0,
    for_alpha: bool = False,
) -> Choice:  # fmt: skip
    """What `keep` means for so many steps.

    Args:
        keep: one of `KEEP`, or "auto".
        anchors: the states are kept every so many steps; None for as few as possible.
        steps: T.
        least: the smallest magnitude of alpha.
        dtype: the state's.
        why_not_bits: why bits are not enough for the backward pass, or "".
        compared: how many neurons are read through comparisons.
        for_alpha: whether alpha's gradient needs the states as numbers.

    Raises:
        ValueError: where the choice would give wrong gradients, with the reason.

    Example:
        >>> choose("auto", None, 64, 0.5, torch.float32, "the levels see each other as numbers").anchors
        4
    """
    if keep in ("graph", "levels"):
        return Choice(keep, "requested")
    if keep == "bits" and why_not_bits:
        raise ValueError(f"keep='bits' is not exact here: {why_not_bits}. Use keep='auto', 'last' or 'levels'.")
    if keep == "bits" or (keep == "auto" and not why_not_bits):
        reason = "the levels see each other through comparisons only, whose outcomes are bits: exact for every alpha"
        # only alpha's gradient sees the reconstructed state
        apart = max(1, most_steps(least, dtype, FOR_ALPHA, steps)) if for_alpha else None
        return Choice("bits", "requested" if keep == "bits" else reason, apart)
    bits, gain = wanted(compared), 1 if compared else 2
    most, apart = most_steps(least / gain, dtype, bits, steps), min(steps, anchors or steps)
    loses = f"{lost(apart, least / gain):.3g} of {MANTISSA[dtype]} bits, some T log2({gain}/min|alpha|)"
    lose = f"the inverse of {apart} steps loses {loses}"
    among = f" among {compared:,} neurons that are compared with a threshold" if compared else ""
    lose += f", where {bits} are wanted{among}"
    if apart <= most:
        return Choice("last", "requested" if keep == "last" else lose, anchors)
    if keep == "last":
        anchored = f"keep the states every {most} steps with anchors={most}" if most > 1 else "use keep='levels'"
        way_out = (
            f"{anchored}, or use keep='auto'" if why_not_bits else f"use keep='bits', which is exact, or {anchored}"
        )
        raise ValueError(f"keep='last' would give wrong gradients: {lose}; {way_out}.")
    if most < 2:
        return Choice("levels", f"{lose}, and {why_not_bits}")
    return Choice("last", f"{lose}, so the states are kept every {most} steps", most)

r"""Affine pairs, and four ways to walk a recurrence of them: one after the other, in chunks, as a tree, by doubling.

A step that is affine in its states is a pair (A, b), and a recurrence is many of them, one behind the other::

    z[t] = A[t] z[t-1] + b[t]

Two steps are one step: first (A1, b1), then (A2, b2), is (A2 A1, A2 b1 + b2). That is all a scan knows of a pair, and all it
uses is that the grouping is free. T steps, C chunks of L, in combines (closed forms; `Count` counts them as they run)::

    way           work                    depth             after
    sequential    T                       T                 the loop
    chunked       T + C L - L - 1         2 L + C - 2       three phases: chunks side by side, across, side by side
    associative   2 T - 1 - log2 T        2 log2 T - 1      a tree, odd-even (Blelloch, 1990)
    doubling      T log2 T - T + 2        log2 T + 1        Hillis and Steele, 1986: the least depth, the most work

A scan does *more* work than the loop, to have a shorter longest chain. It pays where lanes would be idle, and not elsewhere.

Shapes: time first. With S states, A is `[T, S, S, ...]`, or `[T, S, ...]` where it is diagonal (every state by itself), and b is
`[T, S, ...]`; behind S, A may have 1 where it is the same for all neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from tfexplore.neurons.parameters import checked_count

Element: TypeAlias = tuple[Tensor | None, ...]
"""What is combined: tensors with time first, so that one call of an operator combines many elements side by side."""
Operator: TypeAlias = Callable[[Element, Element], Element]
"""(earlier, later) -> both, one after the other; must be associative."""


class Pairs(NamedTuple):
    """Steps z -> A z + b.

    Args:
        a: A, `[T, S, S, ...]`, or `[T, S, ...]` where it is diagonal.
        b: `[T, S, ...]`.
    """

    a: Tensor
    b: Tensor


def combine(earlier: Element, later: Element) -> Element:
    """Two steps as one: (A1, b1), then (A2, b2), is (A2 A1, A2 b1 + b2).

    A state is a pair that has forgotten what was before it, A = 0, written None: (None, z), then (A, b), is (None, A z + b).

    Args:
        earlier, later: (A, b) with n pairs each, side by side.

    Example:
        >>> one, two = (torch.tensor([[0.5]]), torch.tensor([[1.0]])), (torch.tensor([[0.5]]), torch.tensor([[3.0]]))
        >>> combine(one, two)                     # from z: z/2 + 1, then half of it + 3
        (tensor([[0.2500]]), tensor([[3.5000]]))
        >>> combine((None, torch.tensor([[8.0]])), two)
        (None, tensor([[7.]]))
    """
    (a1, b1), (a2, b2) = earlier, later
    assert a2 is not None and b1 is not None and b2 is not None  # noqa: PT018  (only `earlier` may be a state)
    if a2.ndim == b2.ndim:  # diagonal
        return None if a1 is None else a2 * a1, a2 * b1 + b2
    product = None if a1 is None else (a2.unsqueeze(3) * a1.unsqueeze(1)).sum(2)
    return product, (a2 * b1.unsqueeze(1)).sum(2) + b2


@dataclass
class Count:
    """What a scan did, counted while it ran: give an empty one to a scan as `count`.

    Args:
        work: combines, of all neurons; a step applied to a state counts as one.
        depth: those on the longest chain, on which each waits for the one before it.
        words: numbers that the combines read and wrote, each through memory: what a kernel that keeps a chain in registers
            saves is not in it.
        operations: multiplications and additions.

    Example:
        >>> count, one = Count(), torch.ones(8, 1, 1)
        >>> associative(one, one, count=count).flatten().tolist()
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
        >>> count
        Count(work=11, depth=4, words=66, operations=33)
    """

    work: int = 0
    depth: int = 0
    words: int = 0
    operations: int = 0

    def counting(self, op: Operator) -> Operator:
        """The operator on elements with one tensor more, `[T]`: how many combines, one after the other, each has behind it."""

        def counted(earlier: Element, later: Element) -> Element:
            (*one, deep), (*two, deeper) = earlier, later
            made = op(tuple(one), tuple(two))
            assert deep is not None and deeper is not None  # noqa: PT018
            level = torch.maximum(deep, deeper) + 1
            self.depth = max(self.depth, int(level.max())) if len(level) else self.depth
            self.words += sum(leaf.numel() for leaf in (*one, *two, *made) if leaf is not None)
            if isinstance(b := made[-1], Tensor):
                states = b.shape[1] if b.ndim > 1 else 1
                self.work += b.numel() // max(states, 1)
                inner = states if two[0] is not None and two[0].ndim > b.ndim else 1
                product = 0 if made[0] is None or len(made) < 2 else made[0].numel() * (2 * inner - 1)
                self.operations += product + b.numel() * 2 * inner
            return (*made, level)

        return counted


def at(elements: Element, where: slice) -> Element:
    """Some of the elements."""
    return tuple(None if leaf is None else leaf[where] for leaf in elements)


def joined(parts: Sequence[Element]) -> Element:
    """Elements, one part behind the other."""
    return tuple(
        None if leaves[0] is None else torch.cat([leaf for leaf in leaves if leaf is not None])
        for leaves in zip(*parts, strict=True)
    )


def in_order(parts: Sequence[Element], places: Sequence[slice], steps: int) -> Element:
    """Elements that were made apart, in the order of time: parts[k] belongs at the steps places[k] of 0 ... steps - 1."""
    times = torch.arange(steps)
    order = torch.cat([times[place] for place in places]).argsort()
    return tuple(None if leaf is None else leaf[order.to(leaf.device)] for leaf in joined(parts))


def sequential(a: Tensor, b: Tensor, start: Tensor | None = None, *, count: Count | None = None) -> Tensor:
    """The loop: each step waits for the one before it.

    Args:
        a: A of every step, `[T, S, S, ...]`, or `[T, S, ...]` where it is diagonal.
        b: b of every step, `[T, S, ...]`.
        start: the states before the first step, `[S, ...]`; None for 0.
        count: counts what is done.

    Returns:
        The states after every step, `[T, S, ...]`; differentiable in all three.

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> half, x = torch.full((4, 1), 0.5), torch.tensor([[8.0], [0.0], [0.0], [4.0]])
        >>> sequential(half, x).flatten().tolist()
        [8.0, 4.0, 2.0, 5.0]
    """
    op, elements, steps = begun(a, b, start, count)
    if not steps:
        return b
    states = [state := as_state(at(elements, slice(0, 1)))]
    states += [state := op(state, at(elements, slice(t, t + 1))) for t in range(1, steps)]
    return states_of(joined(states))


def chunked(
    a: Tensor, b: Tensor, start: Tensor | None = None, chunk: int = 32, *, count: Count | None = None
) -> Tensor:
    """Chunks of time side by side, states across, in three phases.

    1. every chunk but the last: its steps as one pair, all chunks side by side;
    2. across: the state at each chunk's start, one chunk after the other;
    3. every chunk from its true start, all side by side.

    Args:
        a, b, start, count: as for `sequential`.
        chunk: L, time steps of a chunk; the last has what is left.

    Returns:
        As `sequential`.

    Example:
        >>> half, x = torch.full((4, 1), 0.5), torch.tensor([[8.0], [0.0], [0.0], [4.0]])
        >>> chunked(half, x, chunk=2).flatten().tolist()
        [8.0, 4.0, 2.0, 5.0]
    """
    checked_count("chunk", chunk)
    op, elements, steps = begun(a, b, start, count)
    if not steps:
        return b
    whole = (steps - 1) // chunk * chunk  # the steps of all chunks but the last
    totals = at(elements, slice(0, whole, chunk))
    for step in range(1, chunk if whole else 1):
        totals = op(totals, at(elements, slice(step, whole, chunk)))

    starts: list[Element] = []
    for place in range(whole // chunk):
        total = at(totals, slice(place, place + 1))
        starts.append(op(starts[-1], total) if starts else as_state(total))

    states = as_state(at(elements, slice(0, 1)))
    if starts:
        states = joined([states, op(joined(starts), at(elements, slice(chunk, None, chunk)))])
    made = [states]
    for step in range(1, min(chunk, steps)):
        there = at(elements, slice(step, None, chunk))  # the last chunk may have no such step
        made.append(states := op(at(states, slice(0, size(there))), there))
    return states_of(in_order(made, [slice(step, None, chunk) for step in range(len(made))], steps))


def associative(a: Tensor, b: Tensor, start: Tensor | None = None, *, count: Count | None = None) -> Tensor:
    """As a tree: twice the work of the loop, 2 log2 T deep (Blelloch, "Prefix sums and their applications", 1990).

    Args:
        a, b, start, count: as for `sequential`.

    Returns:
        As `sequential`; the sums are grouped differently, so that the last digits may differ.

    Example:
        >>> half, x = torch.full((4, 1), 0.5), torch.tensor([[8.0], [0.0], [0.0], [4.0]])
        >>> associative(half, x).flatten().tolist()
        [8.0, 4.0, 2.0, 5.0]
    """
    op, elements, steps = begun(a, b, start, count)
    return states_of(odd_even(op, elements)) if steps else b


def doubling(a: Tensor, b: Tensor, start: Tensor | None = None, *, count: Count | None = None) -> Tensor:
    """By doubling: half the depth of the tree, and log2 T times the work of the loop (Hillis and Steele, 1986).

    Args:
        a, b, start, count: as for `sequential`.

    Returns:
        As `sequential`.
    """
    op, elements, steps = begun(a, b, start, count)
    reach = 1  # element t is the last `reach` steps up to t as one
    while reach < steps:
        elements = joined(
            [at(elements, slice(0, reach)), op(at(elements, slice(0, -reach)), at(elements, slice(reach, None)))]
        )
        reach *= 2
    return states_of(elements) if steps else b


def odd_even(op: Operator, elements: Element) -> Element:
    """All prefixes: element t becomes elements 0 ... t, combined. The tree itself, which any associative operator may use.

    Args:
        op: combines neighbours, many side by side.
        elements: tensors with time first.

    Example:
        Which steps does each hold? The operator on (first, last) shows it, and that only neighbours are combined:

        >>> def neighbours(earlier, later):
        ...     assert torch.equal(earlier[1] + 1, later[0])
        ...     return earlier[0], later[1]
        >>> steps = torch.arange(5)
        >>> odd_even(neighbours, (steps, steps))
        (tensor([0, 0, 0, 0, 0]), tensor([0, 1, 2, 3, 4]))
    """
    steps = size(elements)
    if steps < 2:
        return elements
    places = first, odds, evens = slice(0, 1), slice(1, None, 2), slice(2, None, 2)
    neighbours = op(at(elements, slice(0, steps - 1, 2)), at(elements, odds))  # 0-1, 2-3, 4-5, ...
    odd = odd_even(op, neighbours)  # half as many: 0-1, 0-3, 0-5, ...
    even = op(at(odd, slice(0, (steps - 1) // 2)), at(elements, evens))  # a step more each: 0-2, 0-4, ...
    return in_order([at(elements, first), odd, even], places, steps)


def begun(a: Tensor, b: Tensor, start: Tensor | None, count: Count | None) -> tuple[Operator, Element, int]:
    """The operator, the pairs (counted where wanted), the first of them applied to `start`, and T."""
    check(a, b, start)
    op: Operator = combine
    elements: Element = (a, b)
    before: Element = (None, None if start is None else start.unsqueeze(0))
    if count is not None:
        levels = torch.zeros(len(b), dtype=torch.int64)
        op, elements, before = count.counting(combine), (a, b, levels), (*before, levels[:1])
    if start is not None and len(b):
        first, behind = op(before, at(elements, slice(0, 1))), at(elements, slice(1, None))
        elements = (a, *joined([first[1:], behind[1:]]))
    return op, elements, len(b)


def as_state(pair: Element) -> Element:
    """The b of a pair that begins at the first step is a state: what was before does not matter any more."""
    return (None, *pair[1:])


def states_of(elements: Element) -> Tensor:
    states = elements[1]
    assert states is not None
    return states


def size(elements: Element) -> int:
    return len(next(leaf for leaf in elements if leaf is not None))


def check(a: Tensor, b: Tensor, start: Tensor | None) -> None:
    """Raises TypeError or ValueError, naming the argument, unless the shapes and dtypes fit."""
    given = {"b": b, "a": a} | ({} if start is None else {"start": start})
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            came = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name} must be a tensor of floats, but got {came}.")
        if tensor.dtype != b.dtype or tensor.device != b.device:
            raise TypeError(
                f"{name} must be {b.dtype} on {b.device}, as b is, but got {tensor.dtype} on {tensor.device}; convert it."
            )
    if b.ndim < 2:
        raise ValueError(f"b must be [T, S, ...], time first and then the states, but got shape {tuple(b.shape)}.")
    steps, states, *rest = b.shape
    shape = tuple(a.shape[: 1 + max(1, a.ndim - b.ndim + 1)])
    behind = a.shape[len(shape) :]
    fits = len(behind) == len(rest) and all(size in (1, of) for size, of in zip(behind, rest, strict=False))
    if shape not in ((steps, states), (steps, states, states)) or not fits:
        raise ValueError(
            f"a must be [{steps}, {states}, {states}, ...] or, diagonal, [{steps}, {states}, ...], and end as b "
            f"{tuple(b.shape)} does (or in 1), but got shape {tuple(a.shape)}."
        )
    if start is not None and start.shape != b.shape[1:]:
        raise ValueError(f"start must be b without time, {tuple(b.shape[1:])}, but got shape {tuple(start.shape)}.")

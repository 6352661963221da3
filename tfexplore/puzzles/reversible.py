# mypy: allow-untyped-defs
"""Puzzles of notebook 07, reversible time: one level inverted, four of them, what must be kept, alpha's gradient, and the bound.

What is expected is what a walk forward had, torch's autograd, or the exact arithmetic of fractions.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from tfexplore.puzzles.puzzle import Array, Case, Complaint, Function, Memory, Puzzle

NOTEBOOK = "07_reversible_time"
LEVELS = 4


def invert_level(c, below, above, F, alpha):
    """The state of the level before the step that left it in c; F(below, above) is what the step added."""
    ### BEGIN SOLUTION
    return (c - F(below, above)) / alpha
    ### END SOLUTION


def invert_levels(c, x, F, see, alpha):
    """The states of all levels before the step that left them in c[0], c[1], ...: a list of arrays."""
    ### BEGIN SOLUTION
    before = [None] * len(c)
    for level in reversed(range(len(c))):
        below = x if level == 0 else see(c[level - 1])
        above = None if level == len(c) - 1 else see(before[level + 1])
        before[level] = (c[level] - F[level](below, above)) / alpha
    return before
    ### END SOLUTION


def keep_two_bits(c, kept, s, g_s, g_c):
    """Forward: read c, write kept. Backward, without c: write the spikes s, and g_c, the gradient of c."""
    ### BEGIN SOLUTION
    size = (c.shape[1] + 7) // 8
    for t in range(len(c)):
        row = c[t]
        kept[t, :size] = np.packbits(row >= 0.5)
        kept[t, size : 2 * size] = np.packbits((row >= 0) & (row <= 1))
    for t in reversed(range(len(c))):
        fired, passes = (np.unpackbits(kept[t, k * size : (k + 1) * size], count=c.shape[1]) for k in range(2))
        s[t] = fired
        g_c[t] = g_s[t] * passes
    ### END SOLUTION


def alpha_gradient(backwards, alpha):
    """The gradient of alpha; backwards yields f and g of every step, from the last one to the first."""
    ### BEGIN SOLUTION
    total, e = 0.0, 0.0
    for f, g in backwards:
        total = total + np.sum(f * e)
        e = g + alpha * e
    return total
    ### END SOLUTION


def safe_steps(alpha, mantissa, wanted):
    """How many steps can be inverted, so that the error stays at 2**-wanted or below; one rounding is 2**-mantissa."""
    ### BEGIN SOLUTION
    error, steps = 0.0, 0
    while (error + 2.0**-mantissa) / alpha <= 2.0**-wanted:
        error = (error + 2.0**-mantissa) / alpha
        steps += 1
    return steps
    ### END SOLUTION


# -- what is expected --------------------------------------------------------------------------------------------


def maps(rng: Any, inputs: int, neurons: int) -> list[Function]:
    """F of four levels: tanh of what is below and above."""
    sizes = [inputs, *[neurons] * LEVELS]
    weights = [rng.normal(size=(neurons, size)) for size in sizes[:LEVELS]]
    feedback = [rng.normal(size=(neurons, neurons)) for _ in range(LEVELS - 1)]

    def level(k: int) -> Function:
        def F(below: Any, above: Any) -> Array:
            fed_back = 0.0 if above is None else feedback[k] @ np.asarray(above, float)
            made: Array = np.tanh(weights[k] @ np.asarray(below, float) + fed_back)
            return made

        return F

    return [level(k) for k in range(LEVELS)]


def spikes(c: Any) -> Array:
    """What the other levels see: 1 where a state is 0.5 or more."""
    made: Array = (np.asarray(c, float) >= 0.5).astype(float)
    return made


def level_cases() -> list[Case]:
    cases = []
    for alpha in (0.5, -0.8):
        rng = np.random.default_rng(3)
        F = maps(rng, 5, 6)[0]
        before, below, above = rng.normal(size=6), rng.normal(size=5), spikes(rng.normal(size=6))
        given = {"c": F(below, above) + alpha * before, "below": below, "above": above, "F": F, "alpha": alpha}
        cases.append(Case(f"alpha = {alpha:g}, six neurons", given, before, ("neuron i",)))
    return cases


def stepped(function: Function, memory: Memory, c: Array, x: Array, F: list[Function], alpha: float) -> Any:
    """The list of levels as one array [levels, neurons]."""
    found = function(c=list(c), x=x, F=F, see=spikes, alpha=alpha)
    if found is None:
        return None
    if len(found) != LEVELS or any(level is None or np.shape(level) != c[0].shape for level in found):
        raise Complaint(f"return a list of {LEVELS} arrays, one for each level, of shape {c[0].shape}.")
    return np.array([np.asarray(level, float) for level in found])


def levels_cases() -> list[Case]:
    cases = []
    for alpha in (0.5, 0.9):
        rng = np.random.default_rng(11)
        F, x = maps(rng, 5, 6), rng.normal(size=5)
        before = rng.normal(size=(LEVELS, 6))
        now: list[Array] = []
        for k in range(LEVELS):
            above = spikes(before[k + 1]) if k + 1 < LEVELS else None
            now.append(F[k](spikes(now[k - 1]) if k else x, above) + alpha * before[k])
        given = {"c": np.array(now), "x": x, "F": F, "alpha": alpha}
        cases.append(
            Case(f"four levels of six neurons, alpha = {alpha:g}", given, before, ("level", "neuron"), run=stepped)
        )
    return cases


def in_two_bits(function: Function, memory: Memory, c: Array, g_s: Array) -> Array:
    """The spikes, and below them the gradients of c, as one array [2 T, N]."""
    s, g_c = memory.output("s", c.shape), memory.output("g_c", c.shape)
    kept = memory.output("kept", (len(c), c.shape[1]), np.uint8)
    function(c=memory.input("c", c), kept=kept, s=s, g_s=memory.input("g_s", g_s), g_c=g_c)
    if min(memory.writes["kept"], memory.reads["kept"]) * 4 < c.size:
        raise Complaint(
            "the answers did not go through `kept`. In the backward pass `c` is gone: keep two bits of each state."
        )
    return np.concatenate([s.array, g_c.array])


def bits_cases() -> list[Case]:
    import torch

    cases = []
    for name, steps, neurons in (("4 time steps of 32 states", 4, 32), ("24 time steps of 64 states", 24, 64)):
        rng = np.random.default_rng(neurons)
        c = rng.normal(0.5, 0.6, (steps, neurons)).astype(np.float32)
        c[0, :3] = (0.0, 0.5, 1.0)
        g_s = rng.normal(size=c.shape).astype(np.float32)
        at = torch.from_numpy(c).double().requires_grad_()
        at.clamp(0, 1).backward(torch.from_numpy(g_s).double())
        assert at.grad is not None
        expected = np.concatenate([np.floor(np.clip(c.astype(float), 0, 1) + 0.5), at.grad.numpy()])
        cases.append(
            Case(
                name, {"c": c, "g_s": g_s}, expected, ("s, then g_c: time step", "neuron i"), run=in_two_bits,
                budget=4 + Fraction(4, 32), elements=c.size, registers=2 * neurons,
            )
        )  # fmt: skip
    return cases


def passing(function: Function, memory: Memory, f: Array, g: Array, alpha: float) -> Any:
    """Yields the steps backwards; a row is gone when the next one comes, as in a backward pass that stores none."""

    def backwards() -> Iterator[tuple[Array, Array]]:
        for t in reversed(range(len(f))):
            row, gradient = f[t].copy(), g[t].copy()
            yield row, gradient
            row[:] = gradient[:] = np.nan

    found = function(backwards=backwards(), alpha=alpha)
    if found is not None and not np.isfinite(np.asarray(found, float)).all():
        raise Complaint(
            "a row of `f` or `g` was used when the walk had gone on: each is there for its own turn of the loop only."
        )
    return found


def alpha_cases() -> list[Case]:
    import torch

    cases = []
    for name, steps, neurons, alpha in (
        ("3 steps of 2 neurons, alpha = 0.5", 3, 2, 0.5),
        ("40 steps of 16 neurons, alpha = 0", 40, 16, 0.0),
        ("40 steps of 16 neurons, alpha = 0.9", 40, 16, 0.9),
    ):
        rng = np.random.default_rng(steps)
        f, loss = rng.normal(size=(2, steps, neurons))
        factor = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        c, states = torch.zeros(neurons, dtype=torch.float64), []
        for row in f:
            c = torch.from_numpy(row) + factor * c
            c.retain_grad() if c.requires_grad else c.requires_grad_()
            states.append(c)
        total = sum((state * torch.from_numpy(row)).sum() for state, row in zip(states, loss, strict=True))
        total.backward()  # type: ignore[union-attr]
        g = np.stack([np.zeros(neurons) if state.grad is None else state.grad.numpy() for state in states])
        assert factor.grad is not None
        cases.append(Case(name, {"f": f, "g": g, "alpha": alpha}, factor.grad.item(), ("alpha",), run=passing))
    return cases


def safe(function: Function, memory: Memory, alphas: Array, mantissa: int, wanted: int) -> list[Any]:
    return [function(alpha=float(alpha), mantissa=mantissa, wanted=wanted) for alpha in alphas]


def exactly(alpha: float, mantissa: int, wanted: int) -> int:
    """In fractions: the largest k for which 1/a + 1/a^2 + ... + 1/a^k is at most 2^(mantissa - wanted)."""
    inverse, total, k = 1 / Fraction(alpha), Fraction(0), 0
    while total + inverse ** (k + 1) <= 2 ** (mantissa - wanted):
        k += 1
        total += inverse**k
    return k


def safe_cases() -> list[Case]:
    alphas = np.array([0.1, 0.25, 0.5, 0.7, 0.9])
    cases = []
    for name, mantissa, wanted in (("float32, of whose 24 bits 14 are wanted", 24, 14), ("float64, 53 and 20", 53, 20)):
        expected = np.array([exactly(alpha, mantissa, wanted) for alpha in alphas], float)
        given = {"alphas": alphas, "mantissa": mantissa, "wanted": wanted}
        cases.append(Case(name, given, expected, ("alpha",), list(map(str, alphas)), safe))
    return cases


PUZZLES = (
    Puzzle(
        invert_level,
        NOTEBOOK,
        "walk one level back",
        r"""
A step of a level was `c = F(below, above) + alpha * before`. Here is `c`, the state that it left, with what it saw: `below` and
`above`. The function `F` computes again what the step added. With the number `alpha`, return the state that was there before
the step.
""",
        (
            "Solve the equation for `before`: what must be taken off `c` first?",
            "`c - F(below, above)` is `alpha * before`.",
        ),
        level_cases,
        "state before the step",
        {
            "That is `alpha * before`: divide by alpha.": lambda c, below, above, F, alpha: c - F(below, above),
            "Divide all of it by alpha, also what F added.": lambda c, below, above, F, alpha: (
                c / alpha - F(below, above)
            ),
            "Going back divides by alpha; going forward multiplied by it.": (
                lambda c, below, above, F, alpha: (c - F(below, above)) * alpha
            ),
        },
    ),
    Puzzle(
        invert_levels,
        NOTEBOOK,
        "in which order?",
        r"""
Now four levels. In the step they went from the lowest up: level $l$ saw the spikes of the level below *after* its step, and
those of the level above *before* its step,

$$c_l[t] = F_l\big(s_{l-1}[t],\ s_{l+1}[t-1]\big) + \alpha\, c_l[t-1].$$

`c` is the list of the states behind the step, `x` is what level 0 saw below. `F` is a list of functions: `F[l](below, above)`
computes $F_l$ again, and the top level has nothing above, `None`. The function `see` gives the spikes of a state. With the
number `alpha`, return the list of the states before the step.
""",
        (
            "Level l needs the spikes of the level above it *before* the step. Of which level do you know all that it needs?",
            "The top level has nothing above. Begin there, and go down: `for level in reversed(range(len(c))):`",
            "Below is `see(c[level - 1])`, as it is behind the step; above is `see(before[level + 1])`, just found.",
        ),
        levels_cases,
        "state before the step",
        {
            "The feedback is of the step before: use the state of the level above that you have found, not `c[level + 1]`.": (
                lambda c, x, F, see, alpha: [
                    (c[k] - F[k](see(c[k - 1]) if k else x, see(c[k + 1]) if k + 1 < len(c) else None)) / alpha
                    for k in range(len(c))
                ]
            ),
            "Levels see spikes, `see(c)`, and not the states themselves.": (
                lambda c, x, F, see, alpha: mistaken_levels(c, x, F, lambda state: state, alpha)
            ),
            "What was below is the spikes of `c[level - 1]`, behind the step: in the step, the lower level went first.": (
                lambda c, x, F, see, alpha: mistaken_levels(c, x, F, see, alpha, below_before=True)
            ),
        },
    ),
    Puzzle(
        safe_steps,
        NOTEBOOK,
        "when does it break?",
        r"""
Numbers are rounded: a state is off by one rounding, $2^{-m}$ with `mantissa` $= m$. A step of the inverse takes the error that
is there, adds a rounding of its own, and divides by `alpha`: $\text{error} \leftarrow (\text{error} + 2^{-m}) / \alpha$,
beginning at 0. How many steps can be inverted so that the error is at most $2^{-w}$, with `wanted` $= w$?
""",
        (
            "Follow the error in a loop, and count the steps for as long as it stays small enough.",
            "`while (error + 2.0**-mantissa) / alpha <= 2.0**-wanted:` the next step is still safe.",
        ),
        safe_cases,
        "steps",
        {
            "Each step adds a rounding error of its own, besides multiplying the old one.": (
                lambda alpha, mantissa, wanted: int(np.floor((mantissa - wanted) / np.log2(1 / alpha) + 1e-9))
            ),
            "That is one step too many: its error is already too large.": (
                lambda alpha, mantissa, wanted: exactly(alpha, mantissa, wanted) + 1
            ),
        },
    ),
    Puzzle(
        keep_two_bits,
        NOTEBOOK,
        "what must be kept?",
        r"""
The other levels see a state `c` through a spike: 1 where `c >= 0.5`, else 0. Its gradient is that of clamping to [0, 1]: `g_c`
is `g_s` where `0 <= c <= 1`, and 0 elsewhere. So the backward pass has two yes-or-no questions about each state.

In the forward pass, read `c` once and write the answers into `kept`. Then `c` is gone. In the backward pass write `s[t]`, so
that the levels can be computed again, and `g_c[t]`. All are [T, N]; `kept` has room for a *byte* of each state: use a quarter
of it.
""",
        (
            "`np.packbits(answers)` packs eight answers into a byte. Two rows of bits for each time step: where does each go?",
            "With `size = (N + 7) // 8`, write one into `kept[t, :size]`, the other into `kept[t, size : 2 * size]`.",
            "Read `c[t]` into a variable first: twice `c[t]` are two reads.",
        ),
        bits_cases,
        "spike, gradient",
        backwards=True,
    ),
    Puzzle(
        alpha_gradient,
        NOTEBOOK,
        "the gradient of alpha, without the states",
        r"""
With `c[t] = f[t] + alpha * c[t-1]`, beginning at 0, the gradient of alpha is $\sum_t g_t \cdot c_{t-1}$, where $g_t$ is the
gradient of `c[t]`. But only bits of the states were kept, no numbers! What comes by in the backward pass is, for every step
from the *last* one to the first, `f` (computed again anyway) and `g`: arrays of neurons. Return the gradient of alpha
anyway, a single number. A row is gone when the next one comes.
""",
        (
            r"Write $c_{t-1}$ as a sum of earlier `f`: $f_{t-1} + \alpha f_{t-2} + \dots$ Which `g` meet one `f`?",
            r"`f[s]` meets all later ones: $e_s = g_{s+1} + \alpha g_{s+2} + \dots$ What is $e_{s-1}$, given $e_s$?",
            "$e_{s-1} = g_s + \\alpha e_s$, and it begins at 0. Add `np.sum(f * e)` first, then move `e` on.",
        ),
        alpha_cases,
        "gradient of alpha",
        {
            "`e` moves on after it has met `f`: an `f` meets the gradients of later steps only.": (
                lambda backwards, alpha: mistaken_alpha(backwards, alpha, early=True)
            ),
            "Older gradients fade: `e` is multiplied by alpha at each step.": (
                lambda backwards, alpha: mistaken_alpha(backwards, 1.0)
            ),
        },
    ),
)


def mistaken_levels(c: Any, x: Any, F: Any, see: Function, alpha: float, below_before: bool = False) -> list[Any]:
    """`invert_levels` with a mistake in what is seen."""
    before: list[Any] = [None] * len(c)
    for level in reversed(range(len(c))):
        above = None if level == len(c) - 1 else see(before[level + 1])
        below = x if level == 0 else see(c[level - 1])
        if below_before and level:  # as if the lower level had not gone first
            below = see((c[level - 1] - F[level - 1](x if level == 1 else see(c[level - 2]), see(c[level]))) / alpha)
        before[level] = (c[level] - F[level](below, above)) / alpha
    return before


def mistaken_alpha(backwards: Any, alpha: float, early: bool = False) -> float:
    """`alpha_gradient` with a mistake in e."""
    total, e = 0.0, 0.0
    for f, g in backwards:
        if early:
            e = g + alpha * e
        total = total + np.sum(f * e)
        if not early:
            e = g + alpha * e
    return total

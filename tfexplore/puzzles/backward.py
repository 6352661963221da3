# mypy: allow-untyped-defs
"""Puzzles of notebook 04, the backward pass: surrogate, one step, all steps, what to recompute, and what fits into a bit.

What is expected comes from torch's autograd: through the library's layer in float64, or through the equation of one step.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from tfexplore.codegen.traffic import traffic_of, words
from tfexplore.codegen.variant import LONGEST_CHUNK
from tfexplore.neurons.library import LIF
from tfexplore.neurons.surrogates import ATan
from tfexplore.puzzles.puzzle import Array, Case, Complaint, Function, Memory, Puzzle

POTENTIAL = words(traffic_of(LIF(), "potential"), "backward")
INPUT = words(traffic_of(LIF(), "input"), "backward")
BITS = POTENTIAL + Fraction(2, 32)
"""The potential is still read once, in the forward pass; then a bit of 1/32 word is written, and read."""
AXES = ("time step t", "neuron i")


def surrogate(u, alpha):
    """The slope at u of the smooth step arctan(pi / 2 * alpha * u) / pi + 1 / 2."""
    ### BEGIN SOLUTION
    return alpha / 2 / (1 + (np.pi / 2 * alpha * u) ** 2)
    ### END SOLUTION


def backward_step(g_s, g_v, slope, tau):
    """The gradients of the current x and of the potential before the step: return g_x, g_before."""
    ### BEGIN SOLUTION
    g_h = g_s * slope + g_v
    return g_h, g_h * (1 - 1 / tau)
    ### END SOLUTION


def whole_backward(h, g_s, g_x, tau, v_threshold, slope):
    """From the potentials h and the gradients g_s of the spikes, write the gradients g_x of the currents; all are [T, N]."""
    ### BEGIN SOLUTION
    g_v = np.zeros(h.shape[1])
    for t in reversed(range(len(h))):
        g_h = g_s[t] * slope(h[t] - v_threshold) + g_v
        g_x[t] = g_h
        g_v = g_h * (1 - 1 / tau)
    ### END SOLUTION


def recompute(x, v, g_s, g_x, g_v, tau, v_threshold, slope):
    """The backward pass through one chunk: write g_x, and return the gradient of v, the potential at the chunk's start."""
    ### BEGIN SOLUTION
    v, distance = v + 0.0, []
    for t in range(len(x)):
        h = v - v / tau + x[t]
        distance.append(h - v_threshold)
        v = np.where(h >= v_threshold, h - v_threshold, h)
    for t in reversed(range(len(x))):
        g_h = g_s[t] * slope(distance[t]) + g_v
        g_x[t] = g_h
        g_v = g_h * (1 - 1 / tau)
    return g_v
    ### END SOLUTION


def keep_bits(u, kept, g_s, g_u, width):
    """Write g_u = g_s * slope into g_u; the slope is 1 / width where |u| < width / 2, and 0 elsewhere. All are [T, N]."""
    ### BEGIN SOLUTION
    bytes_per_row = (u.shape[1] + 7) // 8
    for t in range(len(u)):  # forward: a bit for each neuron
        kept[t, :bytes_per_row] = np.packbits(np.abs(u[t]) < width / 2)
    for t in reversed(range(len(u))):  # backward
        bits = np.unpackbits(kept[t, :bytes_per_row], count=u.shape[1])
        g_u[t] = g_s[t] * bits / width
    ### END SOLUTION


def surrogate_cases() -> list[Case]:
    import torch

    cases = []
    for alpha in (4.0, 2.0):
        u = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
        (torch.atan(torch.pi / 2 * alpha * u) / torch.pi + 0.5).sum().backward()
        assert u.grad is not None
        at = u.detach().numpy()
        given = {"u": at, "alpha": alpha}
        cases.append(Case(f"alpha = {alpha:.0f}", given, u.grad.numpy(), ("distance from the threshold u",), at))
    return cases


def both(function: Function, memory: Memory, **given: Any) -> Any:
    """The two gradients, concatenated."""
    found = function(**given)
    if found is None:
        return None
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Complaint("return two values, separated by a comma: `g_x, g_before`.")
    return np.concatenate(found)


def step_cases() -> list[Case]:
    """One step of a LIF, detached soft reset; around u the spike is a line of the slope given."""
    import torch

    rng, tau = np.random.default_rng(5), 4.0
    g_s, g_v, slope = rng.normal(size=(3, 6))
    v, x = (torch.tensor(rng.normal(size=6), requires_grad=True) for _ in range(2))
    h = v - v / tau + x
    s = h * torch.tensor(slope)
    after = h - s.detach()
    (s * torch.tensor(g_s) + after * torch.tensor(g_v)).sum().backward()
    assert v.grad is not None
    assert x.grad is not None
    given = {"g_s": g_s, "g_v": g_v, "slope": slope, "tau": tau}
    expected = np.concatenate([x.grad.numpy(), v.grad.numpy()])
    labels = [f"{name}[{i}]" for name in ("g_x", "g_before") for i in range(6)]
    return [Case("one step of six neurons", given, expected, ("gradient",), labels, both)]


def backward_pass(steps: int, neurons: int, tau: float, threshold: float) -> dict[str, Array]:
    """Currents, gradients of the spikes, and by the library's layer and autograd: potentials and gradients of the currents."""
    import torch

    from tfexplore.nn.layers import Layer
    from tfexplore.nn.states import record

    rng = np.random.default_rng(steps)
    x = rng.uniform(-0.3, 1.1, (steps, neurons)).astype(np.float32)
    g_s = rng.normal(size=x.shape).astype(np.float32)
    current = torch.from_numpy(x).double().requires_grad_()
    net = torch.nn.Sequential(Layer(LIF(tau=tau, v_threshold=threshold, surrogate=ATan(2.0)), backend="torch"))
    with record(net, "h", "v") as traces:
        net(current).backward(torch.from_numpy(g_s).double())
    assert current.grad is not None
    h, v = (traces["0"][name].numpy() for name in ("h", "v"))
    return {"x": x, "g_s": g_s, "h": h.astype(np.float32), "v": v.astype(np.float32), "expected": current.grad.numpy()}


def slope_of(u: Any) -> Any:
    """ATan, alpha = 2."""
    return 1 / (1 + (np.pi * np.asarray(u)) ** 2)


def whole(function: Function, memory: Memory, h: Array, g_s: Array, **numbers: Any) -> Array:
    g_x = memory.output("g_x", h.shape)
    function(h=memory.input("h", h), g_s=memory.input("g_s", g_s), g_x=g_x, slope=slope_of, **numbers)
    found: Array = g_x.array
    return found


def whole_cases() -> list[Case]:
    cases = []
    for name, steps, neurons, tau in (
        ("4 time steps of 4 neurons", 4, 4, 2.0),
        ("32 time steps of 24 neurons", 32, 24, 4.0),
    ):
        made = backward_pass(steps, neurons, tau, 0.75)
        given = {"h": made["h"], "g_s": made["g_s"], "tau": tau, "v_threshold": 0.75}
        cases.append(
            Case(
                name, given, made["expected"], AXES, run=whole, budget=POTENTIAL, elements=steps * neurons,
                registers=2 * neurons,
            )
        )  # fmt: skip
    return cases


def chunked(function: Function, memory: Memory, x: Array, v: Array, g_s: Array, **numbers: Any) -> Any:
    """Chunk by chunk, the last one first; v has the potentials at their starts."""
    found, g_v = np.full(x.shape, np.nan), np.zeros(x.shape[1], np.float32)
    size = len(x) // len(v)
    for chunk in reversed(range(len(v))):
        part = slice(chunk * size, (chunk + 1) * size)
        g_x = memory.output("g_x", (size, x.shape[1]))
        current, start = memory.input("x", x[part]), memory.input("v", v[chunk])[:]  # a row: loaded into registers once
        back = memory.input("g_s", g_s[part])
        g_v = function(x=current, v=start, g_s=back, g_x=g_x, g_v=g_v, slope=slope_of, **numbers)
        found[part] = g_x.array
        if g_v is None:
            return None
    return found


def recompute_cases() -> list[Case]:
    """Chunks as long as the kernels' own."""
    cases, size = [], LONGEST_CHUNK
    for name, chunks, neurons, tau in (
        ("one chunk of 32 time steps", 1, 4, 2.0),
        ("two chunks of 32 time steps", 2, 16, 4.0),
    ):
        made = backward_pass(chunks * size, neurons, tau, 0.75)
        starts = np.stack([np.zeros(neurons, np.float32), *made["v"][size - 1 : -1 : size]])
        given = {"x": made["x"], "v": starts, "g_s": made["g_s"], "tau": tau, "v_threshold": 0.75}
        cases.append(
            Case(
                name, given, made["expected"], AXES, run=chunked, budget=INPUT, elements=chunks * size * neurons,
                registers=size * neurons,
            )
        )  # fmt: skip
    return cases


def in_bits(function: Function, memory: Memory, u: Array, g_s: Array, width: float) -> Array:
    g_u = memory.output("g_u", u.shape)
    kept = memory.output("kept", u.shape, np.uint8)
    function(u=memory.input("u", u), kept=kept, g_s=memory.input("g_s", g_s), g_u=g_u, width=width)
    if min(memory.writes["kept"], memory.reads["kept"]) * 8 < u.size:
        raise Complaint(
            "the answers did not go through `kept`. In the backward pass `u` is gone: write a bit of each answer there, and "
            "read it."
        )
    found: Array = g_u.array
    return found


def bit_cases() -> list[Case]:
    """The slope of a rectangle is that of a step that rises as a straight line between two ends."""
    import torch

    cases = []
    for name, steps, neurons, width in (
        ("4 time steps of 32 neurons", 4, 32, 1.0),
        ("24 time steps of 64 neurons", 24, 64, 0.5),
    ):
        rng = np.random.default_rng(neurons)
        u, g_s = rng.normal(scale=0.5, size=(2, steps, neurons)).astype(np.float32)
        at = torch.from_numpy(u).double().requires_grad_()
        (at / width + 0.5).clamp(0, 1).backward(torch.from_numpy(g_s).double())
        assert at.grad is not None
        given = {"u": u, "g_s": g_s, "width": width}
        cases.append(
            Case(
                name, given, at.grad.numpy(), AXES, run=in_bits, budget=BITS, elements=u.size, registers=neurons,
            )
        )  # fmt: skip
    return cases


def mistaken_backward(leak: Any, carry: bool = True, forwards: bool = False) -> Function:
    """`whole_backward` with a mistake in it."""

    def mistaken(h, g_s, g_x, tau, v_threshold, slope):
        g_v = np.zeros(h.shape[1])
        for t in range(len(h)) if forwards else reversed(range(len(h))):
            g_h = g_s[t] * slope(h[t] - v_threshold) + g_v
            g_x[t] = g_h
            g_v = g_h * leak(tau) * carry

    return mistaken


PUZZLES = (
    Puzzle(
        surrogate,
        "04_backwards_through_time",
        "the surrogate",
        r"""
The step function of a spike has the slope 0 almost everywhere, so nothing could be learned through it. In the backward pass, it
is replaced by a smooth step, here $\frac{1}{\pi}\arctan\left(\frac{\pi}{2}\alpha u\right) + \frac{1}{2}$, where $u$ is the
distance from the threshold. Return the slope (the derivative) of this smooth step at `u`, for a number or an array.
""",
        (
            "The slope of $\\arctan z$ is $1 / (1 + z^2)$. Here $z = \\frac{\\pi}{2} \\alpha u$.",
            "The slope of $z$ itself is $\\frac{\\pi}{2}\\alpha$. Times the $\\frac{1}{\\pi}$ in front, what constant remains?",
            "`alpha / 2` remains in front: `alpha / 2 / (1 + (np.pi / 2 * alpha * u) ** 2)`",
        ),
        surrogate_cases,
        "slope",
        {
            "The chain rule: z grows with u, at the rate pi / 2 * alpha.": (
                lambda u, alpha: 1 / np.pi / (1 + (np.pi / 2 * alpha * u) ** 2)
            ),
            "The 1 / pi in front of the arctangent is missing.": (
                lambda u, alpha: np.pi / 2 * alpha / (1 + (np.pi / 2 * alpha * u) ** 2)
            ),
            "That is the smooth step itself. Its slope is asked for.": (
                lambda u, alpha: np.arctan(np.pi / 2 * alpha * u) / np.pi + 0.5
            ),
            "The square is missing: the slope of arctan z is 1 / (1 + z²).": (
                lambda u, alpha: alpha / 2 / (1 + np.pi / 2 * alpha * u)
            ),
        },
    ),
    Puzzle(
        backward_step,
        "04_backwards_through_time",
        "one step back",
        """
The forward step was: `h = v - v / tau + x`, then the spike `s` of `h`, then the soft reset. Now two gradients come back:
`g_s`, that of the spike, and `g_v`, that of the potential after the reset. `slope` is the surrogate's slope, already
computed. The reset is detached: for the gradient, the potential after the reset changes exactly as `h` does.

Return two gradients, `g_x, g_before`: that of the current `x`, and that of the potential `v` before the step.
""",
        (
            "First the gradient of `h`. It is reached in two ways: through the spike (`g_s * slope`) and past it (`g_v`).",
            "Two ways add up: `g_h = g_s * slope + g_v`.",
            "`x` goes into `h` as it is, so its gradient is `g_h`. Of `v`, only the share 1 − 1/tau goes in.",
        ),
        step_cases,
        "gradient",
        {
            "The gradient of v is missing the leak: only the share 1 − 1/tau of v reaches h.": (
                lambda g_s, g_v, slope, tau: (g_s * slope + g_v, g_s * slope + g_v)
            ),
            "What arrives past the spike, `g_v`, is missing.": (
                lambda g_s, g_v, slope, tau: (g_s * slope, g_s * slope * (1 - 1 / tau))
            ),
            "The share 1/tau is what leaks away; 1 − 1/tau stays.": (
                lambda g_s, g_v, slope, tau: (g_s * slope + g_v, (g_s * slope + g_v) / tau)
            ),
            "The slope belongs to the way through the spike only; `g_v` comes past it.": (
                lambda g_s, g_v, slope, tau: ((g_s + g_v) * slope, (g_s + g_v) * slope * (1 - 1 / tau))
            ),
            "The two are in the other order: first the gradient of x, then that of v.": (
                lambda g_s, g_v, slope, tau: ((g_s * slope + g_v) * (1 - 1 / tau), g_s * slope + g_v)
            ),
        },
    ),
    Puzzle(
        whole_backward,
        "04_backwards_through_time",
        "the whole backward pass",
        """
Put the steps together, for a LIF with a detached soft reset as before. `h` holds the potentials before the reset, saved
in the forward pass, `g_s` the gradients that arrive at the spikes; write the gradients of the currents into `g_x`. `slope(u)`
is the surrogate's slope at the distance u = h − threshold.
After the last time step nothing more arrives, so `g_v` begins as zeros there.
""",
        (
            "The gradient flows from later to earlier: `for t in reversed(range(len(h))):`",
            "Begin with `g_v = np.zeros(h.shape[1])`. In the loop, do one step back, with `slope(h[t] - v_threshold)`.",
            "What was `g_before` at step t is `g_v` at step t − 1. Keep it in a variable: reading `g_x[t]` again costs a word.",
        ),
        whole_cases,
        "gradient of x",
        {
            "The leak is missing: of v, only the share 1 − 1/tau reaches the next potential.": mistaken_backward(
                lambda tau: 1
            ),
            "Nothing flows from a step to the one before it: carry `g_v` over.": mistaken_backward(
                lambda tau: 1, carry=False
            ),
            "That walks forwards in time. The gradient of a step depends on the steps after it.": (
                mistaken_backward(lambda tau: 1 - 1 / tau, forwards=True)
            ),
            "The share 1/tau is what leaks away; 1 − 1/tau stays.": mistaken_backward(lambda tau: 1 / tau),
        },
        backwards=True,
    ),
    Puzzle(
        recompute,
        "04_backwards_through_time",
        "do not store what you can recompute",
        """
Keeping every potential costs a word written and a word read. Instead, keep the state `v` at the start of every chunk of 32
time steps only, and walk each chunk twice: forwards, to have its potentials again, and then backwards. The neuron is a LIF
with a detached soft reset. Here is one chunk:
its currents `x` [32, N], the potential `v` [N] at its start, the gradients `g_s` [32, N] that arrive at its spikes, and
`g_v` [N], which comes from the chunk after it in time. `tau`, `v_threshold` and `slope` are as before.
Write `g_x` [32, N], and return the gradient of `v`, for the chunk before it.

A chunk's potentials fit into registers: a list or an array of your own may have up to 32 × N words here, and is free.
""",
        (
            "Forwards first: from `v`, the loop that you know, with soft reset. Put each `h` (or h − threshold) into a list.",
            "Then go backwards, as before; but `g_v` begins as it was given, and the potentials come from your list.",
            "At the end, `return g_v`. If it is too much traffic: read each `x[t]` once, and do not use `g_x` as a notebook.",
        ),
        recompute_cases,
        "gradient of x",
        backwards=True,
    ),
    Puzzle(
        keep_bits,
        "04_backwards_through_time",
        "keep only bits",
        """
With a rectangle as the surrogate, the backward pass has one question about each potential: is `u`, its distance from the
threshold, within half a `width`? The answer is one bit. In the forward pass, read `u` once and write the answers into
`kept`. Then `u` is gone: the backward pass has only `kept` and `g_s`. There, write `g_u[t]`: it is `g_s[t]` divided by
`width` where the answer was yes, and 0 elsewhere.

`kept` has room for one *byte* per element-step (it is uint8, [T, N]): a quarter of a word. Use only as much of it as you need.
""",
        (
            "`np.packbits(answers)` packs eight answers into each byte; `np.unpackbits(bytes)` gives them back as 0 and 1.",
            "N answers fit into `(N + 7) // 8` bytes. Write those into `kept[t, :number_of_bytes]`.",
            "In the backward pass: `bits = np.unpackbits(kept[t, :number_of_bytes], count=N)`, then `g_s[t] * bits / width`.",
        ),
        bit_cases,
        "gradient of u",
        backwards=True,
    ),
)

# mypy: allow-untyped-defs
"""Puzzles of notebook 03, inside the kernel: one GPU thread, the fused loop, and the time that memory traffic takes.

The spikes expected are those of the library's own layer; the budgets follow from the neuron's equations (`traffic.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfexplore.codegen.traffic import traffic_of, words
from tfexplore.neurons.library import LIF
from tfexplore.puzzles.puzzle import Array, Case, Function, Memory, Puzzle

FORWARD = words(traffic_of(LIF(), gradient=False))


def one_thread(i, T, N, x, out, tau, v_threshold):
    """What thread i does: all T time steps of neuron i. x and out are flat: N words of time step 0, then of step 1, ..."""
    ### BEGIN SOLUTION
    v = 0.0
    for t in range(T):
        h = v - v / tau + x[t * N + i]
        s = 1.0 if h >= v_threshold else 0.0
        out[t * N + i] = s
        v = h - s * v_threshold
    ### END SOLUTION


def fuse_the_loop(x, h, out, tau, v_threshold):
    """Read the current x [T, N], write the spikes into out [T, N]. h [T, N] is there, but need not be used."""
    ### BEGIN SOLUTION
    v = np.zeros(x.shape[1])
    for t in range(len(x)):
        charged = v - v / tau + x[t]
        s = np.where(charged >= v_threshold, 1.0, 0.0)
        out[t] = s
        v = charged - s * v_threshold
    ### END SOLUTION


def roofline(flops, nbytes, peak, bandwidth):
    """The least time in seconds for flops operations and nbytes bytes, at peak operations and bandwidth bytes per second."""
    ### BEGIN SOLUTION
    return max(flops / peak, nbytes / bandwidth)
    ### END SOLUTION


def currents(steps: int, neurons: int, seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-0.3, 1.1, (steps, neurons)).astype(np.float32)


def spikes_of(x: Array, tau: float, v_threshold: float) -> Array:
    """The library's own, in float64."""
    from torch import from_numpy

    from tfexplore.nn.layers import Layer

    layer = Layer(LIF(tau=tau, v_threshold=v_threshold), backend="torch")
    found: Array = layer(from_numpy(x).double()).numpy()
    return found


def all_threads(function: Function, memory: Memory, x: Array, **numbers: float) -> Array:
    """One thread after the other: they share nothing, so any order is right."""
    steps, neurons = x.shape
    current, out = memory.input("x", x.reshape(-1)), memory.output("out", (x.size,))
    for i in range(neurons):
        function(i=i, T=steps, N=neurons, x=current, out=out, **numbers)
    spikes: Array = out.array.reshape(x.shape)
    return spikes


def whole_loop(function: Function, memory: Memory, x: Array, **numbers: float) -> Array:
    current, out = memory.input("x", x), memory.output("out", x.shape)
    function(x=current, h=memory.output("h", x.shape), out=out, **numbers)
    spikes: Array = out.array
    return spikes


def case(name: str, run: Any, shape: tuple[int, int], tau: float, threshold: float, registers: float) -> Case:
    x = currents(*shape, seed=shape[0])
    given = {"x": x, "tau": tau, "v_threshold": threshold}
    expected = spikes_of(x, tau, threshold)
    axes = ("time step t", "neuron i")
    return Case(name, given, expected, axes, run=run, budget=FORWARD, elements=x.size, registers=registers)


def thread_cases() -> list[Case]:
    return [
        case("6 time steps and 3 threads", all_threads, (6, 3), 2.0, 1.0, 5),
        case("32 time steps and 16 threads", all_threads, (32, 16), 4.0, 0.75, 8),
    ]


def loop_cases() -> list[Case]:
    return [
        case("6 time steps of 4 neurons", whole_loop, (6, 4), 2.0, 1.0, 8),
        case("32 time steps of 24 neurons", whole_loop, (32, 24), 4.0, 0.75, 48),
    ]


def one_by_one(function: Function, memory: Memory, intensity: Array, **machine: float) -> list[Any]:
    return [function(flops=float(many * 1e9), nbytes=1e9, **machine) for many in intensity]


def roofline_cases() -> list[Case]:
    cases = []
    for name, peak, bandwidth in (
        ("a laptop (200 GFlop/s, 25 GB/s)", 2e11, 2.5e10),
        ("an imaginary GPU (60 TFlop/s, 3 TB/s)", 6e13, 3e12),
    ):
        intensity = np.array([0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256])
        # by another formula: the attainable performance is min(peak, intensity x bandwidth)
        expected = intensity * 1e9 / np.minimum(peak, intensity * bandwidth)
        given = {"intensity": intensity, "peak": peak, "bandwidth": bandwidth}
        cases.append(Case(name, given, expected, ("operations per byte",), intensity, one_by_one))
    return cases


def misindexed(i, T, N, x, out, tau, v_threshold):
    v = 0.0
    for t in range(T):
        h = v - v / tau + x[i * T + t]
        s = float(h >= v_threshold)
        out[i * T + t] = s
        v = h - s * v_threshold


def never_reset(x, h, out, tau, v_threshold):
    v = np.zeros(x.shape[1])
    for t in range(len(x)):
        v = v - v / tau + x[t]
        out[t] = np.where(v >= v_threshold, 1.0, 0.0)


def forgetful(x, h, out, tau, v_threshold):
    for t in range(len(x)):
        out[t] = np.where(np.asarray(x[t]) >= v_threshold, 1.0, 0.0)


PUZZLES = (
    Puzzle(
        one_thread,
        "03_inside_the_kernel",
        "one thread of the GPU",
        """
On a GPU, thread `i` walks neuron `i` through all `T` time steps. Memory has no rows and columns: `x` and `out` are flat, with
the `N` words of time step 0 first, then the `N` words of time step 1, and so on. So in every step, neighbouring threads touch
neighbouring words, which the GPU moves together. The potential starts at 0; the neuron is a LIF with soft reset.
Write what one thread does: read the current, charge, fire, write the spike, reset.
""",
        (
            "Where is the word of neuron `i` at time step `t`? There are `t` whole rows of `N` words before its own row.",
            "The word is `x[t * N + i]`. Read it once per step.",
            "The potential is an ordinary variable, `v = 0.0` above the loop: a register of the thread, which costs nothing.",
        ),
        thread_cases,
        "spike s",
        {
            "The words of one neuron are not neighbours: before its word at step t lie t rows, so it is `t * N + i`.": misindexed,
        },
    ),
    Puzzle(
        fuse_the_loop,
        "03_inside_the_kernel",
        "fuse the loop",
        """
This works, but every small operation reads and writes whole rows of memory, at 6 words per element-step:

```python
v = np.zeros(x.shape[1])
for t in range(len(x)):
    h[t] = v - v / tau + x[t]
    out[t] = np.where(h[t] >= v_threshold, 1.0, 0.0)
    v = h[t] - out[t] * v_threshold
```

`x`, `h` and `out` are memory: each word of them that you read or write is counted. A row in a variable of your own, such
as `v`, is in registers and free, as long as it has one word per neuron or two. Get the same spikes within the budget.
""",
        (
            "Which of the six words are really needed? The current must be read, and the spike must be written.",
            "Each `h[t]` on the right is a row read from memory again. Put the potential into a variable: `charged = ...`",
            "The same for the spikes: `s = np.where(...)` first, then `out[t] = s`, and go on with `s`.",
        ),
        loop_cases,
        "spike s",
        {
            "The potential is never reset: take the threshold off where the neuron fired.": never_reset,
            "The potential is not carried from one step to the next.": forgetful,
        },
    ),
    Puzzle(
        roofline,
        "03_inside_the_kernel",
        "the roofline",
        """
A processor does at most `peak` operations per second, and its memory moves at most `bandwidth` bytes per second; both at the
same time. How long, in seconds, does a kernel need at the very least that does `flops` operations and moves `nbytes` bytes?
""",
        (
            "How long would the operations take alone? And the bytes alone?",
            "Both go on at the same time, so the times do not add up: the longer one decides.",
        ),
        roofline_cases,
        "seconds",
        {
            "Computing and moving go on at the same time: the longer one decides, not the sum.": (
                lambda flops, nbytes, peak, bandwidth: flops / peak + nbytes / bandwidth
            ),
            "That is the shorter of the two times. The kernel is done when both are done.": (
                lambda flops, nbytes, peak, bandwidth: min(flops / peak, nbytes / bandwidth)
            ),
            "That is only the time for computing.": lambda flops, nbytes, peak, bandwidth: flops / peak,
            "That is only the time for moving the bytes.": lambda flops, nbytes, peak, bandwidth: nbytes / bandwidth,
            "That is operations per second. The time is asked for.": (
                lambda flops, nbytes, peak, bandwidth: min(peak, flops / nbytes * bandwidth)
            ),
        },
    ),
)

"""JAX: the benchmark's equation in `jax.lax.scan`, compiled by `jax.jit`; and what Spyx, on JAX too, has in common with it.

JAX's work goes to streams of its own, which PyTorch's events do not see: it is timed until its results are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.work import (
    BACKWARD,
    BOTH,
    FORWARD,
    INFERENCE,
    Arrays,
    Case,
    Modes,
    Work,
    forget,
    neuron_inputs,
    versions,
)

DERIVATIVES = {
    "ATan": lambda u: 1 / (1 + (math.pi * u) ** 2),
    "Rectangle": lambda u: (jnp.abs(u) <= 0.5).astype(u.dtype),
}


def VERSIONS() -> dict[str, str]:
    return versions("jax", "jaxlib")


def scan(case: Case) -> Callable[[Any], Any]:
    """The equation, x [T, B, n] -> spikes; the state is float32."""
    derivative = DERIVATIVES[case["surrogate"]]

    @jax.custom_jvp
    def fire(u: Any) -> Any:
        return (u >= 0).astype(u.dtype)

    @fire.defjvp
    def _slope(at: Any, along: Any) -> Any:
        return fire(at[0]), derivative(at[0]) * along[0]

    def step(v: Any, x_t: Any) -> Any:
        h = v + x_t.astype(v.dtype) - v / 2.0
        s = fire(h - 1.0)
        return h - jax.lax.stop_gradient(s), s.astype(x_t.dtype)

    return lambda x: jax.lax.scan(step, jnp.zeros(x.shape[1:], jnp.float32), x)[1]


def neuron(case: Case) -> Modes:
    return {"lax.scan in jit": lambda: neuron_scan(scan(case), case)}


def neuron_scan(run: Callable[[Any], Any], case: Case) -> Work:
    """The neuron benchmark for a function of JAX's, x [T, B, n] -> spikes."""
    check_device(case)
    x, gradient = map(device_array, neuron_inputs(case))
    forget()  # torch's copies

    def result(out: Any, gradients: Any) -> Arrays:
        found = {"spikes": host(out[..., :: case["every"]])}
        return found if case["passes"] == INFERENCE else found | {"x.grad": host(gradients[0][..., :: case["every"]])}

    return passes_work(run, (x,), gradient, case, result=result)


def check_device(case: Case) -> None:
    if case["device"] != "cpu" and jax.default_backend() == "cpu":
        raise ValueError("this JAX has no GPU: install jax[cuda13]")


def device_array(values: Any) -> Any:
    """A tensor of torch's as an array of JAX's, through NumPy, which has no bfloat16."""
    return jnp.asarray(values.float().cpu().numpy(), str(values.dtype).removeprefix("torch."))


def passes_work(function: Callable[..., Any], inputs: tuple[Any, ...], gradient: Any, case: Case, **more: Any) -> Work:
    """The Work of a function whose gradient goes to all its inputs, in one kind of pass."""

    def both(*given: Any) -> Any:
        out, pullback = jax.vjp(function, *given[:-1])
        return out, pullback(given[-1])

    forward, linear = jax.jit(function), jax.jit(lambda *given: jax.vjp(function, *given))
    backward, together = jax.jit(lambda pullback, g: pullback(g)), jax.jit(both)
    waiting: list[Any] = []

    def wait() -> None:
        waiting.clear()
        waiting.append(jax.block_until_ready(linear(*inputs)[1]))

    runs: dict[str, Callable[[], Any]] = {
        INFERENCE: lambda: forward(*inputs),
        FORWARD: lambda: linear(*inputs),
        BACKWARD: lambda: backward(waiting.pop(), gradient),
        BOTH: lambda: together(*inputs, gradient),
    }
    passes = case["passes"]

    def kept() -> int:
        leaves = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(linear(*inputs)[1]) if hasattr(leaf, "nbytes")}
        return sum(leaves.values())

    return Work(
        run=runs[passes],
        wait=jax.block_until_ready,
        kept=(lambda: 0) if passes == INFERENCE else kept,
        before=wait if passes == BACKWARD else lambda: None,
        result=lambda: more["result"](*together(*inputs, gradient)),
        equation=more.get("equation", ""),
    )


def host(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)

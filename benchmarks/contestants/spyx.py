"""Spyx: neurons run by `spyx.nn.run` (jax.lax.scan), compiled by jax.jit. Timed until the results are there.

Its LIF fires on the potential of the step before, and its reset is not decayed; the same equation as everyone's is a module
of its own, with a surrogate from `spyx.axn.custom`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from spyx import axn, nn

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
    linear_inputs,
    neuron_inputs,
    versions,
)

DERIVATIVES = {
    "ATan": lambda u: 1 / (1 + (math.pi * u) ** 2),
    "Rectangle": lambda u: (jnp.abs(u) <= 0.5).astype(u.dtype),
}
LATE = (
    "a spike comes one step later, and the reset subtracts the threshold after the decay, not detached: spikes compared"
)


def VERSIONS() -> dict[str, str]:
    return versions("spyx", "jax", "jaxlib", "flax")


def surrogate(case: Case) -> Callable[[Any], Any]:
    fire: Callable[[Any], Any] = axn.custom(DERIVATIVES[case["surrogate"]], lambda u: (u >= 0).astype(u.dtype))
    return fire


class Same(nnx.Module):
    """The benchmark's equation as a Spyx module; the state is float32."""

    def __init__(self, shape: tuple[int, ...], spike: Callable[[Any], Any]) -> None:
        self.shape, self.spike = shape, spike

    def __call__(self, x: Any, v: Any) -> tuple[Any, Any]:
        h = v + x.astype(v.dtype) - v / 2.0
        s = self.spike(h - 1.0)
        return s.astype(x.dtype), h - jax.lax.stop_gradient(s)

    def initial_state(self, batch: int) -> Any:
        return jnp.zeros((batch, *self.shape))


def same(case: Case, n: int) -> Callable[[Any], Any]:
    model = Same((n,), surrogate(case))
    return lambda x: nn.run(model, x)[0]


def own(case: Case, n: int) -> Callable[[Any], Any]:
    model = nn.LIF((n,), beta=0.5, threshold=1.0, activation=surrogate(case), rngs=nnx.Rngs(0))
    return lambda x: nn.run(model, x)[0]


def check_device(case: Case) -> None:
    if case["device"] != "cpu" and jax.default_backend() == "cpu":
        raise ValueError("this JAX has no GPU: install jax[cuda13]")


def device_array(values: Any) -> Any:
    """A tensor of torch's as an array of JAX's, through NumPy, which has no bfloat16."""
    return jnp.asarray(values.float().cpu().numpy(), str(values.dtype).removeprefix("torch."))


def passes_work(function: Callable[..., Any], inputs: tuple[Any, ...], gradient: Any, case: Case, **more: Any) -> Work:
    """The Work of a function whose gradient goes to all its inputs, in one kind of pass."""

    def both(*given: Any) -> Any:
        out, way_back = jax.vjp(function, *given[:-1])
        return out, way_back(given[-1])

    forward, linear = jax.jit(function), jax.jit(lambda *given: jax.vjp(function, *given))
    way_back, together = jax.jit(lambda pullback, g: pullback(g)), jax.jit(both)
    waiting: list[Any] = []

    def wait() -> None:
        waiting.clear()
        waiting.append(jax.block_until_ready(linear(*inputs)[1]))

    runs: dict[str, Callable[[], Any]] = {
        INFERENCE: lambda: forward(*inputs),
        FORWARD: lambda: linear(*inputs),
        BACKWARD: lambda: way_back(waiting.pop(), gradient),
        BOTH: lambda: together(*inputs, gradient),
    }
    passes = case["passes"]

    def kept() -> int:
        leaves = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(linear(*inputs)[1]) if hasattr(leaf, "nbytes")}
        return sum(leaves.values())

    return Work(
        run=lambda: jax.block_until_ready(runs[passes]()),
        kept=(lambda: 0) if passes == INFERENCE else kept,
        before=wait if passes == BACKWARD else lambda: None,
        result=lambda: more["result"](*together(*inputs, gradient)),
        equation=more.get("equation", ""),
    )


def neuron(case: Case) -> Modes:
    n, every = case["N"] // case["B"], case["every"]

    def make(model: Callable[[Case, int], Callable[[Any], Any]]) -> Work:
        check_device(case)
        x, gradient = map(device_array, neuron_inputs(case))
        forget()  # torch's copies
        run = model(case, n)

        def result(out: Any, gradients: Any) -> Arrays:
            if model is own:  # a step more, for the last spikes
                late = jax.jit(run)(jnp.concatenate([x, jnp.zeros_like(x[:1])]))[1:]
                return {"spikes (delayed reset)": host(late[..., ::every])}
            found = {"spikes": host(out[..., ::every])}
            return found if case["passes"] == INFERENCE else found | {"x.grad": host(gradients[0][..., ::every])}

        return passes_work(run, (x,), gradient, case, result=result, equation=LATE if model is own else "")

    modes: Modes = {"the equation as a module, scan in jit": lambda: make(same)}
    if case["dtype"] == "float32":  # its LIF gives float32 spikes for half precision
        modes["LIF, scan in jit"] = lambda: make(own)
    return modes


def linear_lif(case: Case) -> Modes:
    def make() -> Work:
        check_device(case)
        x, weight, gradient = map(device_array, linear_inputs(case))
        forget()
        run = same(case, case["n"])

        def result(out: Any, gradients: Any) -> Arrays:
            found = {"spikes": host(out[..., :: case["every"]])}
            return (
                found if case["passes"] == INFERENCE else found | {"weight.grad": host(gradients[1][:: case["every"]])}
            )

        return passes_work(lambda x, weight: run(x @ weight.T), (x, weight), gradient, case, result=result)

    return {"the equation as a module, scan in jit": make}


def host(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)

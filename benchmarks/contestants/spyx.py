"""Spyx: neurons run by `spyx.nn.run` (jax.lax.scan), compiled by jax.jit. Timed until the results are there.

Its LIF fires on the potential of the step before, and its reset is not decayed; the benchmark's own equation is a module of
its own, with a surrogate from `spyx.axn.custom`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from spyx import axn, nn

from benchmarks import networks
from benchmarks import step as steps
from benchmarks.contestants.jax import DERIVATIVES, check_device, device_array, host, neuron_scan, passes_work
from benchmarks.work import INFERENCE, Arrays, Case, Modes, Work, forget, linear_inputs, neuron_inputs, versions

LATE = (
    "a spike comes one step later, and the reset subtracts the threshold after the decay, not detached: spikes compared"
)


def VERSIONS() -> dict[str, str]:
    return versions("spyx", "jax", "jaxlib", "flax", "optax")


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


def neuron(case: Case) -> Modes:
    n = case["N"] // case["B"]

    def late() -> Work:
        check_device(case)
        x, gradient = map(device_array, neuron_inputs(case))
        forget()  # torch's copies
        run = own(case, n)

        def result(*_: Any) -> Arrays:  # a step more, for the last spikes
            found = jax.jit(run)(jnp.concatenate([x, jnp.zeros_like(x[:1])]))[1:]
            return {"spikes (delayed reset)": host(found[..., :: case["every"]])}

        return passes_work(run, (x,), gradient, case, result=result, equation=LATE)

    modes: Modes = {"the equation as a module, scan in jit": lambda: neuron_scan(same(case, n), case)}
    if case["dtype"] == "float32":  # its LIF gives float32 spikes for half precision
        modes["LIF, scan in jit"] = late
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


def step(case: Case) -> Modes:
    """The whole step in one jit; the same equation, weights, batch and optimiser as `benchmarks.step` has in torch."""

    def make() -> Work:
        check_device(case)
        start = networks.Training(case, networks.plain(stepped=False, delayed=False))
        weights = [device_array(p.detach()) for p in start.net.parameters()]
        x, labels, run = device_array(start.x[0]), jnp.asarray(start.labels.cpu().numpy()), same(case, len(weights[1]))
        optimiser = optax.sgd(networks.RATE, networks.MOMENTUM)

        def loss(weights: Any) -> Any:
            weight1, bias1, weight2, bias2 = weights
            current = x @ weight1.T + bias1  # the same at every step
            spikes = run(jnp.broadcast_to(current, (case["T"], *current.shape)))
            logits = (spikes @ weight2.T + bias2).mean(0)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        @jax.jit
        def whole(weights: Any, state: Any) -> Any:
            value, gradients = jax.value_and_grad(loss)(weights)
            updates, state = optimiser.update(gradients, state)
            return optax.apply_updates(weights, updates), state, value

        held = [weights, optimiser.init(weights)]

        def once() -> Any:
            *held[:], value = whole(*held)
            return value

        return Work(
            run=once,
            result=lambda: {steps.LOSSES: np.asarray([once() for _ in range(steps.COMPARED)])},
            wait=jax.block_until_ready,
        )

    if case["network"] != "mlp":
        return {}
    return {"the equation as a module, step in jit": make}

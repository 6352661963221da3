"""A fused layer called from JAX: `jax.custom_vjp` around `jax.pure_callback`, arrays handed over by DLPack."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

import tfexplore

# Before the first use of JAX. Otherwise a callback's arguments may wait for the very thread that the callback runs in, and
# with several calls in flight on one core nothing ever returns.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def for_jax(layer: torch.nn.Module) -> Callable[[jax.Array], jax.Array]:
    """A function of JAX that runs a layer of fixed parameters, spikes of the shape of its input; works under jit and grad."""

    def forward(x: jax.Array) -> np.ndarray:
        with torch.no_grad():
            return np.from_dlpack(layer(torch.from_dlpack(x)))

    def backward(x: jax.Array, g: jax.Array) -> np.ndarray:
        # The forward pass again: JAX may run, repeat or drop a callback, so nothing may be saved from one to the next.
        inputs = torch.from_dlpack(x).requires_grad_()
        (gradient,) = torch.autograd.grad(layer(inputs), inputs, torch.from_dlpack(g))
        return np.from_dlpack(gradient)

    @jax.custom_vjp
    def call(x: jax.Array) -> jax.Array:
        return jax.pure_callback(forward, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def call_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return call(x), x

    def call_backward(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
        return (jax.pure_callback(backward, jax.ShapeDtypeStruct(x.shape, x.dtype), x, g),)

    call.defvjp(call_forward, call_backward)
    return call


def milliseconds(call: Callable[[], object], repeats: int = 50) -> float:
    """The median of some calls, after two that compile."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])


if __name__ == "__main__":
    layer = tfexplore.LIF(tau=4.0)
    spiking = for_jax(layer)
    x = torch.randn(32, 16, 512, generator=torch.Generator().manual_seed(0)) + 0.5  # [T, B, neurons]
    weight = torch.randn(512, generator=torch.Generator().manual_seed(1))
    x_jax, weight_jax = jnp.from_dlpack(x), jnp.from_dlpack(weight)  # the same memory on a CPU

    def in_torch() -> tuple[torch.Tensor, torch.Tensor]:
        inputs = x.clone().requires_grad_()
        loss = (layer(inputs) * weight).sum()
        return loss, torch.autograd.grad(loss, inputs)[0]

    in_jax = jax.jit(jax.value_and_grad(lambda x: (spiking(x) * weight_jax).sum()))
    spikes = torch.from_dlpack(jax.jit(spiking)(x_jax))
    print("identical spikes:", torch.equal(spikes, layer(x)))
    print("identical gradient:", torch.equal(torch.from_dlpack(in_jax(x_jax)[1]), in_torch()[1]))
    direct, callback = milliseconds(in_torch), milliseconds(lambda: jax.block_until_ready(in_jax(x_jax)))
    print(f"loss and gradient in torch {direct:.2f} ms, in JAX {callback:.2f} ms: {callback / direct:.1f} times")

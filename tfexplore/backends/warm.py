"""Compiles the common kernels ahead of time, so that a class does not wait for a compiler: `tfexplore warm`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch

from tfexplore import backends, neurons
from tfexplore.backends import numba_cpu, tuned
from tfexplore.codegen.keep import fastest
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import by_value, step_of

COMMON: tuple[Neuron, ...] = (
    neurons.LIF(),
    neurons.LIF(reset="hard"),
    neurons.LIF(decay_input=True),
    neurons.LI(),
    neurons.IF(),
    neurons.ParametricLIF(),
    neurons.ALIF(),
    neurons.CubaLIF(),
    neurons.QIF(),
    neurons.EIF(),
    neurons.Izhikevich(),
    neurons.PaperLIF(),
)


class Progress(NamedTuple):
    """One variant done."""

    done: int
    total: int
    label: str
    seconds: float


def variants() -> list[tuple[Neuron, Variant]]:
    """The variants of the notebooks and of most users: inference and training in float32; LIF also recorded, and in float64."""
    lif = neurons.LIF()
    special = [
        (lif, Variant(step_of(lif), record=("h", "v"))),
        (lif, Variant(step_of(lif), "float64", "float64", "input")),
    ]
    return special + [
        (n, Variant(step_of(n), keep=keep)) for n in COMMON for keep in ("nothing", fastest(step_of(n), "numba"))
    ]


def warm() -> Iterator[Progress]:
    """Compiles each variant for the fused backend of this machine (numba; cuda where it can run), yielding after each.

    What is in the cache already takes milliseconds.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    names = [(backends.choose("auto", device).name, device) for device in devices]
    jobs = [(name, device, *pair) for name, device in names if name != "torch" for pair in variants()]
    for done, (name, device, neuron, variant) in enumerate(jobs, start=1):
        begin = time.perf_counter()
        run(name, device, neuron, variant)
        passes = "training" if variant.keep != "nothing" else "recording" if variant.record else "inference"
        label = f"{name}: {type(neuron).__name__} {neuron.reset} reset, {passes}, {variant.real}"
        yield Progress(done, len(jobs), label, time.perf_counter() - begin)


def run(name: str, device: str, neuron: Neuron, variant: Variant) -> None:
    """One pass: compiling is a side effect of running. On a CPU over so many neurons that threads share them."""
    variant = tuned.built(variant, torch.cuda.current_device()) if name == "cuda" else variant
    module, dtype, step = backends.module(name), getattr(torch, variant.real), variant.step
    count = numba_cpu.SMALL if name == "numba" else 1
    x = torch.zeros(1, count, dtype=dtype, device=device)
    per_neuron = x.new_full((len(step.per_neuron), 1), 2.0) if step.per_neuron else None
    given = backends.Given(1, by_value(neuron), x.new_zeros(len(step.before), count), per_neuron)
    _, state, kept, _ = module.forward(variant, x, given)
    if variant.keep != "nothing":
        module.backward(variant, x, x, state, None, given, kept)

"""Chunks of time side by side: laid out and back, scanned forward and backward, and speculated.

The oracle: plain loops over time in torch (oracle.py, and two here), in float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import oracle
from tests.cases import CASES, SINGLE, Case, distance, noise, same_bits
from tfexplore import neurons, surrogates
from tfexplore.backends import Given, chunked, folded, numba_cpu
from tfexplore.codegen.schedule import longest
from tfexplore.codegen.variant import Variant
from tfexplore.neurons import Neuron
from tfexplore.neurons.affine import why_not
from tfexplore.neurons.step import by_value, step_of


class Rotating(Neuron):
    """Two states that turn each other, a quarter turn in some ten steps."""

    states: ClassVar[tuple[str, ...]] = ("v", "w")
    spiking: ClassVar[bool] = False
    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"
    turn: float = 0.15

    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return 0.97 * v - self.turn * w + x, 0.97 * w + self.turn * v

    def after(self, s: Any, v: Any, w: Any) -> Any:
        return (w,)

    def initial(self) -> Any:
        return (0.5, -0.25)


class Gated(Neuron):
    """Its current says how much it forgets: A depends on x, and is no power."""

    spiking: ClassVar[bool] = False
    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"
    v_reset: float = 0.25

    def charge(self, v: Any, x: Any) -> Any:
        return v * (1 - x * x / 8) + x


class Growing(Neuron):
    """Doubles its state every step: A to the power of a long chunk overflows."""

    spiking: ClassVar[bool] = False
    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"

    def charge(self, v: Any, x: Any) -> Any:
        return 2 * v + x


def rotating(x: Tensor, turn: float = 0.15) -> Tensor:
    v, w, seen = torch.full_like(x[0], 0.5), torch.full_like(x[0], -0.25), []
    for x_t in x:
        v, w = 0.97 * v - turn * w + x_t, 0.97 * w + turn * v
        seen.append(v)
    return torch.stack(seen)


def gated(x: Tensor) -> Tensor:
    v, seen = torch.full_like(x[0], 0.25), []
    for x_t in x:
        v = v * (1 - x_t * x_t / 8) + x_t
        seen.append(v)
    return torch.stack(seen)


def library(neuron: Neuron) -> Callable[[Tensor], Tensor]:
    how = {"reset": neuron.reset, "detach_reset": neuron.detach_reset}
    return lambda x: oracle.walked(type(neuron).__name__, neuron.parameters, x, **how)[2]["v"]


def leaky(tau: float, v_reset: float, decay_input: bool) -> Callable[[Tensor], Tensor]:
    def loop(x: Tensor) -> Tensor:
        start, how = torch.full_like(x[0], v_reset), {"v_reset": v_reset, "decay_input": decay_input}
        return oracle.lif(x, start, tau, reset="none", **how)[3]

    return loop


AFFINE = [
    *((neuron, library(neuron)) for neuron in (neurons.IF(reset="none"), neurons.CubaLIF(reset="none"), neurons.LI())),
    (neurons.LIF(reset="none", tau=3.0, v_reset=-0.5), leaky(3.0, -0.5, False)),
    (neurons.LIF(reset="none", tau=100.0, decay_input=True), leaky(100.0, 0.0, True)),
    (neurons.LI(tau=1.0, v_reset=0.5), leaky(1.0, 0.5, True)),
    (neurons.LI(tau=50.0, v_reset=0.5, decay_input=False), leaky(50.0, 0.5, False)),
    (Rotating(), rotating),
    (Gated(), gated),
]


def variant_of(neuron: Neuron, **options: Any) -> Variant:
    return Variant(step_of(neuron), **{"keep": "nothing", "schedule": "chunked", **options})


def about(variant: Variant, neuron: Neuron, x: Tensor, chunk: int = 0, start: Tensor | None = None) -> Given:
    own = [[float(getattr(neuron, p.name))] for p in variant.step.per_neuron]
    per_neuron = torch.tensor(own, dtype=getattr(torch, variant.real)) if own else None
    return Given(len(x), tuple(by_value(neuron)), start, per_neuron, 1, None, chunk)


@settings(max_examples=60)
@given(st.sampled_from([torch.float32, torch.float64, torch.uint8]), st.integers(1, 140), st.integers(1, 3), st.integers(1, 40),
       st.integers(1, 60))  # fmt: skip
def test_laid_out_and_back(dtype: torch.dtype, steps: int, rows: int, neurons_: int, chunk: int) -> None:
    x = (100 * torch.rand(steps, rows, neurons_)).to(dtype)
    beside = folded.fold(x, chunk)
    for t in range(steps):
        c, step = divmod(t, chunk)
        assert torch.equal(beside[step, :, c * neurons_ : (c + 1) * neurons_], x[t])
    assert torch.equal(folded.unfold(beside, steps, neurons_), x)


@pytest.mark.parametrize(("neuron", "loop"), AFFINE, ids=lambda each: type(each).__name__)
@settings(max_examples=12)
@given(
    st.integers(2, 700),
    st.integers(1, 18),
    st.integers(1, 90),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 99),
)
def test_a_forward_scan_is_the_loop(
    neuron: Neuron, loop: Callable[[Tensor], Tensor], steps: int, count: int, chunk: int, real: str, seed: int
) -> None:
    variant = variant_of(neuron, real=real, record=("v",))
    x = noise(steps, count, seed=seed, dtype=getattr(torch, real))
    assert not why_not(variant.step)
    _, state, _, watched = chunked.forward(folded, variant, x, about(variant, neuron, x, chunk))
    wanted = loop(x.double())
    assert state is not None
    assert watched is not None
    # float32 rounds at every step, and IF forgets none of it
    allowed = 1e-12 if real == "float64" else 2e-6 * max(1, steps / 100)
    assert distance(watched[:, 0].double(), wanted) <= allowed
    assert same_bits(state[0], watched[-1, 0])


@pytest.mark.parametrize("steps", [1024, 4096])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("neuron", "loop"), [AFFINE[1], AFFINE[6], AFFINE[8]], ids=lambda each: type(each).__name__)
def test_long_scans(neuron: Neuron, loop: Callable[[Tensor], Tensor], count: int, steps: int) -> None:
    variant = variant_of(neuron, record=("v",))
    x = noise(steps, count, seed=steps)
    chunk = longest(variant, steps, count)
    assert 1 < chunk < steps / 8
    watched = chunked.forward(folded, variant, x, about(variant, neuron, x, chunk))[3]
    assert watched is not None
    assert distance(watched[:, 0].double(), loop(x.double())) <= 1e-5


@settings(max_examples=25)
@given(st.integers(2, 4096), st.integers(1, 5), st.integers(1, 300), st.integers(0, 99))
def test_multiples_of_a_sixteenth_add_up_to_the_same_bits(steps: int, count: int, chunk: int, seed: int) -> None:
    neuron = neurons.IF(reset="none")
    variant = variant_of(neuron, record=("v",))
    x = (noise(steps, count, seed=seed) * 16).round() / 16
    found = chunked.forward(folded, variant, x, about(variant, neuron, x, chunk))
    serial = numba_cpu.forward(variant, x, about(variant, neuron, x))
    for ours, theirs in zip(found, serial, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or theirs is None or same_bits(ours, theirs)
    assert torch.equal(serial[3][:, 0], x.cumsum(0))  # type: ignore[index]


@settings(max_examples=15)
@given(st.integers(2, 16), st.integers(1, 5), st.integers(1, 9), st.integers(0, 99))
def test_halves_that_decay_by_half_are_exact_too(steps: int, count: int, chunk: int, seed: int) -> None:
    neuron = neurons.LIF(tau=2.0, reset="none")
    variant = variant_of(neuron, record=("v",))
    x = (noise(steps, count, seed=seed).clamp(-3, 3) * 4).round() / 4
    found = chunked.forward(folded, variant, x, about(variant, neuron, x, chunk))[3]
    assert found is not None
    assert torch.equal(found[:, 0].double(), library(neuron)(x.double()))


def test_spikes_differ_only_where_the_order_of_additions_may_decide() -> None:
    """Counted: none or a few of 320,000, each with u within what T roundings of so large a potential can be."""
    neuron = neurons.LIF(tau=30.0, reset="none", v_threshold=0.5)
    variant = variant_of(neuron, record=("h",))
    x = noise(4000, 80, seed=1) / 4
    a = chunked.forward(folded, variant, x, about(variant, neuron, x, 100))
    b = numba_cpu.forward(variant, x, about(variant, neuron, x))
    assert a[3] is not None
    assert b[3] is not None
    apart = (a[3] - b[3]).abs().max().item()
    assert 0 < apart < 30 * 2**-23 * b[3].abs().max().item()
    flips = a[0] != b[0]
    assert ((b[3][:, 0] - 0.5).abs()[flips] <= apart).all()
    assert flips.sum() < 10


def test_a_product_that_overflows_leaves_zeros_zero() -> None:
    x = torch.zeros(4400, 2)
    x[-3:] = 1
    variant = variant_of(Growing())
    out = chunked.forward(folded, variant, x, about(variant, Growing(), x, 1100))[0]
    assert out[:-3].abs().max() == 0
    assert out[-3:, 0].tolist() == [1, 3, 7]


@pytest.mark.parametrize(
    ("case", "real"),
    [*((case, "float64") for case in CASES), *((case, "float32") for case in SINGLE)],
    ids=str,
)
def test_speculation_gives_the_same_bits_for_every_neuron(case: Case, real: str) -> None:
    """Training in float64, inference in float32."""
    neuron, x = case.learning(), case.input(300, (7,), seed=3, dtype=getattr(torch, real))
    how = {"keep": case.keep, "traced": True} if real == "float64" else {"keep": "nothing"}
    variant = variant_of(neuron, schedule="speculative", real=real, data=real, record=("h", *neuron.states), **how)
    chunk = 64
    found = chunked.forward(folded, variant, x, about(variant, neuron, x, chunk))
    serial = numba_cpu.forward(variant, x, about(variant, neuron, x))
    for ours, theirs in zip(found, serial, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or theirs is None or same_bits(ours, theirs)
    assert len(chunked.speculate(folded, variant, x, about(variant, neuron, x, chunk)).ran) <= 5


def rounds(neuron: Neuron, x: Tensor, chunk: int) -> Tensor:
    variant = variant_of(neuron, schedule="speculative")
    return chunked.speculate(folded, variant, x, about(variant, neuron, x, chunk)).ran


def test_a_neuron_that_forgets_nothing_needs_as_many_rounds_as_chunks() -> None:
    ran = rounds(neurons.IF(), torch.full((160, 1), 0.3), 10)
    assert ran.shape == (16, 16)
    for k, row in enumerate(ran):  # the chunks become final from the left, one a round
        assert row.tolist() == [c >= k for c in range(16)]


def test_a_hard_reset_forgets() -> None:
    assert rounds(neurons.LIF(reset="hard"), torch.full((160, 3), 2.0), 10).sum(1).tolist() == [16]
    ran = rounds(neurons.LIF(reset="hard"), noise(4096, 4, seed=5) + 0.5, 64)
    assert ran.shape[0] <= 4
    assert ran[0].all()


def test_a_state_that_is_no_number_ends_too() -> None:
    x = torch.zeros(60, 2)
    x[7, 1] = float("nan")
    ran = rounds(neurons.LIF(), x, 10)
    assert ran.shape[0] <= 6


@pytest.mark.parametrize("keep", ["potential", "input", "bits"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_either_pass_may_run_either_way(keep: str, reset: str) -> None:
    """What is saved has the layout of serial time: here, to the bit."""
    neuron = neurons.LIF(reset=reset, surrogate=surrogates.Rectangle(2.0))
    x, g_out, g_state = noise(300, 5, seed=1), noise(300, 5, seed=2), noise(1, 5, seed=3)
    variant = variant_of(neuron, keep=keep, schedule="speculative")
    serial, beside = about(variant, neuron, x), about(variant, neuron, x, 64)
    kept = [chunked.forward(folded, variant, x, beside)[2], numba_cpu.forward(variant, x, serial)[2]]
    assert kept[0] is not None
    assert kept[1] is not None
    assert torch.equal(kept[0], kept[1])
    found = [
        way(variant, x, g_out, g_state, None, given_, k)
        for k in kept
        for way, given_ in ((numba_cpu.backward, serial), (lambda *a: chunked.backward(folded, *a), beside))
    ]
    for g_x, g_start, _ in found[1:]:
        assert distance(g_x, found[0][0]) < 1e-6
        assert g_start is not None
        assert distance(g_start, found[0][1]) < 1e-6  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=3)
@given(st.integers(2, 400), st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_the_backward_pass_of_every_neuron_is_a_scan(case: Case, steps: int, count: int, units: int, seed: int) -> None:
    """Against the serial kernel in float64, which the other tests hold to autograd; with those of last state and traces."""
    neuron = case.learning()
    x, record = case.input(steps, (count,), seed=seed, dtype=torch.float64), ("h", *neuron.states)
    variant = variant_of(neuron, keep=case.keep, real="float64", data="float64", record=record, traced=True)
    serial = about(variant, neuron, x)
    kept = numba_cpu.forward(variant, x, serial)[2]
    gradients = (
        noise(steps, count, seed=1, dtype=torch.float64),
        noise(len(variant.step.before), count, seed=2, dtype=torch.float64),
        noise(steps, len(record), count, seed=3, dtype=torch.float64),
    )
    chunk = units * (variant.chunk if variant.keeps == "input" else 7)
    found = chunked.backward(folded, variant, x, *gradients, serial._replace(chunk=chunk), kept)
    wanted = numba_cpu.backward(variant, x, *gradients, serial, kept)
    assert distance(found[0], wanted[0]) < 1e-11
    assert found[2] is not None
    assert wanted[2] is not None
    assert distance(found[2], wanted[2]) < 1e-11
    assert distance(found[1], wanted[1]) < 1e-11 * max(
        1.0, wanted[0].abs().max() / wanted[1].abs().max().clamp(min=1e-30)
    )  # type: ignore[arg-type,union-attr]


def test_the_transition_is_a_power_only_where_it_is_of_parameters() -> None:
    def same(neuron: Neuron) -> bool:
        return chunked.same_backward(variant_of(neuron, keep="input")) is not None

    assert same(neurons.LIF())
    assert same(neurons.CubaLIF())
    assert not same(neurons.LIF(detach_reset=False))
    assert not same(neurons.LIF(reset="hard"))
    assert not same(neurons.ALIF())


def test_the_walk_in_plain_torch_is_that_of_the_kernel() -> None:
    """As a backend without a kernel of its own walks over the chunks."""
    states, chunks, count = 3, 9, 4
    matrices = noise(chunks, states, states, count, seed=1, dtype=torch.float64)
    ends, first = noise(states, chunks, count, seed=2), noise(states, count, seed=3)
    for backwards in (False, True):
        for used in (matrices, matrices[:1].contiguous()):
            results = []
            for backend in (folded, dataclasses):  # a module without a walk
                starts = torch.zeros(states, chunks, count)
                starts[:, -1 if backwards else 0] = first
                chunked.walk(backend, used, ends, starts, backwards)
                results.append(starts)
            assert distance(*results) < 1e-6
            assert torch.equal(results[0][:, -1 if backwards else 0], first)
            order = range(chunks)[:: -1 if backwards else 1]
            z = ends[:, order[0]].double()
            for c in order[1:-1]:
                z = torch.einsum("kjn,jn->kn", used[c % len(used)], z) + ends[:, c]
            assert distance(results[0][:, order[-1]].double(), z) < 1e-6

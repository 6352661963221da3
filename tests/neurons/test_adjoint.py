"""The derived backward pass: gradcheck through the fused kernels with a smooth spike, and chunks of time that compose.

With smooth=True, fire returns the surrogate's primitive instead of the step, so that the whole layer is a smooth function and
its numerical derivative is a truth of its own. Detached resets are tested against autograd in test_neurons.py (the
plain loops) and, for all neurons, in test_backends.py (the eager backend).
"""

from __future__ import annotations

import pytest
import sympy
import torch
from torch import Tensor

import tfexplore
from tests.cases import CASES, NEURONS, SURROGATES, Case, same_bits
from tfexplore import Layer, neurons, surrogates
from tfexplore.neurons import Neuron
from tfexplore.neurons.adjoint import adjoint_of
from tfexplore.neurons.step import cut_in_time, normalised, step_of

FIRING = [case for case in CASES if case.cls.spiking]


def gradcheck(layer: Layer, x: Tensor, names: list[str]) -> None:
    """In x, the initial state and the learned parameters; of the output and of the final state."""
    layer.double()
    with torch.no_grad():
        _, state = layer(x, return_state=True)
    start = tuple((0.1 * z + 0.05).requires_grad_() for z in state)

    def function(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        given = {f"raw.{name}": value for name, value in zip(names, rest[len(start) :], strict=True)}
        options = {"state": rest[: len(start)], "return_state": True}
        out, after = torch.func.functional_call(layer, given, (x,), options)
        return out, *after

    raw = [layer.raw[name].detach().requires_grad_() for name in names]
    torch.autograd.gradcheck(function, (x.requires_grad_(), *start, *raw), eps=1e-6, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("case", FIRING, ids=str)
def test_gradcheck_through_the_fused_kernels(case: Case):
    learn = tuple(case().parameters)
    wide = surrogates.Sigmoid(1.5) if case.cls is not neurons.Izhikevich else surrogates.Sigmoid(0.1)
    neuron = case(learn=learn, detach_reset=False, surrogate=wide)
    layer = Layer(neuron, backend="numba", keep=case.keep, smooth=True)
    x = 0.3 * case.input(4, (1, 2), dtype=torch.float64)
    gradcheck(layer, x, list(learn))


@pytest.mark.parametrize("keep", ["input", "potential"])
def test_gradcheck_over_several_chunks_and_channels(keep):
    neuron = neurons.CubaLIF(learn=("tau", "tau_syn"), tau=3.0, detach_reset=False)
    layer = Layer(neuron, backend="numba", keep=keep, channels=2, smooth=True)
    assert layer.step.before
    gradcheck(
        layer, torch.randn(18, 1, 2, dtype=torch.float64), ["tau", "tau_syn"]
    )  # 18 steps: two chunks of 16 or three of 8


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda cls: cls.__name__)
def test_gradcheck_with_every_surrogate(surrogate):
    layer = Layer(neurons.LIF(surrogate=surrogate(0.9), detach_reset=False), backend="numba", keep="input", smooth=True)
    gradcheck(layer, torch.linspace(-0.9, 1.7, 8, dtype=torch.float64).view(4, 1, 2).sin(), [])


def test_gradcheck_of_the_readout():
    layer = Layer(neurons.LI(learn=("tau", "v_reset")), backend="numba", keep="potential")
    gradcheck(layer, torch.randn(5, 2, 2, dtype=torch.float64), ["tau", "v_reset"])


@pytest.mark.parametrize("keep", ["input", "potential"])
@pytest.mark.parametrize("cls", [neurons.LIF, neurons.ALIF], ids=lambda cls: cls.__name__)
def test_chunks_of_time_compose_forward_and_backward(cls, keep):
    """T = T1 + T2 through the carried state, cut inside and at the edges of the kernels' own chunks."""
    case = next(case for case in CASES if case.cls is cls and case.reset == "soft")
    whole = case.input(70, (2, 5), dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        layer = Layer(case(detach_reset=False), backend="numba", keep=keep)
        x = whole.to(dtype).requires_grad_()
        spikes, state = layer(x, return_state=True)
        weights = torch.randn_like(spikes)
        (expected,) = torch.autograd.grad((spikes * weights).sum() + state[0].sum(), x)
        for cut in (0, 1, 16, 31, 32, 33, 69, 70):
            first, middle = layer(x[:cut], return_state=True)
            second, last = layer(x[cut:], middle, return_state=True)
            joined = torch.cat([first, second])
            assert same_bits(joined, spikes)
            assert all(map(same_bits, last, state))
            (found,) = torch.autograd.grad((joined * weights).sum() + last[0].sum(), x)
            assert (found - expected).abs().max() <= (1e-12 if dtype == torch.float64 else 1e-6) * expected.abs().max()


@pytest.mark.parametrize("keep", ["input", "potential"])
def test_several_forward_calls_before_one_backward(keep):
    layer = tfexplore.ParametricLIF(backend="numba", keep=keep)
    inputs = [CASES[1].input(steps, (2, 3), seed=steps).requires_grad_() for steps in (5, 40, 7)]
    outs = [layer(x) for x in inputs]  # an even number of calls may overwrite nothing the first one kept
    sum(out.cumsum(0).sum() for out in outs).backward()
    found, of_tau = [x.grad for x in inputs], layer.raw["tau"].grad

    separately, total = [], torch.zeros(())
    for x in inputs:
        alone = x.detach().requires_grad_()
        layer.zero_grad()
        layer(alone).cumsum(0).sum().backward()
        separately.append(alone.grad)
        total = total + layer.raw["tau"].grad
    assert all(map(same_bits, found, separately))
    assert of_tau.item() == pytest.approx(total.item(), rel=1e-5)


def test_a_layer_after_itself_and_a_part_of_its_output():
    """Gradients add up where a layer is used twice, and an unused state or output counts as zero."""
    x = CASES[1].input(20, (2, 3), dtype=torch.float64)
    gradients = []
    for backend in ("torch", "numba"):
        layer, given = tfexplore.LIF(v_threshold=0.8, backend=backend), x.clone().requires_grad_()
        once, (v,) = layer(given, return_state=True)
        twice, (after,) = layer(once, return_state=True)
        losses = (twice[3:5].sum() + v.sum(), after.square().sum(), v[0, 0])
        gradients.append([torch.autograd.grad(loss, given, retain_graph=True)[0] for loss in losses])
    for expected, found in zip(*gradients, strict=True):
        assert expected.any()
        assert (found - expected).abs().max() <= 1e-14


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_what_the_adjoint_needs_is_what_a_step_knows(cls):
    for reset in cls.resets:
        step = step_of(cls(reset=reset))
        adjoint = adjoint_of(step)
        assert set(adjoint.needs) <= {*step.charged, *step.before, step.x}
        given = {adjoint.g_out, *adjoint.g_after, *adjoint.needs, *step.scalars, *step.per_neuron, *adjoint.recomputed}
        for symbol, value in adjoint.body:
            assert value.free_symbols <= given
            given.add(symbol)
        assert not any(value.has(sympy.Derivative, sympy.DiracDelta) for _, value in adjoint.body)


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_without_a_temporal_gradient_nothing_goes_to_the_step_before(cls):
    """Every assignment leads to a result, and no more is needed; a normalised step is cut alike."""
    for reset in cls.resets:
        for traced in ((), ("h", *cls.states)):
            step = step_of(cls(reset=reset, learn=tuple(cls().parameters)))
            whole, cut = adjoint_of(step, traced), adjoint_of(cut_in_time(step), traced)
            assert [value for symbol, value in cut.body if symbol in cut.g_before] == [0] * len(cls.states)
            assert set(cut.needs) <= set(whole.needs)
            used = {cut.g_x, *cut.g_before, *cut.g_learned}.union(*(value.free_symbols for _, value in cut.body))
            assert all(symbol in used for symbol, _ in cut.body)
            same = {symbol: value for symbol, value in whole.body if symbol not in whole.g_before}
            assert all(value == same[symbol] for symbol, value in cut.body if symbol not in cut.g_before)
        assert normalised(cut_in_time(step)) == cut_in_time(normalised(step)) != normalised(step)
    assert cut_in_time(step) is cut_in_time(step_of(cls(reset=reset, learn=tuple(cls().parameters))))  # found, not made


def test_without_a_temporal_gradient_less_is_needed():
    """The slope of QIF's and EIF's charge, from step to step, is of v."""
    for neuron in (neurons.QIF(), neurons.EIF()):
        assert [s.name for s in adjoint_of(step_of(neuron)).needs] == ["h_v", "v"]
        assert [s.name for s in adjoint_of(cut_in_time(step_of(neuron))).needs] == ["h_v"]


def test_predicted_words_follow_from_the_needs():
    """One kept word per element-step for LIF's potential, none for the leaky readout, which is linear."""
    assert [s.name for s in adjoint_of(step_of(neurons.LIF())).needs] == ["h_v"]
    assert [s.name for s in adjoint_of(step_of(neurons.ALIF())).needs] == ["h_v", "h_b"]
    assert adjoint_of(step_of(neurons.LI())).needs == ()


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_at_a_tie_max_and_min_give_the_gradient_to_one_side(backend):
    class Capped(Neuron):
        v_threshold: float = 1.0
        v_reset: float = 0.0

        def charge(self, v, x):
            return sympy.Max(v, x) + sympy.Min(v, x, 0.5)

    x = torch.zeros(1, 1, 1, requires_grad=True)
    v = torch.zeros(1, 1, requires_grad=True)
    spikes = tfexplore.Layer(Capped(), backend=backend)(x, (v,))
    spikes.sum().backward()
    slope = 1 / (1 + torch.pi**2)  # ATan, alpha = 2, at u = -1
    assert x.grad.item() + v.grad.item() == pytest.approx(2 * slope, rel=1e-6)  # each choice counted once

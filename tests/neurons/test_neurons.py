"""The equations as numbers and as symbols, the checks of a neuron's making, and LIF and PaperLIF against plain loops."""

from __future__ import annotations

import dataclasses
import pickle
from typing import ClassVar

import pytest
import sympy
import torch
from torch import Tensor

import tfexplore
from tests import oracle
from tests.cases import CASES, NEURONS, Case, distance, same_bits
from tfexplore import Layer, neurons, surrogates
from tfexplore.neurons import Neuron, TimeConstant
from tfexplore.neurons.step import step_of

LIF_CASES = [
    (reset, decay, detach) for reset in ("soft", "hard") for decay in (False, True) for detach in (True, False)
]
EXECUTORS = [("torch", "auto"), ("numba", "input"), ("numba", "potential")]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
RUNS = [(*executor, dtype) for executor in EXECUTORS for dtype in TOLERANCE]
LIF_RUNS = [  # fewer kernels to compile: test_backends.py finds both keeps equal bit for bit
    *((*case, "torch", "auto", dtype) for case in LIF_CASES for dtype in TOLERANCE),
    *((*case, "numba", ("input", "potential")[k % 2], torch.float64) for k, case in enumerate(LIF_CASES)),
    *((*case, "numba", "input", torch.float32) for case in (LIF_CASES[0], LIF_CASES[-1])),
]


def leaves(dtype: torch.dtype, steps: int = 45, shape: tuple[int, ...] = (3, 7)) -> tuple[Tensor, Tensor, Tensor]:
    """x, an initial potential, and weights for a loss that no cancellation makes small."""
    torch.manual_seed(0)
    x, v, w = 1.5 * torch.randn(steps, *shape) + 0.5, torch.rand(shape), torch.rand(steps, *shape)
    return x.to(dtype).requires_grad_(), v.to(dtype).requires_grad_(), w.to(dtype)


@pytest.mark.parametrize(("reset", "decay_input", "detach_reset", "backend", "keep", "dtype"), LIF_RUNS)
def test_lif_is_the_plain_loop(reset, decay_input, detach_reset, backend, keep, dtype):
    options = {
        "v_threshold": 0.9,
        "v_reset": -0.2,
        "reset": reset,
        "decay_input": decay_input,
        "detach_reset": detach_reset,
    }
    x, v, w = leaves(dtype)
    layer = tfexplore.ParametricLIF(tau=2.5, **options, backend=backend, keep=keep)
    if dtype == torch.float64:
        layer.double()
    tau = layer.learned["tau"].detach().requires_grad_()

    spikes, (after,) = layer(x, (v,), return_state=True)
    found = torch.autograd.grad((spikes * w).sum() + after.square().sum(), (x, v, layer.raw["tau"]))
    expected_spikes, expected_after, _, _ = oracle.lif(x, v, tau, **options)
    loss = (expected_spikes * w).sum() + expected_after.square().sum()
    expected = torch.autograd.grad(loss, (x, v, tau))

    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(spikes, expected_spikes)
    assert distance(after, expected_after) <= TOLERANCE[dtype]
    assert distance(found[0], expected[0]) <= TOLERANCE[dtype]
    assert distance(found[1], expected[1]) <= TOLERANCE[dtype]
    chain = (tau - 1).detach()  # tau = 1 + exp(raw)
    assert distance(found[2], expected[2] * chain) <= 10 * TOLERANCE[dtype]


@pytest.mark.parametrize(("backend", "keep", "dtype"), RUNS)
def test_the_papers_lif_is_the_plain_loop_also_for_a_reset_away_from_zero(backend, keep, dtype):
    numbers = {"v_threshold": 0.3, "v_reset": -0.15}
    x, v, w = leaves(dtype)
    layer = tfexplore.PaperLIF(
        decay=0.4, **numbers, surrogate=surrogates.Rectangle(1.5), learn="decay", backend=backend, keep=keep
    )
    if dtype == torch.float64:
        layer.double()
    decay = layer.learned["decay"].detach().requires_grad_()

    spikes, (after,) = layer(x, (v,), return_state=True)
    found = torch.autograd.grad((spikes * w).sum() + after.square().sum(), (x, v, layer.raw["decay"]))
    expected_spikes, expected_after = oracle.paper_lif(x, v, decay, **numbers, width=1.5)
    loss = (expected_spikes * w).sum() + expected_after.square().sum()
    expected = torch.autograd.grad(loss, (x, v, decay))

    assert torch.equal(spikes, expected_spikes)
    assert distance(after, expected_after) <= TOLERANCE[dtype]
    assert distance(found[0], expected[0]) <= TOLERANCE[dtype]
    assert distance(found[1], expected[1]) <= TOLERANCE[dtype]
    chain = (decay * (1 - decay)).detach()  # decay = sigmoid(raw)
    assert distance(found[2], expected[2] * chain) <= 10 * TOLERANCE[dtype]


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_learned_parameters_of_every_order_reach_their_own_places(backend):
    numbers = {"beta": 0.7, "v_reset": -0.3, "tau_b": 9.0, "v_threshold": 0.8, "tau": 3.0}
    layer = tfexplore.ALIF(**numbers, reset="hard", detach_reset=False, learn=tuple(numbers), backend=backend).double()
    x, v, w = leaves(torch.float64)
    b = torch.rand_like(v, requires_grad=True)
    values = {key: value.detach().requires_grad_() for key, value in layer.learned.items()}
    assert {key: round(value.item(), 6) for key, value in values.items()} == numbers

    spikes, (v_after, b_after) = layer(x, (v, b), return_state=True)
    learned = [layer.raw[key] for key in numbers]
    found = torch.autograd.grad((spikes * w).sum() + v_after.sum() + b_after.sum(), (x, v, b, *learned))
    expected_spikes, expected_v, expected_b = oracle.alif(x, v, b, **values)
    loss = (expected_spikes * w).sum() + expected_v.sum() + expected_b.sum()
    expected = list(torch.autograd.grad(loss, (x, v, b, *(values[key] for key in numbers))))
    for k, key in enumerate(
        numbers, start=3
    ):  # d value / d raw: 1 + exp(raw) for the time constants, raw itself otherwise
        expected[k] *= (values[key] - 1).detach() if key.startswith("tau") else 1

    assert torch.equal(spikes, expected_spikes)
    assert distance(v_after, expected_v) < 1e-12
    assert distance(b_after, expected_b) < 1e-12
    assert all(distance(a, b) < 1e-11 for a, b in zip(found, expected, strict=True))


def test_the_first_step_starts_from_rest_and_a_spike_at_the_threshold_counts():
    h = 0.5 - 0.0  # v starts at v_reset: no leak in the first step
    spikes, (v,) = tfexplore.LIF(tau=4.0, v_threshold=1.0, v_reset=0.5)(torch.full((1, 1, 1), h), return_state=True)
    assert (spikes.item(), v.item()) == (1.0, 0.0)  # h = 1.0 exactly: it fires, and the soft reset takes 1 off


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_the_three_resets_by_hand(reset):
    layer = tfexplore.IF(v_threshold=1.0, v_reset=-0.25, reset=reset)
    spikes, (v,) = layer(torch.full((3, 1, 1), 0.625), return_state=True)
    by_hand = {"soft": ([0, 1, 0], 0.625), "hard": ([0, 1, 0], 0.375), "none": ([0, 1, 1], 1.625)}
    # from -0.25: 0.375, then 1.0 fires: soft leaves 0, hard -0.25
    assert (spikes.flatten().tolist(), v.item()) == by_hand[reset]


def test_li_returns_its_potential():
    x = torch.tensor([1.0, 0.0, 2.0]).view(3, 1, 1)
    assert tfexplore.LI(tau=2.0)(x).flatten().tolist() == [0.5, 0.25, 1.125]
    assert tfexplore.LI(tau=2.0, decay_input=False)(x).flatten().tolist() == [1.0, 0.5, 2.25]


def test_adaptation_synapse_and_recovery_by_hand():
    one = torch.tensor([2.0, 0.0]).view(2, 1, 1)
    spikes, (v, b) = tfexplore.ALIF(tau=2.0, tau_b=4.0, beta=2.0)(one, return_state=True)
    # h = 2 fires: v = 1, b = 1/4; then h = 0.5 below 1 + 2/4: v = 0.5, b = 3/16
    assert (spikes.flatten().tolist(), v.item(), b.item()) == ([1.0, 0.0], 0.5, 0.1875)
    spikes, (v, i) = tfexplore.CubaLIF(tau=2.0, tau_syn=4.0, v_threshold=3.0)(one, return_state=True)
    # i = 2, v = 2; then i = 1.5, v = 1 + 1.5
    assert (spikes.flatten().tolist(), v.item(), i.item()) == ([0.0, 0.0], 2.5, 1.5)
    spikes, (v, w) = tfexplore.Izhikevich(dt=1.0, a=0.5, b=0.0, d=8.0, v_reset=-50.0)(one / 2 * 90, return_state=True)
    # v = -50 + 100 - 250 + 140 + 90 = 30 fires: v = -50, w = 8; then v = -50 + 100 - 250 + 140 - 8, w = 8 - 4
    assert (spikes.flatten().tolist(), v.item(), w.item()) == ([1.0, 0.0], -68.0, 4.0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equations_on_numbers_are_those_on_symbols(case: Case):
    neuron = case()
    step = step_of(neuron)
    values = {**{z: 0.3 + k for k, z in enumerate(step.before)}, step.x: 0.7}
    values |= {p: neuron.parameters[p.name] for p in (*step.scalars, *step.per_neuron) if p.name in neuron.parameters}
    charged = neuron.charge(*(values[z] for z in step.before), 0.7)
    charged = charged if isinstance(charged, tuple) else (charged,)
    assert [float(e.subs(values)) for e in step.charge] == pytest.approx([float(h) for h in charged])
    assert str(step.reset[0]) == str(sympy.sympify(getattr(step_numbers(neuron), case.reset)(step.s, *step.charged)))


def step_numbers(neuron: Neuron) -> Neuron:
    return dataclasses.replace(neuron, **{key: sympy.Symbol(key, real=True) for key in neuron.parameters})


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_a_neuron_is_a_value(cls: type[Neuron]):
    neuron = cls()
    assert neuron == cls()
    assert hash(neuron) == hash(cls())
    assert pickle.loads(pickle.dumps(neuron)) == neuron
    assert eval(repr(neuron), vars(neurons) | vars(surrogates)) == neuron
    with pytest.raises(dataclasses.FrozenInstanceError):
        neuron.v_reset = 1.0


def test_sliders_derive_nothing_anew_and_share_one_kernel(kernels_used):
    a, b = neurons.LIF(tau=2.0, surrogate=surrogates.ATan(1.0)), neurons.LIF(tau=3.0, surrogate=surrogates.ATan(9.0))
    assert step_of(a) is step_of(b)
    assert step_of(a) is not step_of(neurons.LIF(decay_input=True))
    x = torch.randn(5, 2, 3)
    layers = [tfexplore.LIF(tau=tau, backend="numba") for tau in (2.0, 9.0)]
    assert not torch.equal(*(layer(2 * x) for layer in layers))
    assert len(kernels_used) == 2
    assert len(set(kernels_used)) == 1


class Choices(Neuron):
    """Choices, extremes, powers and divisions, and names that the generated code uses for itself as well."""

    states: ClassVar[tuple[str, ...]] = ("v", "g", "z")
    p: float = 0.5
    i: TimeConstant = 1.5
    v_threshold: float = 0.7
    v_reset: float = 0.1

    def charge(self, v, g, z, x):
        jump = sympy.Piecewise((x * 0.9, sympy.And(x > 0.3, g < 1.0)), (0.1, sympy.Or(x < -1, z > 0.5)), (v / 3, True))
        v = v * self.p + jump + sympy.Max(g, 0.1, z / 7) - sympy.Min(z / 3, 0.4) + sympy.Heaviside(v, 1) / self.i
        return v, g * 0.9 + sympy.Abs(x) / (1 + g**2), z / (0.3 + sympy.sign(x)) + 0.1 * g

    def after(self, s, v, g, z):
        return g * (1 - s), z * 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_neuron_of_ones_own_with_choices_and_awkward_names(dtype):
    results = []
    for backend, keep in EXECUTORS:
        if (keep, dtype) == ("potential", torch.float64):
            continue
        layer = Layer(Choices(learn=("p", "i"), detach_reset=False), backend=backend, keep=keep)
        x = Case(Choices, "soft", surrogates.ATan(), False, "input").input(40, (3, 5), dtype=dtype).requires_grad_()
        with tfexplore.record(layer, "g", "h") as traces:
            spikes, state = layer(x, return_state=True)
        (spikes.sum() + state[2].sum()).backward()
        results.append(([spikes, *state, *traces[""].values()], [x.grad, layer.raw["p"].grad, layer.raw["i"].grad]))
    (expected, expected_grads), *fused = results
    for found, grads in fused:
        assert all(map(same_bits, found, expected))
        assert all(distance(a, b) <= 1e-5 for a, b in zip(grads, expected_grads, strict=True))


def test_dividing_by_zero_gives_what_torch_gives():
    class Quotient(Neuron):
        resets: ClassVar[tuple[str, ...]] = ("none",)
        reset: str = "none"
        v_threshold: float = 1.0

        def charge(self, v, x):
            return x / v

    x = torch.tensor([1.0, -1.0, 0.0, 2.0]).view(1, 4).repeat(3, 1)
    states = [Layer(Quotient(), backend=backend)(x, return_state=True)[1][0] for backend in ("torch", "numba")]
    assert same_bits(*states)
    assert states[0].isnan().any()


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_one_layer_class_for_each_neuron(cls: type[Neuron]):
    layer = getattr(tfexplore, cls.__name__)(v_reset=-0.5, keep="input")
    assert layer.neuron == cls(v_reset=-0.5)
    assert layer.keep == "input"
    assert type(layer).__name__ == cls.__name__
    assert "v_reset=-0.5" in repr(layer)
    assert "keep='input'" in repr(layer)

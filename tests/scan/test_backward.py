"""The backward pass of every neuron as a scan: against torch's autograd through hand-written loops, in float64."""

from __future__ import annotations

import pytest
import torch

from tests.cases import PAIRS, distance, noise
from tests.oracle import walked
from tfexplore import Layer, neurons
from tfexplore.scan import HOW, Count, adjoint_pairs, gradient, run, sequential, walk


def an_input(cls: type, reset: str, steps: int, seed: int) -> torch.Tensor:
    made = noise(steps, 2, 3, seed=seed, dtype=torch.float64)
    if cls in (neurons.QIF, neurons.EIF) and reset != "hard":  # these run away beyond their threshold
        return (0.3 * made).clamp(-0.6, 0.2) - 0.3
    return 20 * made + 10 if cls is neurons.Izhikevich else made + 0.3


@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize(("cls", "reset"), PAIRS, ids=[f"{cls.__name__}-{reset}" for cls, reset in PAIRS])
def test_every_neurons_backward_pass_is_a_scan(cls, reset, detach):
    neuron = cls(reset=reset, detach_reset=detach, surrogate=neurons.surrogates.ATan(2.0))
    x = an_input(cls, reset, 41, 4).requires_grad_()
    start = tuple(
        z[0] + 0.1 * noise(2, 3, seed=k, dtype=torch.float64) for k, z in enumerate(walk(neuron, x.detach()).before)
    )
    start = tuple(z.requires_grad_() for z in start)
    out, last, _ = walked(cls.__name__, neuron.parameters, x, start, reset=reset, detach_reset=detach)
    assert cls is neurons.LI or out.sum() > 0 or reset == "none" or cls in (neurons.QIF, neurons.EIF)
    g = noise(*x.shape, seed=7, dtype=torch.float64)
    g_state = tuple(noise(*z.shape, seed=8 + k, dtype=torch.float64) for k, z in enumerate(last))
    expected = torch.autograd.grad([out, *last], [x, *start], [g, *g_state])
    given = tuple(z.detach() for z in start)
    for how in HOW:
        made = gradient(neuron, x.detach(), g, given, g_state, how, chunk=6)
        for ours, theirs in zip((made.x, *made.start), expected, strict=True):
            assert distance(ours, theirs) < 1e-10, how


def test_learned_parameters():
    """Each step's part, summed: the layer's own gradient, up to its tau = 1 + exp(raw)."""
    neuron, x = (
        neurons.CubaLIF(tau=3.0, tau_syn=2.0, learn=("tau", "tau_syn"), detach_reset=False),
        an_input(neurons.LIF, "soft", 50, 1),
    )
    layer, g = Layer(neuron, backend="torch").double(), noise(50, 2, 3, seed=2, dtype=torch.float64)
    layer(x).backward(g)
    made = gradient(neuron, x, g).learned
    for name, value in (("tau", 3.0), ("tau_syn", 2.0)):
        assert distance(made[name].sum() * (value - 1), layer.raw[name].grad) < 1e-7  # its raw numbers begin in float32


def test_what_autograd_makes_of_a_scan_is_that_scan():
    """An affine neuron's forward scan, differentiated by torch, against the derived adjoint as a scan."""
    neuron = neurons.CubaLIF(reset="none")
    x = noise(33, 1, 4, seed=1, dtype=torch.float64).requires_grad_()
    g = noise(33, 1, 4, seed=2, dtype=torch.float64)
    (by_autograd,) = torch.autograd.grad(run(neuron, x, how="associative").out, x, g)
    assert distance(gradient(neuron, x.detach(), g).x, by_autograd) < 1e-12


def test_pairs_are_in_the_order_of_the_backward_pass():
    """x of the last step only: its gradient decays backwards, a half per step."""
    g = torch.zeros(4, 1, 1, dtype=torch.float64)
    g[-1] = 1.0
    neuron = neurons.LIF(reset="none", surrogate=neurons.surrogates.Rectangle(4.0))  # slope 1/4 everywhere
    a, b = adjoint_pairs(neuron, torch.zeros_like(g), g)
    assert sequential(a, b).flatten().tolist() == [1 / 8, 1 / 16, 1 / 32, 1 / 64]


def test_float32_no_steps_no_neurons_and_a_count():
    neuron, x = neurons.Izhikevich(), torch.zeros(16, 1, 2)
    made = gradient(neuron, x, x + 1, count=(count := Count()))
    assert made.x.dtype == torch.float32
    assert count.depth == 7  # 2 log2 16 - 1
    for shape in ((0, 1, 2), (5, 1, 0)):
        empty = gradient(neuron, torch.zeros(shape), torch.zeros(shape))
        assert empty.x.shape == shape
        assert [z.shape for z in empty.start] == [shape[1:]] * 2


def test_errors():
    x = torch.ones(3, 1, 1)
    with pytest.raises(ValueError, match=r"g_out must be a tensor of x's shape, \(3, 1, 1\), but got \(2, 1, 1\)"):
        gradient(neurons.LIF(), x, x[:2])
    with pytest.raises(ValueError, match="how must be one of"):
        gradient(neurons.LIF(), x, x, how="serial")
    with pytest.raises(TypeError, match="g_state must be a tuple of tensors, one for each of v, b, but got 1 values"):
        gradient(neurons.ALIF(), x, x, g_state=(x[0],))
    with pytest.raises(
        ValueError, match=r"g_state must have x's shape without time, \(1, 1\), in torch.float32 on cpu, but got"
    ):
        gradient(neurons.LIF(), x, x, g_state=(x,))
    with pytest.raises(ValueError, match=r"forward must be a Forward of x's shape, \(3, 1, 1\), but got \(2, 1, 1\)"):
        gradient(neurons.LIF(), x, x, forward=walk(neurons.LIF(), x[:2]))

"""Layers under torch.func: the same numbers as a loop over samples, or as autograd outside of transforms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap

import tfexplore
from tests.cases import CASES, same_bits
from tfexplore import Layer, neurons
from tfexplore.nn import Stateful

BACKENDS = ["torch", "numba"]
CASE = CASES[1]


def net(backend: str) -> nn.Sequential:
    torch.manual_seed(0)
    hidden = Layer(neurons.ALIF(tau=torch.tensor([2.0, 5.0, 3.0, 9.0]), learn=("tau", "beta")), backend=backend)
    return nn.Sequential(nn.Linear(3, 4), hidden, nn.Linear(4, 2), tfexplore.LI(backend=backend))


def loss(made: nn.Module, parameters: dict[str, Tensor], x: Tensor, target: Tensor) -> Tensor:
    return (functional_call(made, parameters, (x,)).mean(0) - target).square().sum()


@pytest.mark.parametrize("backend", BACKENDS)
def test_grad_of_a_functional_call_is_that_of_autograd(backend):
    made, x, target = net(backend), CASE.input(20, (5, 3)), torch.rand(5, 2)
    parameters = dict(made.named_parameters())
    found = grad(lambda p: loss(made, p, x, target))(parameters)
    expected = torch.autograd.grad(loss(made, parameters, x, target), list(parameters.values()))
    assert any(g.abs().max() > 0 for g in found.values())
    for value, other in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_per_sample_are_those_of_each_sample_alone(backend):
    """As for differential privacy: of weights, and of a neuron's learned parameters, which all samples share."""
    made, x, target = net(backend), CASE.input(20, (5, 3)), torch.rand(5, 2)
    parameters = dict(made.named_parameters())
    each = vmap(grad(lambda p, x, y: loss(made, p, x.unsqueeze(1), y)), in_dims=(None, 1, 0))
    found = each(parameters, x, target)
    for k in range(5):
        alone = torch.autograd.grad(
            loss(made, parameters, x[:, k : k + 1], target[k : k + 1]), list(parameters.values())
        )
        for value, other in zip(found.values(), alone, strict=True):
            torch.testing.assert_close(value[k], other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_what_vmap_adds_is_more_neurons(backend, dim):
    """Of x, at any place; with the state, and a trace."""
    layer, x = tfexplore.ALIF(backend=backend), CASE.input(35, (6, 2, 4))
    with torch.no_grad():
        spikes, state, v = vmap(lambda x: layer(x, return_state=True, trace="v"), in_dims=dim, out_dims=(1, 0, 1))(x)
        for k, part in enumerate(x.unbind(dim)):
            alone, after, trace = layer(part, return_state=True, trace="v")
            assert same_bits(spikes[:, k], alone)
            assert all(same_bits(found[k], z) for found, z in zip(state, after, strict=True))
            assert same_bits(v[:, k], trace)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_ensemble_of_layers_has_a_parameter_each(backend):
    layer, x = (
        Layer(neurons.LIF(tau=torch.tensor([2.0, 3.0, 4.0]), learn="tau"), backend=backend),
        CASE.input(20, (2, 3)),
    )
    raws = {"raw.tau": torch.rand(4, 3)}
    found = vmap(lambda raw: functional_call(layer, raw, (x,)))(raws)
    for k in range(4):
        assert same_bits(found[k], functional_call(layer, {"raw.tau": raws["raw.tau"][k]}, (x,)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nested_transforms_and_gradients_into_states(backend):
    layer, x = tfexplore.LIF(backend=backend), CASE.input(12, (2, 3, 4))
    start, lengths = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([12, 0, 5])

    def pulled(x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        (spikes, (after,), trace), pull = vjp(
            lambda x, v: layer(x, (v,), return_state=True, trace="h", lengths=lengths), x, v
        )
        return pull((torch.ones_like(spikes), (torch.ones_like(after),), torch.ones_like(trace)))

    found = vmap(pulled, in_dims=(1, 0))(x, start)
    for k in range(2):
        given = x[:, k].clone().requires_grad_(), start[k].clone().requires_grad_()
        spikes, (after,), trace = layer(given[0], (given[1],), return_state=True, trace="h", lengths=lengths)
        expected = torch.autograd.grad(spikes.sum() + after.sum() + trace.sum(), given)
        for value, other in zip(found, expected, strict=True):
            torch.testing.assert_close(value[k], other, rtol=1e-5, atol=1e-6)


def test_a_second_derivative_under_a_transform_says_what_to_do():
    layer, x = tfexplore.LIF(backend="numba"), CASE.input(5, (2, 3))
    with pytest.raises(RuntimeError, match="no second derivative"):
        grad(lambda x: grad(lambda x: layer(x).square().sum())(x).sum())(x)


def test_every_module_with_a_state_can_be_transformed():
    recurrent: Stateful = tfexplore.Recurrent(tfexplore.LIF(), nn.Linear(3, 3))
    x = CASE.input(8, (5, 2, 3))
    with torch.no_grad():
        found = vmap(recurrent, in_dims=1, out_dims=1)(x)
        for k in range(5):
            torch.testing.assert_close(found[:, k], recurrent(x[:, k]))

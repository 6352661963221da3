"""At the threshold itself: a neuron fires, and a strict one does not, on every backend."""

import pytest
import torch

from tests.cases import same_bits
from tfexplore import Layer, neurons
from tfexplore.codegen import source_of
from tfexplore.neurons import step_of
from tfexplore.neurons.surrogates import Rectangle
from tfexplore.reversible.reading import InBits

EXECUTORS = [
    ("torch", "auto"),
    ("numba", "potential"),
    ("numba", "input"),
    ("numba", "bits"),
    ("cuda", "potential"),
    ("cuda", "bits"),
]
TIES = torch.tensor([0.5, 0.5, 1.0, 0.25, 2.0, 0.0, 1.0, 0.75, 0.25, 1.25])  # sums without rounding; many meet 1


def walked(currents, strict, reset):
    """A plain loop: IF with threshold 1, its spikes, and how often h met the threshold."""
    v, spikes, ties = 0.0, [], 0
    for x in currents.tolist():
        h = v + x
        s = h > 1 if strict else h >= 1
        ties += h == 1
        v = h if not s else h - 1 if reset == "soft" else 0.0
        spikes.append(float(s))
    return spikes, ties


@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("strict", [False, True])
def test_a_tie_on_every_backend(strict, reset, fake_cupy):
    expected, ties = walked(TIES, strict, reset)
    assert ties > 0
    assert expected != walked(TIES, not strict, reset)[0]
    gradients = []
    for backend, keep in EXECUTORS:
        neuron = neurons.IF(strict=strict, reset=reset, surrogate=Rectangle(3.0))
        x = TIES.view(-1, 1, 1).clone().requires_grad_()
        spikes = Layer(neuron, backend=backend, keep=keep)(x)
        assert spikes.flatten().tolist() == expected, (backend, keep)
        (spikes * torch.arange(1.0, 11.0).view(-1, 1, 1)).sum().backward()
        gradients.append(x.grad)
    assert all(torch.allclose(each, gradients[0], rtol=1e-6) for each in gradients)


def test_the_surrogate_at_the_tie_is_the_same():
    """Only the comparison differs: with one step there is no other way for the gradient."""
    slopes = []
    for strict in (False, True):
        x = torch.ones(1, 1, 1, requires_grad=True)
        Layer(neurons.IF(strict=strict), backend="torch")(x).sum().backward()
        slopes.append(x.grad.item())
    assert slopes == [1.0, 1.0]


def test_transforms_and_levels_in_bits_compare_alike():
    x = torch.tensor([0.5, 1.0, 1.5]).view(1, 1, 3)
    for strict, expected in ((False, [0.0, 1.0, 1.0]), (True, [0.0, 0.0, 1.0])):
        layer = Layer(neurons.IF(strict=strict, reset="none", surrogate=Rectangle()), backend="torch")
        assert torch.func.vmap(layer, in_dims=1, out_dims=1)(x.unsqueeze(1)).flatten().tolist() == expected
        bits = InBits(layer)
        assert bits.seen(bits.kept(x[0]), x[0].shape, x.dtype, x.dtype).values.flatten().tolist() == expected


def test_other_neurons_keep_their_text_and_a_strict_one_differs_by_its_comparison():
    lif, strict = neurons.LIF(), neurons.LIF(strict=True)
    assert step_of(lif) != step_of(strict)
    for language in ("numba", "cuda"):
        before, after = (source_of(neuron, "spike", language=language) for neuron in (lif, strict))
        assert "u >= real(0.0)" in before
        assert after == before.replace(">=", ">")
    assert repr(strict).endswith("strict=True)")
    assert "strict" not in repr(lif)
    with pytest.raises(TypeError, match="strict must be True or False"):
        neurons.LIF(strict=1)


def test_a_state_is_carried_alike():
    x = TIES.view(-1, 1, 1)
    outs = [Layer(neurons.IF(strict=True, reset="hard"), backend=b)(x, trace="v")[1] for b in ("torch", "numba")]
    assert same_bits(*outs)

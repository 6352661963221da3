"""Networks of snnTorch and their conversions, run side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.exchange.beside import currents, dyadic, fires, same, same_potentials
from tfexplore.exchange import from_snntorch

snn = pytest.importorskip("snntorch", reason="compares with snnTorch: pip install snntorch")
surrogate = snn.surrogate

RESETS = ("subtract", "zero", "none")


def reset(net: nn.Module) -> None:
    """Of every module; snnTorch's `utils.reset` looks at the first level only."""
    for module in net.modules():
        if isinstance(module, snn.SpikingNeuron):
            module.reset_mem()


def loop(net: nn.Module) -> Any:
    """As snnTorch's tutorials run a network: a step after the other, from states of zero."""

    def run(x: Tensor) -> Tensor:
        reset(net)
        outs = [net(x_t) for x_t in x]
        return torch.stack([out[0] if isinstance(out, tuple) else out for out in outs])

    return run


MADE = {
    "Leaky": lambda **more: snn.Leaky(beta=0.85, **more),
    "Leaky, at once": lambda **more: snn.Leaky(beta=0.85, reset_delay=False, **more),
    "Leaky, learned": lambda **more: snn.Leaky(beta=0.5, learn_beta=True, learn_threshold=True, **more),
    "Leaky, at once, learned": lambda **more: snn.Leaky(
        beta=torch.linspace(0.1, 0.95, 20),
        threshold=0.75,
        learn_beta=True,
        learn_threshold=True,
        reset_delay=False,
        **more,
    ),
    "Synaptic": lambda **more: snn.Synaptic(alpha=0.5, beta=0.7, **more),
    "Synaptic, at once, learned": lambda **more: snn.Synaptic(
        alpha=0.5, beta=0.7, learn_alpha=True, learn_beta=True, reset_delay=False, **more
    ),
    "Lapicque": lambda **more: snn.Lapicque(beta=0.6, threshold=0.5, **more),
    "Lapicque, R and C": lambda **more: snn.Lapicque(R=2.2, C=1.3, time_step=0.7, threshold=0.5, **more),
    "Alpha": lambda **more: snn.Alpha(alpha=0.85, beta=0.7, threshold=0.3, **more),
    "RLeaky": lambda **more: dyadic(snn.RLeaky(beta=0.5, linear_features=20, **more)),
    "RLeaky, at once": lambda **more: dyadic(snn.RLeaky(beta=0.5, linear_features=20, reset_delay=False, **more)),
    "RSynaptic": lambda **more: dyadic(snn.RSynaptic(alpha=0.5, beta=0.5, linear_features=20, **more)),
}
"""Recurrent ones on dyadic numbers, where the order of sums does not matter: ours adds the feedback first."""


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("name", MADE)
def test_neurons(name: str, reset: str) -> None:
    torch.manual_seed(0)
    net = MADE[name](reset_mechanism=reset, init_hidden=True)
    x = currents(64, 8, 20)
    if name.startswith("R"):
        x = (4 * x[:12]).round() / 4 - 0.5  # few steps: powers of 1/2 stay exact
    ours = from_snntorch(net)
    spikes = same(loop(net), ours, x)
    assert fires(spikes) or reset == "none"
    same_potentials(lambda: (loop(net)(x), net.mem)[1], ours, x)


@pytest.mark.parametrize("seed", range(3))
def test_fused_kernels(seed: int) -> None:
    net = snn.Leaky(beta=0.3 + 0.3 * seed, init_hidden=True)
    assert fires(same(loop(net), from_snntorch(net), currents(100, 8, 20, seed=seed), backend="auto"))


SURROGATES = {
    "atan": surrogate.atan(3.0),
    "fast_sigmoid": surrogate.fast_sigmoid(10),
    "sigmoid": surrogate.sigmoid(5),
    "triangular": surrogate.triangular(0.5),
    "straight_through_estimator": surrogate.straight_through_estimator(),
    "spike_rate_escape": surrogate.spike_rate_escape(2, 3),
    "heaviside": surrogate.heaviside(),
}


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates(name: str) -> None:
    net = snn.Leaky(beta=0.5, spike_grad=SURROGATES[name], init_hidden=True)
    same(loop(net), from_snntorch(net), currents(64, 8, 5))


def test_at_the_threshold_it_does_not_fire() -> None:
    net = snn.Leaky(beta=0.5, init_hidden=True)
    x = torch.full((64, 1, 1), 0.5)
    x[0] = 1.0  # 0.5 * 1 + 0.5 = 1, for ever
    spikes = same(loop(net), from_snntorch(net), x)
    assert not spikes.any()


def test_the_reset_comes_a_step_later_than_ours() -> None:
    """Named: our soft reset takes the threshold off before the decay, snnTorch after."""
    from tfexplore import Layer, neurons

    x = currents(64, 8, 20)
    theirs = loop(snn.Leaky(beta=0.5, init_hidden=True))(x)
    assert not torch.equal(theirs, Layer(neurons.LIF(tau=2.0, strict=True), backend="torch")(x))


def test_a_beta_beyond_one_is_clamped_as_there() -> None:
    net = snn.Leaky(beta=1.25, learn_beta=True, init_hidden=True)
    net.beta.requires_grad_(False)
    same(loop(net), from_snntorch(net), currents(64, 4, 5))


def test_a_sequential_of_convolutions_fused() -> None:
    hidden = {"beta": 0.5, "init_hidden": True}
    net = dyadic(
        nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), snn.Leaky(**hidden), nn.Flatten(), nn.Linear(36, 6), nn.Dropout(0.5),
            snn.Leaky(**hidden, output=True),
        )
    ).eval()  # fmt: skip
    ours = from_snntorch(net)
    x = (currents(8, 4, 1, 8, 8) * 4).round() / 4
    spikes = same(loop(net), ours, x, backend="auto")
    assert fires(spikes)
    assert spikes.shape == (8, 4, 6)
    assert "5: Dropout" not in str(ours.conversion)  # type: ignore[operator]
    _, mem = ours(x)  # output=True
    reset(net)
    theirs = torch.stack([net(x_t)[1] for x_t in x])
    assert torch.equal(mem, theirs)


def test_the_states_of_synaptic_in_its_order() -> None:
    net = snn.Synaptic(alpha=0.5, beta=0.5, init_hidden=True, output=True)
    x = currents(32, 4, 5)
    ours = from_snntorch(net)(x)
    reset(net)
    theirs = [torch.stack(each) for each in zip(*(net(x_t) for x_t in x), strict=True)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(theirs, ours, strict=True))


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (lambda: snn.Leaky(beta=0.5, state_quant=lambda z: z), "state_quant"),
        (lambda: snn.Leaky(beta=0.5, graded_spikes_factor=2.0), "graded_spikes_factor"),
        (lambda: snn.Leaky(beta=0.5, learn_graded_spikes_factor=True), "graded_spikes_factor"),
        (lambda: snn.Leaky(beta=0.5, surrogate_disable=True), "surrogate_disable"),
        (lambda: snn.Leaky(beta=0.5, spike_grad=surrogate.LSO()), "LSO"),
        (lambda: snn.Leaky(beta=0.5, spike_grad=surrogate.custom_surrogate(lambda u, g, s: g * u)), "custom_surrogate"),
        (lambda: snn.Lapicque(beta=0.5, learn_beta=True), "learn_beta"),
        (lambda: snn.Alpha(alpha=0.9, beta=0.8, learn_beta=True), "beta"),
        (lambda: snn.SLSTM(3, 3), "SLSTM"),
    ],
)
def test_refusals_name_the_module(made: Any, what: str) -> None:
    net = nn.Sequential(nn.Linear(2, 2), snn.Leaky(beta=0.5), nn.Sequential(made()))
    with pytest.raises(ValueError, match=rf"'2.0'.*{what}"):
        from_snntorch(net)


@pytest.mark.parametrize("delay", [True, False])
def test_a_reset_that_was_changed_later(delay: bool) -> None:
    """snnTorch then subtracts in one part of its step, and sets to zero in another."""
    set_later, loaded = (snn.Leaky(beta=0.5, reset_delay=delay) for _ in range(2))
    set_later.reset_mechanism = "zero"
    loaded.load_state_dict(snn.Leaky(beta=0.5, reset_mechanism="zero").state_dict())
    for neuron in (set_later, loaded):
        with pytest.raises(ValueError, match="'0', a Leaky of snntorch: its reset_mechanism was set or loaded"):
            from_snntorch(nn.Sequential(neuron))


def test_values_of_several_neurons_of_a_recurrent_layer() -> None:
    ours = from_snntorch(snn.RLeaky(beta=torch.rand(4), all_to_all=False, V=0.5, init_hidden=True))
    with pytest.raises(ValueError, match=r"beta has shape \(4,\)"):
        ours(torch.rand(3, 2, 4, 4))


def test_values_of_several_neurons_are_those_of_the_last_axes() -> None:
    """torch broadcasts from the last axis, a layer of ours from the first: what could be mistaken is refused."""
    ours = from_snntorch(snn.Leaky(beta=torch.rand(4), init_hidden=True))
    with pytest.raises(ValueError, match=r"beta has shape \(4,\)"):
        ours(torch.rand(3, 2, 4, 4))

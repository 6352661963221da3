"""Networks of sinabs and their conversions, run side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.exchange.beside import currents, dyadic, fires, same, same_potentials
from tfexplore.exchange import compare, from_sinabs

REASON = "compares with sinabs: pip install --no-deps sinabs"
layers = pytest.importorskip("sinabs.layers", reason=REASON)
activation = pytest.importorskip("sinabs.activation", reason=REASON)
ONE = {"spike_fn": activation.SingleSpike}


def run(net: nn.Module, flat: bool = False) -> Any:
    """Its axes are [B, T, ...], or [B T, ...]."""

    def forward(x: Tensor) -> Tensor:
        for module in net.modules():
            if isinstance(module, layers.StatefulLayer):
                module.reset_states()
        given = x.transpose(0, 1)
        out = net(given.flatten(0, 1)).unflatten(0, given.shape[:2]) if flat else net(given)
        return out.transpose(0, 1)

    return forward


number = torch.tensor
MADE = {
    "LIF": lambda **more: layers.LIF(tau_mem=7.3, **ONE, **more),
    "LIF, many": lambda **more: layers.LIF(
        tau_mem=torch.linspace(1.5, 20, 20), reset_fn=activation.MembraneReset(), **ONE, **more
    ),
    "LIF, synapse and floor": lambda **more: layers.LIF(tau_mem=7.3, tau_syn=3.0, min_v_mem=-0.2, **ONE, **more),
    "LIF, reset to 0.1": lambda **more: layers.LIF(tau_mem=6.0, reset_fn=activation.MembraneReset(0.1), **ONE, **more),
    "LIF, less taken": lambda **more: layers.LIF(
        tau_mem=6.0, reset_fn=activation.MembraneSubtract(0.7), spike_threshold=number(1.25), **ONE, **more
    ),
    "ALIF": lambda **more: layers.ALIF(
        tau_mem=number(7.3),
        tau_adapt=number(12.0),
        min_v_mem=-0.4,
        surrogate_grad_fn=activation.Gaussian(),
        **ONE,
        **more,
    ),
}


@pytest.mark.parametrize("norm_input", [True, False])
@pytest.mark.parametrize("train_alphas", [True, False])
@pytest.mark.parametrize("name", MADE)
def test_neurons(name: str, train_alphas: bool, norm_input: bool) -> None:
    net = MADE[name](train_alphas=train_alphas, norm_input=norm_input)
    x = currents(64, 8, 20, seed=3) * (4 if norm_input else 1)
    x = x * (0.5 if "synapse" in name else 1)
    ours = from_sinabs(net)
    assert fires(same(run(net), ours, x, gradients=2e-5))
    same_potentials(lambda: (run(net)(x), net.v_mem)[1], ours, x)


@pytest.mark.parametrize(
    "net", [layers.IAF(**ONE), layers.IAF(spike_fn=activation.MaxSpike(1), tau_syn=3.0, min_v_mem=-1.0)]
)
def test_iaf(net: nn.Module) -> None:
    assert fires(same(run(net), from_sinabs(net), currents(64, 8, 20) * 0.3))


def test_at_the_threshold_it_fires() -> None:
    net = layers.IAF(**ONE)
    spikes = same(run(net), from_sinabs(net), torch.full((64, 1, 1), 0.25))
    assert spikes.flatten()[:8].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("name", ["LIF, synapse and floor", "ALIF"])
def test_fused_kernels(name: str) -> None:
    net = MADE[name]()
    assert fires(same(run(net), from_sinabs(net), currents(100, 8, 20, seed=1) * 3, backend="auto", gradients=2e-5))


@pytest.mark.parametrize("train_alphas", [True, False])
def test_a_leak(train_alphas: bool) -> None:
    net = layers.ExpLeak(tau_mem=6.0, train_alphas=train_alphas)
    same(run(net), from_sinabs(net), currents(64, 8, 20))


SURROGATES = [
    activation.SingleExponential(0.7, 1.2), activation.Gaussian(grad_scale=2.0), activation.MultiGaussian(),
    activation.Heaviside(0.6),
]  # fmt: skip


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda surrogate: type(surrogate).__name__)
def test_surrogates(surrogate: Any) -> None:
    net = layers.LIF(tau_mem=6.0, surrogate_grad_fn=surrogate, spike_threshold=number(1.25), **ONE)
    same(run(net), from_sinabs(net), currents(64, 8, 5) * 4, gradients=2e-5)


def test_the_width_of_an_adaptive_neurons_surrogate() -> None:
    """Named: sinabs' SingleExponential widens with the adaptive threshold; a surrogate here sees u alone."""
    net = layers.ALIF(tau_mem=number(7.3), tau_adapt=number(12.0), **ONE)
    ours = from_sinabs(net)
    assert "width" in str(ours.conversion)
    x = currents(64, 8, 20) * 4
    with torch.no_grad():
        assert torch.equal(run(net)(x), ours(x))
    with pytest.raises(AssertionError):
        same(run(net), ours, x)


def test_recurrent() -> None:
    net = layers.LIFRecurrent(tau_mem=6.0, rec_connect=nn.Linear(20, 20, bias=False), **ONE)
    x = (currents(64, 8, 20) * 4).round()
    assert fires(same(run(net), from_sinabs(dyadic(net)), x, gradients=2e-5))


def test_a_recurrent_network_is_compared_from_its_initial_state() -> None:
    """`sinabs.reset_states` leaves out layers that have children, and with them the graph of the last call."""
    net = dyadic(layers.LIFRecurrent(tau_mem=6.0, rec_connect=nn.Linear(20, 20, bias=False), **ONE))
    x, ours = (currents(16, 8, 20) * 4).round(), from_sinabs(net)
    for _ in range(2):
        assert compare(net, ours, x, count=1).differing == 0


def test_the_first_feedback_is_a_bias_here() -> None:
    """Named: ours computes rec_connect(0) for the first step, sinabs takes 0."""
    net = layers.LIFRecurrent(tau_mem=6.0, rec_connect=nn.Linear(20, 20), **ONE)
    ours = from_sinabs(net)
    assert "its bias" in str(ours.conversion)
    x = currents(20, 8, 20)
    with torch.no_grad():
        without = x.clone()
        without[0] -= net.rec_connect.bias
        _, theirs = torch.zeros(()), run(net)(x)
        assert float((theirs != ours(without)).float().mean()) < 0.001  # but for rounding


def test_several_spikes_are_refused_or_one() -> None:
    assert layers.IAF()(torch.full((1, 1, 1), 3.5)).item() == 3
    net = nn.Sequential(nn.Linear(3, 3), layers.IAF())
    with pytest.raises(ValueError, match=r"'1', a IAF of sinabs: fires several spikes.*SingleSpike"):
        from_sinabs(net)
    ours = from_sinabs(net, several="one")
    assert "at most one spike" in str(ours.conversion)
    single = nn.Sequential(net[0], layers.IAF(**ONE))
    same(run(single), ours, currents(64, 4, 3))
    with pytest.raises(ValueError, match="several must be"):
        from_sinabs(net, several="two")


def test_a_squeezed_network() -> None:
    net = dyadic(
        nn.Sequential(
            nn.Conv2d(1, 4, 3), layers.IAFSqueeze(batch_size=4, **ONE), layers.SumPool2d(2), nn.Flatten(), nn.Linear(36, 6),
            layers.IAFSqueeze(batch_size=4, **ONE),
        )
    )  # fmt: skip
    x = (currents(16, 4, 1, 8, 8) * 4).round() / 4
    assert fires(same(run(net, flat=True), from_sinabs(net), x, backend="auto"))


def test_folded_by_hand_and_repeated() -> None:
    net = dyadic(
        nn.Sequential(
            layers.Repeat(nn.Conv2d(1, 4, 3)), layers.IAF(**ONE), layers.FlattenTime(), nn.Flatten(), nn.Linear(144, 6),
            layers.UnflattenTime(4), layers.IAF(**ONE),
        )
    )  # fmt: skip
    x = (currents(16, 4, 1, 8, 8) * 4).round() / 4
    assert fires(same(run(net), from_sinabs(net), x, backend="auto"))


def test_the_spiking_part_of_a_network() -> None:
    network = pytest.importorskip("sinabs.network", reason=REASON)
    spiking = nn.Sequential(nn.Linear(20, 20), layers.IAF(**ONE))
    ours = from_sinabs(network.Network(spiking_model=dyadic(spiking)))
    assert fires(same(run(spiking), ours, (currents(64, 8, 20) * 4).round() / 4))


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (lambda: layers.ExpLeak(tau_mem=3.0, min_v_mem=-1.0), "min_v_mem"),
        (lambda: layers.IAF(surrogate_grad_fn=activation.PeriodicExponential(), **ONE), "PeriodicExponential"),
        (lambda: layers.IAF(spike_fn=activation.MaxSpike(3)), "MaxSpike"),
        (lambda: layers.ALIF(number(3.0), number(3.0), tau_syn=number(3.0)), "tau_syn"),
        (lambda: layers.SpikingMaxPooling2dLayer((2, 2)), "SpikingMaxPooling2dLayer"),
    ],
)
def test_refusals_name_the_module(made: Any, what: str) -> None:
    net = nn.Sequential(nn.Linear(2, 2), layers.IAF(**ONE), nn.Sequential(made()))
    with pytest.raises(ValueError, match=rf"'2.0'.*{what}"):
        from_sinabs(net)

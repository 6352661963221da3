"""Networks of SpikingJelly and their conversions, run side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.exchange.beside import currents, dyadic, fires, same, same_potentials
from tfexplore.exchange import from_spikingjelly

REASON = "compares with SpikingJelly: pip install --no-deps spikingjelly"
neuron = pytest.importorskip("spikingjelly.activation_based.neuron", reason=REASON)
layer = pytest.importorskip("spikingjelly.activation_based.layer", reason=REASON)
functional = pytest.importorskip("spikingjelly.activation_based.functional", reason=REASON)
surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate", reason=REASON)


def run(net: nn.Module, step_mode: str = "m") -> Any:
    """As its tutorials: reset, then all steps at once, or one after the other."""

    def forward(x: Tensor) -> Tensor:
        functional.reset_net(net)
        return net(x) if step_mode == "m" else torch.stack([net(x_t) for x_t in x])

    return forward


MADE = {
    "IF": neuron.IFNode,
    "LIF": lambda **more: neuron.LIFNode(tau=3.3, **more),
    "LIF, input not decayed": lambda **more: neuron.LIFNode(tau=3.3, decay_input=False, **more),
    "ParametricLIF": lambda **more: neuron.ParametricLIFNode(init_tau=2.7, **more),
    "ParametricLIF, input not decayed": lambda **more: neuron.ParametricLIFNode(
        init_tau=2.7, decay_input=False, **more
    ),
    "QIF": lambda **more: neuron.QIFNode(tau=2.2, a0=0.7, v_rest=0.05, **more),
    "EIF": lambda **more: neuron.EIFNode(tau=2.2, v_rest=0.05, delta_T=0.7, **more),
    "Izhikevich": lambda **more: neuron.IzhikevichNode(tau=2.2, tau_w=3.0, a=0.1, b=0.3, v_rest=0.03, **more),
}
SOFT = [name for name in MADE if name not in ("QIF", "EIF", "Izhikevich")]  # those run away without a hard reset


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize(
    ("name", "v_reset"),
    [*((name, None) for name in SOFT), *((name, -0.3) for name in MADE), *((name, 0.0) for name in SOFT)],
)
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_neurons(name: str, v_reset: float | None, detach_reset: bool, step_mode: str) -> None:
    net = MADE[name](v_reset=v_reset, detach_reset=detach_reset, step_mode=step_mode)
    x = currents(64, 8, 20) * (2 if name in ("LIF", "ParametricLIF") else 1)
    ours = from_spikingjelly(net)
    assert fires(same(run(net, step_mode), ours, x, gradients=2e-5))
    same_potentials(lambda: (run(net, step_mode)(x), net.v)[1], ours, x)


def test_cuba_lif() -> None:
    net = neuron.CUBALIFNode(c_decay=0.4, v_decay=0.6, surrogate_function=surrogate.ATan())
    assert fires(same(run(net, "s"), from_spikingjelly(net), currents(64, 8, 20) * 0.5))


@pytest.mark.parametrize("name", ["LIF", "ParametricLIF", "EIF"])
def test_fused_kernels(name: str) -> None:
    net = MADE[name](v_reset=-0.3, step_mode="m")
    assert fires(same(run(net), from_spikingjelly(net), currents(100, 8, 20, seed=1) * 2, backend="auto"))


@settings(max_examples=20, deadline=None)
@given(
    tau=st.floats(1.01, 200.0), v_threshold=st.floats(0.1, 3.0), v_reset=st.none() | st.floats(-2.0, 0.0),
    decay_input=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_any_numbers(tau: float, v_threshold: float, v_reset: float | None, decay_input: bool, seed: int) -> None:
    net = neuron.LIFNode(tau=tau, decay_input=decay_input, v_threshold=v_threshold, v_reset=v_reset, step_mode="m")
    x = currents(64, 4, 5, seed=seed) * (tau if decay_input else 1)
    ours = from_spikingjelly(net)
    ours.backend = "torch"  # type: ignore[assignment]
    with torch.no_grad():
        assert torch.equal(run(net)(x), ours(x))


SURROGATES = {
    "Sigmoid": surrogate.Sigmoid(3.0),
    "ATan": surrogate.ATan(3.0),
    "PiecewiseQuadratic": surrogate.PiecewiseQuadratic(0.7),
    "PiecewiseExp": surrogate.PiecewiseExp(2.0),
    "SoftSign": surrogate.SoftSign(3.0),
    "SuperSpike": surrogate.SuperSpike(2.0),
    "Erf": surrogate.Erf(1.5),
    "Rect": surrogate.Rect(0.6),
    "NonzeroSignLogAbs": surrogate.NonzeroSignLogAbs(1.5),
    "QPseudoSpike": surrogate.QPseudoSpike(2.5),
}


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates(name: str) -> None:
    net = neuron.LIFNode(tau=2.0, surrogate_function=SURROGATES[name], step_mode="m")
    same(run(net), from_spikingjelly(net), currents(64, 8, 5) * 2)


def test_at_the_threshold_it_fires() -> None:
    net = neuron.IFNode(step_mode="m")
    spikes = same(run(net), from_spikingjelly(net), torch.full((64, 1, 1), 0.25))
    assert spikes.flatten()[:8].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


def convolutional(step_mode: str) -> nn.Module:
    mode = {"step_mode": step_mode}
    return dyadic(
        nn.Sequential(
            layer.Conv2d(1, 4, 3, **mode), neuron.IFNode(**mode), layer.MaxPool2d(2, **mode), layer.Flatten(**mode),
            layer.Linear(36, 6, **mode), neuron.IFNode(**mode),
        )
    )  # fmt: skip


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_network_of_layers(step_mode: str) -> None:
    net = convolutional(step_mode)
    x = (currents(16, 4, 1, 8, 8) * 4).round() / 4
    assert fires(same(run(net, step_mode), from_spikingjelly(net), x, backend="auto"))


def test_containers() -> None:
    net = dyadic(
        nn.Sequential(
            layer.SeqToANNContainer(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2)),
            neuron.IFNode(step_mode="m"),
            layer.MultiStepContainer(nn.Flatten(), nn.Linear(36, 6), neuron.IFNode(), nn.Linear(6, 6), neuron.IFNode()),
        )
    )
    x = (currents(16, 4, 1, 8, 8) * 4).round() / 4
    ours = from_spikingjelly(net)
    assert fires(same(run(net), ours, x, backend="auto"))
    assert "FoldTime" in repr(ours)


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_voting_layer_stays(step_mode: str) -> None:
    """The last of its networks for DVS128 Gesture: it has no state."""
    net = dyadic(nn.Sequential(layer.Linear(6, 20), neuron.IFNode(), layer.VotingLayer(5)))
    functional.set_step_mode(net, step_mode)
    spikes = same(run(net, step_mode), from_spikingjelly(net), (currents(16, 4, 6) * 4).round())
    assert spikes.shape == (16, 4, 4)
    assert spikes.any()


@pytest.mark.parametrize("name", ["LogTailedReLU", "S2NN"])
def test_a_surrogate_that_is_not_known_is_named(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"'0', .*its surrogate {name} has no counterpart here; take one of Sigmoid, ATan"
    ):
        from_spikingjelly(nn.Sequential(neuron.IFNode(surrogate_function=getattr(surrogate, name)())))


def test_a_container_that_folds_time_normalises_as_it_does() -> None:
    net = nn.Sequential(
        layer.SeqToANNContainer(nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6)), neuron.IFNode(step_mode="m")
    )
    ours = from_spikingjelly(net)
    assert not ours.conversion.notes  # type: ignore[union-attr]
    assert fires(same(run(net), ours, currents(16, 8, 6) * 4))
    stepped = nn.Sequential(layer.MultiStepContainer(nn.BatchNorm1d(6), neuron.IFNode()))
    assert "BatchNorm" in str(from_spikingjelly(stepped).conversion)


def test_a_forward_without_a_loop_stays() -> None:
    """In multi-step mode a user's own forward already takes all time steps."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.node = layer.Linear(20, 20, step_mode="m"), neuron.LIFNode(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            return x + self.node(self.linear(x))

    net = dyadic(nn.Sequential(Block(), neuron.IFNode(step_mode="m")))
    ours = from_spikingjelly(net)
    assert fires(same(run(net), ours, (currents(64, 4, 20) * 4).round() / 4))
    assert "'0 (Block)" in repr(str(ours.conversion)) or "0 (Block) has a forward of its own" in str(ours.conversion)


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_dropout_draws_one_mask_for_all_steps(step_mode: str) -> None:
    """Another for each sample, also where what is around it is folded over time."""
    dropout = nn.Sequential(nn.Identity(), layer.Dropout(0.5, step_mode=step_mode), nn.ReLU())
    ours = from_spikingjelly(nn.Sequential(dropout, neuron.IFNode(step_mode=step_mode)))
    x = torch.ones(5, 4, 100)
    dropped = ours[0](x)  # type: ignore[index]
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert {0.0, 2.0} == set(dropped.unique().tolist())
    assert torch.equal(ours.eval()[0](x), x)  # type: ignore[index]


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (neuron.KLIFNode, "KLIFNode"),
        (lambda: neuron.PSN(4), "PSN"),
        (layer.SynapseFilter, "SynapseFilter"),
        (lambda: neuron.IFNode(surrogate_function=surrogate.Sigmoid(spiking=False)), "spiking=False"),
        (lambda: neuron.IFNode(surrogate_function=surrogate.S2NN()), "S2NN"),
    ],
)
def test_refusals_name_the_module(made: Any, what: str) -> None:
    net = nn.Sequential(nn.Linear(2, 2), neuron.IFNode(), nn.Sequential(made()))
    with pytest.raises(ValueError, match=rf"'2.0'.*{what}"):
        from_spikingjelly(net)


def test_a_network_of_unknown_neurons_alone() -> None:
    with pytest.raises(ValueError, match="'1' is a KLIFNode of spikingjelly"):
        from_spikingjelly(nn.Sequential(nn.Linear(2, 2), neuron.KLIFNode()))


def test_a_subclass_may_have_other_equations() -> None:
    class Mine(neuron.LIFNode):  # type: ignore[misc, name-defined]
        pass

    with pytest.raises(ValueError, match=r"'1' is a Mine, made from LIFNode"):
        from_spikingjelly(nn.Sequential(neuron.IFNode(), Mine()))


def test_step_modes_must_not_be_mixed() -> None:
    with pytest.raises(ValueError, match="single time steps"):
        from_spikingjelly(nn.Sequential(neuron.IFNode(step_mode="s"), neuron.IFNode(step_mode="m")))

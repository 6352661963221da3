"""Networks of Norse and their conversions, run side by side."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.exchange.beside import currents, dyadic, fires, same, same_potentials
from tfexplore.exchange import from_norse

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
    norse = pytest.importorskip("norse.torch", reason="compares with Norse: pip install norse")


def number(value: float) -> Tensor:
    return torch.tensor(value)


def run(net: nn.Module) -> Any:
    """As its tutorials: cells in a loop that hands the state on, the others on all time steps."""

    def forward(x: Tensor) -> Tensor:
        if not any(type(module).__name__.endswith("Cell") for module in net.modules()):
            return net(x)[0]
        state, outs = None, []
        for x_t in x:
            out, state = net(x_t, state)
            outs.append(out)
        return torch.stack(outs)

    return forward


def state_after(net: nn.Module, x: Tensor) -> Any:
    if not type(net).__name__.endswith("Cell"):
        return net(x)[1]
    state = None
    for x_t in x:
        _, state = net(x_t, state)
    return state


def lif(v_reset: float, **more: Any) -> Any:
    return norse.LIFParameters(v_reset=number(v_reset), v_leak=number(v_reset / 2), **more)


def box(v_reset: float, **more: Any) -> Any:
    return norse.LIFBoxParameters(v_reset=number(v_reset), v_leak=number(v_reset / 2), **more)


MADE = {
    "LIFBoxCell": lambda v_reset: norse.LIFBoxCell(box(v_reset)),
    "LIFBoxCell, subtract": lambda v_reset: norse.LIFBoxCell(box(v_reset, reset_method=norse.reset_subtract)),
    "LIFCell": lambda v_reset: norse.LIFCell(lif(v_reset)),
    "LIF": lambda v_reset: norse.LIF(lif(v_reset), dt=0.002),
    "IAFCell": lambda v_reset: norse.IAFCell(norse.IAFParameters(v_reset=number(v_reset))),
    "IAF": lambda v_reset: norse.IAF(norse.IAFParameters(v_reset=number(v_reset))),
}


@pytest.mark.parametrize("v_reset", [0.0, -0.3])
@pytest.mark.parametrize("name", MADE)
def test_neurons(name: str, v_reset: float) -> None:
    net = MADE[name](v_reset)
    x = currents(64, 8, 20, seed=2) * (1 if name.startswith("IAF") else 4)
    ours = from_norse(net)
    assert fires(same(run(net), ours, x))
    same_potentials(lambda: state_after(net, x).v, ours, x)


@pytest.mark.parametrize("seed", range(3))
def test_fused_kernels(seed: int) -> None:
    net = norse.LIF(lif(-0.1 * seed), dt=0.001 * (seed + 1))
    assert fires(same(run(net), from_norse(net), currents(100, 8, 20, seed=seed) * 4, backend="auto"))


@pytest.mark.parametrize(
    "net",
    [
        norse.LI(), norse.LICell(norse.LIParameters(v_leak=number(0.2))),
        norse.LIBoxCell(norse.LIBoxParameters(v_leak=number(0.2))),
    ],
)  # fmt: skip
def test_readouts(net: nn.Module) -> None:
    same(run(net), from_norse(net), currents(64, 8, 20))


@pytest.mark.parametrize("autapses", [True, False])
@pytest.mark.parametrize("kind", ["LIFRecurrent", "LIFRecurrentCell"])
def test_recurrent(kind: str, autapses: bool) -> None:
    """On dyadic numbers with a dt that is one, since ours adds the feedback before i."""
    weights = [torch.randint(-6, 8, (20, 20), generator=torch.Generator().manual_seed(k)) / 16 for k in range(2)]
    p = norse.LIFParameters(tau_syn_inv=number(0.5), tau_mem_inv=number(0.25))
    pair = dict(zip(("input_weights", "recurrent_weights"), map(nn.Parameter, weights), strict=True))
    net = getattr(norse, kind)(20, 20, p, dt=1.0, autapses=autapses, **pair)
    x = (currents(10, 8, 20) > 0.5).float()
    ours = from_norse(net)
    assert fires(same(run(net), ours, x))
    apart = from_norse(net, share=False)
    apart(x).sum().backward()
    (recurrent,) = (module for module in apart.modules() if hasattr(module, "feedback"))
    assert bool(recurrent.feedback.weight.grad.diagonal().any()) is autapses  # type: ignore[union-attr]  # its hook came along


METHODS = {"super": 100.0, "triangle": 0.3, "tanh": 2.0, "circ": 1.5, "heavi_erfc": 1.3}


@pytest.mark.parametrize("method", METHODS)
def test_methods(method: str) -> None:
    net = norse.LIFCell(norse.LIFParameters(method=method, alpha=number(METHODS[method])))
    same(run(net), from_norse(net), currents(64, 8, 5) * 4)


def test_alpha_of_super_is_not_used() -> None:
    """Named: Norse 1.1's SuperSpike has slope 1 / (1 + |u|)^2 whatever alpha is, so that is what is carried over."""
    slopes = []
    for alpha in (1.0, 100.0):
        u = torch.tensor([0.5], requires_grad=True)
        slopes.append(torch.autograd.grad(norse.functional.threshold.threshold(u, "super", number(alpha)), u)[0].item())
    assert slopes[0] == slopes[1] == pytest.approx(1 / 1.5**2)
    assert from_norse(norse.LIFCell()).neuron.surrogate.alpha == 1.0  # type: ignore[union-attr]


def test_at_the_threshold_it_does_not_fire() -> None:
    net = norse.IAF()
    assert not same(run(net), from_norse(net), torch.tensor([0.5, 0.5, *[0.0] * 62]).view(64, 1, 1)).any()


def test_the_input_drives_v_in_the_same_step() -> None:
    net = norse.LIF()
    x = torch.zeros(3, 1, 1)
    x[0] = 1
    (v,) = from_norse(net)(x, trace="v")[1:]
    assert v.flatten().tolist() == pytest.approx([0.1, 0.17, 0.217])


def test_a_sequential_of_cells() -> None:
    net = dyadic(
        norse.SequentialState(
            nn.Conv2d(1, 4, 3), norse.IAFCell(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 6), norse.IAFCell(),
        )
    )  # fmt: skip
    x = (currents(16, 4, 1, 8, 8) * 4).round() / 4
    assert fires(same(run(net), from_norse(net), x, backend="auto"))


def test_lifted_modules() -> None:
    net = dyadic(
        norse.SequentialState(
            norse.Lift(nn.Conv2d(1, 4, 3)), norse.IAF(), nn.Flatten(2), nn.Linear(144, 6), norse.IAF()
        )
    )
    x = (currents(16, 4, 1, 8, 8) * 4).round() / 4
    ours = from_norse(net)
    assert fires(same(run(net), ours, x, backend="auto"))
    assert "FoldTime" in repr(ours)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (norse.LIFAdExCell, "LIFAdExCell"),
        (lambda: norse.LIFCell(norse.LIFParameters(method="adjoint")), "adjoint"),
        (lambda: norse.LIFBoxCell(norse.LIFBoxParameters(reset_method=lambda z, v, r, t: v)), "reset_method"),
        (lambda: norse.LIFCell(norse.LIFParameters(v_th=nn.Parameter(number(1.0)))), "v_th"),
        (lambda: norse.IAFCell(norse.IAFParameters(v_reset=nn.Parameter(number(0.0)))), "v_reset"),
    ],
)
def test_refusals_name_the_module(made: Any, what: str) -> None:
    net = nn.Sequential(nn.Linear(2, 2), norse.LIFCell(), nn.Sequential(made()))
    with pytest.raises(ValueError, match=rf"'2.0'.*{what}"):
        from_norse(net)


def test_hidden_states_that_are_not_returned_are_named() -> None:
    net = norse.SequentialState(nn.Linear(6, 5), norse.LIFCell(), return_hidden=True)
    assert "note: the network: returns its output alone" in str(from_norse(net).conversion)

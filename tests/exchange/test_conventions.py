"""Each library's leaky neuron as a value, beside the library with its defaults; and what the exporters to NIR lose."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.exchange.beside import currents, fires, same
from tfexplore import Layer
from tfexplore.exchange import LIBRARIES, convention

TAU, DT, THRESHOLD = 0.02, 0.003, 0.5


def layer(library: str) -> Layer:
    return Layer(convention(library, tau=TAU, dt=DT, v_threshold=THRESHOLD), backend="torch")


def norse() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
        return pytest.importorskip("norse.torch", reason="compares with Norse: pip install norse")


def by_steps(cell: Any, step: Any) -> Any:
    """A loop over time; step(x_t, state) -> spikes, state."""

    def run(x: Tensor) -> Tensor:
        state, outs = None, []
        for x_t in x:
            out, state = step(cell, x_t, state)
            outs.append(out)
        return torch.stack(outs)

    return run


def of_norse() -> Any:
    module = norse()
    p = module.LIFBoxParameters(tau_mem_inv=torch.tensor(1 / TAU), v_th=torch.tensor(THRESHOLD))
    return by_steps(module.LIFBoxCell(p, dt=DT), lambda cell, x, state: cell(x, state))


def of_snntorch() -> Any:
    snn = pytest.importorskip("snntorch", reason="compares with snnTorch: pip install snntorch")
    cell = snn.Leaky(beta=1 - DT / TAU, threshold=THRESHOLD)
    return by_steps(cell, lambda cell, x, mem: cell(x, torch.zeros_like(x) if mem is None else mem))


def of_spikingjelly() -> Any:
    reason = "compares with SpikingJelly: pip install --no-deps spikingjelly"
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron", reason=reason)
    node = neuron.LIFNode(tau=TAU / DT, v_threshold=THRESHOLD, step_mode="m")

    def run(x: Tensor) -> Tensor:
        node.reset()
        out: Tensor = node(x)
        return out

    return run


def of_sinabs() -> Any:
    layers = pytest.importorskip("sinabs.layers", reason="compares with sinabs: pip install --no-deps sinabs")
    activation = pytest.importorskip("sinabs.activation", reason="compares with sinabs")
    lif = layers.LIF(tau_mem=TAU / DT, spike_threshold=torch.tensor(THRESHOLD), spike_fn=activation.SingleSpike)

    def run(x: Tensor) -> Tensor:
        lif.reset_states()
        out: Tensor = lif(x.transpose(0, 1)).transpose(0, 1)
        return out

    return run


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("of", [of_norse, of_snntorch, of_spikingjelly, of_sinabs])
def test_it_is_that_of_the_library_with_its_defaults(of: Any, seed: int) -> None:
    """Its constructor's defaults: reset, what is detached, and the surrogate."""
    x = currents(64, 8, 20, seed=seed, mean=0.6) * (0.25 if of is of_snntorch else 2)
    assert fires(same(of(), layer(of.__name__.removeprefix("of_")), x, gradients=2e-5))


def test_exact_is_the_solution_of_the_equation() -> None:
    """A constant input: v(t) = x (1 - exp(-t / tau)) up to the first spike."""
    x, steps = 0.7, 10
    v = Layer(convention("exact", tau=TAU, dt=DT), backend="torch")(torch.full((steps, 1, 1), x).double(), trace="v")[1]
    t = DT * np.arange(1, steps + 1)
    assert np.allclose(v.flatten().numpy(), x * (1 - np.exp(-t / TAU)), rtol=1e-12)


def test_spyx_fires_before_its_input_arrives() -> None:
    """As measured: s = [v > threshold], v = beta v + x - s threshold."""
    x = currents(64, 4, 5) * 0.3
    v, spikes, beta = np.zeros((4, 5)), [], 1 - DT / TAU
    for x_t in x.double().numpy():
        s = (v > THRESHOLD).astype(float)
        v = beta * v + x_t - s * THRESHOLD
        spikes.append(s)
    ours = Layer(convention("spyx", tau=TAU, dt=DT, v_threshold=THRESHOLD), backend="torch")(x.double())
    assert fires(ours)
    assert np.array_equal(np.stack(spikes), ours.numpy())


def test_no_two_are_the_same() -> None:
    """Norse and SpikingJelly differ at the threshold alone, which dt / tau = 1/2 and inputs of k/4 meet."""
    x = currents(64, 8, 20, mean=1.0)
    made = {library: convention(library, tau=2.0, dt=1.0, v_threshold=0.5) for library in LIBRARIES}
    trains = {library: Layer(neuron, backend="torch")(x) for library, neuron in made.items()}
    assert not [(a, b) for a in LIBRARIES for b in LIBRARIES if a < b and torch.equal(trains[a], trains[b])]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="library must be one of 'exact', 'norse'"):
        convention("brian", tau=1.0, dt=0.1)
    for bad in ({"tau": 0.0, "dt": 0.1}, {"tau": 1.0, "dt": 2.0}, {"tau": 1.0, "dt": math.nan}):
        with pytest.raises(ValueError, match=r"^(tau|dt) must be"):
            convention("norse", **bad)


def exported(graph: Any) -> Any:
    """The one node of neurons in a NIR graph."""
    (node,) = (node for node in graph.nodes.values() if type(node).__name__ in ("IF", "LIF", "CubaLIF", "LI"))
    return node


def test_what_snntorch_exports() -> None:
    snn = pytest.importorskip("snntorch", reason="exports from snnTorch: pip install snntorch")
    nir_of = pytest.importorskip(
        "snntorch.export_nir", reason="exports from snnTorch: pip install nir nirtorch"
    ).export_to_nir
    many = {"beta": torch.full((3,), 0.9), "threshold": torch.ones(3), "init_hidden": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nirtorch, about how it traces
        for reset in ("subtract", "zero"):
            net = nn.Sequential(nn.Linear(3, 3), snn.Leaky(**many, reset_mechanism=reset))
            node = exported(nir_of(net, torch.zeros(3)))
            assert np.allclose(node.tau, 1e-4 / (1 - 0.9))
            assert np.all(node.v_reset == 0)
        with pytest.raises(ValueError, match="type mismatch"):
            nir_of(nn.Sequential(nn.Linear(3, 3), snn.Leaky(beta=0.9, init_hidden=True)), torch.zeros(3))


def test_what_norse_exports() -> None:
    module = norse()
    pytest.importorskip("nirtorch", reason="exports from Norse: pip install nir nirtorch")
    p = module.LIFBoxParameters(
        tau_mem_inv=torch.tensor(100.0), v_reset=torch.tensor(-0.2), reset_method=module.reset_subtract
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nirtorch, about how it traces
        node = exported(module.to_nir(module.SequentialState(nn.Linear(3, 3), module.LIFBoxCell(p)), torch.zeros(1, 3)))
    assert float(node.tau) == pytest.approx(0.001 * 0.01)  # dt tau
    assert np.all(node.v_reset == 0)


def test_what_spikingjelly_exports() -> None:
    reason = "exports from SpikingJelly: pip install --no-deps spikingjelly"
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron", reason=reason)
    layers = pytest.importorskip("spikingjelly.activation_based.layer", reason=reason)
    nir_of = pytest.importorskip("spikingjelly.activation_based.nir_exchange", reason=reason).export_to_nir

    def node(**more: Any) -> Any:
        net = nn.Sequential(layers.Linear(3, 3, step_mode="m"), neuron.LIFNode(tau=3.0, step_mode="m", **more))
        return exported(nir_of(net, torch.zeros(2, 1, 3)))

    made = node(decay_input=False, v_reset=-0.2)
    assert (made.tau[0], made.r[0], made.v_leak[0], made.v_reset[0]) == pytest.approx((3e-4, 3.0, -0.2, -0.2))
    assert node().r[0] == 1
    with pytest.raises(NotImplementedError, match="soft reset"):
        node(v_reset=None)


def test_what_sinabs_exports() -> None:
    layers = pytest.importorskip("sinabs.layers", reason="exports from sinabs: pip install --no-deps sinabs")
    activation = pytest.importorskip("sinabs.activation", reason="exports from sinabs")
    nir_of = pytest.importorskip("sinabs.nir", reason="exports from sinabs: pip install nir nirtorch").to_nir
    rich = layers.LIF(
        tau_mem=5.0, tau_syn=3.0, norm_input=False, min_v_mem=-1.0, reset_fn=activation.MembraneReset(0.3)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nirtorch, about how it traces
        node = exported(nir_of(nn.Sequential(nn.Linear(3, 3), rich), torch.zeros(1, 2, 3)))
    assert type(node).__name__ == "LIF"  # without its synapse
    assert (float(node.tau), float(node.r), float(np.ravel(node.v_reset)[0])) == (5.0, 1.0, 0.0)

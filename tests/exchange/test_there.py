"""Networks of ours in other frameworks, by way of NIR: each one's own importer reads what `to_nir` writes, and gives our spikes.

Where the equations agree, all spikes are equal. At a tie they do not: SpikingJelly and sinabs fire at the threshold, snnTorch and
Norse above it, as `strict` says here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("nir", reason="other frameworks read NIR's own objects: pip install nir")

from tfexplore import IF, LIF
from tfexplore.exchange import from_nir, from_norse, from_snntorch, from_spikingjelly, to_nir

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, and of what they import
DT = 1e-4  # the step that snnTorch assumes


def network(neuron: nn.Module, weight: Tensor) -> nn.Sequential:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.zero_()  # type: ignore[union-attr]
    return nn.Sequential(linear, neuron)


def leaky(strict: bool) -> nn.Sequential:
    """Sums of eighths, so that products are exact and some potentials stand at the threshold."""
    weight = torch.randint(-8, 9, (4, 5), generator=torch.Generator().manual_seed(0)) / 4
    return network(LIF(tau=25.0, decay_input=True, v_threshold=0.1, reset="hard", strict=strict), weight)


def counting(strict: bool) -> nn.Sequential:
    """No leak, steps of a quarter: a potential reaches 1 exactly, so that what is subtracted leaves 0."""
    return network(IF(reset="hard", strict=strict), torch.eye(4) / 4)


def step_by_step(module: nn.Module, x: Tensor) -> Tensor:
    """As those run that hand a state over: one step, then the state of the last."""
    state, outs = None, []
    for row in x:
        out = module(row) if state is None else module(row, state)
        out, state = out if isinstance(out, tuple) else (out, None)
        outs.append(out)
    return torch.stack(outs)


def in_snntorch(graph: Any, x: Tensor, dt: float) -> Tensor:
    importing = pytest.importorskip("snntorch.import_nir", reason="reads what we write, where snnTorch is installed")
    return step_by_step(importing.import_from_nir(graph), x)


def in_norse(graph: Any, x: Tensor, dt: float) -> Tensor:
    norse = pytest.importorskip("norse.torch", reason="reads what we write, where Norse is installed")
    return step_by_step(norse.from_nir(graph, dt=dt, ignore_warnings=True), x)


def in_spikingjelly(graph: Any, x: Tensor, dt: float) -> Tensor:
    package = "spikingjelly.activation_based"
    exchange = pytest.importorskip(
        f"{package}.nir_exchange", reason="reads what we write, where SpikingJelly is installed"
    )
    functional = pytest.importorskip(
        f"{package}.functional", reason="reads what we write, where SpikingJelly is installed"
    )
    module = exchange.import_from_nir(graph, dt=dt)
    functional.set_step_mode(module, "m")
    out: Any = module(x)
    return out[0] if isinstance(out, tuple) else out


def in_sinabs(graph: Any, x: Tensor, dt: float) -> Tensor:
    nir = pytest.importorskip("sinabs.nir", reason="reads what we write, where sinabs is installed")
    module = nir.from_nir(graph, batch_size=x.shape[1])
    outs = [module(row) for row in x]
    return torch.stack([out[0] if isinstance(out, tuple) else out for out in outs])


Reader = Callable[[Any, Tensor, float], Tensor]
AGREE: list[tuple[Reader, Callable[[bool], nn.Sequential], bool, float]] = [
    (in_snntorch, leaky, True, DT),
    (in_norse, leaky, True, DT),
    (in_norse, counting, True, 1.0),
    (in_spikingjelly, leaky, False, DT),
    (in_spikingjelly, counting, False, 1.0),
    (in_sinabs, counting, False, 1.0),
]
DIFFER: list[tuple[Reader, Callable[[bool], nn.Sequential], bool, float]] = [
    (in_snntorch, leaky, False, DT),
    (in_norse, counting, False, 1.0),
    (in_spikingjelly, counting, True, 1.0),
    (in_sinabs, counting, True, 1.0),
]


def both(read: Reader, make: Callable[[bool], nn.Sequential], strict: bool, dt: float) -> tuple[Tensor, Tensor]:
    net = make(strict)
    x = (torch.rand(120, 3, net[0].in_features, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    with torch.no_grad():
        return read(to_nir(net, dt=dt).to_nir(), x, dt), net(x)


@pytest.mark.parametrize(("read", "make", "strict", "dt"), AGREE)
def test_spikes_are_equal(read: Reader, make: Callable[[bool], nn.Sequential], strict: bool, dt: float) -> None:
    theirs, ours = both(read, make, strict, dt)
    assert 0.01 < ours.mean() < 0.5
    assert torch.equal(theirs.float(), ours)


@pytest.mark.parametrize(("read", "make", "strict", "dt"), DIFFER)
def test_a_tie_is_another_spike(read: Reader, make: Callable[[bool], nn.Sequential], strict: bool, dt: float) -> None:
    """With the other comparison the same networks part: the file has the equation, and each reader its own comparison."""
    theirs, ours = both(read, make, strict, dt)
    assert not torch.equal(theirs.float(), ours)


# -- a network that came from there, and goes back ---------------------------------------------------------------------------


def sums_of_eighths(inputs: int = 6, outputs: int = 5) -> nn.Linear:
    made = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        made.weight.copy_(torch.randint(-8, 12, (outputs, inputs), generator=torch.Generator().manual_seed(2)) / 8)
    return made


@pytest.mark.parametrize("cell", ["LIFBoxCell", "LIFCell", "IAFCell"])
def test_from_norse_and_back(cell: str) -> None:
    norse = pytest.importorskip("norse.torch", reason="runs beside ours where Norse is installed")
    given = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(200.0), v_th=torch.tensor(0.4))
    theirs = norse.SequentialState(
        sums_of_eighths(), norse.LIFBoxCell(given) if cell == "LIFBoxCell" else getattr(norse, cell)()
    )
    x = (torch.rand(100, 3, 6, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    ours = from_norse(theirs)
    with torch.no_grad():
        expected, graph = step_by_step(theirs, x), to_nir(ours, dt=1e-3)
        assert 0.05 < expected.mean() < 0.5
        assert torch.equal(ours(x), expected)
        assert torch.equal(in_norse(graph.to_nir(), x, 1e-3), expected)
        assert torch.equal(from_nir(graph, dt=1e-3)(x), expected)


@pytest.mark.parametrize(
    ("node", "given"),
    [
        ("LIFNode", {"tau": 4.0, "decay_input": True}),
        ("LIFNode", {"tau": 4.0, "decay_input": False}),
        ("ParametricLIFNode", {"init_tau": 4.0}),
        ("IFNode", {}),
    ],
)
def test_from_spikingjelly_and_back(node: str, given: dict[str, Any]) -> None:
    neurons = pytest.importorskip(
        "spikingjelly.activation_based.neuron", reason="runs beside ours where it is installed"
    )
    theirs = nn.Sequential(sums_of_eighths(), getattr(neurons, node)(step_mode="m", **given))
    x = 2 * (torch.rand(100, 3, 6, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    ours = from_spikingjelly(theirs)
    with torch.no_grad():
        expected, graph = theirs(x), to_nir(ours, dt=1.0)
        assert 0.05 < expected.mean() < 0.8
        assert torch.equal(ours(x), expected)
        assert torch.equal(in_spikingjelly(graph.to_nir(), x, 1.0), expected)


def test_what_a_file_cannot_say_of_them_is_refused() -> None:
    snn = pytest.importorskip("snntorch", reason="is converted where snnTorch is installed")
    with pytest.raises(ValueError, match="Module '1': Leaky has no counterpart in NIR"):
        to_nir(from_snntorch(nn.Sequential(sums_of_eighths(), snn.Leaky(beta=0.9, init_hidden=True))), dt=1e-3)

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
from tfexplore.exchange import to_nir

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

"""What all conversions share: which tensors, which modules, what is said, what is refused; and the comparison."""

from __future__ import annotations

import copy
import io
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import tfexplore
from tests.exchange.beside import currents, dyadic
from tfexplore.exchange import compare, from_norse, from_sinabs, from_snntorch, from_spikingjelly
from tfexplore.nn.layers import Layer

snn = pytest.importorskip("snntorch", reason="its networks stand for all: pip install snntorch")


def reset(net: nn.Module) -> None:
    """Of every module; snnTorch's `utils.reset` looks at the first level only."""
    for module in net.modules():
        if isinstance(module, snn.SpikingNeuron):
            module.reset_mem()


def leaky(**more: Any) -> nn.Module:
    made: nn.Module = snn.Leaky(beta=0.5, init_hidden=True, **more)
    return made


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), leaky(), nn.Linear(5, 4), leaky())


def run(net: nn.Module, x: Tensor) -> Tensor:
    reset(net)
    return torch.stack([net(x_t) for x_t in x])


def eager(net: nn.Module) -> nn.Module:
    for layer in net.modules():
        if isinstance(layer, Layer):
            layer.backend = "torch"
    return net


def test_weights_are_shared() -> None:
    net = chain()
    ours = from_snntorch(net)
    assert {id(p) for p in ours.parameters()} == {id(p) for p in net.parameters()}
    assert ours.state_dict().keys() >= {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_weights_are_copied() -> None:
    net = chain()
    ours = from_snntorch(net, share=False)
    assert not {id(p) for p in ours.parameters()} & {id(p) for p in net.parameters()}
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), ours.parameters(), strict=True))


def test_tied_weights_stay_tied() -> None:
    net = nn.Sequential(nn.Linear(6, 6), leaky(), nn.Linear(6, 6), leaky())
    net[2].weight = net[0].weight
    for share in (True, False):
        ours = from_snntorch(net, share=share)
        assert ours[0].weight is ours[2].weight  # type: ignore[index]


def test_the_original_stays_as_it_was() -> None:
    net, x = chain(), currents(12, 4, 6)
    before, modules = run(net, x), list(net.modules())
    from_snntorch(net)
    assert list(net.modules()) == modules
    assert torch.equal(run(net, x), before)


def test_a_network_that_has_run_holds_graphs() -> None:
    net, x = chain(), currents(12, 4, 6)
    run(net, x)  # mem has a history now, and cannot be copied
    assert from_snntorch(net)(x).shape == (12, 4, 4)


class Own(nn.Module):
    """As in the tutorials: a loop over time of its own, neurons in attributes and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 5)
        self.lif = snn.Leaky(beta=0.5)
        self.rest = nn.ModuleList([nn.Linear(5, 5), snn.Leaky(beta=0.25)])
        self.again = [self.lif]

    def forward(self, x: Tensor) -> Tensor:
        return self.rest[1](self.rest[0](self.lif(self.fc(x))))


def test_a_forward_of_its_own() -> None:
    net = dyadic(Own())
    ours = from_snntorch(net)
    assert isinstance(net, Own)
    assert isinstance(ours, Own)
    assert isinstance(ours.lif, Layer)
    assert ours.again == [ours.lif]  # wherever it is mentioned
    assert net.again == [net.lif]
    text = str(ours.conversion)
    assert "note: the network (Own) has a forward of its own" in text
    assert "rest.1: Leaky -> Leaky(v_threshold=1.0, beta=0.25" in text
    x = (4 * currents(12, 4, 6)).round() / 4
    theirs = []
    mem = [net.lif.reset_mem(), net.rest[1].reset_mem()]  # type: ignore[operator, union-attr]
    for x_t in x:
        spikes, mem[0] = net.lif(net.fc(x_t), mem[0])
        spikes, mem[1] = net.rest[1](net.rest[0](spikes), mem[1])
        theirs.append(spikes)
    assert torch.equal(torch.stack(theirs), eager(ours)(x))


class Listed(nn.Module):
    """Neurons in a list that torch does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 6), leaky()
        self.inner = nn.Module()
        self.inner.rest = {"a": [nn.ReLU(), (leaky(),)]}

    def forward(self, x: Tensor) -> Tensor:
        return self.inner.rest["a"][1][0](self.lif(self.fc(x)))  # type: ignore[index, union-attr]


def test_neurons_in_a_plain_list_are_refused_by_name() -> None:
    """They would stay the library's, and take [T, B, ...] for a batch."""
    with pytest.raises(ValueError, match=r"'inner.rest' holds neurons in a list .* nn.ModuleList"):
        from_snntorch(Listed())


def test_a_loop_over_time_that_stayed_is_refused() -> None:
    """[B, features] of a single step would pass for B steps of one sample."""
    recurrent = nn.Sequential(nn.Linear(6, 5), snn.RLeaky(beta=0.5, linear_features=5, init_hidden=True))
    for net in (chain(), recurrent):
        with pytest.raises(ValueError, match="take away the loop over time"):
            from_snntorch(net)(torch.zeros(4, 6))


def test_weights_that_torch_computes() -> None:
    """A pruned one has a history, which a copy cannot have, and is computed anew in each call."""
    x = (4 * currents(12, 4, 6)).round() / 4
    for share in (True, False):
        net = dyadic(chain())
        prune.l1_unstructured(net[0], "weight", 0.5)
        ours = eager(from_snntorch(net, share=share))
        assert torch.equal(run(net, x), ours(x))
        ours(x).sum().backward()
        assert (net[0].weight_orig.grad is not None) is share


def test_a_state_that_a_module_keeps_is_no_obstacle() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(6, 5), snn.Leaky(beta=0.5)
            self._kept: list[Tensor] = []

        def forward(self, x: Tensor) -> Any:
            self._kept.append(self.fc(x))
            return self.lif(self._kept[-1])

    net, x = Keeps(), currents(12, 4, 6)
    net(x[0])
    assert from_snntorch(net)(x).shape == (12, 4, 5)


def test_what_is_left_out_is_said() -> None:
    class Mine(nn.Sequential):
        name = "mine"

    net = Mine(nn.Linear(6, 5), leaky())
    assert "hooks" not in str(from_snntorch(net).conversion)
    net[1].register_forward_hook(lambda module, given, out: None)
    text = str(from_snntorch(net).conversion)
    assert "note: 1: its forward hooks are left out" in text
    assert "note: the network: is an nn.Sequential now, without the methods and attributes of Mine" in text
    assert "begin each call from the initial state" in str(from_snntorch(Own()).conversion)


def test_one_module_in_two_places() -> None:
    neurons, linear = leaky(), nn.Linear(4, 4)
    ours = from_snntorch(nn.Sequential(linear, neurons, linear))
    assert ours[0].weight is ours[2].weight  # type: ignore[index]
    with pytest.raises(ValueError, match="'2' comes a second time"):  # there, both would go on from one state
        from_snntorch(nn.Sequential(linear, neurons, neurons))


def test_nested_sequences_and_modules_without_neurons() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.ndim == 4  # one batch axis: it is folded
            return 2 * x

    net = dyadic(
        nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), Twice(), leaky()), nn.Flatten(), nn.Linear(72, 3), leaky())
    )
    x = (4 * currents(12, 4, 1, 8, 8)).round() / 4
    assert torch.equal(run(net, x), eager(from_snntorch(net))(x))


def test_batch_norm_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), leaky())
    ours = from_snntorch(net)
    assert "note: 1: in training mode BatchNorm takes its statistics over all time steps" in str(ours.conversion)
    x = currents(12, 4, 1, 8, 8)
    net.eval()
    ours.eval()
    assert (run(net, x) != eager(ours)(x)).float().mean() < 0.001  # but for the order of sums in the convolution


def test_training_mode() -> None:
    for training in (True, False):
        net = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), leaky(), nn.Flatten(), nn.Linear(18, 2), leaky()
        ).train(training)
        assert {module.training for module in from_snntorch(net).modules()} == {training}


def test_it_is_a_network_like_others() -> None:
    """It streams, walks step by step, is copied and saved."""
    ours, x = eager(from_snntorch(dyadic(chain()))), (4 * currents(12, 4, 6)).round() / 4
    whole = ours(x)
    assert torch.equal(tfexplore.step_by_step(ours, x), whole)
    with tfexplore.carry(ours):
        assert torch.equal(torch.cat([ours(x[:5]), ours(x[5:])]), whole)
    assert torch.equal(copy.deepcopy(ours)(x), whole)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), whole)


def test_the_report() -> None:
    ours = from_snntorch(chain(), share=False)
    assert str(ours.conversion).splitlines()[0] == "snntorch: 2 modules of neurons replaced, weights copied"


@pytest.mark.parametrize("convert", [from_norse, from_sinabs, from_snntorch, from_spikingjelly])
def test_bad_arguments(convert: Any) -> None:
    with pytest.raises(TypeError, match=r"net must be a torch.nn.Module, but got str"):
        convert("net")
    with pytest.raises(TypeError, match="share must be True or False"):
        convert(nn.Linear(2, 2), share="yes")
    with pytest.raises(ValueError, match="has no neurons of"):
        convert(nn.Sequential(nn.Linear(2, 2), tfexplore.LIF()))


def test_the_libraries_are_not_imported() -> None:
    program = (
        "import sys, tfexplore.exchange; "
        "print([name for name in ('snntorch', 'norse', 'sinabs', 'spikingjelly', 'jax', 'nir', 'h5py') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_compare() -> None:
    net, x = dyadic(chain()), (4 * currents(12, 4, 6)).round() / 4
    net[0].weight.grad = torch.ones_like(net[0].weight)
    found = compare(net, eager(from_snntorch(net)), x, count=1)
    assert (found.differing, found.first_step, found.shape) == (0, None, (12, 4, 4))
    assert net[0].weight.grad.eq(1).all()
    pattern = (
        r"all 12 x 4 x 4 outputs are equal, [1-9][\d.]*% of them not 0\n"
        r"forward and backward: snntorch [\d.e+]+ ms, tfexplore [\d.e+]+ ms, [\d.e+]+ times as fast\n\(.+\)"
    )
    assert re.fullmatch(pattern, str(found))


def test_compare_names_the_first_difference() -> None:
    net, x = nn.Sequential(leaky()), torch.zeros(12, 1, 3)
    x[7, 0, 1] = 2.0
    other = eager(from_snntorch(net))
    other[0].neuron = type(other[0].neuron)(beta=0.5, v_threshold=3.0)  # type: ignore[index, operator]
    found = compare(net, other, x, count=1)
    assert (found.differing, found.first_step, found.largest) == (1, 7, 1.0)
    assert str(found).startswith("1 of 12 x 1 x 3 outputs differ, the first at step 7, the largest by 1\n")


def test_compare_runs_as_it_is_told() -> None:
    net = Own()
    ours = from_snntorch(net)
    with pytest.raises(ValueError, match="the outputs must have one shape"):
        compare(net, eager(ours), currents(4, 2, 6), run=lambda x: net.fc(x)[..., :3], count=1)
    with pytest.raises(TypeError, match="converted must be what from_snntorch"):
        compare(net, net, currents(4, 2, 6))

"""`carry` and `record`: state handed on from outside any module, and traces of what the kernels wrote."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

import tfexplore
from tests import oracle
from tests.cases import CASES, same_bits
from tests.nn.nested import Residual
from tfexplore import FoldTime, neurons, surrogates
from tfexplore.nn.states import States


def net(backend: str = "numba") -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(FoldTime(nn.Linear(4, 4)), Residual(backend), tfexplore.LI(backend=backend)).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(30, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.3


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_stream_in_pieces_is_the_whole(x, backend):
    module = net(backend)
    expected = module(x)
    assert not torch.equal(module(x[15:]), expected[15:])  # without carry every call begins anew
    with tfexplore.carry(module) as states:
        found = torch.cat([module(piece) for piece in x.split([7, 1, 0, 22])])
    assert torch.equal(found, expected)
    assert sorted(states) == [("1.inner.1", 0), ("1.shared", 0), ("1.shared", 1), ("2", 0)]
    assert [len(state) for _, state in sorted(states.items())] == [1, 2, 2, 1]
    assert torch.equal(module(x), expected)  # after the block it is gone


def test_states_of_an_earlier_block_go_on(x):
    module = net()
    with tfexplore.carry(module) as states:
        first = module(x[:9])
    with tfexplore.carry(module, states) as again:
        second = module(x[9:])
    assert again is states
    assert torch.equal(torch.cat([first, second]), module(x))
    with tfexplore.carry(module):  # another block begins anew
        assert torch.equal(module(x), net()(x))


def test_gradients_flow_through_the_carried_state_until_it_is_detached(x):
    module = net()
    x = x[:20].requires_grad_()
    (expected,) = torch.autograd.grad(module(x).square().sum(), x)
    with tfexplore.carry(module):
        out = torch.cat([module(piece) for piece in x.split(6)])
    (found,) = torch.autograd.grad(out.square().sum(), x)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()

    with tfexplore.carry(module) as states:
        early = module(x[:10])
        states.detach()
        late = module(x[10:])
    assert torch.equal(torch.cat([early, late]), out)  # truncated backpropagation changes no value
    (of_late,) = torch.autograd.grad(late.square().sum(), x)
    assert not of_late[:10].any()
    assert of_late[10:].any()


FREED = (
    r"^the backward pass comes, through the states that carry holds, .* call states\.detach\(\) after each backward\(\)"
)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # Dynamo's own
@pytest.mark.parametrize("way", ["called", "compiled", "observed"])
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_gradient_that_comes_to_a_freed_graph_says_what_to_do(x, backend, way):
    """Whoever holds the graph: the eager operators, the fused kernel's node, the operator's, or the compiled network's."""
    module = net(backend)
    run = torch.compile(module, backend="aot_eager") if way == "compiled" else module
    mode = torch.autograd.profiler.profile() if way == "observed" else nullcontext()
    with mode, tfexplore.carry(module) as states:
        run(x[:9]).sum().backward()
        late = run(x[9:20])
        with pytest.raises(RuntimeError, match=FREED):
            late.sum().backward()
        states.detach()
        run(x[20:]).sum().backward()


def test_a_graph_that_is_kept_is_gone_through_again(x):
    module, x = net(), x.requires_grad_()
    with tfexplore.carry(module):
        (expected,) = torch.autograd.grad(module(x[:9]).sum() + module(x[9:]).sum(), x)
    with tfexplore.carry(module):
        module(x[:9]).sum().backward(retain_graph=True)
        module(x[9:]).sum().backward()
    assert (x.grad - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_a_gradient_may_end_at_a_state_whose_graph_is_freed(x):
    """Manual truncation: a gradient taken at the state does not go on into the graph."""
    module = net()
    with tfexplore.carry(module) as states:
        module(x[:9]).sum().backward()
        left = [z for state in states.values() for z in state]
        found = torch.autograd.grad(module(x[9:]).sum(), left)
    with tfexplore.carry(module) as states:
        module(x[:9])
        for key, state in states.items():
            states[key] = tuple(z.detach().requires_grad_() for z in state)
        left = [z for state in states.values() for z in state]
        expected = torch.autograd.grad(module(x[9:]).sum(), left)
    assert any(gradient.any() for gradient in expected)
    assert all(map(torch.equal, found, expected))


def test_a_state_given_by_hand_comes_first(x):
    layer = tfexplore.LIF(backend="numba").double()
    start = (torch.full((2, 4), 0.9, dtype=torch.float64),)
    with tfexplore.carry(layer) as states:
        layer(x[:5])
        left = states["", 0]
        assert torch.equal(layer(x[5:], start), layer(x[5:], start))
        assert states["", 0] is left  # it neither took nor left anything
        spikes, (v,) = layer(x[5:], return_state=True)
        assert torch.equal(spikes, tfexplore.LIF(backend="torch")(x[5:], left))
        assert states["", 0][0] is v


def test_layers_called_one_by_one_have_one_state_each(x):
    module = nn.ModuleList([tfexplore.LIF(), tfexplore.LIF(tau=4.0)])
    with tfexplore.carry(module) as states:
        for piece in x.split(10):
            last = module[1](module[0](piece))
    assert sorted(states) == [("0", 0), ("1", 0)]
    assert torch.equal(last, module[1](module[0](x))[20:])


def test_an_error_within_a_pass_leaves_nothing_behind(x):
    module = net()
    with pytest.raises(RuntimeError, match="mat1"), tfexplore.carry(module):
        module(x[..., :3])
    assert all(m.provider is None for m in module.modules() if isinstance(m, tfexplore.Layer))
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


def test_a_batch_of_another_size_says_what_to_do(x):
    module = net()
    with tfexplore.carry(module):
        module(x)
        with pytest.raises(
            ValueError, match=r"begin anew with state=None \(or a new carry\) when the batch changes\.$"
        ):
            module(x[:, :1])


def test_a_provider_is_anything_that_gives_and_takes(x):
    class Log(States):
        def leave(self, layer, state, out):
            log.append(self._names[layer])
            return super().leave(layer, state, out)

    log: list[str] = []
    module = net()
    with tfexplore.carry(module, Log()):
        module(x)
    assert log == ["1.shared", "1.inner.1", "1.shared", "2"]


def test_recurrent_layers_carry_the_layers_state_and_the_last_spikes(x):
    torch.manual_seed(0)
    module = nn.Sequential(tfexplore.Recurrent(tfexplore.LIF(), nn.Linear(4, 4)), tfexplore.LIF(tau=5.0)).double()
    expected = module(x)
    with tfexplore.carry(module) as states:
        found = torch.cat([module(piece) for piece in x.split(8)])
    assert torch.equal(found, expected)
    assert len(states["0", 0]) == 2


# -- record ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_recorded_potentials_are_those_of_a_plain_loop(backend):
    x = CASES[1].input(40, (2, 3), dtype=torch.float64)
    layer = tfexplore.LIF(tau=3.0, v_threshold=0.8, v_reset=-0.1, reset="hard", backend=backend)
    with tfexplore.record(layer, "v", "h", "s") as traces:
        spikes = layer(x)
    start = torch.full((2, 3), -0.1, dtype=torch.float64)
    expected, _, h, v = oracle.lif(x, start, 3.0, v_threshold=0.8, v_reset=-0.1, reset="hard")
    assert torch.equal(traces[""]["s"], expected)
    assert torch.equal(spikes, expected)
    assert (traces[""]["h"] - h).abs().max() < 1e-12
    assert (traces[""]["v"] - v).abs().max() < 1e-12


def test_the_order_of_names_does_not_matter_and_other_states_are_recorded(kernels_used):
    x = CASES[1].input(35, (2, 3))
    layer, kept = tfexplore.ALIF(backend="numba"), []
    for names in (("b", "h", "v"), ("v", "b", "h"), ("b",)):
        with tfexplore.record(layer, *names) as traces:
            layer(x)
        kept.append(traces[""])
        assert traces[""].keys() == set(names)
    assert all(same_bits(found["b"], kept[0]["b"]) for found in kept)
    assert same_bits(kept[0]["v"], kept[1]["v"])
    assert len(set(kernels_used)) == 2  # the first two are one kernel
    # b follows the spikes: b - (b - s) / tau_b from 0
    spikes, b = layer(x), torch.zeros(2, 3)
    for s, expected in zip(spikes, kept[0]["b"], strict=True):
        b = b - (b - s) / 200
        assert torch.allclose(b, expected, atol=1e-6)


def test_recording_changes_no_spike_and_no_gradient(x):
    module = net()
    plain = x.clone().requires_grad_()
    module(plain).sum().backward()
    recorded = x.clone().requires_grad_()
    with tfexplore.record(module, "v", "s") as traces:
        out = module(recorded)
    out.sum().backward()
    assert torch.equal(recorded.grad, plain.grad)
    assert not traces["2"]["v"].requires_grad
    assert torch.equal(traces["2"]["v"], out)  # the readout returns its potential


def test_traces_are_keyed_by_module_and_grow_with_the_calls(x):
    module = net()
    with tfexplore.record(module) as traces, tfexplore.carry(module):
        module(x[:10])
        module(x[10:])
    assert list(traces) == ["1.shared", "1.inner.1", ("1.shared", 1), "2"]
    assert len(traces) == 4
    with tfexplore.record(module) as whole:
        module(x)
    assert all(torch.equal(whole[key]["v"], traces[key]["v"]) for key in traces)
    assert all(m.sink is None for m in module.modules() if isinstance(m, tfexplore.Layer))


def test_layers_without_the_variable_record_what_they_have(x):
    module = nn.Sequential(tfexplore.ALIF(), tfexplore.LIF()).double()
    with tfexplore.record(module, "b", "s") as traces:
        module(x)
    assert list(traces["0"]) == ["b", "s"]
    assert list(traces["1"]) == ["s"]


def test_nothing_recorded_is_said():
    with tfexplore.record(nn.Sequential(tfexplore.LIF())) as traces:
        pass
    assert list(traces) == []
    with pytest.raises(KeyError, match="Nothing recorded for '7'; recorded: nothing yet"):
        traces["7"]


def test_a_state_from_a_checkpointed_pass_is_refused(x):
    """Recomputed during the backward pass, a layer would go on from the state it has left since."""
    layer = tfexplore.LIF(backend="numba").double()
    given = x.clone().requires_grad_()
    with tfexplore.carry(layer):
        out = torch.utils.checkpoint.checkpoint(layer, given, use_reentrant=False)
        with pytest.raises(RuntimeError, match=r"activation checkpointing.*; hand the state over explicitly"):
            out.sum().backward()


def test_the_surrogate_does_not_touch_what_is_recorded():
    x, kept = CASES[1].input(20, (2, 3)), []
    for surrogate in (surrogates.ATan(), surrogates.Gaussian()):
        layer = tfexplore.Layer(neurons.LIF(surrogate=surrogate), backend="numba")
        with tfexplore.record(layer, "v") as traces:
            layer(x)
        kept.append(traces[""]["v"])
    assert same_bits(*kept)


class WalksAPart(nn.Module):
    """A shared layer before and after a part that is walked step by step, within one pass."""

    def __init__(self):
        super().__init__()
        self.shared, self.part = tfexplore.LIF(), nn.Sequential(tfexplore.LIF(tau=3.0))

    def forward(self, x):
        return self.shared(tfexplore.schedules.step_by_step(self.part, self.shared(x)))


def test_a_part_walked_step_by_step_keeps_its_place_in_the_outer_pass():
    net, x = WalksAPart(), 1.5 * torch.rand(9, 2, 3)
    with tfexplore.carry(net):
        chunks = torch.cat([net(x[:4]), net(x[4:])])
    assert torch.equal(chunks, net(x))
    with tfexplore.record(net, "s") as traces:
        out = net(x)
    assert torch.equal(traces["shared", 1]["s"], out)
    assert traces["part.0"]["s"].shape == x.shape


def test_a_network_walks_on_though_only_a_part_of_it_is_carried():
    net, x = nn.Sequential(tfexplore.LIF(), nn.Sequential(tfexplore.LIF(tau=3.0))), 1.5 * torch.rand(9, 2, 3)
    with tfexplore.carry(net[1]) as states:
        walked = tfexplore.schedules.step_by_step(net, x)
    assert torch.equal(walked, net(x))
    assert list(states) == [("0", 0)]


def test_states_move_to_a_copy_of_the_network():
    net, x = nn.Sequential(tfexplore.LIF()), 1.5 * torch.rand(9, 2, 3)
    with tfexplore.carry(net) as states:
        first = net(x[:4])
    twin = copy.deepcopy(net)
    with tfexplore.carry(twin, states):
        assert torch.equal(torch.cat([first, twin(x[4:])]), net(x))


def test_activation_checkpointing_within_carry_is_refused():
    net, x = nn.Sequential(tfexplore.LIF()), torch.rand(4, 2, 3, requires_grad=True)
    with tfexplore.carry(net):
        out = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)
        with pytest.raises(RuntimeError, match=r"runs again during the backward pass \(activation checkpointing\)"):
            out.sum().backward()


def test_recorded_spikes_are_not_changed_by_what_follows_in_place():
    net = nn.Sequential(tfexplore.LIF(), nn.Hardtanh(-1, 0.5, inplace=True))
    with tfexplore.record(net, "s") as traces:
        net(1.5 * torch.rand(9, 2, 3))
    assert traces["0"]["s"].unique().tolist() == [0, 1]


def test_each_call_of_a_shared_layer_has_its_own_trace():
    layer = tfexplore.LIF()
    net, x = nn.Sequential(layer, layer), 1.5 * torch.rand(9, 2, 3)
    with tfexplore.record(net, "s") as traces:
        out = net(x)
    assert list(traces) == ["0", ("0", 1)]
    assert torch.equal(traces["0", 1]["s"], out)
    with tfexplore.record(net, "s") as walked:
        tfexplore.schedules.step_by_step(net, x)
    assert torch.equal(walked["0"]["s"], traces["0"]["s"])
    assert torch.equal(walked["0", 1]["s"], out)


def test_there_must_be_something_to_record():
    with pytest.raises(ValueError, match="net has no layer of neurons"), tfexplore.record(nn.Linear(2, 2), "v"):
        pass

"""Step by step and layer by layer are the same network, walked in two orders."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tests.nn.nested import Residual
from tfexplore import FoldTime, Recurrent
from tfexplore.nn.schedules import layer_by_layer, step_by_step

# float64 throughout: with another number of rows a matrix product rounds differently (drift in float32 is expected),
# and in float64 that moves no spike of these inputs


def images(steps: int = 20, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(steps, 3, 1, 6, 6, dtype=dtype, generator=torch.Generator().manual_seed(2)) + 0.2


def convolutional(backend: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        FoldTime(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
        tfexplore.LIF(v_threshold=0.5, backend=backend),
        FoldTime(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 4)),
        Residual(backend),
        tfexplore.LI(backend=backend),
    ).double()


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_both_orders_give_the_same_spikes_and_gradients(backend):
    net = convolutional(backend).eval()
    results = []
    for schedule in (layer_by_layer, step_by_step):
        x = images().requires_grad_()
        net.zero_grad()
        with tfexplore.record(net, "s") as traces:
            out = schedule(net, x)
        out.square().sum().backward()
        gradients = [x.grad, *(p.grad.clone() for p in net.parameters())]
        results.append((out.detach(), [traces[name]["s"] for name in ("1", "3.inner.1", ("3.shared", 1))], gradients))
    (out, spikes, gradients), (stepped, stepped_spikes, stepped_gradients) = results
    assert all(0.02 < s.mean() < 0.98 for s in spikes)
    assert all(map(torch.equal, stepped_spikes, spikes))
    assert (stepped - out).abs().max() < 1e-12
    for found, expected in zip(stepped_gradients, gradients, strict=True):
        assert (found - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_without_matrix_products_also_float32_is_equal_bit_for_bit():
    net = nn.Sequential(tfexplore.LIF(), tfexplore.ALIF(v_threshold=0.4), tfexplore.CubaLIF(v_threshold=0.2))
    x = images(dtype=torch.float32)
    assert torch.equal(step_by_step(net, x), layer_by_layer(net, x))


def test_each_step_of_a_network_is_one_call_of_it():
    calls = []
    net = nn.Sequential(tfexplore.IF())
    net.register_forward_hook(lambda module, given, out: calls.append(out.shape[0]))
    step_by_step(net, images(5))
    assert calls == [1] * 5
    layer_by_layer(net, images(5))
    assert calls == [1] * 5 + [5]


@pytest.mark.parametrize("schedule", [layer_by_layer, step_by_step])
def test_no_steps_give_no_output_of_the_right_shape(schedule):
    out = schedule(convolutional("numba").eval(), images(0))
    assert out.shape == (0, 3, 4)


def test_step_by_step_goes_on_from_a_carried_state_and_leaves_its_own():
    net, x = convolutional("numba").eval(), images()
    expected = step_by_step(net, x)
    with tfexplore.carry(net) as states:
        found = [step_by_step(net, x[:6]), step_by_step(net, x[6:7]), layer_by_layer(net, x[7:])]
    assert torch.allclose(torch.cat(found), expected, atol=1e-12)
    assert len(states) == 5
    assert not torch.equal(step_by_step(net, x[6:]), expected[6:])  # without carry every call begins anew


def test_batch_norm_in_training_mode_is_refused_with_the_reason_and_evaluation_works():
    net, x = convolutional("numba"), images()
    with pytest.raises(
        ValueError, match=r"^'0.1' is a BatchNorm in training mode: its mean and variance couple all time steps"
    ):
        step_by_step(net, x)
    layer_by_layer(net, x)
    torch.testing.assert_close(step_by_step(net.eval(), x), layer_by_layer(net, x), rtol=0, atol=1e-12)
    uses_the_batch = nn.Sequential(FoldTime(nn.BatchNorm2d(1, track_running_stats=False))).eval()
    with pytest.raises(ValueError, match=r"^'0.0' is a BatchNorm"):
        step_by_step(uses_the_batch.double(), x)


def test_batch_norm_per_step_takes_the_statistics_of_each_step():
    norm, x = nn.BatchNorm2d(1).double(), images()
    found = step_by_step(nn.Sequential(FoldTime(norm)), x, batch_norm="per step")
    each = (x - x.mean((1, 3, 4), keepdim=True)) / (x.var((1, 3, 4), unbiased=False, keepdim=True) + norm.eps).sqrt()
    assert torch.allclose(found, each)
    assert norm.num_batches_tracked == len(x)
    with pytest.raises(ValueError, match=r"^batch_norm must be 'refuse' or 'per step', but got 'per_step'\.$"):
        step_by_step(nn.Sequential(FoldTime(norm)), x, batch_norm="per_step")


def test_a_recurrent_network_is_walked_step_by_step_only():
    torch.manual_seed(0)
    net = nn.Sequential(Recurrent(tfexplore.LIF(v_threshold=0.5), nn.Linear(6, 6)), tfexplore.LI()).double()
    x = images(12).flatten(2, 3).flatten(0, 0)[:, :, 0]
    with pytest.raises(ValueError, match=r"^'0' feeds its spikes back to itself: .*; use step_by_step\(net, x\)\.$"):
        layer_by_layer(net, x)
    torch.testing.assert_close(step_by_step(net, x), net(x), rtol=0, atol=1e-12)
    assert step_by_step(net, x[:0]).shape == (0, *x.shape[1:])
    with pytest.raises(ValueError, match=r"^'the network' feeds"):
        layer_by_layer(net[0], x)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_network_that_reduces_time_is_told_to_do_so_outside(batch):
    net = nn.Sequential(tfexplore.IF(), Mean()).double()
    with pytest.raises(
        ValueError, match=r"^net must return a tensor with time first, \[T, B, \.\.\.\]; reduce over time outside"
    ):
        step_by_step(net, torch.rand(4, batch, 5, dtype=torch.float64))


@pytest.mark.parametrize("schedule", [layer_by_layer, step_by_step])
def test_bad_input_is_named(schedule):
    with pytest.raises(TypeError, match=r"^x must be a tensor \[T, B, \*features\], but got list\.$"):
        schedule(tfexplore.LIF(), [1.0])

"""Training through levels: the gradients of every choice against a plain loop by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tests.reversible.networks_of_levels import dense, far, gradients, images, net_of, projected, rows_of
from tests.reversible.plain import recurrence
from tfexplore import FoldTime
from tfexplore.reversible import Level, ReversibleTime, turned_off

KEPT = ("graph", "levels", "bits")


def by_loop(net: ReversibleTime, x: Tensor, **options: Any) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The top level at every step, the gradients of weights and x, by the plain loop."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    walked, _ = recurrence(rows_of(net), [decay() for decay in net.decays], x, **options)
    out = torch.cat([levels[-1] for levels in walked])
    projected(out).backward()
    assert x.grad is not None
    return out.detach(), gradients(net), x.grad


def by_net(net: ReversibleTime, x: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    net.zero_grad()
    x = x.clone().requires_grad_()
    out = net(x)
    projected(out).backward()
    assert x.grad is not None
    return out.detach(), gradients(net), x.grad


def assert_same_bits(made: dict[str, Tensor], expected: dict[str, Tensor], alpha: float) -> None:
    """Those of the weights bit for bit, those of alpha within a relative error."""
    assert made.keys() == expected.keys()
    for name, gradient in made.items():
        if name.startswith("decays"):
            assert far(gradient, expected[name]) <= alpha, name
        else:
            assert torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 7, 64])
@pytest.mark.parametrize("keep", KEPT)
def test_gradients_are_those_of_the_plain_loop_bit_for_bit(keep: str, steps: int, alpha: float) -> None:
    net, x = net_of(alpha=alpha, keep=keep), images(steps)
    out, expected, g_x = by_loop(net, x)
    made_out, made, made_g_x = by_net(net, x)
    assert torch.equal(made_out, out)
    assert torch.equal(made_g_x, g_x)
    assert_same_bits(made, expected, 1e-5 if keep == "bits" else 0.0)


@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_gradients_of_256_steps_are_exact_in_bits(alpha: float) -> None:
    net, x = net_of(alpha=alpha, keep="bits", norm=False), images(256)
    _, expected, g_x = by_loop(net, x)
    _, made, made_g_x = by_net(net, x)
    assert torch.equal(made_g_x, g_x)
    assert_same_bits(made, expected, 1e-5)


@pytest.mark.parametrize("keep", [*KEPT, "last"])
def test_weights_of_their_own_at_every_step(keep: str) -> None:
    net, x = net_of(4, keep=keep, alpha=0.9), images(4)
    assert all(decay().shape == (4, channels) for decay, channels in zip(net.decays, net.channels, strict=True))
    _, expected, g_x = by_loop(net, x)
    _, made, made_g_x = by_net(net, x)
    assert torch.equal(made_g_x, g_x)
    assert_same_bits(made, expected, 0.0 if keep in ("graph", "levels") else 1e-5)


def test_alphas_of_their_own_may_be_zero_in_bits() -> None:
    alpha = [torch.tensor([[0.5] * c, [0.0] * c, [-0.5] * c, [0.9] * c]) for c in (4, 6, 8)]
    net, x = net_of(4, keep="bits", alpha=alpha), images(4)
    assert net.choice(x).anchors == 1  # the states as numbers at every step: there is no inverse
    _, expected, _ = by_loop(net, x)
    assert_same_bits(by_net(net, x)[1], expected, 1e-5)


def test_double_precision_inverts_sixteen_steps() -> None:
    net, x = net_of(keep="last", alpha=0.5).double(), images(16, batch=1, dtype=torch.float64)
    _, expected, g_x = by_loop(net, x)
    _, made, made_g_x = by_net(net, x)
    assert far(made_g_x, g_x) <= 1e-10
    assert all(far(made[name], expected[name]) <= 1e-10 for name in expected)


@pytest.mark.parametrize(("keep", "anchors"), [("last", 4), ("auto", None), ("levels", None)])
def test_levels_that_see_each_other_as_numbers(keep: str, anchors: int | None) -> None:
    net, x = dense(nn.Identity(), keep=keep, anchors=anchors), torch.randn(33, 2, 5)
    _, expected, g_x = by_loop(net, x, read=lambda c: c.clone())
    _, made, made_g_x = by_net(net, x)
    assert far(made_g_x, g_x) <= 1e-4
    assert all(far(made[name], expected[name]) <= 1e-4 for name in expected)


@pytest.mark.parametrize("keep", [*KEPT, "last"])
def test_a_state_that_is_given_and_one_that_is_left(keep: str) -> None:
    net, x = net_of(keep=keep, norm=False, alpha=0.9), images(3)
    given = [torch.randn(2, c, s, s, requires_grad=True) for c, s in zip((4, 6, 8), (8, 4, 2), strict=True)]
    _, last = recurrence(rows_of(net), [decay() for decay in net.decays], x, state=given)
    loss = sum(projected(z, k) for k, z in enumerate(last))
    wanted = [p for p in net.parameters() if p.requires_grad]
    assert isinstance(loss, Tensor)
    expected = torch.autograd.grad(loss, [*given, *wanted])
    _, left = net(x, given, return_state=True)
    assert all(map(torch.equal, left, last))
    loss = sum(projected(z, k) for k, z in enumerate(left))
    assert isinstance(loss, Tensor)
    made = torch.autograd.grad(loss, [*given, *wanted])
    assert all(far(a, b) <= 1e-5 for a, b in zip(made, expected, strict=True))
    assert all(map(torch.equal, made[:3], expected[:3]))


@pytest.mark.parametrize("keep", [*KEPT, "last"])
def test_chunks_within_carry_are_the_whole(keep: str) -> None:
    net, x = net_of(keep=keep, norm=False, alpha=0.9), images(7)
    whole_out, expected, _ = by_net(net, x)
    net.zero_grad()
    with tfexplore.carry(net):
        out = torch.cat([net(part) for part in x.split([3, 1, 3])])
    projected(out).backward()
    assert torch.equal(out, whole_out)
    assert all(far(g, expected[name]) <= 1e-5 for name, g in gradients(net).items())


def test_detached_chunks_are_truncated() -> None:
    net, x = net_of(keep="bits", norm=False), images(6)
    with tfexplore.carry(net) as states:
        first = net(x[:3])
        states.detach()
        projected(net(x[3:])).backward()
    made = gradients(net)
    net.zero_grad()
    _, state = net(x[:3], return_state=True)
    projected(net(x[3:], tuple(z.detach() for z in state))).backward()
    assert first.shape == (3, 2, 8, 2, 2)
    assert_same_bits(made, gradients(net), 0.0)


@pytest.mark.parametrize("keep", KEPT)
def test_an_input_that_is_the_same_at_every_step(keep: str) -> None:
    net = net_of(keep=keep)
    once = images(1).requires_grad_()
    projected(net(once.expand(9, *once.shape[1:]))).backward()
    made, made_g = gradients(net), once.grad
    net.zero_grad()
    other = once.detach().clone().requires_grad_()
    walked, _ = recurrence(rows_of(net), [decay() for decay in net.decays], other.repeat(9, 1, 1, 1, 1))
    projected(torch.cat([levels[-1] for levels in walked])).backward()
    assert made_g is not None
    assert other.grad is not None
    assert far(made_g, other.grad) <= 1e-6
    assert_same_bits(made, gradients(net), 1e-5)


@pytest.mark.parametrize(("out", "steps"), [("last", [6]), ("mean", None), ((1, 3, 6), [1, 3, 6]), ((-1,), [6])])
def test_what_is_returned(out: str | tuple[int, ...], steps: list[int] | None) -> None:
    net, x = net_of(keep="bits", out=out), images(7)
    walked, _ = recurrence(rows_of(net), [decay() for decay in net.decays], x)
    top = torch.cat([levels[-1] for levels in walked])
    expected = top.mean(0) if steps is None else top[steps] if isinstance(out, tuple) else top[-1]
    projected(expected).backward()
    reference = gradients(net)
    net.zero_grad()
    made = net(x)
    projected(made).backward()
    assert made.shape == expected.shape
    assert far(made, expected) <= 1e-6
    assert all(far(g, reference[name]) <= 1e-5 for name, g in gradients(net).items())


@pytest.mark.parametrize("keep", ["levels", "bits", "last"])
def test_dropout_draws_the_same_again(keep: str) -> None:
    torch.manual_seed(0)
    levels = [
        Level(nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5)), nn.Linear(6, 8)),
        Level(nn.Sequential(nn.Linear(8, 6), nn.Dropout(0.3))),
    ]
    net, x = ReversibleTime(levels, (8, 6), keep=keep, alpha=0.9), torch.randn(6, 4, 5)
    torch.manual_seed(3)
    _, expected, _ = by_loop(net, x)
    behind = torch.rand(3)
    torch.manual_seed(3)
    made_out = net(x)
    assert torch.equal(torch.rand(3), behind)  # as many numbers were drawn
    torch.manual_seed(99)  # the backward pass must not care
    net.zero_grad()
    projected(made_out).backward()
    assert_same_bits(gradients(net), expected, 0.0 if keep == "levels" else 1e-4)
    after = torch.rand(3)
    torch.manual_seed(99)
    assert torch.equal(torch.rand(3), after)  # and leaves the generator as it was


def test_running_statistics_move_once() -> None:
    net, x = net_of(keep="bits"), images(5)
    other = net_of(keep="bits")
    projected(net(x)).backward()
    recurrence(rows_of(other), [decay() for decay in other.decays], x)
    moved = [b for name, b in net.named_buffers() if "running" in name or "tracked" in name]
    expected = [b for name, b in other.named_buffers() if "running" in name or "tracked" in name]
    assert len(moved) == 3 * 8
    assert all(map(torch.equal, moved, expected))


@pytest.mark.parametrize("keep", ["levels", "bits"])
def test_autocast_is_entered_again_and_states_stay_in_float32(keep: str) -> None:
    net, x = net_of(keep=keep, norm=False, alpha=0.9), images(4)
    seen: list[torch.dtype] = []
    net.steps[0][0].then[1].register_forward_hook(lambda *a: seen.append(a[2].dtype))  # type: ignore[index, union-attr]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, state = net(x, return_state=True)
        walked, _ = recurrence(rows_of(net), [decay() for decay in net.decays], x)
        expected = torch.cat([levels[-1].float() for levels in walked])
    projected(out).backward()  # outside of it
    made = gradients(net)
    assert out.dtype == torch.float32
    assert {z.dtype for z in state} == {torch.float32}
    assert set(seen) == {torch.bfloat16}
    assert torch.equal(out, expected)
    net.zero_grad()
    projected(expected).backward()
    # the loop's autocast casts a weight once, and adds up its gradients in half precision
    assert all(far(g, made[name]) < 0.1 for name, g in gradients(net).items())


@pytest.mark.parametrize("neuron", [tfexplore.LIF, tfexplore.ALIF, tfexplore.CubaLIF])
def test_fused_layers_within_a_level(neuron: type[tfexplore.Layer]) -> None:
    torch.manual_seed(0)
    level = Level(nn.Linear(5, 8), nn.Linear(6, 8), neuron(temporal="off"), FoldTime(nn.Linear(8, 8)))
    net, x = ReversibleTime([level, Level(nn.Linear(8, 6))], (8, 6), keep="bits"), 3 * torch.randn(5, 4, 5)
    _, expected, g_x = by_loop(net, x)
    _, made, made_g_x = by_net(net, x)
    assert torch.equal(made_g_x, g_x)
    assert_same_bits(made, expected, 1e-5)
    assert expected["steps.0.0.down.weight"].abs().max() > 0


def test_another_neuron_reads_the_levels() -> None:
    from tfexplore.neurons import surrogates

    read = tfexplore.LIF(surrogate=surrogates.Rectangle(width=2.0), temporal="off")
    net, x = dense(read, keep="auto"), 3 * torch.randn(9, 4, 5)
    assert net.choice(x).name == "bits"
    out, expected, g_x = by_loop(net, x, read=read)
    made_out, made, made_g_x = by_net(net, x)
    assert torch.equal(made_out, out)
    assert torch.equal(made_g_x, g_x)
    assert_same_bits(made, expected, 1e-5)


def test_shared_weights_are_summed_over_levels_too() -> None:
    torch.manual_seed(0)
    shared = Level(nn.Linear(6, 6), nn.Linear(6, 6))
    net, x = ReversibleTime([shared, shared, shared], (6, 6, 6), keep="bits"), torch.randn(5, 3, 6)
    _, expected, g_x = by_loop(net, x)
    _, made, made_g_x = by_net(net, x)
    assert torch.equal(made_g_x, g_x)
    assert len([name for name in made if name.startswith("steps")]) == 4
    assert_same_bits(made, expected, 1e-5)


def test_a_single_level_has_nothing_to_see() -> None:
    net, x = ReversibleTime([Level(nn.Linear(5, 8))], (8,), keep="bits"), torch.randn(5, 3, 5)
    _, expected, _ = by_loop(net, x)
    assert_same_bits(by_net(net, x)[1], expected, 1e-5)


def test_turned_off_is_the_clamp_and_round_of_the_plain_loop() -> None:
    from tests.reversible.plain import spikes

    at = torch.tensor([-1.0, 0.0, 0.3, 0.5, 0.7, 1.0, 1.5])
    ours, theirs = (at.clone().requires_grad_() for _ in range(2))
    made, expected = turned_off()(ours[None, None])[0, 0], spikes(theirs)
    made.sum().backward()
    expected.sum().backward()
    assert torch.equal(made, expected)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
    layer = turned_off().eval()
    assert layer(torch.tensor([[[0.5]]])).item() == turned_off()(torch.tensor([[[0.5]]])).item() == 1.0


def after(net: ReversibleTime, x: Tensor, change: Callable[[ReversibleTime], Any]) -> dict[str, Tensor]:
    """The gradients where something happens to the network between its forward and its backward pass."""
    net.zero_grad()
    torch.manual_seed(4)
    loss = projected(net(x))
    change(net)
    loss.backward()
    return gradients(net)


@pytest.mark.parametrize("keep", ["levels", "bits"])
def test_the_modes_of_the_forward_pass_are_those_of_the_backward_pass(keep: str) -> None:
    x = torch.randn(6, 4, 5)
    found = []
    for choice in ("graph", keep):
        torch.manual_seed(0)
        first = Level(nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), FoldTime(nn.BatchNorm1d(8))), nn.Linear(6, 8))
        net = ReversibleTime([first, Level(nn.Linear(8, 6))], (8, 6), keep=choice)
        found.append(after(net, x, lambda net: net.eval()))
        assert not any(module.training for module in net.modules())
    assert_same_bits(found[1], found[0], 1e-5)


@pytest.mark.parametrize("keep", ["levels", "bits"])
def test_weights_that_are_thawed_before_the_backward_pass_have_no_gradient(keep: str) -> None:
    found = []
    for choice in ("graph", keep):
        net = dense(keep=choice)
        net.steps[0][1].requires_grad_(False)  # type: ignore[index]
        found.append(after(net, 2 * torch.ones(6, 2, 5), lambda net: net.requires_grad_(True)))
    assert "steps.0.1.down.weight" not in found[0]
    assert_same_bits(found[1], found[0], 1e-5)


@pytest.mark.parametrize("keep", ["auto", "levels", "last"])
@pytest.mark.parametrize("kind", ["potential", "forward"])
def test_levels_that_are_read_by_more_than_a_spike(kind: str, keep: str) -> None:
    class Twice(tfexplore.Layer):
        def forward(self, *args: Any, **options: Any) -> Any:
            return 2 * super().forward(*args, **options)

    read: tfexplore.Layer = tfexplore.LI(temporal="off") if kind == "potential" else turned_off()
    if kind == "forward":
        read = Twice(read.neuron, temporal="off")
    net, x = dense(read, keep=keep, alpha=0.9), torch.randn(5, 3, 5)
    assert net.choice(x).name != "bits"
    _, expected, _ = by_loop(net, x, read=read)
    _, made, _ = by_net(net, x)
    assert all(far(g, expected[name]) < 1e-4 for name, g in made.items())

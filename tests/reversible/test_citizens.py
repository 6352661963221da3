"""Levels as PyTorch citizens: hooks, compilers, wrappers, schedules, copies; and what is refused, with the reason."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import tfexplore
from tests.reversible.networks_of_levels import dense, far, gradients, images, net_of, projected, rows_of
from tests.reversible.plain import recurrence
from tfexplore.nn.schedules import step_by_step
from tfexplore.reversible import Level, ReversibleTime, turned_off


def test_a_hook_of_a_weight_runs_once() -> None:
    net, x = dense(keep="bits"), torch.randn(6, 2, 5)
    seen: list[Tensor] = []
    weight: Any = net.get_parameter("steps.0.0.down.weight")
    weight.register_hook(lambda g: seen.append(g.clone()))
    net.decays[0].raw.register_hook(lambda g: seen.append(g.clone()))  # type: ignore[union-attr]
    net(x).sum().backward()
    assert len(seen) == 2
    assert any(torch.equal(weight.grad, g) for g in seen)


def test_gradients_may_be_asked_for_and_frozen() -> None:
    net, x = dense(keep="bits"), torch.randn(6, 2, 5, requires_grad=True)
    names = ["steps.0.1.down.weight", "decays.0.raw"]
    wanted = [net.get_parameter(name) for name in names]
    made = torch.autograd.grad(projected(net(x)), [*wanted, x])
    projected(net(x)).backward()
    assert all(torch.equal(g, p.grad) for g, p in zip(made, [*wanted, x], strict=True))
    assert net.get_parameter("steps.0.0.down.weight").grad is not None
    net.zero_grad()
    net.requires_grad_(False)
    wanted[0].requires_grad_()
    projected(net(x)).backward()
    assert list(gradients(net)) == names[:1]
    assert torch.equal(gradients(net)[names[0]], made[0])


def test_without_a_gradient_nothing_is_kept() -> None:
    net, x = net_of(keep="levels"), images(4)
    with torch.no_grad():
        assert net(x).grad_fn is None
    with torch.inference_mode():
        assert net(x).shape == (4, 2, 8, 2, 2)


def test_a_second_backward_pass_and_a_second_derivative() -> None:
    net, x = dense(keep="bits"), torch.randn(6, 2, 5)
    loss = projected(net(x))
    loss.backward(retain_graph=True)
    first = gradients(net)
    net.zero_grad()
    loss.backward()
    assert all(torch.equal(g, first[name]) for name, g in gradients(net).items())
    (g,) = torch.autograd.grad(projected(net(x)), [net.get_parameter("steps.0.0.down.weight")], create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative; use keep='graph'"):
        g.sum().backward()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["steps.0.0.down.weight", "steps.0.0.scale"])
def test_weights_that_change_before_the_backward_pass_are_noticed(name: str, frozen: bool) -> None:
    net, x = dense(keep="bits"), torch.randn(6, 2, 5)
    first: Any = net.steps[0][0]  # type: ignore[index]
    first.register_buffer("scale", torch.ones(1))
    first.requires_grad_(not frozen)
    loss = projected(net(x))
    with torch.no_grad():
        net.state_dict()[name].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("frozen", [False, True])
def test_functional_calls_are_differentiated_where_they_were_made(frozen: bool) -> None:
    net, x = dense(keep="bits"), torch.randn(6, 2, 5)
    net.steps[0][1].requires_grad_(not frozen)  # type: ignore[index]
    other = {name: (2 * p.detach()).requires_grad_(p.requires_grad) for name, p in net.named_parameters()}
    projected(torch.func.functional_call(net, other, (x,))).backward()
    net.load_state_dict({**net.state_dict(), **{name: p.detach() for name, p in other.items()}})
    projected(net(x)).backward()
    assert {name for name, p in other.items() if p.grad is not None} == set(gradients(net))
    assert all(torch.equal(g, other[name].grad) for name, g in gradients(net).items())


def test_levels_may_be_compiled() -> None:
    net, x = net_of(keep="bits"), images(4)
    projected(net(x)).backward()
    expected = gradients(net)
    net.zero_grad()
    compiled = copy.deepcopy(net)
    compiled.steps[0] = nn.ModuleList(torch.compile(level, backend="aot_eager") for level in rows_of(compiled)[0])  # type: ignore[misc]
    projected(compiled(x)).backward()
    made = {name.replace("._orig_mod", ""): g for name, g in gradients(compiled).items()}
    assert made.keys() == expected.keys()
    assert all(far(made[name], g) < 1e-5 for name, g in expected.items())
    torch._dynamo.reset()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_data_parallel_training_sees_the_gradients() -> None:
    net, x = net_of(keep="bits"), images(4)
    other = copy.deepcopy(net)
    projected(net(x)).backward()
    parallel = DistributedDataParallel(other)
    seen: list[int] = []
    parallel.register_comm_hook(None, lambda _, bucket: count(seen, bucket))
    projected(parallel(x)).backward()
    assert sum(seen) == sum(p.numel() for p in net.parameters())
    assert all(torch.equal(g, gradients(net)[name]) for name, g in gradients(other).items())


def count(seen: list[int], bucket: Any) -> torch.futures.Future[Tensor]:
    seen.append(bucket.buffer().numel())
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


def test_checkpointing_around_the_levels() -> None:
    net, x = dense(keep="bits"), torch.randn(6, 2, 5, requires_grad=True)
    projected(net(x)).backward()
    expected = gradients(net)
    net.zero_grad()
    projected(checkpoint(net, x, use_reentrant=False)).backward()
    assert all(torch.equal(g, expected[name]) for name, g in gradients(net).items())


def test_step_by_step_is_the_same_network() -> None:
    net = nn.Sequential(net_of(keep="bits", norm=False), tfexplore.LIF(), tfexplore.FoldTime(nn.Flatten()))
    x = images(6)
    out = net(x)
    projected(out).backward()
    expected = gradients(net)
    net.zero_grad()
    stepped = step_by_step(net, x)
    projected(stepped).backward()
    assert torch.equal(stepped, out)
    assert all(far(g, expected[name]) < 1e-5 for name, g in gradients(net).items())


def test_layer_by_layer_is_refused_since_levels_feed_back() -> None:
    net = nn.Sequential(net_of(keep="bits"), tfexplore.LIF())
    with pytest.raises(ValueError, match="'0' feeds its spikes back"):
        tfexplore.layer_by_layer(net, images(4))


def test_copies_and_files_have_the_same_numbers() -> None:
    net, x = net_of(keep="bits", alpha=[0.1, torch.tensor([0.2] * 6), -0.3]), images(3)
    net(x)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    other = net_of(keep="bits", seed=9)
    other.load_state_dict(net.state_dict())
    for same in (loaded, copy.deepcopy(net), other):
        assert torch.equal(same.eval()(x), net.eval()(x))


def test_half_precision_has_states_in_float32() -> None:
    net, x = net_of(keep="bits", norm=False).bfloat16(), images(3).bfloat16()
    out, state = net(x, return_state=True)
    projected(out).backward()
    assert {out.dtype, *(z.dtype for z in state)} == {torch.float32}
    assert {g.dtype for g in gradients(net).values()} == {torch.bfloat16}


def test_recorded_layers_see_each_step_once() -> None:
    net, x = dense(keep="bits", seed=1), torch.randn(6, 2, 5)
    net = ReversibleTime(
        [Level(nn.Linear(5, 8), nn.Linear(6, 8), turned_off()), Level(nn.Linear(8, 6))], (8, 6), keep="bits"
    )
    with tfexplore.record(net, "s") as traces:
        net(x).sum().backward()
    (name,) = {key[0] if isinstance(key, tuple) else key for key in traces if "then" in str(key)} or {None}
    assert name is not None


# -- refusals ----------------------------------------------------------------------------------------------------


class Counts(nn.Linear):
    """A module that counts its calls, in one way or another."""

    def __init__(self, how: str) -> None:
        super().__init__(5, 6)
        self.calls, self.list, self.how, self.plain = 0, [0], how, torch.zeros(1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "attribute":
            self.calls += 1
        elif self.how == "list":
            self.list.append(1)
        elif self.how == "weight":
            with torch.no_grad():
                self.weight.mul_(0.9)
        elif self.how == "tensor":
            self.plain += 1
        else:
            self.seen += 1  # type: ignore[operator, misc]
        return super().forward(x)


@pytest.mark.parametrize(
    ("how", "name"),
    [("attribute", "calls"), ("list", "list"), ("buffer", "seen"), ("weight", "weight"), ("tensor", "plain")],
)
def test_hidden_side_effects_are_refused(how: str, name: str) -> None:
    net, x = ReversibleTime([Level(Counts(how))], (6,), keep="levels"), torch.randn(3, 2, 5)
    with pytest.raises(RuntimeError, match=f"level 0 changes its own 'down.{name}' .* keep='graph'"):
        net(x)
    net.keep = "graph"
    if how != "weight":
        net(x).sum().backward()


@pytest.mark.parametrize("level", [0, 1])
def test_an_input_that_is_changed_in_place_is_refused(level: int) -> None:
    net = dense(keep="levels")
    module: Any = net.steps[0][level]  # type: ignore[index]
    module.down.register_forward_pre_hook(lambda _, given: given[0].mul_(2) if len(given) else None)
    with pytest.raises(RuntimeError, match=f"level {level} must leave what it is given as it is"):
        net(torch.randn(3, 2, 5))


@pytest.mark.parametrize("keep", ["auto", "last"])
def test_weights_without_a_shape_are_refused(keep: str) -> None:
    net, x = ReversibleTime([Level(nn.LazyLinear(6))], (6,), keep=keep), torch.randn(3, 2, 5)
    with pytest.raises(ValueError, match="F must know the shapes of its weights, but has a LazyLinear"):
        net(x)
    net.keep = "graph"
    net(x)
    net.keep = keep
    net(x).sum().backward()
    assert "steps.0.0.down.weight" in gradients(net)


@pytest.mark.parametrize("own", [False, True])
def test_a_tensor_that_is_no_parameter_is_refused(own: bool) -> None:
    hidden = torch.ones(6, requires_grad=True)

    class Hides(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * hidden

    levels: Any = [[Level(Hides(5, 6))], [Level(nn.Linear(5, 6))], [Level(nn.Linear(5, 6))]]
    net = ReversibleTime(levels if own else levels[0], (6,), keep="levels", out=(0,))
    with pytest.raises(RuntimeError, match=r"level 0 uses a tensor of shape \[6\] that requires a gradient"):
        net(torch.randn(3, 2, 5)).sum().backward()


def test_a_hook_that_changes_what_is_read_is_refused_with_bits() -> None:
    net, x = dense(keep="bits"), torch.randn(6, 2, 5)
    handle = net.read.register_forward_hook(lambda *a: None)  # one that only watches
    net(x)
    handle.remove()
    net.read.register_forward_hook(lambda *a: 0.5 * a[2])
    with pytest.raises(RuntimeError, match=r"a hook changes what read gives, .* keep='levels'"):
        net(x)
    net.keep = "levels"
    projected(net(x)).backward()
    made = gradients(net)
    net.zero_grad()
    net.keep = "graph"
    projected(net(x)).backward()
    assert all(torch.equal(g, made[name]) for name, g in gradients(net).items())


def test_neurons_with_a_memory_are_refused_within_a_level() -> None:
    with pytest.raises(ValueError, match=r"F must have no memory of its own, but has a LIF .* temporal='off'"):
        ReversibleTime([Level(nn.Linear(5, 6), None, tfexplore.LIF())], (6,))
    with pytest.raises(ValueError, match="read must have no memory"):
        dense(tfexplore.IF())
    with pytest.raises(ValueError, match="read must have no parameters"):
        dense(nn.PReLU())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep": "all"}, "keep must be one of 'auto', 'graph', 'levels', 'bits', 'last', but got 'all'"),
        ({"out": "first"}, "out must be 'all', 'last', 'mean' or indices of steps, but got 'first'"),
        ({"out": 3}, "out must be 'all', 'last', 'mean' or indices of steps, but got 3"),
        ({"anchors": 0, "keep": "last"}, "anchors"),
        ({"anchors": 3, "keep": "bits"}, "anchors=3 has no effect with keep='bits'"),
        ({"alpha": 1.5}, "a learned alpha must start between -1 and 1, but got 1.5"),
        ({"alpha": 0.1, "least": 0.2}, "a learned alpha must start above 0.2"),
        ({"least": 1.0}, "least must be from 0 to below 1, but got 1.0"),
        ({"alpha": [0.5]}, "alpha must be a number, or one for each of the 2 levels"),
        ({"alpha": float("nan"), "learn_alpha": False}, "alpha must be finite"),
    ],
)
def test_options_are_checked(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        dense(**options)


def test_channels_are_those_of_the_levels() -> None:
    with pytest.raises(ValueError, match="channels must be one for each of the 1 levels"):
        ReversibleTime([Level(nn.Linear(5, 6))], (6, 6))
    with pytest.raises(
        ValueError, match=re.escape("level 0 must give [1, B, C, ...] = [1, 2, 7, ...], but gave [1, 2, 6]")
    ):
        ReversibleTime([Level(nn.Linear(5, 6))], (7,))(torch.randn(3, 2, 5))


def test_calls_are_checked() -> None:
    net = net_of(4)
    with pytest.raises(ValueError, match="weights of its own: x must have them all, but x has 3"):
        net(images(3))
    with tfexplore.carry(net):
        net(images(4))
        with pytest.raises(ValueError, match="a state was given, which does not say which step is next"):
            net(images(4))
    shared = net_of()
    with pytest.raises(ValueError, match="x must have one time step at least"):
        shared(images(3)[:0])
    with pytest.raises(ValueError, match="sequences of one length, but got lengths"):
        shared(images(3), lengths=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="a trace must be one of"):
        shared(images(3), trace="v")
    with pytest.raises(ValueError, match="state 'c1' must be"):
        shared(images(3), tuple(torch.zeros(2, c, s, s) for c, s in ((4, 8), (5, 4), (8, 2))))
    with pytest.raises(ValueError, match=r"level 0 gave .* begin anew"):
        shared(images(3), tuple(torch.zeros(2, c, s, s) for c, s in ((4, 4), (6, 4), (8, 2))))
    with pytest.raises(ValueError, match=re.escape("out must be increasing indices of the 3 steps, but got (3,)")):
        net_of(out=(3,))(images(3))
    with pytest.raises(ValueError, match=re.escape("out must be increasing indices of the 3 steps, but got ()")):
        net_of(out=())(images(3))


def test_a_time_split_is_refused_with_the_reason() -> None:
    from tfexplore import timesplit

    with pytest.raises(ValueError, match="those of a ReversibleTime have shapes of their own"):
        timesplit.TimeSplit(nn.Sequential(net_of()), ranks=None)


def test_a_loop_of_another_shape_is_the_recurrence() -> None:
    """The plain loop itself, against the equation written out for two steps of two dense levels."""
    net, x = dense(nn.Identity(), alpha=0.5), torch.randn(2, 3, 5)
    f0, f1 = rows_of(net)[0]
    with torch.no_grad():
        a = f0(x[:1], None)
        b = f1(a, None)
        a2 = f0(x[1:], b) + 0.5 * a
        b2 = f1(a2, None) + 0.5 * b
        walked, _ = recurrence([[f0, f1]], [decay() for decay in net.decays], x, read=lambda c: c)
        assert far(walked[1], [a2, b2]) < 1e-6
        assert far(net(x), torch.cat([b, b2])) < 1e-6

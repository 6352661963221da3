"""Memory policies: their gradients against plain autograd, their memory against T, predictions against counts; the explorer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

import tfexplore
from tests import oracle
from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.policies import figure, policies, predicted, tasks
from tfexplore.explore.policies.curves import cosine, measured
from tfexplore.explore.policies.policies import POLICIES, Policy, Task, gradient
from tfexplore.nn import networks
from tfexplore.reversible import Level, ReversibleTime

SLTT, TRUNCATED, CHECKPOINTING, BPTT = policies.SLTT, policies.TRUNCATED, policies.CHECKPOINTING, policies.BPTT


def task(network: str, steps: int = 9, batch: int = 3, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Task:
    return tasks.task(network, steps, batch, device, dtype)


def found(policy: Policy, at: Task) -> Tensor:
    policy.step(at)
    return gradient(at)


def small_levels(alpha: float = 0.95, width: int = 32, learn_alpha: bool = False) -> ReversibleTime:
    torch.manual_seed(0)
    levels = [
        Level(nn.Linear(4, width), nn.Linear(width, width)),
        Level(nn.Linear(width, width), nn.Linear(width, width)),
        Level(nn.Linear(width, width)),
    ]
    return ReversibleTime(levels, (width,) * 3, alpha=alpha, learn_alpha=learn_alpha, out="mean")


def own_levels(steps: int = 16, dtype: torch.dtype = torch.float64, **options: Any) -> Task:
    x = torch.rand(1, 64, 4, generator=torch.Generator().manual_seed(1), dtype=dtype).expand(steps, 64, 4)
    return tasks.own(small_levels(**options).to(dtype), x)


# -- gradients -------------------------------------------------------------------------------------------------------


def plain(at: Task, chunk: int | None = None) -> Tensor:
    """The mlp as a plain loop over time and autograd; potentials are detached every `chunk` steps."""
    net: Any = at.net
    net.zero_grad()
    x, total = at.x, torch.zeros((), dtype=at.x.dtype)
    states = [torch.zeros(x.shape[1], 128, dtype=x.dtype) for _ in range(2)]
    for t in range(len(x)):
        if chunk and t % chunk == 0:
            states = [v.detach() for v in states]
        y = x[t]
        for k, linear in enumerate((net.linear1, net.linear2)):
            h = states[k] / 2 + linear(y)  # tau = 2
            y = oracle.Spike.apply(h - 1, oracle.box(1.0))
            states[k] = h - y.detach()
        total = total + at.loss(net.linear3(y).unsqueeze(0)) / len(x)
    total.backward()
    return gradient(at)


@pytest.mark.parametrize("policy", [p for p in POLICIES if p.exact and not p.own], ids=lambda p: p.name)
def test_exact_policies_give_the_gradient_of_a_plain_loop(policy: Policy) -> None:
    at = task("mlp")
    expected = plain(at)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found(policy, at), expected, rtol=1e-9, atol=1e-14)


def test_truncated_is_a_plain_loop_that_detaches() -> None:
    at = task("mlp", steps=10)
    assert at.chunk == 4, "10 steps in chunks of 4, 4 and 2"
    expected = plain(at, 4)
    torch.testing.assert_close(found(TRUNCATED, at), expected, rtol=1e-9, atol=1e-14)
    assert cosine(expected, plain(at)) < 0.9999


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_sltt_is_the_gradient_without_time(network: str) -> None:
    at = task(network)
    got = found(SLTT, at)
    if network == "mlp":
        torch.testing.assert_close(got, plain(at, 1), rtol=1e-9, atol=1e-14)
    for layer in policies.layers(at.net):
        layer.temporal_gradient = False
    torch.testing.assert_close(
        got, found(BPTT, at), rtol=1e-9, atol=1e-14
    )  # all steps at once, without a gradient between


@pytest.mark.parametrize("policy", [p for p in POLICIES if p.exact and p.own is not False], ids=lambda p: p.name)
def test_exact_policies_of_levels_agree(policy: Policy) -> None:
    at = task("levels")
    assert policy.why_not(at) == ""
    torch.testing.assert_close(found(policy, at), found(BPTT, at), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("policy", "chunk"), [(TRUNCATED, 3), (SLTT, 1)])
def test_cut_levels_are_those_that_are_detached(policy: Policy, chunk: int) -> None:
    at = own_levels(9, learn_alpha=True)
    got, net = found(policy, at), at.net
    net.zero_grad()
    net.keep, state = "graph", None
    for part in at.x.split(chunk):
        out, state = net(part, state, return_state=True)
        state = tuple(z.detach() for z in state)
        (at.loss(out) * len(part) / 9).backward()
    torch.testing.assert_close(got, gradient(at), rtol=1e-9, atol=1e-14)


def test_options_are_as_they_were_and_the_loss_is_the_same() -> None:
    at = task("levels")
    part = at.net[0]
    losses = [policy.step(at).item() for policy in policies.policies_of(at) if policy.exact]
    assert losses == pytest.approx([losses[0]] * len(losses))
    assert (part.keep, part.anchors) == ("auto", None)
    at = task("conv")
    losses = [policy.step(at).item() for policy in policies.policies_of(at)]
    assert losses == pytest.approx([losses[0]] * len(losses)), "the same spikes, and a loss that is a mean over steps"
    assert {(layer.keep, layer.backend, layer.temporal_gradient) for layer in policies.layers(at.net)} == {
        ("auto", "auto", True)
    }


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "policy"), [("conv", BPTT), ("conv", policies.EAGER), ("levels", BPTT)])
def test_bptt_grows_in_proportion_to_time(network: str, policy: Policy) -> None:
    at = task(network, 32, 4, torch.float32)
    short, long = (measured(at.over(steps), policy)[0] for steps in (16, 32))
    assert long.saved == pytest.approx(2 * short.saved, rel=0.1)
    assert long.held == pytest.approx(2 * short.held, rel=0.1)


def test_sltt_holds_the_same_for_every_t() -> None:
    for network in ("conv", "levels"):
        at = task(network, 32, 4, torch.float32)
        short, long = (measured(at.over(steps), SLTT)[0] for steps in (8, 32))
        assert long == pytest.approx(short, rel=0.05)


def test_last_holds_the_same_for_every_t() -> None:
    at = own_levels(32)
    short, long = (measured(at.over(steps), policies.LAST)[0] for steps in (8, 32))
    assert long == pytest.approx(short, rel=0.05)


def test_bits_are_a_sixteenth_of_levels() -> None:
    at, neurons = own_levels(32, torch.float32), 64 * 3 * 32
    more = {}
    for policy in (policies.LEVELS, policies.LEVEL_BITS):
        short, long = (measured(at.over(steps), policy)[0] for steps in (16, 32))
        more[policy] = (long.saved - short.saved) / 16 / neurons
        assert (long.held - short.held) / 16 / neurons == pytest.approx(more[policy])
    assert more[policies.LEVELS] == 4
    assert more[policies.LEVEL_BITS] == 2 / 8


def test_checkpointing_grows_with_the_root_of_time() -> None:
    at = task("conv", 64, 4, torch.float32)
    held = {policy: measured(at, policy)[0].held for policy in (BPTT, CHECKPOINTING, TRUNCATED, SLTT)}
    assert held[SLTT] < held[TRUNCATED] < held[CHECKPOINTING] < held[BPTT] / 3


@pytest.mark.parametrize("network", tasks.NETWORKS)
def test_predictions_are_near_what_is_counted(network: str) -> None:
    at = task(network, 16, 16, torch.float32)
    for policy in policies.policies_of(at):
        size = predicted.saved(at, policy)
        if size is None:
            assert policy is policies.EAGER or policy.why_not(at)
        elif policy is CHECKPOINTING:
            assert size < measured(at, policy)[0].held
        else:
            assert 0.8 * (counted := measured(at, policy)[0].saved) < size < 1.1 * counted, policy.name


@pytest.mark.parametrize("learn_alpha", [True, False])
def test_the_graph_has_the_levels_only_where_alpha_is_learned(learn_alpha: bool) -> None:
    at = own_levels(32, learn_alpha=learn_alpha)
    assert predicted.saved(at, BPTT) == pytest.approx(measured(at, BPTT)[0].saved, rel=0.05)


# -- training --------------------------------------------------------------------------------------------------------


def test_training_by_a_policy() -> None:
    *losses, share = tasks.training("mlp", SLTT, 4, 12)
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    assert 0.2 < share <= 1


# -- the explorer ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def levels() -> Any:
    made = explore.memory_over_time(batch=4, longest=10)
    asyncio.run(made.run())
    return made


def test_predicted_at_once_and_counted_on_start() -> None:
    made = explore.memory_over_time(network="conv", batch=4, longest=10)
    assert "predicted to save at T = 10: BPTT 0.508 MiB" in made.message.value
    assert list(made.trace("BPTT: predicted").x) == [4, 10]
    assert not made.trace("BPTT").x
    assert not made.trace("eager BPTT: predicted").x, "the equations know nothing of it"
    result = asyncio.run(made.run())
    assert list(made.trace("BPTT").y) == [result.points["BPTT"][t].memory.held / 2**20 for t in (4, 10)]
    assert list(made.trace("BPTT: time").y) == [1, 1]
    assert "at T = 10 BPTT holds" in made.message.value
    assert "SLTT" in made.message.value
    made.controls["longest"].value = 16
    assert not made.result.points


def test_all_policies_of_levels(levels: Any) -> None:
    assert list(levels.result.points) == [policy.name for policy in POLICIES if policy.own is not False]
    for name, points in levels.result.points.items():
        assert (points[10].cosine > 0.9999) == policies.BY_NAME[name].exact
    held, saved = levels.trace("reversible: levels").y, levels.controls["shown"].options[1]
    levels.controls["shown"].value = saved
    assert levels.trace("reversible: levels").y[1] < held[1]
    assert not levels.trace("checkpointing").x, "autograd's hooks do not see it"
    levels.controls["shown"].value = figure.HELD


def test_the_sentence_says_what_is_missing_and_why() -> None:
    made = explore.memory_over_time(batch=1, longest=32, policies=["reversible: last"])
    assert "policies" not in made.controls
    assert [policy.name for policy in made.result.policies] == ["BPTT", "reversible: last"]
    assert list(made.trace("reversible: last: predicted").x) == [4, 10, 16]
    result = asyncio.run(made.run())
    assert list(result.points["reversible: last"]) == [4, 10, 16]
    assert made.describe().endswith("No 'reversible: last' there: keep='last' would give wrong gradients.")


def test_groups_of_policies() -> None:
    made = explore.memory_over_time(network="mlp", policies="that cut the gradient", longest=10)
    assert [policy.name for policy in made.result.policies] == ["BPTT", "truncated BPTT", "SLTT"]
    made.controls["policies"].value = "with BPTT's gradient"
    assert not any(not policy.exact for policy in made.result.policies)
    made.controls["network"].value = "levels"
    assert "reversible: levels" in [policy.name for policy in made.result.policies]


def test_ones_own_networks() -> None:
    made = explore.memory_over_time(small_levels(), torch.rand(1, 8, 4), longest=10)
    assert set(made.controls) == {"shown", "policies", "longest", "start", "stop"}
    result = asyncio.run(made.run())
    assert result.points["reversible: bits"][10].memory.saved < result.points["BPTT"][10].memory.saved / 3
    net = nn.Sequential(nn.Linear(4, 20), tfexplore.ALIF(), nn.Linear(20, 20), tfexplore.LIF(), nn.Linear(20, 3))
    made = explore.memory_over_time(net, torch.rand(12, 8, 4))
    assert made.result.steps == (4, 10)
    result = asyncio.run(made.run())
    assert "its backward pass needs the value" in result.reasons["BPTT (bits)"][10]
    assert list(result.points) == [
        policy.name for policy in policies.policies_of(result.task) if policy is not policies.BITS
    ]
    assert result.points["checkpointing"][10].cosine > 0.9999
    made = explore.memory_over_time(net, torch.rand(7, 8, 4))
    assert made.result.steps == (4,)
    assert spread(made.picture()) > 0.01


def test_levels_that_are_read_as_numbers_have_no_bits() -> None:
    net = ReversibleTime([Level(nn.Linear(4, 6), nn.Linear(6, 6)), Level(nn.Linear(6, 6))], (6, 6), read=nn.Identity())
    made = explore.memory_over_time(net.double(), torch.rand(1, 2, 4, dtype=torch.float64), longest=10)
    assert "Identity" in made.result.reasons["reversible: bits"][10]
    assert made.result.saved["reversible: levels"][10] > 10 * 2 * 12 * 8
    result = asyncio.run(made.run())
    assert result.points["reversible: levels"][10].cosine > 0.9999
    assert all(parameter.grad is None for parameter in net.parameters()), "a copy is trained"


def test_a_run_can_be_stopped() -> None:
    made = explore.memory_over_time(network="mlp", batch=1, longest=256)

    async def run_and_stop() -> None:
        run = asyncio.ensure_future(made.run())
        while not made.result.points:
            await asyncio.sleep(0.01)
        made.controls["stop"].click()
        await run

    asyncio.run(run_and_stop())
    assert 0 < len(made.result.points["BPTT"]) < 7


def test_the_picture_labels_and_words(levels: Any) -> None:
    assert spread(levels.picture()) > 0.05
    for name, control in levels.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert levels.caption.endswith(".")
    assert repr(levels).startswith("MemoryOverTime(shown='peak of memory', network='levels', policies='all', batch=4")


def test_the_cosine_stands_under_the_pointer(levels: Any) -> None:
    lines = {mark.name: mark for mark in levels.sheet().panels["memory"].marks}
    points = levels.result.points["SLTT"]
    assert len(lines["SLTT"].words) == len(points)
    for words, point in zip(lines["SLTT"].words, points.values(), strict=True):
        assert f"cosine with BPTT's gradient: {point.cosine:.4f}" in words
    assert not any("cosine" in words for words in lines["BPTT"].words)


def test_errors() -> None:
    x = torch.rand(8, 2, 4)
    with pytest.raises(TypeError, match=r"together, memory_over_time\(net, x\), or neither"):
        explore.memory_over_time(networks.mlp())
    with pytest.raises(ValueError, match="network must be one of 'levels', 'conv', 'mlp', but got 'resnet'"):
        explore.memory_over_time(network="resnet")
    with pytest.raises(ValueError, match=r"policies must be of 'BPTT', .* but got 'RTRL'"):
        explore.memory_over_time(policies=["RTRL"])
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module, but got int"):
        explore.memory_over_time(3, x)
    last = small_levels()
    last.out = "last"
    with pytest.raises(ValueError, match="and out='all' or 'mean', so that T can change, but it has out='last'"):
        explore.memory_over_time(last, x)
    each = ReversibleTime([[Level(nn.Linear(4, 2))] for _ in range(8)], (2,))
    with pytest.raises(ValueError, match="but it has weights for each of 8 steps"):
        explore.memory_over_time(each, x)
    with pytest.raises(ValueError, match="x must have at least 4 time steps, but got shape"):
        explore.memory_over_time(nn.Sequential(tfexplore.LIF()), x[:3])

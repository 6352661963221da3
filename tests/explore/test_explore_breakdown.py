"""The breakdown of a training step: its parts add up, are those of the network, and BatchNorm moves into the neurons."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import messages, spread
from tfexplore import LIF, FoldTime, explore
from tfexplore.data import currents
from tfexplore.explore.breakdown import parts
from tfexplore.explore.breakdown.explorer import Breakdown
from tfexplore.explore.breakdown.parts import AFTER, BEFORE, CHOICES, PARTS, forward_and_backward, pieces
from tfexplore.explore.breakdown.recorded import whole_networks
from tfexplore.measure import results
from tfexplore.nn.networks import conv, images

PLAIN = [part for part in PARTS if part != "BatchNorm"]


def step(neurons: float, batch_norm: float, rest: float) -> dict[str, float]:
    return dict(zip(PARTS, (neurons, batch_norm, 4.0, 1.0, rest), strict=True))


@pytest.fixture
def made() -> Breakdown:
    """With given milliseconds."""
    measured = {
        "none": {BEFORE: step(10, 0, 5), AFTER: step(2, 0, 3)},
        "apart": {BEFORE: step(10, 6, 5), AFTER: step(2, 6, 3)},
        "in the kernel": {BEFORE: step(10, 6, 5), AFTER: step(3, 0, 2)},
    }
    return Breakdown(measured, "conv", 8, "a machine", "apart")


def widths(made: Breakdown, part: str) -> list[float]:
    return list(made.trace(part).x)


def test_batch_norm_disappears_into_the_neurons(made: Breakdown) -> None:
    assert widths(made, "BatchNorm") == [6, 6]
    assert "Of what is left BatchNorm takes 38%." in made.sentence()
    told, range_ = messages(made.figure), made.figure.layout.xaxis.range
    made.controls["batch_norm"].value = "in the kernel"
    assert len(told) == 1, "one message to the browser"
    assert widths(made, "BatchNorm") == [6, 0], "before fusion it stands apart"
    assert widths(made, "neurons") == [10, 3]
    assert made.figure.layout.xaxis.range == range_, "a bar is seen to shrink"
    said = made.sentence()
    assert (
        "conv with BatchNorm, T = 8: fused into one kernel, BatchNorm and neurons take 3.00 ms, apart they take 8.00 ms"
        in said
    )
    assert "1.60 times as fast as with BatchNorm apart, and 2.6 times as fast as before fusion. (a machine)" in said
    assert made.limit == pytest.approx(26 / 10), "without neurons and BatchNorm"
    made.batch_norm = "none"
    assert widths(made, "BatchNorm") == [0, 0]
    assert made.sentence().startswith(
        "conv, T = 8: the neurons took 50% of a training step, so it can become at most 2.0 times"
    )
    assert made.sentence() in made.message.value


def test_what_is_shown_without_a_browser(made: Breakdown) -> None:
    assert repr(made) == "Breakdown(network='conv', steps=8, batch_norm='apart')", "no measured number"
    bundle, about = made._repr_mimebundle_()
    assert spread(bundle["image/png"]) > 0.05
    assert "application/vnd.jupyter.widget-view+json" in bundle, "live: a picture stays white on a dark page"
    assert made.sentence() in about["image/png"]["alt"]
    assert [trace["name"] for trace in json.loads(about["tfexplore"]["plotly"])["data"]] == list(PARTS)
    with pytest.raises(ValueError, match="batch_norm must be one of 'none', 'apart', 'in the kernel', but got 'fused'"):
        made.controls["batch_norm"].value = "fused"


def test_a_machine_too_busy_is_said_so() -> None:
    """Noise: the neurons took longer by themselves than within the whole."""
    made = Breakdown({"none": {BEFORE: step(10, 0, -6), AFTER: step(2, 0, 3)}}, "conv", 8, "a machine")
    assert made.limit == np.inf
    assert "too busy to measure" in made.sentence()


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_it_adds_up(network: str) -> None:
    made = explore.breakdown(network, steps=4, hidden=32, rounds=1)
    assert set(made.parts) == {BEFORE, AFTER}
    assert "batch_norm" not in made.controls
    assert all(made.parts[walk][part] > 0 for walk in made.parts for part in PLAIN[:3])
    assert made.total("fused") == pytest.approx(sum(made.parts["fused"].values()))
    share = made.parts[BEFORE]["neurons"] / made.total(BEFORE)
    assert made.limit == pytest.approx(1 / (1 - share) if share < 1 else np.inf)
    assert f"{network}, T = 4" in made.sentence()
    assert [trace.name for trace in made.figure.data] == PLAIN


def test_all_three_are_measured_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[set[str]] = []
    honest = parts.clock.rounds

    def watched(contestants: Any, count: int) -> Any:
        taken.append(set(contestants))
        return honest(contestants, count)

    monkeypatch.setattr(parts.clock, "rounds", watched)
    made = explore.breakdown("conv", steps=3, rounds=1, batch_norm="in the kernel")
    (names,) = taken
    assert {f"{choice} {AFTER} whole" for choice in CHOICES} < names
    assert list(made.measured) == list(CHOICES)
    assert made.choice == "in the kernel"
    apart, inside, none = (made.measured[choice] for choice in ("apart", "in the kernel", "none"))
    assert apart[AFTER]["BatchNorm"] == apart[BEFORE]["BatchNorm"] > 0
    assert inside[AFTER]["BatchNorm"] == none[AFTER]["BatchNorm"] == 0
    assert inside[BEFORE] == apart[BEFORE]
    assert inside[AFTER]["linear and conv"] == apart[AFTER]["linear and conv"]


def test_a_busy_machine_gets_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ENOUGH", 0.0)
    runs = [0, 0]

    def work(k: int) -> None:
        runs[k] += 1

    found = parts.medians({("a",): lambda: work(0), ("b", "c"): lambda: work(1)}, 10)
    assert runs == [2, 2], "one round warms up"
    assert set(found) == {("a",), ("b", "c")}


@pytest.mark.parametrize("inside", [False, True], ids=["apart", "in the kernel"])
def test_pieces_are_those_of_the_network(inside: bool) -> None:
    """Linked in a chain, they give the gradients of one backward pass through the whole network."""
    net = conv(channels=2, batch_norm=True).double()
    x = currents(images().train_images[:4].double(), 3)
    chain = list(pieces(net, x, inside))
    kinds = ["linear and conv", *([] if inside else ["BatchNorm"]), "neurons"]
    assert [piece.kind for piece in chain] == [*kinds, *kinds, "linear and conv"]
    out = net(x)
    g = torch.rand_like(out)
    wanted = dict(zip(net.parameters(), torch.autograd.grad(out, list(net.parameters()), g), strict=True))
    for piece in reversed(chain):
        made = piece.work(piece.x)
        leaves = [] if piece.leaf is None else [piece.leaf]
        single = made if g.shape == made.shape else parts.constant.once(made)
        assert single is not None
        found: list[Tensor] = list(torch.autograd.grad(single, [*piece.parameters, *leaves], g))
        g = found[-1]
        for parameter, gradient in zip(piece.parameters, found, strict=False):
            torch.testing.assert_close(gradient, wanted.pop(parameter))
    assert not wanted, "every parameter has a piece"


def test_a_constant_current_comes_as_one_step() -> None:
    """As in the network: what comes before the first neurons is computed once, and they read it once."""
    first, second = list(pieces(conv(channels=2), currents(images().train_images[:4], 3)))[:2]
    assert second.x.stride(0) == 0
    assert second.leaf is not None
    assert len(second.leaf) == 1
    assert first.leaf is None


def test_every_module_is_timed_once() -> None:
    net, x = conv(channels=2), images().train_images[:4].expand(3, 4, 1, 8, 8)
    called: list[str] = []
    for name, module in net.named_children():
        module.register_forward_hook(lambda module, given, out, name=name: called.append(name))
    chain = list(pieces(net, x))
    for kind, wanted in (("neurons", ["lif1", "lif2"]), ("linear and conv", ["conv1", "conv2", "linear"])):
        work = forward_and_backward([piece for piece in chain if piece.kind == kind])
        called.clear()
        work()
        assert called == wanted


def own(*modules: nn.Module) -> tuple[nn.Sequential, Any]:
    """A network of one's own for points in the plane, and its data."""
    x, y = torch.randn(96, 2), torch.arange(96) % 2
    return nn.Sequential(*modules, nn.Linear(12, 2)), (x[:64], y[:64], x[64:], y[64:])


def test_ones_own_network_is_taken_apart() -> None:
    made = explore.breakdown(*own(nn.Linear(2, 12), LIF()), steps=3, rounds=1)
    assert made.parts["fused"]["neurons"] > 0
    assert list(made.measured) == ["none"]


@pytest.mark.parametrize(
    ("behind", "choices"),
    [([LIF()], ["apart", "in the kernel"]), ([nn.Identity(), LIF()], ["apart"])],
    ids=["directly before a layer", "not directly"],
)
def test_batch_norm_in_ones_own_network(behind: list[nn.Module], choices: list[str]) -> None:
    net, data = own(FoldTime(nn.Linear(2, 12), nn.BatchNorm1d(12)), *behind)
    made = explore.breakdown(net, data, steps=3, rounds=1)
    assert list(made.measured) == choices
    assert all(made.parts[walk]["BatchNorm"] > 0 for walk in (BEFORE, AFTER))
    assert type(net) is nn.Sequential, "yours is not changed"
    assert "your network with BatchNorm, T = 3" in made.sentence()


def test_refused() -> None:
    with pytest.raises(TypeError, match=r"must be an nn\.Sequential"):
        explore.breakdown(nn.ModuleList([LIF()]))
    with pytest.raises(
        ValueError, match=r"batch_norm must be one of 'none', 'apart', 'in the kernel', but got 'yes'\."
    ):
        explore.breakdown("conv", batch_norm="yes")
    with pytest.raises(ValueError, match="is for network='conv'"):
        explore.breakdown("mlp", batch_norm="apart")


def test_batch_norm_behind_each_convolution() -> None:
    """The weights are those without."""
    net = conv(channels=2, batch_norm=True)
    np.testing.assert_array_equal(net.conv1[0].weight.detach(), conv(channels=2).conv1[0].weight.detach())
    assert [type(part) for part in net.conv2] == [nn.AvgPool2d, nn.Conv2d, nn.BatchNorm2d]


# -- whole networks, recorded ------------------------------------------------------------------------------------


def test_whole_networks_are_those_recorded_and_the_newest_counts(monkeypatch) -> None:
    def record(device: str, date: str, rows: list[dict[str, Any]]) -> results.Record:
        return results.Record("training", "a machine", device, "2.13", date, "", 2, tuple(rows))

    case = {"network": "vgg11", "T": 4, "B": 2, "dtype": "float32"}
    times = {"layer by layer": 40.0, "fused": 20.0, "CUDA graph of layer by layer": 8.0, "CUDA graph of fused": 6.0}
    newer = {**case, "median_ms": times, "parts_ms": {"layer by layer": {"neurons": 10.0}}}
    older = {**case, "median_ms": {**times, "fused": 39.0}}
    on_gpu = {**case, "median_ms": times, "parts_ms": {"layer by layer": {}}, "autocast": "bfloat16"}
    found = [
        record("cuda", "2026-01-01", [on_gpu]),
        record("cpu", "2026-01-03", [newer]),
        record("cpu", "2026-01-02", [older]),
    ]
    monkeypatch.setattr(results, "records", lambda benchmark: found if benchmark == "training" else [])
    cpu, gpu = whole_networks()
    assert (cpu.gain, cpu.share, cpu.saved, cpu.dtype, cpu.where) == (
        2.0,
        0.25,
        0.5,
        "float32",
        "a machine, torch 2.13, 2026-01-03",
    )
    assert (gpu.gain, gpu.share, gpu.saved, gpu.dtype) == (pytest.approx(8 / 6), None, 0.25, "bfloat16")
    assert whole_networks("cuda") == [gpu]

"""The cuts explorer in Python: its cosines against plain loops of torch, what measuring leaves alone, and what is shown."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import LIF, FoldTime, explore
from tfexplore.explore.cuts import experiment
from tfexplore.explore.cuts.experiment import ALL, CUT, KEPT, RANDOM_CUT, RANDOM_KEPT, SETS, cosines, cut_sets, gradient
from tfexplore.explore.cuts.networks import bordered
from tfexplore.explore.training.observe import spiking
from tfexplore.nn.networks import fit, images
from tfexplore.nn.residual import residual
from tfexplore.nn.schedules import layer_by_layer


class Tiny(nn.Module):
    """A membrane shortcut around two layers of neurons, and one behind it."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = FoldTime(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Dropout(dropout))
            self.conv1, self.conv2 = (FoldTime(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)) for _ in range(2))
            self.lif1, self.lif2, self.last = LIF(), LIF(tau=3.0), LIF()
            self.readout = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv2(self.lif2(self.conv1(self.lif1(x))))
        out: Tensor = self.readout(self.last(x).mean((3, 4)))
        return out


class Fire(torch.autograd.Function):
    """A spike with the slope of an arctangent, alpha = 2."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return slope / (1 + (math.pi * u).square())


def lif(x: Tensor, tau: float, cut: bool) -> Tensor:
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        if cut:
            v = v.detach()
        h = v - v / tau + x_t
        s = Fire.apply(h - 1)
        v = h - s.detach()
        spikes.append(s)
    return torch.stack(spikes)


def by_hand(net: Any, x: Tensor, labels: Tensor, cut: Sequence[str]) -> Tensor:
    """The gradient of the three convolutions, by autograd through plain loops."""

    def conv(part: Any, y: Tensor) -> Tensor:
        z = F.conv2d(y.flatten(0, 1), part[0].weight, part[0].bias, padding=1)
        z = F.batch_norm(z, None, None, part[1].weight, part[1].bias, training=True)
        return z.unflatten(0, y.shape[:2])

    y = conv(net.stem, x)
    inner = conv(net.conv1, lif(y, 2.0, "lif1" in cut))
    y = y + conv(net.conv2, lif(inner, 3.0, "lif2" in cut))
    loss = F.cross_entropy(net.readout(lif(y, 2.0, "last" in cut).mean((3, 4))).mean(0), labels)
    found = torch.autograd.grad(loss, [part[0].weight for part in (net.stem, net.conv1, net.conv2)])
    return torch.cat([each.flatten() for each in found])


def batch(steps: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = 2 * torch.rand(steps, 8, 1, 6, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(10, (8,), generator=generator)


# -- the measurement ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [["last"], ["lif1"], ["lif2"], ["lif1", "last"], ["lif1", "lif2", "last"]])
def test_cosines_are_those_of_plain_loops_that_detach_the_states(cut: list[str]) -> None:
    net, (x, labels) = Tiny().double(), batch()
    full, part = (by_hand(net, x, labels, names) for names in ((), cut))
    np.testing.assert_allclose(gradient(net, x, labels, cut), part.numpy(), atol=1e-12)
    expected = F.cosine_similarity(full, part, dim=0).item()
    assert cosines(net, x, labels, {"these": cut})["these"] == pytest.approx(expected, abs=1e-10)
    assert expected < 0.9999, "the cut changes something"


def test_without_cuts_or_with_one_step_nothing_changes() -> None:
    net = Tiny(dropout=0.3)  # the same elements are dropped in every pass
    x, labels = batch()
    assert cosines(net, x.float(), labels, {"nothing": ()}) == {"nothing": 1.0}
    x, labels = batch(1)
    assert cosines(net.double(), x, labels, {"all": spiking(net)})["all"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("cut", "same"), [("lif1", ("conv1", "conv2")), ("lif2", ("conv2",)), ("last", ())])
def test_a_cut_changes_the_gradients_of_weights_before_it_alone(cut: str, same: tuple[str, ...]) -> None:
    net, (x, labels) = Tiny().double(), batch()
    full, part = (np.split(gradient(net, x, labels, names), [36, 180]) for names in ((), (cut,)))
    for name, a, b in zip(("stem", "conv1", "conv2"), full, part, strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-12) == (name in same), name


def test_measuring_moves_nothing() -> None:
    net, (x, labels) = Tiny(dropout=0.3).double(), batch()
    net.lif1.temporal_gradient = False
    net.stem[2].eval()
    net(x).sum().backward()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    gradients, random = [p.grad.clone() for p in net.parameters()], torch.get_rng_state()
    cosines(net, x, labels, {"a": ["lif2"], "b": ["last"]})
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(torch.equal(p.grad, before) for p, before in zip(net.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert [layer.temporal_gradient for layer in spiking(net).values()] == [False, True, True]
    assert (net.stem[1].training, net.stem[2].training) == (True, False)


def test_training_takes_the_same_course_with_and_without_measurements() -> None:
    data, net = images(), residual("ms", channels=2, blocks=1)
    plain = copy.deepcopy(net)
    sets = cut_sets(list(spiking(net)), net.stage_ends)
    found = list(experiment.points(net, data, sets, steps=2, batches=4, every=2, seed=3))
    training = fit(plain, data, layer_by_layer, 2, 2e-3, seed=3)
    losses = [next(training) for _ in range(4)]
    assert [point.loss for point in found[1:]] == [losses[1], losses[3]]
    assert math.isnan(found[0].loss)
    assert [point.batches for point in found] == [0, 2, 4]
    assert all(set(point.cosines) == set(SETS) for point in found)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, net.state_dict()[key]), key


def test_a_network_that_is_silent_has_no_cosine() -> None:
    net, (x, labels) = Tiny(), batch()
    nn.init.zeros_(net.readout.weight)
    assert math.isnan(cosines(net, x.float(), labels, {"last": ["last"]})["last"])


def test_linear_layers_where_there_is_no_convolution() -> None:
    net = nn.Sequential(nn.Flatten(2), nn.Linear(36, 20), LIF(v_threshold=0.2), nn.Linear(20, 10)).double()
    x, labels = batch()
    found = gradient(net, x, labels)
    loss = F.cross_entropy(net(x).mean(0), labels)
    expected = torch.autograd.grad(loss, [net[1].weight, net[3].weight])
    np.testing.assert_allclose(found, torch.cat([each.flatten() for each in expected]).numpy(), atol=1e-12)


# -- the sets of cuts ----------------------------------------------------------------------------------------------


def test_random_controls_cut_exactly_as_many_layers() -> None:
    layers, ends = list("abcdefghij"), ("c", "j")
    found = cut_sets(layers, ends, draws=40, seed=5)
    assert found[CUT] == [("c", "j")]
    assert found[KEPT] == [tuple("abdefghi")]
    assert found[ALL] == [tuple(layers)]
    for case, control in ((CUT, RANDOM_CUT), (KEPT, RANDOM_KEPT)):
        assert len(found[control]) == 40
        for cut in found[control]:
            assert len(set(cut)) == len(cut) == len(found[case][0])
            assert set(cut) <= set(layers)
        assert {name for cut in found[control] for name in cut} == set(layers), "any layer may be drawn"
    assert found == cut_sets(layers, ends, draws=40, seed=5)
    assert found[RANDOM_CUT] != cut_sets(layers, ends, draws=40, seed=6)[RANDOM_CUT]


def test_wrong_names_raise_which_there_are() -> None:
    with pytest.raises(ValueError, match="ends must name layers of neurons, but got 'z'; there are a, b"):
        cut_sets(["a", "b"], ["z"])
    for ends in ((), ("a", "b")):
        with pytest.raises(ValueError, match="some of the 2 layers of neurons, not none or all"):
            cut_sets(["a", "b"], ends)
    with pytest.raises(ValueError, match="draws must be a whole number from 1 on, but got 0"):
        cut_sets(["a", "b"], ["b"], draws=0)
    x, labels = batch()
    with pytest.raises(
        ValueError, match="cuts must name layers of neurons, but got 'conv1'; there are lif1, lif2, last"
    ):
        cosines(Tiny().double(), x, labels, {"wrong": ["conv1"]})
    with pytest.raises(ValueError, match="no convolution and no linear layer"):
        experiment.weights_of(nn.Sequential(LIF()))


# -- the explorer --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cuts() -> Any:
    made = explore.cuts("sew", steps=3, batches=20, seeds=2, draws=2, channels=2)
    asyncio.run(made.run())
    return made


def test_cuts_measures_every_seed_and_draws(cuts: Any) -> None:
    result = cuts.result
    assert result.batches() == [0, 10, 20]
    assert (len(result.layers), result.ends) == (20, residual("sew").stage_ends)
    assert {name: result.values(name).shape for name in SETS} == {
        name: (2, 3, 2 if name in (RANDOM_CUT, RANDOM_KEPT) else 1) for name in SETS
    }
    assert all(np.all(np.abs(result.values(name)) < 1) for name in SETS)
    assert [list(found) for found in result.alone] == [list(result.layers)] * 2
    assert spread(cuts.picture()) > 0.05


def test_the_first_point_is_of_the_untrained_network(cuts: Any) -> None:
    for seed, run in enumerate(cuts.result.runs):
        net = residual("sew", channels=2, seed=seed)
        x, labels = experiment.probe_batch(bordered(), 3, seed)
        cut = [name for name in spiking(net) if name not in net.stage_ends]
        assert cosines(net, x, labels, {"kept": cut})["kept"] == pytest.approx(run[0].cosines[KEPT][0], abs=1e-5)


def test_the_thick_lines_are_means_and_the_thin_ones_everything(cuts: Any) -> None:
    for name in SETS:
        values = cuts.result.values(name)
        np.testing.assert_allclose(cuts.trace(name).y, values.mean((0, 2)))
        thin = [y for y in cuts.trace(f"{name}: each").y if not np.isnan(y)]
        assert thin == [value for seed in values for draw in seed.T for value in draw]
    drawn = {
        cuts.result.layers[round(at)]: x
        for kind in ("elsewhere", "end of a stage")
        for x, at in zip(cuts.trace(kind).x, cuts.trace(kind).y, strict=True)
    }
    expected = {name: np.mean([found[name] for found in cuts.result.alone]) for name in cuts.result.layers}
    assert drawn == pytest.approx(expected)
    assert len(cuts.trace("end of a stage").x) == 4
    axis = cuts.figure.layout.yaxis2
    assert dict(zip(axis.tickvals, axis.ticktext, strict=True)) == dict(enumerate(cuts.result.layers))
    assert axis.range[0] > axis.range[1], "the first layer is at the top"


def test_the_sentence_compares_with_the_random_draws(cuts: Any) -> None:
    last = [run[-1].cosines for run in cuts.result.runs]
    lower = sum(drawn < found[CUT][0] for found in last for drawn in found[RANDOM_CUT])
    own, random = np.mean([found[CUT] for found in last]), np.mean([found[RANDOM_CUT] for found in last])
    said = cuts.message.value
    assert "SEW-ResNet, 2 seeds, after 20 batches" in said
    assert f"Only stage ends cut (4 of 20 layers cut): cosine {own:.3f} ±" in said
    assert f"as many random ones cut {random:.3f} ±" in said
    assert f"lower in {lower} of 4 draws." in said
    assert "(16 of 20 layers cut)" in said


def test_which_sets_are_shown_is_chosen_without_measuring_anew(cuts: Any) -> None:
    before = cuts.result
    cuts.controls["shown"].value = "stage ends kept"
    assert cuts.result is before
    assert [len(cuts.trace(name).x) for name in SETS] == [0, 0, 3, 3, 3]
    cuts.controls["shown"].value = "every set"
    assert [len(cuts.trace(name).x) for name in SETS] == [3] * 5


def test_every_control_is_labelled(cuts: Any) -> None:
    for name, control in cuts.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert cuts.caption.endswith(".")


def test_another_network_begins_anew(cuts: Any) -> None:
    cuts.controls["network"].value = "ms"
    assert len(cuts.result.layers) == 17
    assert not cuts.result.runs
    assert "Press Start" in cuts.message.value
    assert list(cuts.trace("elsewhere").x) == []


def test_ones_own_network_stops_and_resumes() -> None:
    net = Tiny()
    before = copy.deepcopy(net.state_dict())
    made = explore.cuts(net, ["last"], steps=2, batches=20, seeds=1, draws=1)
    assert "network" not in made.controls
    assert made.result.layers == ("lif1", "lif2", "last")

    async def with_a_break() -> None:
        made.controls["start"].click()
        while not made.result.runs:
            await asyncio.sleep(0)
        made.controls["stop"].click()
        await made.task
        assert len(made.result.batches()) < 3
        made.controls["resume"].click()
        await made.task

    asyncio.run(with_a_break())
    assert made.result.batches() == [0, 10, 20]
    assert "Your network, 1 seed, after 20 batches" in made.message.value
    whole = asyncio.run(explore.cuts(net, ["last"], steps=2, batches=20, seeds=1, draws=1).run())
    assert [point.cosines for point in whole.runs[0]] == [point.cosines for point in made.result.runs[0]]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()), "copies are trained"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": "vgg"}, "network must be one of 'ms', 'sew', or a module of your own, but got 'vgg'"),
        ({"network": "ms", "ends": ["lif"]}, "has ends of its own; give ends with a network of your own"),
        ({"network": Tiny()}, "ends must name the layers of neurons at the ends of your network's stages"),
        ({"network": Tiny(), "ends": ["conv1"]}, "ends must name layers of neurons, but got 'conv1'"),
        ({"network": Tiny(), "ends": []}, "not none or all of them"),
        ({"network": nn.Linear(64, 10), "ends": ["lif"]}, "net has no layer that spikes"),
        ({"data": (torch.rand(9, 64), torch.arange(9), torch.rand(9, 64), torch.arange(9))}, "net does not take currents"),
    ],
)  # fmt: skip
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explore.cuts(**given)


def test_the_pictures_have_a_border_and_leave_two_by_two_pixels() -> None:
    small, large = images().test_images, bordered().test_images
    assert torch.equal(large[:, :, 1:-1, 1:-1], small)
    assert large.sum() == small.sum()
    net, seen = residual("ms", channels=1), []
    net.stage4.register_forward_hook(lambda *given: seen.append(given[-1].shape))
    net(large[:2].expand(2, 2, 1, 10, 10))
    assert seen == [(2, 2, 8, 2, 2)]

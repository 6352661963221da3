"""The training explorers in Python: training (Stop and Resume, one's own network) and seeds."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import FoldTime, Layer, Recurrent, explore, neurons
from tfexplore.data import currents, digits
from tfexplore.explore.neuron.membrane import zigzag
from tfexplore.explore.training import networks, observe
from tfexplore.explore.training.networks import tuned
from tfexplore.explore.training.observe import examine, firing_rates, spiking
from tfexplore.nn import library
from tfexplore.nn.networks import fit, images, mlp, vgg


@pytest.fixture(scope="module")
def training() -> Any:
    made = explore.training(steps=6, hidden=64, epochs=3)
    asyncio.run(made.run())
    return made


@pytest.fixture(scope="module")
def seeds() -> Any:
    made = explore.seeds(seeds=2, epochs=2, steps=3, hidden=16)
    asyncio.run(made.run())
    return made


async def stopped(made: Any, batches: int) -> None:
    """Starts, and presses Stop after that many batches."""
    made.controls["start"].click()
    await until(made, batches)
    made.controls["stop"].click()
    await made.task


async def until(made: Any, batches: int) -> None:
    while len(made.result.losses) < batches:
        assert not made.task.done(), made.message.value
        await asyncio.sleep(0)


# -- training ----------------------------------------------------------------------------------------------------


def test_training_learns_and_draws(training: Any) -> None:
    assert len(training.result.losses) == 3 * 23
    assert np.mean(training.result.losses[-5:]) < 0.8 * np.mean(training.result.losses[:5])
    assert [batches for batches, _ in training.result.accuracies] == [23, 46, 69]
    assert list(training.trace("loss").y) == training.result.losses
    assert "69 batches" in training.message.value
    assert spread(training.picture()) > 0.05


def test_the_convolutional_network_learns_to_read() -> None:
    made = explore.training("conv", steps=8, epochs=4)
    result = asyncio.run(made.run())
    assert result.accuracies[-1][1] > 0.93
    before, after = result.rates[0][1], result.rates[-1][1]
    assert all(0.01 < rates[name] < 0.9 for rates in (before, after) for name in ("lif1", "lif2")), "every layer fires"
    assert "channel" in made.figure.layout.annotations[1].text
    np.testing.assert_array_equal(made.trace("image").z, made.data.test_images[0, 0])
    assert spread(made.picture()) > 0.05


def test_firing_rates_are_spikes_per_neuron_and_step(training: Any) -> None:
    net = training.result.net
    x = training.data.test_images[:64].expand(6, 64, 64)
    first = net.lif1(net.linear1(x))
    second = net.lif2(net.linear2(first))
    counted = {"lif1": first.sum().item() / (6 * 64 * 64), "lif2": second.sum().item() / (6 * 64 * 64)}
    assert firing_rates(net, training.data, 6) == pytest.approx(counted, abs=1e-6)
    assert list(training.trace("rate").x) == pytest.approx(list(counted.values()), abs=1e-6)
    assert list(training.trace("rate").y) == ["lif1", "lif2"]
    assert list(training.trace("rate before").x) == list(training.result.rates[0][1].values())
    assert training.result.rates[0][0] == 0
    assert training.result.rates[-1][0] == 69


def test_the_trace_follows_its_sliders(training: Any) -> None:
    training.controls["digit"].value = 3
    training.controls["neuron"].value = 5
    net, data = training.result.net, training.data
    seen = examine(net, data, 3, 6)
    x, y = zigzag(seen.h[:, 5], seen.v[:, 5])
    np.testing.assert_array_equal(training.trace("potential").x, x)
    np.testing.assert_array_equal(training.trace("potential").y, y)
    assert training.figure.layout.annotations[2].text == f"<b>a {seen.label}, read as {seen.guess}</b>"
    before = training.picture()
    training.controls["neuron"].value = 6
    assert not np.array_equal(training.trace("potential").y, y)
    assert training.picture() != before


def test_the_raster_shows_every_spike_once(training: Any) -> None:
    seen = examine(training.result.net, training.data, training.controls["digit"].value, 6)
    drawn = {
        (t, n)
        for k in ("spikes of the layer", "spikes of the neuron")
        for t, n in zip(training.trace(k).x, training.trace(k).y, strict=True)
    }
    assert drawn == {(t + 1, n) for t, n in zip(*np.nonzero(seen.s), strict=True)}
    assert set(training.trace("spikes of the neuron").y) <= {training.controls["neuron"].value}


def test_the_layer_shown_can_be_chosen(training: Any) -> None:
    training.controls["layer"].value = "lif1"
    seen = examine(training.result.net, training.data, training.controls["digit"].value, 6, "lif1")
    np.testing.assert_array_equal(
        training.trace("potential").y,
        zigzag(*(part[:, training.controls["neuron"].value] for part in (seen.h, seen.v)))[1],
    )
    assert "lif1" in training.figure.layout.annotations[4].text
    training.controls["layer"].value = "lif2"


def test_the_trace_is_what_a_loop_in_numpy_gives() -> None:
    net = mlp(hidden=32)
    data = explore.training(steps=6, hidden=32).data
    seen = examine(net, data, 0, 6)
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in (net[0].weight, net[0].bias, net[2].weight, net[2].bias))
    v1 = v2 = np.zeros(32)
    for t in range(6):
        h1 = v1 - v1 / 2 + w1 @ data.test_images[0].double().numpy() + b1
        s1 = (h1 >= 1).astype(float)
        v1 = h1 - s1
        h2 = v2 - v2 / 2 + w2 @ s1 + b2
        s2 = (h2 >= 1).astype(float)
        v2 = h2 - s2
        np.testing.assert_allclose(seen.h[t], h2, atol=1e-5)
        np.testing.assert_allclose(seen.v[t], v2, atol=1e-5)
        np.testing.assert_array_equal(seen.s[t], s2)


def test_another_walk_begins_a_new_training() -> None:
    made = explore.training(steps=4, hidden=16, epochs=1)
    asyncio.run(made.run())
    made.controls["walk"].value = "step by step"
    assert not made.result.losses
    assert made.result.walk == "step by step"
    assert list(made.trace("loss").y) == []
    assert "Press Start" in made.message.value
    assert len(asyncio.run(made.run()).losses) == 23


def test_a_threshold_out_of_reach_silences_the_network() -> None:
    made = explore.training(steps=4, hidden=16)
    assert made.result.rates[0][1]["lif1"] > 0
    made.controls["threshold"].value = 10.0
    assert made.result.rates[0][1] == {"lif1": 0.0, "lif2": 0.0}
    assert list(made.trace("threshold").y) == [10.0, 10.0]
    assert list(made.trace("spikes of the layer").x) == []
    made.controls["threshold"].value, made.controls["tau"].value = 1.0, 8.0
    assert [layer.neuron for layer in spiking(made.result.net).values()] == [neurons.LIF(tau=8.0)] * 2


def test_training_stops_where_it_is() -> None:
    made = explore.training(steps=4, hidden=16, epochs=20)
    asyncio.run(stopped(made, 5))
    assert 5 <= len(made.result.losses) < 23
    assert not made.running


def test_stop_and_resume_give_the_bits_of_an_unbroken_training() -> None:
    whole = asyncio.run(explore.training(steps=4, hidden=16, epochs=2).run())
    made = explore.training(steps=4, hidden=16, epochs=2)

    async def with_a_break() -> None:
        await stopped(made, 9)
        assert 9 <= len(made.result.losses) < 40
        assert not made.controls["resume"].disabled
        made.controls["digit"].value = 7  # looking must not touch the training
        made.controls["resume"].click()
        await until(made, 30)  # in the second epoch, whose batches come in another order
        made.controls["stop"].click()
        await made.task
        made.controls["resume"].click()
        await made.task

    asyncio.run(with_a_break())
    assert made.result.losses == whole.losses
    assert made.result.accuracies == whole.accuracies
    for a, b in zip(made.result.net.parameters(), whole.net.parameters(), strict=True):
        assert torch.equal(a, b)
    assert made.controls["resume"].disabled
    assert asyncio.run(made.run()).losses == whole.losses, "Start begins anew, from the same weights"


def test_what_makes_another_network_ends_a_stopped_run() -> None:
    made = explore.training(steps=4, hidden=16, epochs=2)
    asyncio.run(stopped(made, 3))
    made.controls["steps"].value = 5
    assert made.controls["resume"].disabled
    with pytest.raises(RuntimeError, match="no stopped run"):
        asyncio.run(made.run(resume=True))


def test_one_run_at_a_time() -> None:
    made = explore.training(steps=4, hidden=16, epochs=20)

    async def twice() -> None:
        first = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="running already; press Stop"):
            await made.run()
        made.stop()
        await first

    asyncio.run(twice())


def test_the_mime_bundle_says_something_without_a_kernel(training: Any) -> None:
    bundle, about = training._repr_mimebundle_()
    assert "69 batches" in about["image/png"]["alt"]
    assert len(json.loads(about["tfexplore"]["plotly"])["data"]) == len(training.figure.data)
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"].startswith("Training(walk='fused', steps=6, hidden=64")
    assert spread(bundle["image/png"]) > 0.05


@pytest.mark.parametrize("explorer", ["training", "seeds"])
def test_every_control_is_labelled(explorer: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(explorer)
    for name, control in made.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert made.caption.endswith(".")


def test_fused_and_layered_losses_are_the_same_bits() -> None:
    assert explore.losses("fused", 10, steps=5, hidden=32) == explore.losses("layer by layer", 10, steps=5, hidden=32)
    one, other = (
        explore.losses(walk, 10, steps=5, hidden=32, dtype=torch.float64) for walk in ("fused", "step by step")
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


def test_the_convolutional_losses_agree_in_float64() -> None:
    one, other = (
        explore.losses(walk, 3, network="conv", steps=3, dtype=torch.float64) for walk in ("fused", "step by step")
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


# -- a network of one's own --------------------------------------------------------------------------------------


def two_moons(count: int = 96) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two classes of points, separated by which input is the larger."""
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > x[:, 1]).long()
    return x[32:], y[32:], x[:32], y[:32]


def own_network(**options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), Layer(neurons.LIF(tau=3.0), **options), nn.Linear(8, 2))


def test_ones_own_network_trains_on_ones_own_data_as_a_copy() -> None:
    net, data = own_network(), two_moons()
    before = [p.clone() for p in net.parameters()]
    made = explore.training(net, data, steps=5, epochs=3)
    assert made.controls["tau"].value == 3.0
    assert "hidden" not in made.controls
    assert list(made.controls["layer"].options) == ["1"]
    result = asyncio.run(made.run())
    assert len(result.losses) == 3
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(result.net.parameters(), before, strict=True))
    assert asyncio.run(made.run()).losses == result.losses
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)  # the same, hand-written
    order = torch.Generator().manual_seed(0)
    for k in range(3):
        (batch,) = torch.randperm(64, generator=order).split(64)
        out = net(data[0][batch].expand(5, 64, 2)).mean(0)
        loss = nn.functional.cross_entropy(out, data[1][batch])
        assert loss.item() == pytest.approx(result.losses[k], rel=1e-5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_looking_at_a_network_with_batch_norm_and_dropout_leaves_it_alone() -> None:
    net = nn.Sequential(FoldTime(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), library.LIF(), nn.Flatten(2), nn.Dropout(),
                        nn.Linear(4 * 36, 10))  # fmt: skip
    net[3].eval()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    made = explore.training(net, steps=3)
    shown = made.result.net
    examine(shown, made.data, 0, 3, "1")
    assert all(torch.equal(value, state[key]) for key, value in shown.state_dict().items())
    assert (shown[0].training, shown[3].training) == (True, False)
    assert made.data.test_images.shape[1:] == (1, 8, 8), "a network with a Conv2d gets images"


def test_layers_that_differ_have_no_common_slider() -> None:
    net = nn.Sequential(
        nn.Linear(64, 8), library.LIF(tau=2.0), nn.Linear(8, 8), library.ParametricLIF(), nn.Linear(8, 10)
    )
    made = explore.training(net, steps=3)
    assert "tau" not in made.controls
    assert made.controls["threshold"].value == 1.0


def test_a_recurrent_network_is_walked_step_by_step() -> None:
    net = nn.Sequential(nn.Linear(64, 8), Recurrent(library.LIF(), nn.Linear(8, 8)), nn.Linear(8, 10))
    with pytest.raises(ValueError, match="feeds its spikes back"):
        explore.training(net, steps=3)
    assert explore.training(net, walk="step by step", steps=3).controls["layer"].value == "1.layer"


@pytest.mark.parametrize(
    ("net", "change", "message"),
    [
        (nn.Linear(2, 2), {}, "net has no layer that spikes"),
        (nn.Sequential(library.LIF()), {}, "net has no parameter to train"),
        (None, {"data": 3}, r"data must be \(x_train, y_train, x_test, y_test\), but got int"),
        (None, {"data": two_moons()[:3]}, "but got 3 values"),
        (None, {0: torch.zeros(64, 2, dtype=torch.int64)}, r"x_train must hold real numbers, but got torch.int64"),
        (None, {1: torch.zeros(5, dtype=torch.int64)}, "y_train must be 64 class numbers from 0 on"),
        (None, {3: torch.full((32,), 2)}, r"net must return \[T, B, classes\] = \[16, 2, 3 or more\]"),
        (None, {2: torch.rand(32, 5)}, r"net does not take currents .* of shape \(16, 2, 5\)"),
        (nn.Sequential(nn.Linear(2, 2), library.LIF(), nn.Flatten(0)), {}, r"net must return \[T, B, classes\]"),
    ],
)  # fmt: skip
def test_a_wrong_network_or_data_raises_what_is_wrong(net: Any, change: dict[Any, Any], message: str) -> None:
    data: Any = list(two_moons())
    for key, value in change.items():
        data = value if key == "data" else [*data[:key], value, *data[key + 1 :]]
    with pytest.raises((ValueError, TypeError), match=message):
        explore.training(net if net is not None else own_network(), data)


def test_wrong_names_raise_which_are_allowed() -> None:
    with pytest.raises(
        ValueError, match="network must be one of 'mlp', 'conv', or a module of your own, but got 'rnn'"
    ):
        explore.training("rnn")
    with pytest.raises(ValueError, match=r"walk must be one of 'fused', .* but got 'fast'"):
        explore.training(walk="fast")
    with pytest.raises(ValueError, match="has its own data"):
        explore.training("mlp", two_moons())
    with pytest.raises(ValueError, match="precision must be one of"):
        explore.seeds(precision="half")


# -- seeds -------------------------------------------------------------------------------------------------------


def test_seeds_trains_both_ways_from_the_same_start(seeds: Any) -> None:
    result = seeds.result
    assert len(result.finished()) == 2
    for k, pair in enumerate(result.pairs):
        for walk in ("step by step", "fused"):  # the same, hand-written
            net, data = tuned(mlp(16, seed=k), walk), digits()
            run = fit(net, data, networks.WALKS[walk][0], 3, seed=k)
            assert pair.losses[walk] == pytest.approx([next(run) for _ in range(46)], rel=1e-3)
            assert len(pair.accuracies[walk]) == 2
        assert pair.losses["fused"][0] == pytest.approx(pair.losses["step by step"][0], abs=1e-5)
    assert result.pairs[0].losses["fused"][0] != result.pairs[1].losses["fused"][0], "seeds differ"
    assert all(seconds > 0 for seconds in result.seconds.values())
    right = [np.array(result.final(walk)) * 359 for walk in ("step by step", "fused")]
    np.testing.assert_allclose(result.images_apart(), right[1] - right[0], atol=1e-3)
    assert "92 pairs of losses in float32" in seeds.message.value
    assert spread(seeds.picture()) > 0.05


def test_the_thick_lines_of_seeds_are_means(seeds: Any) -> None:
    losses = [pair.losses["fused"] for pair in seeds.result.pairs]
    np.testing.assert_allclose(seeds.trace("fused: mean losses").y, np.mean(losses, axis=0))
    assert seeds.trace("fused: mean losses").name == "fused"
    thin = [y for y in seeds.trace("fused: losses").y if not np.isnan(y)]
    np.testing.assert_array_equal(thin, np.concatenate(losses))
    drift = [y for y in seeds.trace("difference").y if not np.isnan(y)]
    assert drift == [d for d in seeds.result.drift() if d > 0]


def test_in_float64_both_ways_are_the_same_to_the_rounding() -> None:
    made = explore.seeds(seeds=2, epochs=1, steps=4, hidden=32, precision="float64")
    result = asyncio.run(made.run())
    assert result.drift().max() < 1e-10
    assert result.images_apart() == [0, 0]


def own_vgg(seed: int) -> nn.Module:
    return vgg(channels=2, seed=seed)


def test_seeds_of_your_own_network_beside_the_eager_layers() -> None:
    """A network with BatchNorm, which step by step would be another computation; by hand, its losses in plain PyTorch."""
    made = explore.seeds(own_vgg, reference="layer by layer", seeds=2, epochs=1, steps=2)
    result = asyncio.run(made.run())
    assert result.walks == ("layer by layer", "fused")
    for seed, pair in enumerate(result.finished()):
        run = fit(tuned(vgg(2, seed), "layer by layer"), images(), lambda net, x: net(x), 2, 5e-3, seed)
        assert pair.losses["layer by layer"] == pytest.approx([next(run) for _ in range(23)], rel=1e-3)
    assert result.drift()[0] < 1e-5
    assert "layer by layer and" in result.sentence()
    assert made.trace("layer by layer: mean losses").name == "layer by layer"
    assert len(made.trace("layer by layer: mean losses").y) == 23


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"network": nn.Linear(2, 2)}, TypeError, "network must be a function that makes a network from a seed"),
        (
            {"reference": "fused"},
            ValueError,
            "reference must be one of 'step by step', 'layer by layer', but got 'fused'",
        ),
        ({"network": own_vgg}, ValueError, "reference must be 'layer by layer' for a network with BatchNorm"),
        ({"network": lambda seed: nn.Flatten()}, ValueError, "net has no layer that spikes"),
    ],
)
def test_seeds_refuses_what_cannot_be_compared(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        explore.seeds(**given)


def test_seeds_stops_and_resumes_and_begins_anew_when_a_slider_moves() -> None:
    made = explore.seeds(seeds=1, epochs=1, steps=2, hidden=16)

    async def with_a_break() -> None:
        made.controls["start"].click()
        while not (made.result.pairs and made.result.pairs[0].losses["fused"]):
            await asyncio.sleep(0)
        made.controls["stop"].click()
        await made.task
        assert len(made.result.pairs[0].losses["fused"]) < 23
        assert "Press Start" not in made.result.sentence()
        made.controls["resume"].click()
        await made.task

    asyncio.run(with_a_break())
    assert made.result.pairs[0].losses["fused"] == pytest.approx(
        asyncio.run(explore.seeds(seeds=1, epochs=1, steps=2, hidden=16).run()).pairs[0].losses["fused"], rel=1e-6
    )
    made.controls["precision"].value = "float64"
    assert not made.result.pairs
    assert "Press Start" in made.message.value
    assert list(made.trace("step by step: losses").y) == []


# -- large networks, changes meanwhile ---------------------------------------------------------------------------------


def test_the_test_set_is_read_in_pieces() -> None:
    sizes: list[int] = []

    def walk(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        sizes.append(x.shape[1])
        return net(x)

    net, data = mlp(16), digits()
    found = observe.accuracy(net, data, walk, 4)
    with torch.no_grad():
        guess = net(currents(data.test_images, 4)).mean(0).argmax(1)
    assert found == pytest.approx((guess == data.test_labels).double().mean().item())
    assert sizes == [256, 103]


@pytest.mark.parametrize("slow", [0.0, 1e9])
def test_slow_batches_run_in_the_background(slow: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tfexplore.explore.training.explorer"], "SLOW", slow)
    threads: list[bool] = []
    made = explore.training(steps=4, hidden=16, epochs=1)

    def watched(*given: Any) -> Iterator[float]:
        for loss in fit(*given):
            threads.append(threading.current_thread() is threading.main_thread())
            yield loss

    monkeypatch.setattr(sys.modules["tfexplore.explore.training.explorer"], "fit", watched)
    losses = asyncio.run(made.run()).losses
    assert threads == [False, *[slow > 0] * 22], "the first may be slow"
    assert losses == networks.losses("fused", 23, steps=4, hidden=16)


def test_start_compiles_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    made = explore.training(steps=4, hidden=16, epochs=1)
    said: list[tuple[str, bool]] = []

    def watched(*given: Any) -> dict[str, float]:
        said.append((made._said, threading.current_thread() is threading.main_thread()))
        return firing_rates(*given)

    monkeypatch.setattr(sys.modules["tfexplore.explore.training.explorer"], "firing_rates", watched)
    asyncio.run(made.run())
    assert said[0][0].startswith("Compiling")
    assert not said[0][1]


def test_fewer_epochs_during_a_run_end_it_with_all_drawn() -> None:
    made = explore.training(steps=4, hidden=16, epochs=5)

    async def lowered() -> None:
        made.start()
        await until(made, 30)
        made.controls["epochs"].value = 1
        await made.task

    asyncio.run(lowered())
    assert 30 <= len(made.result.losses) < 46
    assert len(made.trace("loss").y) == len(made.result.losses) == made.result.rates[-1][0]
    assert f"{len(made.result.losses)} batches" in made.message.value


class Adaptive(neurons.LIF):
    """A threshold that rises with every spike; its state has not ALIF's letter."""

    states: ClassVar[tuple[str, ...]] = ("v", "a")

    def charge(self, v: Any, a: Any, x: Any) -> Any:  # type: ignore[override]
        return super().charge(v, x), a

    def threshold(self, v: Any, a: Any) -> Any:
        return self.v_threshold + 0.5 * a

    def after(self, s: Any, v: Any, a: Any) -> Any:
        return (0.9 * a + s,)


@pytest.mark.parametrize(
    ("neuron", "level"),
    [
        (neurons.LIF(v_threshold=0.7), 0.7),
        (neurons.LIF(learn="v_threshold"), None),
        (neurons.ParametricLIF(v_threshold=0.6), 0.6),
        (neurons.ALIF(), None),
        (Adaptive(), None),
    ],
)
def test_the_threshold_is_drawn_where_it_is_a_number(neuron: Any, level: float | None) -> None:
    made = explore.training(nn.Sequential(nn.Linear(64, 12), Layer(neuron), nn.Linear(12, 10)), steps=4)
    assert made.traces.threshold == (level if level is None else pytest.approx(level))

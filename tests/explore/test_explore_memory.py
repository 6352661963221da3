"""Memory and traffic: counted against manual counts, predictions against counts; the explorer on one's own network."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

import tfexplore
from tests.pictures import spread
from tfexplore import explore, neurons, surrogates
from tfexplore.explore.memory.footprint import network
from tfexplore.explore.memory.kept import BITS, INPUT, LAYERED, NOTHING, POTENTIAL, STEPPED, WAYS, cells_of, kept, moved
from tfexplore.nn.layers import Layer
from tfexplore.nn.library import LIF


@pytest.fixture(scope="module")
def memory() -> Any:
    made = explore.memory(steps=64, neurons=50)
    asyncio.run(made.run())
    return made


# -- counting --------------------------------------------------------------------------------------------------------


def test_kept_bytes_of_plain_torch_modules_are_those_counted_manually() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.Sigmoid(), nn.Sigmoid(), LIF())
    x = torch.rand(32, 2, 6)
    cells = 32 * 2
    assert kept(net, x, POTENTIAL) == {
        "0": 4 * cells * 6,  # its input, for the gradient of the weights; the weights are there anyway
        "1": 4 * cells * 5,  # its output
        "2": 4 * cells * 5,
        "3": 4 * cells * 5,  # the potential
    }
    found = kept(net, x, INPUT)  # LIF's input is the second Sigmoid's output: it is held once
    assert found["2"] == 4 * cells * 5
    assert found.get("3", 0) == 0, "the only chunk of 32 steps begins at the initial state"
    assert kept(net, torch.rand(96, 2, 6), INPUT)["3"] == 2 * 4 * 2 * 5, "the potential before the two other chunks"


def test_a_view_of_something_kept_is_not_kept_again() -> None:
    class Views(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).square().view_as(x) + x.transpose(0, 1).square().transpose(0, 1)

    assert kept(nn.Sequential(Views(), LIF()), torch.rand(8, 2, 3), POTENTIAL)["0"] == 4 * 8 * 2 * 3


def test_what_is_let_go_before_the_backward_pass_is_not_counted() -> None:
    class Drops(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.exp().square()  # autograd kept something for it, and it is gone
            return x + 1

    assert "0" not in kept(nn.Sequential(Drops(), LIF()), torch.rand(8, 2, 3), POTENTIAL)


@pytest.mark.parametrize("kind", neurons.ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_predictions_are_what_is_counted(kind: Any, dtype: str) -> None:
    net, steps = nn.Sequential(Layer(kind())), 128
    x = torch.rand(steps, 2, 10, dtype=getattr(torch, dtype))
    (cells,) = cells_of(net, x).values()
    assert cells.neurons == 20
    for way in (POTENTIAL, INPUT, NOTHING):
        # does not grow with T: tau = 1 + exp(w), whose exp, relu and factor are a number each, shared by all neurons
        learned = (1 + 3) * 4 * len(cells.neuron.learn) * way.gradient
        assert kept(net, x, way).get("0", 0) - learned == cells.kept(way, steps) * steps * 20
        unread = kind is neurons.LI and way is INPUT  # its backward operator is given what its kernel does not read
        assert moved(net, x, way)["0"] - unread * (cells.kept(way, steps) or 0) == cells.moved(way)


def test_the_eager_traffic_of_a_leak_is_that_counted_manually() -> None:
    class Leak(neurons.Neuron):
        spiking, resets = False, ("none",)
        reset: str = "none"
        v_reset: float = 0.0

        def charge(self, v: Any, x: Any) -> Any:
            return v + x

    net, x = nn.Sequential(Layer(Leak())), torch.rand(64, 1, 1000)
    # forward: v + x (3), zeros for s (1 or 2), stack (2); backward: the sum of two gradients (3), stack (2)
    words = moved(net, x, LAYERED)["0"] / 4
    assert 11 <= words <= 12.1
    assert moved(net, x, STEPPED)["0"] / 4 > words, "each step is stacked by itself, too"
    assert moved(net, x, NOTHING)["0"] == 8


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(("kind", "bits"), [(neurons.LIF, 1), (neurons.CubaLIF, 1), (neurons.ALIF, 2)])
def test_predicted_bits_are_what_is_counted(kind: Any, bits: int, dtype: str) -> None:
    net = nn.Sequential(Layer(kind(surrogate=surrogates.Rectangle())))
    x = torch.rand(128, 4, 16, dtype=getattr(torch, dtype))
    (cells,) = cells_of(net, x).values()
    assert kept(net, x, BITS)["0"] == cells.kept(BITS, 128) * 128 * 64 == bits * 128 * 64 / 8
    assert moved(net, x, BITS)["0"] == cells.moved(BITS) == 4 * x.element_size() + 2 * bits / 8


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_the_network_stays_as_it_is(way: Any) -> None:
    lif = LIF(surrogate=surrogates.Rectangle(), backend="torch", keep="potential")  # which bits are exact for
    net = nn.Sequential(nn.Linear(4, 3), lif, nn.BatchNorm1d(2))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    kept(net, torch.rand(4, 2, 3 + 1)[:, :, :4], way)
    moved(net, torch.rand(4, 2, 4), way)
    assert (net[1].backend, net[1].keep) == ("torch", "potential")
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net[0]._forward_hooks
    assert not net[1]._forward_pre_hooks


def test_a_layer_called_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = LIF()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lif(self.lif(x))

    x = torch.rand(64, 1, 10)
    assert cells_of(Twice(), x)["lif"].neurons == 20
    assert kept(Twice(), x, POTENTIAL)["lif"] == 4 * 64 * 20
    assert moved(Twice(), x, POTENTIAL)["lif"] == 24


# -- the explorer ----------------------------------------------------------------------------------------------------


def test_predicted_at_once_and_counted_on_start() -> None:
    made = explore.memory(steps=64, neurons=50, way="fused, keep potential")
    assert list(made.trace("predicted kept").x) == [None, None, 4.0, 4.0625, 0.0]
    assert list(made.trace("predicted moved").x) == [None, None, 24.0, 20.25, 8.0]
    assert list(made.trace("counted kept").x) == [None] * 5
    assert "predicted to keep 4 and move 24 bytes per neuron and step. Press Start." in made.message.value
    made.controls["way"].value = "step by step"
    assert "only counting shows" in made.message.value


def test_bits_appear_where_they_are_exact_and_else_say_why_not() -> None:
    made = explore.memory(steps=64, neurons=50, way="fused, keep bits")
    assert (
        "fused, keep bits: not exact for the LIF of &#x27;neurons1&#x27;: its backward pass needs" in made.message.value
    )
    assert len(made.trace("predicted kept").x) == 5
    assert not made.trace("fused, keep bits").showlegend
    assert set(made.trace("predicted modules").x) == {None}, "there is no prediction by module"
    made.controls["surrogate"].value = "Rectangle"
    assert list(made.trace("predicted kept").x) == [None, None, 4.0, 4.0625, 0.125, 0.0]
    assert made.trace("fused, keep bits").showlegend
    result = asyncio.run(made.run())
    assert result.counted_kept(BITS) == 1 / 8
    assert result.counted_moved(BITS) == 4 * 4 + 2 / 8
    assert result.lines["fused, keep bits"] == [(t, t * 400 // 8) for t in (16, 32, 48, 64)]
    assert "the neurons keep 0.125 and move 16.25 bytes" in made.message.value
    assert spread(made.picture()) > 0.05
    made.controls["neuron"].value = "PaperLIF"  # its reset is not detached
    assert "not exact for the PaperLIF" in made.message.value
    assert [way.name for way in made.result.ways] == [way.name for way in WAYS if way is not BITS]
    assert list(made.trace("predicted kept").y) == [way.name for way in made.result.ways]


def test_counted_equals_predicted(memory: Any) -> None:
    for panel in ("kept", "moved", "modules"):
        predicted, counted = (memory.trace(f"{series} {panel}").x for series in ("predicted", "counted"))
        for expected, found in zip(predicted, counted, strict=True):
            assert expected is None or found == expected
    assert memory.result.counted_kept("fused, keep input") == 4.0625


def test_memory_grows_with_time(memory: Any) -> None:
    ways = [way.name for way in WAYS]
    assert list(memory.result.lines) == [name for name in ways if name != "fused, keep bits"]
    for name in memory.result.lines:
        times, sizes = zip(*memory.result.lines[name], strict=True)
        assert times == (16, 32, 48, 64)
        np.testing.assert_allclose(memory.trace(name).y, np.array(sizes) / 1e6)
    assert memory.result.lines["fused, keep potential"] == [(t, 4 * t * 400) for t in (16, 32, 48, 64)]


def test_the_modules_of_the_way_chosen_are_shown(memory: Any) -> None:
    memory.controls["way"].value = "fused, keep potential"
    assert list(memory.trace("counted modules").y) == ["linear1", "neurons1", "linear2", "neurons2", "linear3"]
    x = [4 * 64 * 4 * width / 1e6 for width in (64, 50, 50, 50, 50)]
    np.testing.assert_allclose(memory.trace("counted modules").x, x)
    assert "the neurons keep 4 and move 24 bytes per neuron and step, 0.10 MB in total" in memory.message.value
    memory.controls["way"].value = "fused, no gradient"
    assert list(memory.trace("counted modules").x) == [0, 0]
    memory.controls["way"].value = "fused, keep input"


def test_controls_change_the_predictions_and_clear_the_counts() -> None:
    made = explore.memory(steps=64, neurons=50)
    asyncio.run(made.run())
    seen = [list(made.trace("predicted kept").x)]
    for name, value in {"dtype": "bfloat16", "surrogate": "Rectangle", "neuron": "Izhikevich"}.items():
        made.controls[name].value = value
        assert list(made.trace("predicted kept").x) not in seen
        assert not made.result.kept
        assert list(made.trace("counted kept").x) == [None] * (6 if name == "surrogate" else 5)
        seen.append(list(made.trace("predicted kept").x))
    made.controls["neurons"].value = 100
    made.controls["steps"].value = 128
    assert (made.result.neurons, made.result.steps) == (800, 128)


def test_ones_own_network() -> None:
    net = nn.Sequential(
        tfexplore.FoldTime(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), tfexplore.LIF(tau=2.0, backend="torch"), nn.Flatten(2),
        nn.Linear(4 * 36, 10), tfexplore.LI(tau=4.0),
    )  # fmt: skip
    x = torch.rand(32, 2, 1, 8, 8)
    made = explore.memory(net, x)
    assert set(made.controls) == {"way", "steps", "start", "stop"}
    result = asyncio.run(made.run())
    assert {name: cells.neurons for name, cells in result.cells.items()} == {"1": 2 * 4 * 36, "4": 2 * 10}
    for way in (POTENTIAL, INPUT):
        assert result.counted_kept(way) == pytest.approx(result.predicted_kept(way))
    assert {"0.0", "0.1", "3"} <= set(result.kept["step by step"])
    assert net[1].backend == "torch"
    made.controls["steps"].value = 16
    assert made.result.steps == 16
    assert len(made.subject()[1]) == 16
    assert spread(made.picture()) > 0.05


def test_the_picture_labels_and_words(memory: Any) -> None:
    assert spread(memory.picture()) > 0.05
    for name, control in memory.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert memory.caption.endswith(".")
    assert repr(memory) == (
        "Memory(way='fused, keep input', steps=64, neuron='LIF', surrogate='the default', neurons=50, dtype='float32')"
    )
    _, about = memory._repr_mimebundle_()
    assert "keep 4.062 and move 20.25" in about["image/png"]["alt"]


def test_errors() -> None:
    x = torch.rand(3, 2, 4)
    with pytest.raises(TypeError, match=r"together, memory\(net, x\), or neither"):
        explore.memory(nn.Sequential(LIF()))
    with pytest.raises(ValueError, match=r"neuron must be one of 'IF', 'LIF', .* but got 'LIFE'"):
        explore.memory(neuron="LIFE")
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module, but got int"):
        explore.memory(3, x)
    with pytest.raises(ValueError, match="net has no layer of neurons, so nothing of it is fused; use layers such as"):
        explore.memory(nn.Linear(4, 3), x)
    with pytest.raises(TypeError, match="x must be a tensor"):
        explore.memory(nn.Sequential(LIF()), [1, 2])
    with pytest.raises(ValueError, match="x must have at least one time step"):
        explore.memory(nn.Sequential(LIF()), x[:0])
    with pytest.raises(ValueError, match="feeds its spikes back to itself"):
        explore.memory(nn.Sequential(tfexplore.Recurrent(LIF(), nn.Linear(4, 4))), x)


def test_the_network_made_is_the_same_for_the_same_seed() -> None:
    one, other = network("LIF", 50), network("LIF", 50)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_way_is_found_by_the_name_that_its_control_shows(memory: Any) -> None:
    for name in memory.controls["way"].options:
        (way,) = (way for way in WAYS if way.name == name)
        assert memory.result.sentence(name) == memory.result.sentence(way)
        assert memory.result.sentence(name).startswith(name)
    assert memory.result.sentence() == memory.result.sentence("fused, keep input")
    with pytest.raises(ValueError, match=r"way must be one of 'step by step', .* but got 'input'"):
        memory.result.sentence("input")

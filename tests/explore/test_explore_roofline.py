"""The roofline and the cost of compiling, without a browser. No test looks at how long anything took."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore, neurons
from tfexplore.codegen.traffic import traffic_of, words
from tfexplore.explore.compile_cost.costs import CASES
from tfexplore.explore.roofline import points
from tfexplore.explore.roofline.alone import alone
from tfexplore.explore.roofline.explorer import LARGEST
from tfexplore.measure import first_calls
from tfexplore.neurons import Neuron
from tfexplore.nn.layers import Layer
from tfexplore.nn.library import LIF

# -- the roofline ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def roofline() -> Any:
    made = explore.roofline(["LIF", "Izhikevich"], steps=4, neurons=1000, device="cpu", mebibytes=1)
    asyncio.run(made.run())
    return made


# manually, from the equations, as SymPy writes them
@pytest.mark.parametrize(
    ("neuron", "keep", "count"),
    [
        (neurons.IF(), "nothing", 5),  # v + x; h - th; step; h - s th
        (neurons.LIF(), "nothing", 8),  # v + x - (v - v_reset)/tau: 4
        (neurons.LI(), "nothing", 4),  # v + (x - v + v_reset)/tau; nothing fires
        (neurons.LI(), "potential", 9),  # and back: g + g_next; /tau; g (1 - 1/tau)
    ],
    ids=str,
)
def test_operations_are_those_of_the_equations(neuron: neurons.LIF, keep: str, count: int) -> None:
    assert points.operations(neuron, keep) == count


def test_recomputing_goes_forward_again() -> None:
    lif = neurons.LIF()
    assert points.operations(lif, "input") == points.operations(lif, "potential") + points.operations(lif)


@pytest.mark.parametrize(
    ("neuron", "dtype"),
    [*((kind(), torch.float32) for kind in neurons.ALL), (neurons.LIF(), torch.float64)],
    ids=lambda value: type(value).__name__ if isinstance(value, Neuron) else str(value),
)
def test_a_kernel_alone_gives_what_the_eager_layer_gives(neuron: Neuron, dtype: torch.dtype) -> None:
    x, g = torch.randn(40, 30, dtype=dtype), torch.randn(40, 30, dtype=dtype)
    given = x.clone().requires_grad_()
    expected = Layer(neuron, backend="torch")(given)
    (slope,) = torch.autograd.grad(expected, given, g)
    for keep in ("potential", "input"):
        work = alone(neuron, keep, "numba", x, g)
        for _ in range(2):  # the second run must not see the first one's remains
            out, g_x = work()
        torch.testing.assert_close(out, expected.detach())
        torch.testing.assert_close(g_x, slope, rtol=1e-4, atol=1e-5)


def test_a_kernel_alone_takes_no_half_precision() -> None:
    x = torch.zeros(2, 3, dtype=torch.float16)
    with pytest.raises(TypeError, match="x must be float32 or float64, but got float16"):
        alone(neurons.LIF(), "nothing", "numba", x, x)


def test_the_roofline_has_two_roofs_and_all_kernels(roofline: Any) -> None:
    result = roofline.result
    assert [kernel.label for kernel in result.kernels] == [
        "LIF forward",
        "LIF forward + backward, keep=input",
        "LIF forward + backward, keep=potential",
        "Izhikevich forward",
        "Izhikevich forward + backward, keep=input",
        "LIF forward, the whole layer",
        "LIF forward, eager",
    ]
    assert result.bandwidth > 0
    assert result.peak > 0
    lif = result.kernels[2]
    assert lif.bytes == 4 * words(traffic_of(neurons.LIF(), "potential")) == 24
    assert lif.bytes_per_second == pytest.approx(24 * 4 * 1000 / lif.seconds)
    assert lif.flops_per_second == pytest.approx(lif.bytes_per_second * lif.intensity)
    assert result.kernels[-1].bytes > result.kernels[0].bytes, "the eager loop moves more words"
    roof = roofline.trace("memory roof (copy)")
    x, y = roof.x, np.array(roof.y)
    np.testing.assert_allclose(y, 1e-9 * result.bandwidth * np.array(x), rtol=1e-6)
    assert roof.y[-1] == pytest.approx(1e-9 * result.peak)
    assert list(roofline.trace("LIF forward").x) == [result.kernels[0].intensity]
    share = result.kernels[0].bytes_per_second / result.bandwidth
    assert f"The fused forward pass of LIF reaches {share:.0%} of this machine" in roofline.message.value
    signs = [roofline.trace(kernel.label).marker.symbol for kernel in result.kernels]
    assert signs == ["circle", "diamond", "square", "circle", "diamond", "triangle-up", "x"]
    assert roofline.notes.value.count("<tr>") == 1 + len(result.kernels)
    assert spread(roofline.picture()) > 0.05


def test_a_moved_control_takes_the_points_away() -> None:
    made = explore.roofline(["IF"], steps=4, neurons=1000, device="cpu", mebibytes=1)
    asyncio.run(made.run())
    made.controls["steps"].value = 128
    assert made.controls["neurons"].max * 128 <= LARGEST
    assert not made.result.kernels
    assert len(made.trace("memory roof (copy)").x) == len(made.trace("IF forward").x) == 0
    assert "and 128 time steps of 1,000 neurons in float32" in made.message.value
    assert made.notes.value == ""
    assert repr(made) == "Roofline(steps=128, neurons=1000, dtype='float32')"


def test_neurons_of_one_class_are_distinguished() -> None:
    slow = neurons.LIF(tau=20.0)
    made = explore.roofline(["LIF", slow, "LIF"], steps=4, neurons=1000, device="cpu", mebibytes=1)
    labels = [kernel.label for kernel in asyncio.run(made.run()).kernels]
    assert len(labels) == len(set(labels)) == 7, "the second LIF is the first"
    for neuron, k in ((neurons.LIF(), 0), (slow, 3)):
        assert labels[k] == f"{neuron!r} forward"
        assert list(made.trace(labels[k]).x) == [made.result.kernels[k].intensity]
    assert made.trace(labels[0]).marker.color != made.trace(labels[3]).marker.color


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_eager_bytes_are_counted_not_guessed(dtype: str) -> None:
    class Operations(torch.utils._python_dispatch.TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            given = [a for a in args if isinstance(a, torch.Tensor)] + list(
                args[0] if isinstance(args[0], list) else []
            )
            if func.__name__.split(".")[0] in ("add", "sub", "div", "mul", "ge", "_to_copy", "stack"):
                # a bool is one byte; a state in which all neurons begin is one number, however large its view
                seen = [min(t.nbytes, t.untyped_storage().nbytes()) for t in (*given, out) if t.numel() > 1]
                Operations.count += sum(seen)
            return out

    x = torch.zeros(8, 1, 4096, dtype=getattr(torch, dtype))
    with torch.no_grad(), Operations():
        LIF(backend="torch")(x)
    assert points.eager_bytes(neurons.LIF(), dtype) == pytest.approx(Operations.count / x.numel(), rel=0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"which": ["LIFE"]}, "which must name neurons of IF, LIF, .* but got 'LIFE'"),
        ({"which": []}, "which must name at least one neuron"),
        ({"dtype": "float16"}, "dtype must be one of 'float32', 'float64', but got 'float16'"),
        ({"steps": 100, "neurons": 1_000_000}, "their product at most 20,000,000, but got 100 and 1,000,000"),
    ],
)
def test_errors_of_the_roofline(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explore.roofline(**given)


def test_a_kernel_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "alone", lambda neuron, keep, backend, x, g: lambda: (torch.ones_like(x), g))
    made = explore.roofline(["IF"], steps=4, neurons=1000, device="cpu", mebibytes=1)
    with pytest.raises(
        RuntimeError, match=r"IF forward: .* of its result are not the eager loop's, so it is not timed"
    ):
        asyncio.run(made.run())
    assert 'role="alert"' in made.message.value


# -- what compiling costs ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compiling_is_paid_once_for_each_neuron_and_dtype(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFEXPLORE_CACHE", str(tmp_path))  # the usual one may be written by a test beside this one
    made = explore.compile_cost("IF", device="cpu")
    result = asyncio.run(made.run())
    assert result.compiled == {
        "first call ever": 2,  # forward and backward
        "first call in a new process": 0,
        "the same call again": 0,
        "another {number}": 0,
        "another T and N": 0,
        "another dtype (float64)": 2,
    }
    assert result.seconds["first call ever"] > result.seconds["the same call again"]
    assert not list(tmp_path.rglob("*.nbc")), "the user's cache stays as it is"
    assert "another v_threshold" in made.trace("times").y
    assert "Another v_threshold, T or N compiled nothing" in made.message.value
    assert made.trace("times").text[0].endswith("2 kernels compiled")
    assert all(process.process.poll() is not None for process in made._processes)
    assert spread(made.picture()) > 0.05


def test_stop_ends_both_processes_at_once() -> None:
    made = explore.compile_cost("LIF", device="cpu")

    async def run_and_stop() -> None:
        made.controls["start"].click()
        while not made._processes:
            await asyncio.sleep(0.01)
        made.controls["stop"].click()
        assert made.task is not None
        await asyncio.wait_for(made.task, 10)

    asyncio.run(run_and_stop())
    assert all(process.process.poll() is not None for process in made._processes)
    assert made.message.value.count("Stopped.") == 1
    assert len(made.result.seconds) < len(CASES)


def test_another_neuron_begins_anew() -> None:
    made = explore.compile_cost("LIF", device="cpu")
    made.controls["neuron"].value = "QIF"
    assert made.result.neuron == "QIF"
    assert "What does it cost to use QIF for the first time?" in made.message.value
    assert repr(made) == "CompileCost(neuron='QIF')"
    with pytest.raises(ValueError, match=r"neuron must be one of 'IF', 'LIF', .*, but got 'LIFE'"):
        explore.compile_cost("LIFE")


@pytest.mark.parametrize("kind", neurons.ALL, ids=lambda kind: kind.__name__)
def test_every_neuron_has_a_number_to_change(kind: type[neurons.LIF]) -> None:
    name, other = first_calls.changed(kind())
    assert getattr(other, name) != getattr(kind(), name)


# -- all three ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [explore.speed, explore.roofline, explore.compile_cost], ids=lambda make: make.__name__
)
def test_every_control_is_labelled(make: Callable[..., Any]) -> None:
    made = make(device="cpu")
    for name, control in made.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert made.caption.endswith(".")
    assert made.caption in made.describe()
    assert spread(made.picture()) > 0

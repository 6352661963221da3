"""The CUDA text without a GPU: it compiles for every architecture, and run as C++ it gives the reference's numbers.

The reference is the eager torch backend, which differentiates by autograd; for LIF also a loop that is none of our code.
What only a GPU can show is in test_gpu.py.
"""

import dataclasses
import importlib.abc
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cuda_text import LOOPS, STREAM, FakeCupy, header_folders, nvrtc
from torch import Tensor

import tfexplore
from tfexplore import backends, neurons, surrogates
from tfexplore.backends import cuda
from tfexplore.codegen import DATA, Variant
from tfexplore.equations import Neuron, TimeConstant, step_of
from tfexplore.layers import Layer

NEURONS = [neurons.IF, neurons.LIF, neurons.ParametricLIF, neurons.ALIF, neurons.CubaLIF, neurons.LI, neurons.QIF,
           neurons.EIF, neurons.Izhikevich, neurons.PaperLIF]  # fmt: skip
SURROGATES = [surrogates.ATan(), surrogates.Sigmoid(), surrogates.Triangle(), surrogates.Rectangle(),
              surrogates.SuperSpike(), surrogates.Gaussian()]  # fmt: skip
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
KEEP = ("potential", "input")


class Clash(Neuron):
    """A reader's own neuron, whose names are those of the kernels' arguments."""

    states = ("z", "w")
    p: TimeConstant = 3.0
    g: float = 0.5
    q: float = 0.25
    v_threshold: float = 1.0
    v_reset: float = 0.1

    def charge(self, z, w, x):  # type: ignore[no-untyped-def]
        w = w - w / self.p + x
        return z + self.g * w - self.q * z, w


def variant(neuron: Neuron, data: str, **chosen: Any) -> Variant:
    return Variant(step_of(neuron), "float64" if data == "float64" else "float32", data, **chosen)


# -- compiled for GPUs -----------------------------------------------------------------------------------------------


def versions(neuron: type[Neuron]) -> Iterator[tuple[Neuron, dict[str, Any]]]:
    """Resets (attached and detached), learned parameters and what is kept, each with the others in turn."""
    for reset, detach, learns in itertools.product(neuron.resets, (True, False), (False, True)):
        learn = tuple(neuron().parameters) if learns else ()
        made = neuron(reset=reset, detach_reset=detach, learn=learn)
        for keep, record in (("potential", ()), ("input", ("v", "h"))):
            yield made, {"keep": keep, "record": record}
        if not learns:
            yield made, {"keep": "nothing"}


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.__name__)
def test_nvrtc_compiles_every_kernel_for_every_architecture(neuron: type[Neuron], tmp_path: Any) -> None:
    pytest.importorskip("cuda.core", reason="compiles without a GPU through cuda-core; .[test] installs it on Linux")
    # Every .cu x neuron x dtype x architecture; with each, the next of the versions (at most 30 a neuron), so that these
    # occur as well: 320 compilations in some 25 s, where the full product would take minutes.
    turn = itertools.cycle(versions(neuron))
    for data, arch, loop in itertools.product(DATA, ARCHITECTURES, LOOPS):
        made, chosen = next(turn)
        if loop == "backward" and chosen["keep"] == "nothing":
            made, chosen = next(turn)
        binary = nvrtc(variant(made, data, **chosen), loop, arch, tmp_path)
        case = (made, chosen, data, arch, loop, binary)
        # an array that does not fit the registers would go to slow memory; 255 is what a thread can have
        assert binary.size > 0, case
        assert (binary.stack, binary.spilled) == (0, 0), case
        assert binary.registers <= 255, case


# -- run as C++ ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_cupy(monkeypatch: pytest.MonkeyPatch, require: Callable[..., str]) -> Iterator[FakeCupy]:
    """Layers with backend="cuda" run the CUDA text on CPU tensors; nothing between layer and kernel is replaced."""
    compiler = require("g++", "clang++", why="to run the CUDA kernels as C++")
    fake = FakeCupy(compiler)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(backends, "choose", lambda backend, device: backends.Choice(backend, "asked for by the test"))
    cuda.load.cache_clear()
    yield fake
    cuda.load.cache_clear()  # a GPU test after this one must not find these


@dataclasses.dataclass
class Result:
    out: Tensor
    state: Tensor
    traces: dict[str, Tensor]
    g_x: Tensor
    g_start: Tensor
    g_rows: dict[str, Tensor]


def run(layer: Layer, x: Tensor, start: Tensor, g_out: Tensor, g_state: Tensor, record: tuple[str, ...] = ()) -> Result:
    """One pass there and back; states and their gradients stacked [STATES, B, N]."""
    x, start = x.clone().requires_grad_(), start.clone().requires_grad_()
    layer.zero_grad()
    with tfexplore.record(layer, *record) as traces:
        if not record:
            layer.sink = None
        out, state = layer(x, tuple(start), return_state=True)
    torch.autograd.backward((out, torch.stack(state)), (g_out, g_state))
    assert x.grad is not None
    assert start.grad is not None
    rows = {name: raw.grad.clone() for name, raw in layer.raw.items()}
    seen = traces[""] if record else {}
    return Result(out.detach(), torch.stack(state).detach(), seen, x.grad, start.grad, rows)


def inputs(neuron: Neuron, steps: int, count: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Currents that make this neuron fire now and then, and dense random gradients."""
    made = torch.Generator().manual_seed(steps * 1000 + count)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    scale, shift = (12.0, 8.0) if isinstance(neuron, neurons.Izhikevich) else (1.0, 0.3)

    def noise(*shape: int, dtype: torch.dtype = real) -> Tensor:
        return torch.randn(*shape, generator=made, dtype=torch.float64).to(dtype)

    states = len(neuron.states)
    rest = torch.tensor([float(v) for v in neuron.initial()], dtype=real).view(-1, 1, 1)
    return {
        "x": noise(steps, 1, count, dtype=dtype) * scale + shift,
        "start": rest + 0.1 * noise(states, 1, count),
        "g_out": noise(steps, 1, count, dtype=dtype),
        "g_state": noise(states, 1, count),
    }


def assert_near(found: Tensor, wanted: Tensor, tolerance: float, what: Any) -> None:
    """max|difference| <= tolerance * max|wanted|."""
    assert found.shape == wanted.shape, what
    assert found.dtype == wanted.dtype, what
    if wanted.numel():
        scale = wanted.abs().max().item()
        assert (found - wanted).abs().max().item() <= tolerance * scale, (what, (found - wanted).abs().max() / scale)


EXACT = [  # made of + - * / and comparisons: the same bits
    neurons.IF(), neurons.LIF(), neurons.LIF(reset="hard", v_reset=-0.1, decay_input=True), neurons.LIF(reset="none"),
    neurons.LIF(reset="hard", detach_reset=False), neurons.ParametricLIF(tau=2.3), neurons.LIF(learn=("tau", "v_threshold", "v_reset")),
    neurons.ALIF(), neurons.ALIF(detach_reset=False, learn=("beta", "tau_b")), neurons.CubaLIF(), neurons.LI(), neurons.LI(learn="tau"),
    neurons.QIF(), neurons.QIF(reset="soft", detach_reset=False), neurons.Izhikevich(), neurons.PaperLIF(v_reset=0.05), Clash(),
    *(neurons.LIF(surrogate=surrogate, detach_reset=False) for surrogate in SURROGATES[1:]),
]  # fmt: skip
LENGTHS = (1, 31, 32, 33, 100)  # around the chunks of 32 steps


@pytest.mark.parametrize("keep", KEEP)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("neuron", EXACT, ids=repr)
def test_the_cuda_text_gives_the_reference_bit_for_bit(
    fake_cupy: FakeCupy, neuron: Neuron, dtype: torch.dtype, keep: str
) -> None:
    fused, eager = Layer(neuron, backend="cuda", keep=keep), Layer(neuron, backend="torch")
    for steps, count in (*((steps, 5) for steps in LENGTHS), (33, 1), (33, 257)):
        given = inputs(neuron, steps, count, dtype)
        found = run(fused, **given, record=("v", "h") if neuron.states[0] == "v" else ("z",))
        wanted = run(eager, **given, record=("v", "h") if neuron.states[0] == "v" else ("z",))
        case = (steps, count)
        assert torch.equal(found.out, wanted.out), case
        assert torch.equal(found.state, wanted.state), case
        assert found.traces.keys() == wanted.traces.keys()
        for name, trace in wanted.traces.items():
            assert torch.equal(found.traces[name], trace), (case, name)
        small = 1e-6 if dtype == torch.float32 else 1e-14
        assert_near(found.g_x, wanted.g_x, small, (case, "x"))
        assert_near(found.g_start, wanted.g_start, small, (case, "start"))
        for name, gradient in wanted.g_rows.items():
            assert_near(found.g_rows[name], gradient, 10 * small, (case, name))
    assert {name for name, _ in fake_cupy.launches} == {"forward", "backward"}

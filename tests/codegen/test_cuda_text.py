"""The CUDA text without a GPU: it compiles for every architecture, and run as C++ it gives the reference's numbers.

The reference is the eager torch backend, which differentiates by autograd; for LIF also a loop that is not our code.
What only a GPU can show is in test_gpu.py.
"""

import contextlib
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
from torch import Tensor

import tfexplore
from tests.cuda_text import LOOPS, STREAM, FakeCupy, header_folders
from tfexplore import backends, neurons, surrogates
from tfexplore.backends import cuda
from tfexplore.codegen.cuda_source import DATA
from tfexplore.codegen.keep import why_not
from tfexplore.codegen.variant import Variant
from tfexplore.neurons import Neuron, TimeConstant
from tfexplore.neurons.step import cut_in_time, normalised, step_of
from tfexplore.nn.layers import Layer
from tools import candidates

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
    return Variant(step_of(neuron), "float64" if data == "float64" else "float32", data, **chosen).for_gpu()


# -- compiled for GPUs -----------------------------------------------------------------------------------------------


def versions(neuron: type[Neuron]) -> Iterator[tuple[Neuron, dict[str, Any]]]:
    """Resets (attached and detached), learned parameters and what is kept, each with the others in turn."""
    for reset, detach, learns in itertools.product(neuron.resets, (True, False), (False, True)):
        learn = tuple(neuron().parameters) if learns else ()
        made = neuron(reset=reset, detach_reset=detach, learn=learn)
        for keep, record in (("potential", ()), ("input", ("v", "h"))):
            yield made, {"keep": keep, "record": record}
        boxed = neuron(reset=reset, detach_reset=detach, learn=learn, surrogate=surrogates.Rectangle())
        if not why_not(step_of(boxed)):
            yield boxed, {"keep": "bits"}
        if not learns:
            yield made, {"keep": "nothing"}


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.__name__)
def test_nvrtc_compiles_every_kernel_for_every_architecture(neuron: type[Neuron], tmp_path: Any) -> None:
    pytest.importorskip("cuda.core", reason="compiles without a GPU through cuda-core; .[test] installs it on Linux")
    # Every .cu x neuron x dtype x architecture; with each, the next of the versions (30 a neuron at most), so that they
    # occur as well: 320 compilations in some 25 s, where the full product would take minutes.
    turn, wide = itertools.cycle(versions(neuron)), itertools.cycle((True, True, False))
    for data, arch, loop in itertools.product(DATA, ARCHITECTURES, LOOPS):
        made, chosen = next(turn)
        if loop == "backward" and chosen["keep"] == "nothing":
            made, chosen = next(turn)
        made_for = variant(made, data, **chosen)
        build = getattr(made_for.config, loop)
        binary = candidates.compiled(made_for, loop, build if next(wide) else build.narrow(made_for.chunk), arch, False)
        case = (made, chosen, data, arch, loop, binary)
        # an array that does not fit the registers would go to slow memory; 255 is what a thread can have
        assert binary.size > 0, case
        assert (binary.stack, binary.spilled) == (0, 0), case
        assert binary.registers <= 255, case


@pytest.mark.parametrize(("neuron", "keep"), [(neurons.LIF(learn="tau"), "input"), (neurons.ALIF(), "potential")])
def test_nvrtc_compiles_what_layers_ask_for_besides(neuron: Neuron, keep: str) -> None:
    """Traces with gradients, a constant current, a BatchNorm, all of them without a temporal gradient; old and new."""
    pytest.importorskip("cuda.core", reason="compiles without a GPU through cuda-core; .[test] installs it on Linux")
    asked = [{"record": ("h", "v"), "traced": True}, {"constant": True}, {}]
    asked.append(asked[0] | asked[1])
    for chosen, data, arch in zip(asked, DATA, ("sm_75", "sm_90") * 2, strict=False):
        step = step_of(neuron) if chosen == asked[1] else normalised(step_of(neuron))
        step = cut_in_time(step) if chosen == asked[3] else step
        real = "float64" if data == "float64" else "float32"
        made_for = Variant(step, real, data, keep=keep, **chosen).for_gpu()  # type: ignore[arg-type]
        for loop in LOOPS:
            binary = candidates.compiled(made_for, loop, getattr(made_for.config, loop), arch, False)
            case = (chosen, data, arch, loop, binary)
            assert binary.size > 0, case
            assert (binary.stack, binary.spilled) == (0, 0), case


# -- run as C++ ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Result:
    out: Tensor
    state: Tensor
    traces: dict[str, Tensor]
    g_x: Tensor
    g_start: Tensor
    g_rows: dict[str, Tensor]

    def g_in(self) -> Tensor:
        """The gradients of the states at the start and of x, [STATES + T, B, N]: of one kind, hence of one scale."""
        return torch.cat([self.g_start, self.g_x.to(self.g_start.dtype)])


def run(layer: Layer, x: Tensor, start: Tensor, g_out: Tensor, g_state: Tensor, record: tuple[str, ...] = ()) -> Result:
    """One pass forward and backward; states and their gradients stacked [STATES, B, N]."""
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
    scale, shift = (4.0, 8.0) if isinstance(neuron, neurons.Izhikevich) else (1.0, 0.3)

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
    neurons.LIF(reset="hard", detach_reset=False), neurons.ParametricLIF(tau=2.3),
    neurons.LIF(learn=("tau", "v_threshold", "v_reset")),
    neurons.ALIF(), neurons.ALIF(detach_reset=False, learn=("beta", "tau_b")), neurons.CubaLIF(), neurons.LI(),
    neurons.LI(learn="tau"),
    neurons.QIF(), neurons.QIF(detach_reset=False), neurons.Izhikevich(), neurons.PaperLIF(v_reset=0.05), Clash(),
    *(neurons.LIF(surrogate=surrogate, detach_reset=False) for surrogate in SURROGATES[1:]),
]  # fmt: skip
LENGTHS = (1, 31, 32, 33, 100)  # around the chunks of 32 steps


@pytest.mark.parametrize("keep", KEEP)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("neuron", EXACT, ids=repr)
def test_the_cuda_text_gives_the_reference_bit_for_bit(
    fake_cupy: FakeCupy, neuron: Neuron, dtype: torch.dtype, keep: str
) -> None:
    # 8 and 256: several neurons in each thread; the others are no multiple of that
    for steps, count in (*((steps, 8) for steps in LENGTHS), (33, 5), (33, 1), (33, 257), (33, 256)):
        given = inputs(neuron, steps, count, dtype)
        channels = count if neuron.learn else None  # learned ones in each neuron: summed over time, not over neurons
        fused = Layer(neuron, backend="cuda", keep=keep, channels=channels)
        eager = Layer(neuron, backend="torch", channels=channels)
        found = run(fused, **given, record=("v", "h") if neuron.states[0] == "v" else ("z",))
        wanted = run(eager, **given, record=("v", "h") if neuron.states[0] == "v" else ("z",))
        case = (steps, count)
        assert torch.equal(found.out, wanted.out), case
        assert torch.equal(found.state, wanted.state), case
        assert found.traces.keys() == wanted.traces.keys()
        for name, trace in wanted.traces.items():
            assert torch.equal(found.traces[name], trace), (case, name)
        # Izhikevich's v**2 multiplies gradients, and what is rounded off them, by hundreds
        small = (1e-6 if dtype == torch.float32 else 1e-14) * (3 if isinstance(neuron, neurons.Izhikevich) else 1)
        assert_near(found.g_in(), wanted.g_in(), small, case)
        for name, gradient in wanted.g_rows.items():
            assert_near(found.g_rows[name], gradient, 10 * small, (case, name))
    assert {name for name, _ in fake_cupy.launches} == {"forward", "backward"}


def test_with_exp_it_differs_from_the_reference_in_the_last_bits_only(fake_cupy: FakeCupy) -> None:
    # torch and the C++ library round exp differently, by about one unit in the last place; as long as none fires at
    # another step for that (here: none does), the potentials differ by what a few such units become in 33 steps
    for dtype, small in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
        for keep in KEEP:
            given = inputs(neurons.EIF(), 33, 257, dtype)
            found = run(Layer(neurons.EIF(), backend="cuda", keep=keep), **given, record=("v",))
            wanted = run(Layer(neurons.EIF(), backend="torch"), **given, record=("v",))
            assert torch.equal(found.out, wanted.out)
            assert_near(found.traces["v"], wanted.traces["v"], small, "v")
            assert_near(found.g_in(), wanted.g_in(), small, "gradient")


@pytest.mark.parametrize("keep", KEEP)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "neuron", [neurons.LIF(), neurons.ALIF(learn="beta"), neurons.LI(), neurons.Izhikevich(), neurons.PaperLIF()],
    ids=lambda n: type(n).__name__,
)  # fmt: skip
def test_in_half_precision_the_state_is_float32(
    fake_cupy: FakeCupy, neuron: Neuron, dtype: torch.dtype, keep: str
) -> None:
    widest = [variant(neurons.LIF(), name).shape.widest for name in ("float16", "float32", "float64")]
    assert widest == [8, 4, 2]
    for count in (257, 256):
        in_half_precision(neuron, dtype, keep, count)


def in_half_precision(neuron: Neuron, dtype: torch.dtype, keep: str, count: int) -> None:
    given = inputs(neuron, 33, count, dtype)
    found = run(Layer(neuron, backend="cuda", keep=keep), **given)
    wanted = run(Layer(neuron, backend="torch"), **given)
    assert torch.equal(found.out, wanted.out)
    assert torch.equal(found.state, wanted.state)
    assert (found.out.dtype, found.g_x.dtype, found.state.dtype) == (dtype, dtype, torch.float32)
    # Both round a float32 gradient; those agree to 1e-6, so that the rounded ones are equal or, seldom, neighbours.
    unit = (torch.finfo(dtype).eps * wanted.g_x.float().abs()).clamp(min=torch.finfo(dtype).smallest_normal / 64)
    if isinstance(neuron, neurons.Izhikevich):  # there, to 3e-6 of the largest (see above)
        unit += 3e-6 * wanted.g_x.float().abs().max()
    apart = (found.g_x.float() - wanted.g_x.float()).abs()
    assert (apart <= unit).all()
    assert (apart > 0).float().mean() < 0.01
    assert_near(found.g_start, wanted.g_start, 1e-6, "start")


def plain_lif(x: Tensor, v: Tensor, tau: float, threshold: float) -> tuple[Tensor, Tensor]:
    """LIF with a detached soft reset and the ATan surrogate of alpha = 2, as a loop that shares no code with ours."""
    spikes = []
    for x_t in x:
        v = v + x_t - v / tau
        u = v - threshold
        bump = torch.atan(torch.pi * u) / torch.pi
        s = (u >= 0).to(x.dtype) + (bump - bump.detach())  # the value of a step, the slope of an arctangent
        v = v - threshold * s.detach()
        spikes.append(s)
    return torch.stack(spikes), v


@pytest.mark.parametrize("keep", KEEP)
def test_lif_agrees_with_a_loop_that_is_not_ours(fake_cupy: FakeCupy, keep: str) -> None:
    given = inputs(neurons.LIF(), 50, 300, torch.float64)
    found = run(Layer(neurons.LIF(tau=3.0, v_threshold=0.7), backend="cuda", keep=keep), **given)
    x, start = given["x"].clone().requires_grad_(), given["start"][0].clone().requires_grad_()
    spikes, v = plain_lif(x, start, 3.0, 0.7)
    torch.autograd.backward((spikes, v), (given["g_out"], given["g_state"][0]))
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(found.out, spikes.detach())
    assert_near(found.state[0], v.detach(), 1e-14, "v")
    assert_near(found.g_x, x.grad, 1e-14, "x")
    assert_near(found.g_start[0], start.grad, 1e-14, "start")


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0)], ids=str)
def test_empty_sizes(fake_cupy: FakeCupy, shape: tuple[int, ...]) -> None:
    layer = Layer(neurons.ALIF(), backend="cuda")
    start = (torch.rand(shape[1:]), torch.rand(shape[1:]))
    x = torch.zeros(shape, requires_grad=True)
    spikes, state = layer(x, start, return_state=True)
    spikes.sum().backward()
    assert spikes.shape == shape
    assert all(map(torch.equal, state, start))
    # the layer answers by itself; the kernels cope as well
    chosen = variant(neurons.ALIF(), "float32", keep="input")
    flat, z = x.detach().flatten(1), torch.stack(start).flatten(1)
    given = backends.Given(len(flat), layer.by_value, z)
    out, after, kept, _ = cuda.forward(chosen, flat, given)
    g_x, g_start, _ = cuda.backward(chosen, flat, torch.empty_like(out), torch.ones_like(after), None, given, kept)
    assert (out.shape, g_x.shape) == (flat.shape, flat.shape)
    assert torch.equal(after, z)
    assert torch.equal(g_start, torch.ones_like(z))


AT_THE_ENDS = [
    neurons.LIF(reset="hard", v_reset=-0.1), neurons.ALIF(learn="beta"), neurons.Izhikevich(), neurons.LIF(learn="v_reset"),
]  # fmt: skip


@pytest.mark.parametrize("keep", KEEP)
@pytest.mark.parametrize("neuron", AT_THE_ENDS, ids=repr)
def test_a_layer_that_begins_anew(fake_cupy: FakeCupy, neuron: Neuron, keep: str) -> None:
    """No state is given, and the last one is not requested: whole chunks of time, parts of one, and wide accesses."""
    for steps, count in ((1, 8), (16, 5), (17, 8), (33, 256), (100, 5)):
        x, g_out = (inputs(neuron, steps, count, torch.float32)[name] for name in ("x", "g_out"))
        made = {}
        for backend in ("cuda", "torch"):
            layer = Layer(neuron, backend=backend, keep=keep if backend == "cuda" else "auto")
            given = x.clone().requires_grad_()
            out = layer(given)
            made[backend] = (out.detach(), *torch.autograd.grad(out, [given, *layer.raw.values()], g_out))
        (found, *gradients), (wanted, *expected) = made["cuda"], made["torch"]
        assert torch.equal(found, wanted), (steps, count)
        for mine, theirs in zip(gradients, expected, strict=True):
            assert_near(mine, theirs, 3e-6, (steps, count))
    assert wanted.any()


@pytest.mark.parametrize("keep", ["input", "potential"])
def test_nothing_is_moved_for_an_end_of_time_that_is_not_requested(fake_cupy: FakeCupy, keep: str) -> None:
    layer, x = Layer(neurons.LIF(), backend="cuda", keep=keep), torch.rand(8, 2, 4, requires_grad=True)
    v = torch.zeros(2, 4)

    def ends(given: tuple[Tensor, ...] | None, wanted: bool) -> tuple[list[bool], list[bool]]:
        """Whether start and state, and g_state, start and g_start, are there."""
        found = layer(x, given, return_state=wanted)
        out, state = found if wanted else (found, ())
        forward = [bool(fake_cupy.last[k]) for k in (1, 5)]
        torch.autograd.backward((out, *state), [torch.ones_like(z) for z in (out, *state)])
        return forward, [bool(fake_cupy.last[k]) for k in (2, 4, 9)]

    again = keep == "input"
    assert ends(None, False) == ([False, False], [False, False, False])
    assert ends((v,), False) == ([True, False], [False, again, False])
    assert ends((v,), True) == ([True, True], [True, again, False])
    assert ends((v.requires_grad_(),), True) == ([True, True], [True, again, True])
    assert v.grad is not None
    assert v.grad.all()


BOX = surrogates.Rectangle()
STEPS = surrogates.custom("Steps", "Piecewise((1, Abs(u) < 0.2), (0.5, Abs(u) < 0.4), (0.1, u < 1), (0, True))")
IN_BITS = [
    neurons.LIF(surrogate=BOX), neurons.LIF(surrogate=BOX, reset="hard", v_reset=-0.1), neurons.ALIF(surrogate=BOX),
    neurons.CubaLIF(surrogate=BOX, detach_reset=False), neurons.IF(surrogate=BOX, learn="v_threshold"),
    neurons.LIF(surrogate=STEPS, reset="hard"),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("neuron", IN_BITS, ids=lambda n: f"{type(n).__name__}-{n.reset}-{type(n.surrogate).__name__}")
def test_bits_give_what_values_give(fake_cupy: FakeCupy, neuron: Neuron, dtype: torch.dtype) -> None:
    """1, 2 and 4 bits of a step: 8, 4 and 2 steps in a byte, that T fills or begins."""
    for steps, count in ((1, 8), (7, 8), (8, 5), (9, 8), (33, 256), (33, 257)):
        given = inputs(neuron, steps, count, dtype)
        bits, values = (run(Layer(neuron, backend="cuda", keep=keep), **given) for keep in ("bits", "potential"))
        wanted = run(Layer(neuron, backend="torch"), **given)
        assert torch.equal(bits.out, wanted.out), (steps, count)
        assert torch.equal(bits.state, wanted.state), (steps, count)
        assert torch.equal(bits.g_in(), values.g_in()), (steps, count)
        if dtype != torch.bfloat16:
            assert_near(bits.g_in(), wanted.g_in(), 1e-6 if dtype == torch.float32 else 1e-14, (steps, count))
    assert bits.g_x.any()


def test_neurons_are_shared_out_to_whole_blocks(fake_cupy: FakeCupy) -> None:
    layer = Layer(neurons.LIF(), backend="cuda")
    # blocks of 128 threads, with four neurons in each where four divide their number
    for count, blocks in ((1, 1), (127, 1), (129, 2), (512, 1), (516, 2), (4 * 512, 4), (4 * 512 + 1, 17)):
        layer(torch.zeros(2, 1, count))
        assert fake_cupy.launches[-1] == ("forward", blocks)


def test_wide_accesses_only_where_they_begin_at_whole_words(fake_cupy: FakeCupy) -> None:
    layer, x = Layer(neurons.LIF(), backend="cuda"), torch.rand(3, 1, 512)
    shifted = torch.cat([torch.zeros(1), x.flatten()])[1:].view(x.shape)
    assert shifted.data_ptr() % 16 == 4
    results = [layer(given) for given in (x, shifted)]
    assert fake_cupy.launches == [("forward", 1), ("forward", 4)]
    assert torch.equal(*results)


def test_a_small_layer_takes_a_thread_per_neuron(fake_cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """132 multiprocessors, as an H100 has: a quarter of the threads would leave most of them without work."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=132))
    Layer(neurons.LIF(), backend="cuda")(torch.zeros(2, 1, 1024))
    assert fake_cupy.launches[-1] == ("forward", 8)


def test_a_number_that_changes_compiles_nothing(fake_cupy: FakeCupy) -> None:
    for tau in (2.0, 3.0, 4.5):
        Layer(neurons.LIF(tau=tau), backend="cuda")(torch.rand(3, 1, 4))
    assert cuda.load.cache_info().misses == 1


def test_a_kernel_that_does_not_compile_says_what_is_missing(
    fake_cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**given: Any) -> None:
        raise RuntimeError('neuron.cuh(3): catastrophic error: cannot open source file "cuda_fp16.h"')

    monkeypatch.setattr(fake_cupy, "RawModule", refuse)
    with pytest.raises(RuntimeError, match=r"'forward' does not compile: CUDA's headers.*cuda_fp16\.h.*pip install"):
        Layer(neurons.LIF(), backend="cuda")(torch.rand(3, 1, 4).half())


# -- with CuPy itself, and without it --------------------------------------------------------------------------------


def test_cupy_takes_the_arguments_of_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy converts arguments to C before it needs a GPU: without one, it must come as far as the driver."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    kernel = cupy.cuda.Function.__new__(cupy.cuda.Function)  # one without a module, which needs no GPU
    seen = []

    def launch(*args: Any, **options: Any) -> None:
        seen.append(args)
        if not torch.cuda.is_available():
            kernel(*args, **options)

    monkeypatch.setattr(cuda, "load", lambda *_: launch)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(cupy.cuda, "Device", FakeCupy("").device)
    x = torch.rand(3, 4)
    with contextlib.suppress(cupy.cuda.runtime.CUDARuntimeError):
        numbers = [2.0, 1.0, 0.0, 2.0, 0.0]
        cuda.forward(variant(neurons.LIF(), "float32"), x, backends.Given(3, numbers, torch.zeros(1, 4)))
    ((grid, block, arguments),) = seen
    assert (grid, block) == ((1,), (128,))
    # addresses, T, N, N / B; the groups; the numbers and v; the steps of a chunk
    assert [np.asarray(a).nbytes for a in arguments] == [*[8] * 11, 16, 5 * 4, 8]


class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'", name="cupy")


def one_sentence(text: str) -> None:
    assert text, "a reason is wanted"
    assert "\n" not in text
    assert len(text) < 300


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    one_sentence(cuda.why_not())
    assert "doctor" in cuda.why_not()


def test_without_cupy_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    one_sentence(cuda.why_not())
    assert "CuPy is not installed" in cuda.why_not()
    assert "pip install cupy-cuda1" in cuda.why_not()
    backends._why_not.cache_clear()
    try:
        assert backends.choose("auto", "cuda").name == "torch"
        assert "pip install cupy-cuda1" in backends.choose("auto", "cuda").reason
        with pytest.raises(RuntimeError, match=r"backend='cuda' cannot run: CuPy is not installed.*pip install"):
            backends.choose("cuda", "cuda")
    finally:
        backends._why_not.cache_clear()


def test_the_cuda_backend_refuses_cpu_tensors() -> None:
    with pytest.raises(
        ValueError, match=r"backend='cuda' runs CUDA tensors, but x is on 'cpu'; move x with x.to\('cuda'\)"
    ):
        backends.choose("cuda", "cpu")
    with pytest.raises(ValueError, match="but x is on 'cpu'"):
        Layer(neurons.LIF(), backend="cuda")(torch.rand(2, 1, 3))


def test_a_plain_cpp_compiler_takes_cudas_headers(require: Callable[..., str]) -> None:
    compiler = require("g++", "clang++", why="to run the CUDA kernels as C++")
    text = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\nint main() { return float(__half(1.0f)) != 1.0f; }\n"
    folders = [word for folder in header_folders() for word in ("-isystem", folder)]
    done = subprocess.run(
        [compiler, "-x", "c++", "-fsyntax-only", *folders, "-"], input=text, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""Chunks of time side by side in the CUDA kernels, run as C++: each of the three phases, and all of them together.

The reference is the eager torch backend, one chunk after the other, differentiated by autograd through all of them; for phases
alone a closed form.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import tfexplore
from tests.cuda_text import FakeCupy
from tfexplore import neurons, surrogates
from tfexplore.backends import Given, cuda, cuda_chunks
from tfexplore.codegen.variant import Variant
from tfexplore.neurons import Neuron
from tfexplore.neurons.affine import why_not
from tfexplore.neurons.step import by_value, step_of
from tfexplore.nn.layers import Layer

BOX = surrogates.Rectangle()
CASES: list[tuple[Neuron, str, torch.dtype]] = [
    (neurons.LIF(), "input", torch.float32),
    (neurons.LIF(reset="hard", v_reset=-0.1, detach_reset=False), "potential", torch.float64),
    (neurons.LIF(surrogate=BOX), "bits", torch.float32),
    (neurons.LIF(reset="none"), "input", torch.float64),
    (neurons.IF(), "potential", torch.float32),
    (neurons.ALIF(detach_reset=False), "input", torch.float64),
    (neurons.ALIF(surrogate=BOX), "bits", torch.float64),
    (neurons.CubaLIF(), "potential", torch.float32),
    (neurons.LI(), "input", torch.float32),
    (neurons.QIF(), "input", torch.float64),
    (neurons.EIF(), "potential", torch.float64),
    (neurons.Izhikevich(), "input", torch.float64),
    (neurons.PaperLIF(v_reset=0.05), "input", torch.float32),
]


def variant(neuron: Neuron, keep: str, dtype: torch.dtype, **more: Any) -> Variant:
    real = "float64" if dtype == torch.float64 else "float32"
    return Variant(step_of(neuron), real, str(dtype).removeprefix("torch."), keep, **more).for_gpu()


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def current(neuron: Neuron, steps: int, count: int, dtype: torch.dtype) -> Tensor:
    """It makes this neuron fire now and then."""
    scale, shift = (4.0, 8.0) if isinstance(neuron, neurons.Izhikevich) else (1.0, 0.3)
    return (noise(1, steps, count) * scale + shift).to(dtype)


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class Eager:
    """The eager layer over chunks of time, and the gradients of x, of the initial states, and of those at the chunks' ends.

    starts, g_ends: [STATES, C N]; state, g_start: [STATES, N].
    """

    def __init__(self, neuron: Neuron, x: Tensor, start: Tensor, g_out: Tensor, g_state: Tensor, chunk: int) -> None:
        layer, x, start = Layer(neuron, backend="torch"), x.clone().requires_grad_(), start.clone().requires_grad_()
        states, outs = [start], []
        for piece in x.split(chunk):
            out, state = layer(piece, tuple(states[-1]), return_state=True)
            states.append(torch.stack(state))
            outs.append(out)
        self.out, self.state = torch.cat(outs).detach(), states[-1].detach()
        self.starts = torch.cat(states[:-1], 1).detach()
        wanted = [x, *states[:-1]]
        self.g_x, self.g_start, *between = torch.autograd.grad(
            (*outs, states[-1]), wanted, (*[g.contiguous() for g in g_out.split(chunk)], g_state)
        )
        self.g_ends = torch.cat([*between, g_state], 1)


def near(found: Tensor, wanted: Tensor, tolerance: float, what: Any) -> None:
    """max|difference| <= tolerance * max|wanted|."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), what
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max(), what


SMALL = {torch.float32: 3e-6, torch.float64: 1e-13}


@pytest.mark.parametrize(("neuron", "keep", "dtype"), CASES, ids=str)
def test_chunks_side_by_side_give_what_one_after_the_other_gives(
    fake_cupy: FakeCupy, neuron: Neuron, keep: str, dtype: torch.dtype
) -> None:
    """A last chunk that is shorter, and shorter than a batch; neurons that fill wide accesses, and one."""
    made = variant(neuron, keep, dtype)
    real, states = state_dtype(dtype), len(neuron.states)
    for steps, count, chunk in ((100, 8, 32), (64, 5, 16), (33, 1, 16), (70, 256, 64)):
        case = steps, count, chunk
        x, g_out = current(neuron, steps, count, dtype), noise(2, steps, count, dtype=dtype)
        rest = torch.tensor([float(v) for v in neuron.initial()], dtype=real).view(-1, 1)
        start, g_state = rest + 0.1 * noise(3, states, count, dtype=real), noise(4, states, count, dtype=real)
        wanted = Eager(neuron, x, start, g_out, g_state, chunk)
        given = Given(steps, by_value(neuron), wanted.starts, chunk=chunk)
        out, ends, kept, _ = cuda.forward(made, x, given)
        assert ends is not None
        exp = isinstance(neuron, neurons.EIF)  # torch's and the C++ library's differ in the last bit
        if not exp:
            assert torch.equal(ends[:, -count:], wanted.state), case
            assert torch.equal(ends[:, :-count], wanted.starts[:, count:]), case
        assert torch.equal(out, wanted.out), case
        assert torch.equal(cuda_chunks.ends(made, x, given), ends), case
        serial = cuda.forward(made, x, given._replace(start=start, chunk=0))
        if kept is not None and not exp:
            assert torch.equal(kept, serial[2]), "what is saved for backward has the layout of serial time"

        small = SMALL[dtype] * (100 if isinstance(neuron, neurons.Izhikevich) else 1)
        matrix, vector = cuda_chunks.backward_ends(made, x, g_out, None, given, kept)
        g_ends = cuda_chunks.combine(matrix, vector, g_state, count, back=True)
        near(g_ends, wanted.g_ends, small, case)
        for begin in (wanted.starts, start):  # it reads the first chunk's only
            g_x, g_start, _ = cuda.backward(made, x, g_out, g_ends, None, given._replace(start=begin), kept)
            assert g_start is not None
            near(torch.cat([g_start[:, :count], g_x]), torch.cat([wanted.g_start, wanted.g_x]), small, case)
    assert {name for name, _ in fake_cupy.launches} == {"forward", "backward", "combine"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_in_half_precision_the_states_are_float32(fake_cupy: FakeCupy, dtype: torch.dtype) -> None:
    neuron, steps, chunk = neurons.ALIF(), 80, 32
    for count, keep in ((8, "potential"), (5, "input")):
        x, g_out = current(neuron, steps, count, dtype), noise(2, steps, count, dtype=dtype)
        start, g_state = torch.zeros(2, count), noise(4, 2, count, dtype=torch.float32)
        wanted = Eager(neuron, x, start, g_out, g_state, chunk)
        made, given = variant(neuron, keep, dtype), Given(steps, by_value(neuron), wanted.starts, chunk=chunk)
        out, state, kept, _ = cuda.forward(made, x, given)
        assert state is not None
        assert torch.equal(out, wanted.out)
        assert torch.equal(state[:, -count:], wanted.state)
        g_ends = cuda_chunks.combine(
            *cuda_chunks.backward_ends(made, x, g_out, None, given, kept), g_state, count, back=True
        )
        near(g_ends, wanted.g_ends, 1e-6, keep)
        g_x, _, _ = cuda.backward(made, x, g_out, g_ends, None, given, kept)
        apart, unit = (g_x.double() - wanted.g_x.double()).abs(), torch.finfo(dtype).eps * wanted.g_x.double().abs()
        assert (apart <= unit.clamp(min=torch.finfo(dtype).smallest_normal / 64)).all()
        assert (apart > 0).double().mean() < 0.01, "seldom rounded to the neighbour"


def test_phase_1_in_closed_form(fake_cupy: FakeCupy) -> None:
    """tau = 2 without a reset: v halves at every step; in float64, and with inputs that are multiples of 1/8, exactly."""
    neuron, steps, count, chunk = neurons.LIF(tau=2.0, reset="none"), 40, 6, 16
    x = (noise(5, steps, count) * 8).round() / 8
    made, given = variant(neuron, "potential", torch.float64), Given(steps, by_value(neuron), None, chunk=chunk)
    halves = [0.5 ** torch.arange(len(piece) - 1, -1, -1.0, dtype=torch.float64) for piece in x.split(chunk)]
    found = cuda_chunks.ends(made, x, given).view(-1, count)
    assert torch.equal(found, torch.stack([h @ piece for h, piece in zip(halves, x.split(chunk), strict=True)]))

    _, _, kept, _ = cuda.forward(made, x, given)
    matrix, vector = cuda_chunks.backward_ends(made, None, torch.zeros_like(x), None, given, kept)
    assert torch.equal(
        matrix, torch.tensor([0.5**16, 0.5**16, 0.5**8]).double().view(1, 1, 3, 1).expand(1, 1, 3, count)
    )
    assert not vector.any()


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(("states", "chunks", "count"), [(1, 37, 5), (2, 4, 3), (3, 1, 4), (5, 3, 1)])
def test_phase_2_is_a_loop_over_chunks(fake_cupy: FakeCupy, states: int, chunks: int, count: int, back: bool) -> None:
    vector, start = noise(6, states, chunks, count), noise(7, states, count)
    order = range(chunks - 1, -1, -1) if back else range(chunks)
    for shape in ((chunks, count), (chunks, 1), (1, count), (1, 1)):
        matrix = 0.5 * noise(8, states, states, *shape)
        each, z, wanted = matrix.expand(-1, -1, chunks, count), start, torch.empty_like(vector)
        for c in order:
            wanted[:, c] = z
            z = (each[:, :, c] * z).sum(1) + vector[:, c]
        found = cuda_chunks.combine(matrix, vector.flatten(1), start, count, back)
        near(found, wanted.flatten(1), 1e-14, shape)
    by_numbers = cuda_chunks.combine(matrix.flatten().tolist(), vector.flatten(1), start, count, back)
    assert torch.equal(by_numbers, found)
    half = cuda_chunks.combine(
        matrix, vector.flatten(1).float(), start.float(), count, back
    )  # a matrix in float64 beside them
    near(half.double(), wanted.flatten(1), 1e-5, "float32")
    alike = [0.25 * k for k in range(states)]
    same = torch.tensor(alike, dtype=torch.float64).view(-1, 1).expand(-1, count)
    assert torch.equal(
        cuda_chunks.combine(matrix, vector.flatten(1), alike, count, back),
        cuda_chunks.combine(matrix, vector.flatten(1), same, count, back),
    )


def test_a_state_of_zero_stays_out_of_a_matrix_that_overflows(fake_cupy: FakeCupy) -> None:
    found = cuda_chunks.combine([float("inf")], torch.zeros(1, 6), torch.zeros(1, 2), 2)
    assert torch.equal(found, torch.zeros(1, 6))


def test_samples_that_end_early(fake_cupy: FakeCupy) -> None:
    """In the middle of a chunk, at its end, and before it begins: its state stays, and what is written for it is 0."""
    neuron, steps, chunk, lengths = neurons.LIF(), 48, 16, (48, 20, 16, 1)
    for keep, each in (("input", 4), ("potential", 3)):
        count = 4 * each
        x, g_out = current(neuron, steps, count, torch.float64), noise(2, steps, count)
        start, g_state = 0.1 * noise(3, 1, count), noise(4, 1, count)
        parts = [slice(b * each, (b + 1) * each) for b in range(4)]
        wanted = [
            Eager(neuron, x[:t, part], start[:, part], g_out[:t, part], g_state[:, part], chunk)
            for t, part in zip(lengths, parts, strict=True)
        ]
        starts = torch.stack([start, *torch.empty(2, 1, count, dtype=torch.float64)], 1)
        for e, part in zip(wanted, parts, strict=True):
            known = e.starts.view(1, -1, each)
            starts[:, :, part] = torch.cat([known, *[e.state.view(1, 1, each)] * (3 - known.shape[1])], 1)
        given = Given(steps, by_value(neuron), starts.flatten(1), None, 1, torch.tensor(lengths), chunk)
        made = variant(neuron, keep, torch.float64, record=("v",))
        out, state, kept, watched = cuda.forward(made, x, given)
        assert state is not None
        assert watched is not None
        g_ends = cuda_chunks.combine(
            *cuda_chunks.backward_ends(made, x, g_out, None, given, kept), g_state, count, back=True
        )
        g_x, g_start, _ = cuda.backward(made, x, g_out, g_ends, None, given, kept)
        assert g_start is not None
        for t, e, part in zip(lengths, wanted, parts, strict=True):
            assert torch.equal(out[:t, part], e.out)
            assert torch.equal(state[:, -count:][:, part], e.state)
            near(g_x[:t, part], e.g_x, 1e-13, t)
            near(g_start[:, part], e.g_start, 1e-13, t)
            assert not out[t:, part].any()
            assert not g_x[t:, part].any()
            assert not watched[t:, :, part].any()


def test_traces_and_a_constant_current(fake_cupy: FakeCupy) -> None:
    """Gradients arrive at the traces of v as well; of an x that is the same at every step the chunks' gradients are added up."""
    neuron, steps, count, chunk = neurons.LIF(detach_reset=False), 40, 6, 16
    x, g_out, g_v = noise(1, 1, count) + 0.6, noise(2, steps, count), noise(9, steps, 1, count)
    start, g_state = 0.1 * noise(3, 1, count), noise(4, 1, count)
    once, v, layer = x.clone().requires_grad_(), start.clone().requires_grad_(), Layer(neuron, backend="torch")
    state, outs, traces = (v[0],), [], []
    for _ in range(steps):
        out, state = layer(once, state, return_state=True)
        outs.append(out)
        traces.append(state[0])
    wanted = torch.autograd.grad(
        (torch.cat(outs), torch.stack(traces), state[0]), (once, v), (g_out, g_v[:, 0], g_state[0])
    )
    starts = torch.stack([start[0], traces[15], traces[31]]).detach().view(1, -1)
    for keep in ("input", "potential"):
        made = variant(neuron, keep, torch.float64, record=("v",), traced=True, constant=True)
        given = Given(steps, by_value(neuron), starts, chunk=chunk)
        out, _, kept, watched = cuda.forward(made, x, given)
        assert torch.equal(out, torch.cat(outs).detach())
        assert watched is not None
        assert torch.equal(watched[:, 0], torch.stack(traces).detach())
        g_ends = cuda_chunks.combine(
            *cuda_chunks.backward_ends(made, x, g_out, g_v, given, kept), g_state, count, back=True
        )
        g_x, g_start, _ = cuda.backward(made, x, g_out, g_ends, g_v, given, kept)
        assert g_start is not None
        near(g_x, wanted[0], 1e-13, keep)
        near(g_start[:, :count], wanted[1], 1e-13, keep)


def test_parameters_of_groups_of_neurons(fake_cupy: FakeCupy) -> None:
    """Three channels of two neurons in each of two samples: a chunk's gradients of tau are added to the other chunks'."""
    neuron, steps, chunk, inner = neurons.LIF(learn="tau"), 40, 16, 2
    tau = torch.tensor([1.5, 2.0, 3.0], dtype=torch.float64).requires_grad_()
    x, g_out = noise(1, steps, 12) + 0.3, noise(2, steps, 12)
    v, outs, states, each = torch.zeros(12, dtype=torch.float64), [], [], tau.repeat_interleave(inner).repeat(2)
    for x_t in x:  # the plain loop: charge, fire with ATan's slope for alpha = 2, soft reset, detached
        v = v + x_t - v / each
        u = v - 1.0
        bump = torch.atan(torch.pi * u) / torch.pi
        s = (u >= 0).double() + (bump - bump.detach())
        v = v - s.detach()
        outs.append(s)
        states.append(v)
    (wanted,) = torch.autograd.grad(torch.stack(outs), tau, g_out)
    starts = torch.stack([torch.zeros_like(v), states[15], states[31]]).detach().view(1, -1)
    step = step_of(neuron)
    assert [symbol.name for symbol in step.learned] == ["tau"]
    given = Given(steps, by_value(neuron), starts, tau.detach().view(1, -1), inner, chunk=chunk)
    for keep in ("input", "potential"):
        made = variant(neuron, keep, torch.float64)
        out, _, kept, _ = cuda.forward(made, x, given)
        assert torch.equal(out, torch.stack(outs).detach())
        zeros = torch.zeros(1, 12, dtype=torch.float64)
        g_ends = cuda_chunks.combine(
            *cuda_chunks.backward_ends(made, x, g_out, None, given, kept), zeros, 12, back=True
        )
        _, _, found = cuda.backward(made, x, g_out, g_ends, None, given, kept)
        assert found is not None
        near(found[0], wanted, 1e-12, keep)


# -- the whole path, from a layer ------------------------------------------------------------------------------------


class Gated(Neuron):
    """A reader's own: x decides how much of v stays, so that every chunk has another matrix."""

    states = ("v",)
    v_threshold: float = 1.0
    v_reset: float = 0.0

    def charge(self, v, x):  # type: ignore[no-untyped-def]
        return (v - v * x / 8 + x,)


LAYERS: list[tuple[Neuron, str, torch.dtype]] = [
    (Gated(reset="none"), "input", torch.float64),
    (neurons.LIF(reset="none", learn=("tau", "v_reset")), "input", torch.float32),
    (neurons.LI(), "auto", torch.bfloat16),
    (neurons.CubaLIF(reset="none"), "potential", torch.float64),
    (neurons.LIF(), "auto", torch.float16),
    (neurons.ParametricLIF(tau=2.3), "input", torch.float32),
    (neurons.ALIF(learn="beta"), "input", torch.float32),
    (neurons.Izhikevich(), "input", torch.float64),
    (neurons.LIF(surrogate=BOX, learn="v_threshold"), "bits", torch.float64),
]


@pytest.mark.parametrize("schedule", ["chunked", "speculative"])
@pytest.mark.parametrize(("neuron", "keep", "dtype"), LAYERS, ids=str)
def test_a_layer_gives_what_the_eager_loop_gives(
    fake_cupy: FakeCupy, neuron: Neuron, keep: str, dtype: torch.dtype, schedule: str
) -> None:
    """Learned parameters, a start and a final state with gradients, a last chunk that is shorter; traces in the affine cases."""
    steps, real = 301, state_dtype(dtype)
    x, g_out = current(neuron, steps, 8, dtype).view(steps, 2, 4), noise(2, steps, 2, 4, dtype=dtype)
    rest = torch.tensor([float(v) for v in neuron.initial()], dtype=real).view(-1, 1, 1)
    start, g_state = rest + 0.1 * noise(3, len(rest), 2, 4, dtype=real), noise(4, len(rest), 2, 4, dtype=real)
    found: dict[str, list[Tensor]] = {}
    for backend in ("cuda", "torch"):
        chosen = {"keep": keep, "schedule": schedule} if backend == "cuda" else {}
        layer = Layer(neuron, backend=backend, channels=4 if neuron.learn else None, **chosen)  # type: ignore[arg-type]
        x_in, z = x.clone().requires_grad_(), start.clone().requires_grad_()
        with tfexplore.record(layer, neuron.states[0]) as traces:
            out, state = layer(x_in, tuple(z), return_state=True)
        wanted, given = [x_in, z, *layer.raw.values()], (g_out, g_state)
        found[backend] = [
            out.detach(), torch.stack(state).detach(), traces[""][neuron.states[0]],
            *torch.autograd.grad((out, torch.stack(state)), wanted, given),
        ]  # fmt: skip
    assert "combine" in {name for name, _ in fake_cupy.launches}, "it has run in chunks"
    digits = {torch.float64: 1e-13, torch.float32: 1e-6}[real] * (100 if isinstance(neuron, neurons.Izhikevich) else 3)
    half = torch.finfo(dtype).eps if dtype != real else 0.0
    (out, state, trace, *gradients), (out_e, state_e, trace_e, *gradients_e) = found["cuda"], found["torch"]
    affine = not why_not(step_of(neuron))
    if neuron.reset == "none" and affine and schedule == "chunked":  # a sum in another order: the last digits
        near(state, state_e, digits, "state")
        near(trace, trace_e, digits, "trace")
        near(out, out_e, max(digits, half) if isinstance(neuron, neurons.LI) else 0.0, "out")
    else:  # guessed until nothing changes, or serial: the same bits
        assert torch.equal(out, out_e)
        assert torch.equal(state, state_e)
        assert torch.equal(trace, trace_e)
    for mine, theirs in zip(gradients, gradients_e, strict=True):
        near(mine, theirs, max(10 * digits, 2 * half if mine.dtype == dtype else 0.0), mine.shape)


def test_a_scan_is_three_launches_forward_and_three_backward(fake_cupy: FakeCupy) -> None:
    x = torch.rand(256, 1, 4, requires_grad=True)
    layer = Layer(neurons.LIF(reset="none"), backend="cuda", schedule="chunked", keep="potential")
    layer(x).sum().backward()
    assert [name for name, _ in fake_cupy.launches] == [
        "forward",
        "combine",
        "forward",
        "backward",
        "combine",
        "backward",
    ]


def test_a_chunk_holds_what_is_saved_together(fake_cupy: FakeCupy) -> None:
    x = torch.zeros(64, 4)
    for keep, neuron, whole in (("input", neurons.LIF(), 16), ("bits", neurons.LIF(surrogate=BOX, reset="hard"), 4)):
        with pytest.raises(ValueError, match=f"chunk must be a multiple of the {whole} steps that keep='{keep}' saves"):
            cuda.forward(variant(neuron, keep, torch.float32), x, Given(64, by_value(neuron), None, chunk=6))


def test_few_pairs_are_spread_over_the_multiprocessors(fake_cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few neurons the next thread's x is a chunk away: an access of a warp takes as long as 32, so a block has one warp."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=132))
    neuron = neurons.LIF()
    made, given = variant(neuron, "nothing", torch.float32), Given(1024, by_value(neuron), None, chunk=4)
    cuda.forward(made, torch.zeros(1024, 1), given)
    assert fake_cupy.launches[-1] == ("forward", 256 // 32)
    cuda.forward(made, torch.zeros(1024, 256), given)
    assert fake_cupy.launches[-1] == ("forward", 256 * 256 // 128), "65,536 pairs: not enough for four in a thread"
    cuda.forward(made, torch.zeros(1024, 512), given)
    assert fake_cupy.launches[-1] == ("forward", 256 * 512 // 512)

"""What is saved for backward: which choices are exact, decided from the equations, and that all give the same bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cases import distance, same_bits
from tests.oracle import box, lif, paper_lif
from tfexplore import Layer, neurons, surrogates
from tfexplore.backends import numba_cpu, streaming
from tfexplore.codegen import keep as keeping
from tfexplore.measure import results
from tfexplore.neurons import Neuron
from tfexplore.neurons.step import initial_of, step_of

BOX = surrogates.Rectangle()
RESETS = [(reset, detach) for reset in ("soft", "hard", "none") for detach in (True, False)]
# derived manually: with a rectangle surrogate every coefficient of the adjoint is one of finitely many numbers, unless a
# hard reset lets the gradient through (dv/ds = v_reset - h), a step is not linear, or a parameter is learned
EXACT = {
    **{(neurons.IF, reset, detach): reset != "hard" or detach for reset, detach in RESETS},
    **{(neurons.LIF, reset, detach): reset != "hard" or detach for reset, detach in RESETS},
    **{(neurons.CubaLIF, reset, detach): reset != "hard" or detach for reset, detach in RESETS},
    **{(neurons.ALIF, reset, detach): reset == "none" or detach for reset, detach in RESETS},
    (neurons.PaperLIF, "hard", True): True,
    (neurons.PaperLIF, "hard", False): False,
    **{
        (cls, "hard", detach): False
        for cls in (neurons.QIF, neurons.EIF, neurons.Izhikevich)
        for detach in (True, False)
    },
}
QUALIFY = [
    neurons.LIF(surrogate=BOX), neurons.LIF(surrogate=BOX, detach_reset=False),
    neurons.LIF(surrogate=BOX, reset="hard", v_reset=-0.2), neurons.ALIF(surrogate=BOX, reset="hard"), neurons.LI(),
]  # fmt: skip


def ran(layer: Layer, x: Tensor, g_out: Tensor, g_state: Tensor) -> list[Tensor]:
    """Output, states, and the gradients of x and of the initial states."""
    start = tuple((0.1 * z + v).requires_grad_() for z, v in zip(g_state, initial_of(layer.neuron), strict=True))
    x = x.detach().requires_grad_()
    out, state = layer(x, start, return_state=True)
    torch.autograd.backward((out, torch.stack(state)), (g_out, g_state))
    return [out.detach(), *(z.detach() for z in state), x.grad, *(z.grad for z in start)]


def given(neuron: Neuron, steps: int, count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    make = torch.Generator().manual_seed(steps * 1000 + count)
    draw = (torch.randn(shape, 1, count, generator=make, dtype=dtype) for shape in (steps, steps, len(neuron.states)))
    x, g_out, g_state = draw
    return x + 0.3, g_out, g_state


@pytest.mark.parametrize("case", EXACT, ids=lambda c: f"{c[0].__name__}-{c[1]}-{'detached' if c[2] else 'attached'}")
def test_the_equations_decide_whether_bits_are_exact(case) -> None:
    cls, reset, detach = case
    neuron = cls(surrogate=BOX, reset=reset, detach_reset=detach)
    assert (keeping.why_not(step_of(neuron)) == "") == EXACT[case]


@pytest.mark.parametrize("cls", neurons.ALL, ids=lambda cls: cls.__name__)
def test_a_learned_parameter_needs_values(cls) -> None:
    learned = cls(surrogate=BOX, learn=tuple(cls().parameters))
    # IF's threshold is only subtracted: its coefficients are -1 and 0, and the bits still hold all
    assert ("needs the value of" in keeping.why_not(step_of(learned))) == (cls is not neurons.IF)


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (
            neurons.LIF(),
            r"the value of u, not only .* \(a Rectangle surrogate only compares u with its edges\)",
        ),
        (
            neurons.LIF(surrogate=BOX, reset="hard", detach_reset=False),
            "its backward pass needs the value of v, not only",
        ),
        (neurons.LIF(surrogate=BOX, learn="tau"), "its backward pass needs the value of v, not only"),
        (neurons.Izhikevich(surrogate=BOX), "its backward pass needs the value of v, not only"),
    ],
    ids=repr,
)
def test_a_neuron_that_does_not_qualify_gets_a_reason(neuron, reason) -> None:
    with pytest.raises(ValueError, match=f"^keep='bits' is not exact for this {type(neuron).__name__}: .*{reason}"):
        Layer(neuron, keep="bits")
    assert Layer(neuron, keep="auto").keep == "auto"


def test_a_layer_that_keeps_bits_refuses_a_neuron_that_needs_more() -> None:
    layer = Layer(neurons.LIF(surrogate=BOX), keep="bits")
    with pytest.raises(ValueError, match="keep='bits' is not exact for this LIF"):
        layer.neuron = neurons.LIF()
    assert layer.neuron == neurons.LIF(surrogate=BOX)
    with pytest.raises(ValueError, match="a smooth spike is a number, not a bit"):
        Layer(neurons.LIF(surrogate=BOX), keep="bits", smooth=True)


@pytest.mark.parametrize("stream", [False, True], ids=["in the cache", "past the cache"])
@pytest.mark.parametrize("neuron", QUALIFY, ids=repr)
def test_every_keep_gives_the_same_bits(neuron, stream, monkeypatch) -> None:
    """Chunks, bytes, pieces and blocks that are filled, begun, and just passed; rows that begin anywhere in a line."""
    monkeypatch.setattr(streaming, "CACHE", 0 if stream else 1 << 40)
    for steps, count in ((1, 3), (7, 17), (8, 1024), (33, 1025), (65, 40), (9, 4099)):
        data = given(neuron, steps, count)
        wanted = ran(Layer(neuron, backend="torch"), *data)
        found = {keep: ran(Layer(neuron, backend="numba", keep=keep), *data) for keep in keeping.KEEP}
        states = len(neuron.states)
        for keep, values in found.items():
            assert all(map(same_bits, values, found["potential"])), (keep, steps, count)
            assert all(map(same_bits, values[: 1 + states], wanted[: 1 + states])), (keep, steps, count)
            assert all(distance(a, b) <= 1e-6 for a, b in zip(values, wanted, strict=True)), (keep, steps, count)
    assert found["bits"][1 + states].any()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_from_several_threads(threads) -> None:
    before, neuron = torch.get_num_threads(), neurons.LIF(surrogate=BOX, reset="hard")
    data = given(neuron, 260, 4100)
    assert data[0].numel() > numba_cpu.SMALL
    try:
        torch.set_num_threads(threads)
        found = [ran(Layer(neuron, backend="numba", keep=keep), *data) for keep in ("bits", "input")]
    finally:
        torch.set_num_threads(before)
    assert all(map(same_bits, *found))


@pytest.mark.parametrize(("reset", "detach"), [("soft", True), ("soft", False), ("hard", True), ("none", True)])
def test_bits_against_a_plain_loop(reset, detach) -> None:
    """The oracle knows nothing of tfexplore: a hand-written loop, differentiated by autograd."""
    neuron = neurons.LIF(tau=3.0, reset=reset, surrogate=surrogates.Rectangle(0.8), detach_reset=detach, v_reset=-0.1)
    x, g_out, g_state = given(neuron, 50, 33, torch.float64)
    found = ran(Layer(neuron, backend="numba", keep="bits"), x, g_out, g_state)
    start = (0.1 * g_state[0] - 0.1).requires_grad_()
    out, v = lif_with_a_box(x.requires_grad_(), start, reset=reset, detach_reset=detach)
    torch.autograd.backward((out, v), (g_out, g_state[0]))
    for a, b in zip(found, (out, v, x.grad, start.grad), strict=True):
        assert distance(a, b.detach()) <= 1e-14


def lif_with_a_box(x: Tensor, v: Tensor, **how: object) -> tuple[Tensor, Tensor]:
    from tests import oracle

    with pytest.MonkeyPatch.context() as patch:  # the oracle's own loop, with its own rectangle
        patch.setattr(oracle, "atan", lambda alpha: box(0.8))
        out, last, _, _ = lif(x, v, 3.0, v_reset=-0.1, **how)
    return out, last


def test_the_papers_neuron_detached() -> None:
    neuron = neurons.PaperLIF(surrogate=surrogates.Rectangle(1.0), detach_reset=True, v_reset=0.1)
    x, g_out, g_state = given(neuron, 40, 20, torch.float64)
    found = ran(Layer(neuron, backend="numba", keep="bits"), x, g_out, g_state)
    forward, _ = paper_lif(x, 0.1 * g_state[0] + neuron.initial()[0], neuron.decay, neuron.v_threshold, 0.1, 1.0)
    assert torch.equal(found[0], forward.detach())


def test_bits_keep_a_thirty_second() -> None:
    x = torch.rand(64, 2, 512, requires_grad=True)
    saved: list[Tensor] = []
    for neuron, bits in ((neurons.LIF(surrogate=BOX), 1), (neurons.LIF(surrogate=BOX, reset="hard"), 2)):
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            Layer(neuron, keep="bits")(x)
        assert sum(t.nbytes for t in saved) == x.numel() * bits / 8


def test_auto_takes_the_fastest_that_is_exact(kernels_used) -> None:
    smooth = {cls.__name__: keeping.fastest(step_of(cls()), "numba") for cls in neurons.ALL}
    assert smooth.pop("LI") == "bits"  # of which it needs none
    assert smooth.pop("EIF") == "potential"
    assert set(smooth.values()) == {"input"}
    assert keeping.fastest(step_of(neurons.EIF()), "cuda") == "input"
    x = torch.rand(4, 1, 8, requires_grad=True)
    for keep in ("auto", "bits", "input"):
        Layer(neurons.LIF(surrogate=BOX), keep=keep)(x)
    assert kernels_used[0] == kernels_used[1] != kernels_used[2]


def test_auto_is_the_fastest_of_the_recorded_table() -> None:
    """Within a tenth, and of the recorded machine; a new measurement to the contrary requires another rule."""
    rows = [row for record in results.records(benchmark="keep") for row in record.rows]
    assert len(rows) >= 2 * len(neurons.ALL)
    for row in rows:
        neuron = getattr(neurons, row["neuron"])(surrogate=getattr(surrogates, row["surrogate"])())
        chosen = keeping.fastest(step_of(neuron), row["backend"])
        assert row["median_ms"][chosen] <= 1.1 * min(row["median_ms"].values()), row

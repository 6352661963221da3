"""The kernel explorer: what its threads touch, against counts from the equations, a plain loop, and the torch backend."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.cases import NEURONS
from tests.pictures import spread
from tfexplore import explore, neurons
from tfexplore.codegen.traffic import traffic_of, words
from tfexplore.codegen.variant import Variant
from tfexplore.explore.kernel.recording import data
from tfexplore.explore.kernel.stepping import MEMORY, body, stepped
from tfexplore.neurons import Neuron, TimeConstant
from tfexplore.neurons.step import step_of
from tfexplore.nn.layers import Layer


class Own(Neuron):
    tau: TimeConstant = 4.0
    v_threshold: float = 1.0
    v_reset: float = 0.0

    def charge(self, v, x):  # type: ignore[no-untyped-def]
        return v - v * v / self.tau + x


@pytest.fixture
def stepper() -> Any:
    return explore.kernel("LIF", kernel="forward", keep="potential", threads=5, steps=4)


# -- what the kernel does ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*NEURONS, Own], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("keep", ["potential", "input"])
def test_counted_words_are_those_of_the_equations(kind: Any, keep: str) -> None:
    neuron = kind()
    runs = {kernel: stepped(neuron, kernel, keep, threads=2, steps=64) for kernel in ("forward", "backward")}
    for kernel, run in runs.items():
        derived = words(traffic_of(neuron, keep), kernel)
        chunks = keep == "input" and derived.denominator > 1  # LI needs nothing saved
        assert sum(run.counted().values()) == derived - Fraction(len(neuron.states) * chunks, 64)  # the first is not
        assert run.counted() == run.derived()


@pytest.mark.parametrize("steps", [1, 5, 31, 32, 33, 40])
@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_the_states_of_every_chunk_but_the_first_are_saved(kernel: str, steps: int) -> None:
    run = stepped(neurons.LIF(), kernel, "input", 2, steps)
    assert run.counted() == run.derived()
    assert run.words("kept", "write" if kernel == "forward" else "read") == 2 * (steps > 32)


def test_without_a_backward_pass_only_the_current_and_the_spikes_move() -> None:
    run = stepped(neurons.ALIF(), "forward", "nothing", 3, 7)
    assert run.counted() == run.derived() == {("x", "read"): 1, ("out", "write"): 1}
    assert run.words("start", "read") == 2 * 3  # two states, once


def test_spikes_and_registers_are_those_of_a_plain_loop() -> None:
    run = stepped(neurons.LIF(tau=3.0), "forward", "potential", 6, 20)
    x, v = run.grids["x"].astype(np.float32), np.zeros(6, np.float32)
    ends = [m for m, line in enumerate(run.lines) if "write(row, cut(out" in run.source.splitlines()[line - 1]]
    assert len(ends) == 20
    fired = 0
    for t, m in enumerate(ends):
        h = v - (v - np.float32(0.0)) / np.float32(3.0) + x[t]
        s = (h >= 1).astype(np.float32)
        after = h - s
        np.testing.assert_allclose(run.registers[m], np.stack([v, h, s, after]), atol=1e-6)
        np.testing.assert_array_equal(run.grids["out"][t], s)
        np.testing.assert_allclose(run.grids["kept"][t], h, atol=1e-6)
        v, fired = after, fired + s.sum()
    assert run.names == ("v", "h_v", "s", "v after")
    assert 0 < fired < 120


@pytest.mark.parametrize("kind", NEURONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("keep", ["potential", "input"])
def test_results_are_those_of_the_torch_backend(kind: Any, keep: str) -> None:
    neuron = kind()
    forward, backward = (stepped(neuron, kernel, keep, 3, 12) for kernel in ("forward", "backward"))
    arrays = data(Variant(step_of(neuron), keep=keep), neuron, 3, 12)
    x = torch.tensor(arrays["x"]).unsqueeze(1).requires_grad_()
    out = Layer(neuron, backend="torch")(x)
    np.testing.assert_array_equal(forward.grids["out"], out.detach().squeeze(1).numpy())
    assert kind is neurons.LI or 0 < out.sum() < out.numel(), "the currents make neurons fire, not always"
    out.backward(torch.tensor(arrays["g_out"]).unsqueeze(1))
    expected = x.grad.squeeze(1).numpy()
    np.testing.assert_allclose(backward.grids["g_x"], expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_every_thread_touches_its_own_column_and_all_take_each_line_together(kernel: str) -> None:
    run = stepped(neurons.CubaLIF(), kernel, "potential", 4, 6)
    for moment in range(len(run.lines)):
        at = run.touches[run.touches[:, 0] == moment]
        each = [at[at[:, 1] == thread][:, 2:].tolist() for thread in range(4)]
        assert each.count(each[0]) == 4
    x = run.touches[run.touches[:, 2] == run.arrays.index("x" if kernel == "forward" else "g_out")]
    times = [int(row) for row in x[x[:, 1] == 0][:, 3]]
    assert times == (list(range(6)) if kernel == "forward" else list(range(5, -1, -1)))


def test_the_backward_pass_recomputes_a_chunk_forward_and_then_goes_backward() -> None:
    run = stepped(neurons.LIF(), "backward", "input", 1, 40)
    of = {name: [t[3] for t in run.touches if run.arrays[t[2]] == name] for name in ("x", "g_out")}
    assert of["x"] == [*range(32, 40), *range(32)]
    assert of["g_out"] == list(range(39, -1, -1))


def test_marks_distinguish_now_from_before() -> None:
    run = stepped(neurons.LIF(), "forward", "nothing", 2, 3)
    reads = [m for m in range(len(run.lines)) if (run.marks(m)["x"] == 2).any()]
    assert [run.marks(m)["x"].tolist() for m in reads] == [
        [[2, 2], [0, 0], [0, 0]],
        [[1, 1], [2, 2], [0, 0]],
        [[1, 1], [1, 1], [2, 2]],
    ]
    assert not run.marks(-1)["x"].any()
    assert all(np.all(marks == 1) for marks in run.marks(len(run.lines)).values())


def test_lines_are_lines_of_the_file_and_those_switched_off_never_run() -> None:
    run = stepped(neurons.LIF(), "forward", "nothing", 2, 3)
    first, lines = body(run.source, "forward")
    assert run.source.splitlines()[first - 1].strip() == lines[0].strip()
    off = [k for k, line in enumerate(lines, start=first) if "store_q" in line or "store_w" in line]
    assert len(off) == 2
    assert not run.ran & set(off)
    assert set(run.lines) <= run.ran <= set(range(first, first + len(lines)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neuron": "LIF"}, "neuron must be like neurons.LIF"),
        ({"kernel": "sideways"}, "kernel must be 'forward' or 'backward', but got 'sideways'"),
        ({"keep": "bits"}, "keep must be 'nothing', 'potential', 'input' for the forward kernel, but got 'bits'"),
        ({"kernel": "backward", "keep": "nothing"}, "keep must be 'potential', 'input' for the backward kernel"),
        ({"threads": 0}, "threads must be a whole number from 1 to 64, but got 0"),
        ({"steps": 65}, "steps must be a whole number from 1 to 64, but got 65"),
    ],
)
def test_errors_name_what_is_allowed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        stepped(**{"neuron": neurons.LIF(), **arguments})


# -- the explorer --------------------------------------------------------------------------------------------------


def test_moving_the_micro_step_shows_another_moment(stepper: Any) -> None:
    stepper.controls["micro_step"].value = 0
    assert "Nothing has run yet: 5 threads" in stepper.message.value
    assert not np.any(stepper.trace("x").z)
    seen = set()
    for k in range(1, stepper.controls["micro_step"].max + 1):
        stepper.controls["micro_step"].value = k
        seen.add(stepper.message.value)
        assert str(stepper.result.lines[k - 1]) in re.findall(r"at line (\d+)", stepper.source.value)
    assert len(seen) == len(stepper.result.lines)
    assert all(np.min(stepper.trace(name).z) >= 1 for name in ("x", "kept", "out")), "in the end every word was touched"
    assert "20</td><td" in stepper.traffic.value


def test_the_sentence_says_that_neighbours_are_read_in_one_sweep(stepper: Any) -> None:
    assert "t = 2: the threads read 5 words of x (neighbours: one sweep of 20 bytes)." in stepper.message.value
    assert np.array_equal(np.array(stepper.trace("x").z)[:, 0], [1, 1, 2, 0])
    assert stepper.trace("x").text[2][0].startswith("R ")


@pytest.mark.parametrize(
    ("control", "value", "expected"),
    [
        ("keep", "nothing", ["x", "out"]),
        ("keep", "input", ["x", "out"]),
        ("neuron", "ALIF", ["x", "kept", "out"]),
        ("kernel", "backward", ["g_out", "kept", "g_x"]),
    ],
)
def test_the_choices_run_another_kernel(stepper: Any, control: str, value: str, expected: list[str]) -> None:
    before = stepper.result
    stepper.controls[control].value = value
    assert stepper.result is not before
    assert list(stepper.result.grids) == expected
    assert [stepper.trace(name).visible for name in MEMORY] == [name in expected for name in MEMORY]
    assert stepper.figure.layout.annotations[MEMORY.index(expected[0])].text == f"<b>{expected[0]}</b>"
    assert stepper.controls["micro_step"].max == stepper.controls["play"].max == len(stepper.result.lines)
    assert 0 < stepper.controls["micro_step"].value <= len(stepper.result.lines)


def test_threads_and_steps_make_another_grid(stepper: Any) -> None:
    stepper.controls["threads"].value = 3
    stepper.controls["steps"].value = 9
    assert np.shape(stepper.trace("x").z) == (9, 3)
    assert (
        repr(stepper) == "Kernel(kernel='forward', keep='potential', neuron='LIF', threads=3, steps=9, micro_step=15, "
        "play=0)"
    )


def test_the_backward_pass_offers_no_keeping_of_nothing(stepper: Any) -> None:
    stepper.controls["keep"].value = "nothing"
    stepper.controls["kernel"].value = "backward"
    assert stepper.controls["keep"].options == ("potential", "input")
    assert stepper.result.keep == stepper.controls["keep"].value == "potential"
    stepper.controls["kernel"].value = "forward"
    assert stepper.controls["keep"].options == ("nothing", "potential", "input")
    assert stepper.result.keep == "potential"


def test_the_table_shows_counted_beside_derived(stepper: Any) -> None:
    stepper.controls["micro_step"].value = stepper.controls["micro_step"].max
    rows = re.findall(r"<tr>(.*?)</tr>", stepper.traffic.value)
    cells = {re.findall(r">([^<]+)</th>", row)[0]: re.findall(r">([^<]*)</td>", row) for row in rows if "<td" in row}
    assert cells["x read"] == ["20", "1", "1"]
    assert cells["kept write"] == ["20", "1", "1"]
    assert cells["together"] == ["60", "3", "3"]
    assert cells["first state (once)"][0] == "5"


def test_own_neuron_and_a_wrong_one() -> None:
    made = explore.kernel(Own(tau=3.0), threads=2, steps=3)
    assert made.controls["neuron"].value == "Own"
    assert made.result.neuron == Own(tau=3.0)
    with pytest.raises(ValueError, match=r"neuron must be one of IF, LIF, .* but got 'LIFE'"):
        explore.kernel("LIFE")


def test_the_picture_and_the_page(stepper: Any) -> None:
    assert spread(stepper.picture()) > 0.05
    stepper.controls["micro_step"].value = 0
    assert spread(stepper.picture()) > 0.05
    page = stepper.page()
    assert len(page.frames) == len(stepper.result.lines) + 1 == len(page.layout.sliders[0].steps)
    marks = stepper.result.marks(5)
    assert page.data[page.frames[6].traces[0]].meta == "x"
    assert np.array_equal(page.frames[6].data[0].z, marks["x"])
    assert "t = 0" in page.frames[6].layout.title.text
    assert stepper.controls["micro_step"].value == 0, "making the page moves nothing"
    stepper.controls["steps"].value = 40
    assert not stepper.page().frames, "too long to be kept in a page"


@pytest.mark.parametrize("paper", ["#ffffff", "#111111"])
def test_code_and_tables_are_read_on_light_and_on_dark_paper(stepper: Any, paper: str) -> None:
    def light(colour: str) -> float:
        red, green, blue = to_rgb(colour)
        return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2

    for part in (stepper.source, stepper.registers, stepper.traffic):
        assert not re.search(r"background:\s*(white|#fff|#[0-9a-f]{6}\b)", part.value), "the page's own paper shows"
    inks = set(re.findall(r"[\s\";]color: ?(#\w+)", stepper.source.value + explore.sources(Own())._repr_html_()))
    assert len(inks) == 3
    for ink in inks:
        bright, dim = sorted((light(ink), light(paper)), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) > 3.5, ink


def test_labels_and_caption(stepper: Any) -> None:
    for name, control in stepper.controls.items():
        assert control.description, name
        assert control.tooltip, name
    row, player, *_ = stepper.widget.children
    assert stepper.controls["play"] in player.children
    assert stepper.controls["play"] not in row.children, "shown once"
    assert stepper.caption.endswith(".")
    bundle, about = stepper._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Kernel(kernel='forward', keep='potential', neuron='LIF', threads=5")
    assert "t = 2" in about["image/png"]["alt"]


# -- the sources ---------------------------------------------------------------------------------------------------


def test_sources_show_all_parts_side_by_side() -> None:
    code = explore.sources(Own())
    assert "p[SCALARS + PER_NEURON + 0] = reciprocal(tau);  // inverse_tau" in code.cuda
    assert "const real h_v = v + x - divide((v*v), tau, inverse_tau);" in code.cuda
    assert "def charge(z, x, p):" in code.numba
    page = code._repr_html_()
    text = re.sub(r"<[^>]+>", "", page)
    for part in ("h_v", "blockIdx.x", "for t in range(steps)", "kernels/forward.cu", r"\[\displaystyle"):
        assert part.replace("<", "&lt;") in text, part
    assert page.count('tabindex="0"') == 4
    assert page == explore.sources(Own())._repr_html_()
    assert repr(code).startswith("Sources(Own(tau=4.0")
    assert "adjoint" in explore.sources(neurons.LIF(), kernel="backward").numba
    with pytest.raises(ValueError, match="for the backward kernel, but got 'nothing'"):
        explore.sources(neurons.LIF(), "backward", "nothing")

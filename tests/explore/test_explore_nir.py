"""The NIR explorer, in Python: where nodes are drawn, and potentials against a plain loop over NIR's equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.exchange import Graph, Node, write
from tfexplore.explore.nir.drawing import drawing
from tfexplore.explore.nir.runs import FINER, STRIDES, example

TAU, LEVEL = 0.008, 0.4


def single() -> Graph:
    lif = Node(
        "LIF",
        {"tau": np.full(2, TAU), "r": np.array([1.0, 2.0]), "v_leak": np.zeros(2), "v_threshold": np.full(2, LEVEL)},
    )
    ends = {"in": Node("Input", {"shape": 2}), "out": Node("Output", {"shape": 2})}
    return Graph(ends | {"lif": lif}, (("in", "lif"), ("lif", "out")))


def loop(x: np.ndarray, part: float) -> tuple[np.ndarray, np.ndarray]:
    """Potentials before the reset, and spikes, of the two neurons of `single`."""
    v, r = np.zeros(2), np.array([1.0, 2.0])
    h, s = np.zeros_like(x), np.zeros_like(x)
    for t, now in enumerate(x):
        h[t] = v + part * (r * now - v)
        s[t] = h[t] > LEVEL
        v = np.where(s[t] > 0, 0.0, h[t])
    return h, s


@pytest.mark.parametrize("leak", ["euler", "exact"])
@pytest.mark.parametrize("stride", STRIDES)
def test_potentials_are_those_of_a_plain_loop(stride: int, leak: str) -> None:
    x = torch.rand(64, 1, 2, generator=torch.Generator().manual_seed(1))
    made = explore.nir(single(), x, dt=1e-3)
    made.step, made.leak = stride, leak
    coarse = x[:, 0].numpy().astype(float).reshape(-1, stride, 2).mean(1)
    dt = 1e-3 * stride
    h, s = loop(coarse, dt / TAU if leak == "euler" else 1 - math.exp(-dt / TAU))
    np.testing.assert_allclose(made.result.run.h, h, atol=1e-5)
    np.testing.assert_array_equal(made.result.run.s, s)
    h, s = loop(np.repeat(coarse, FINER, 0), 1 - math.exp(-dt / FINER / TAU))
    np.testing.assert_allclose(made.result.fine.h, h, atol=1e-4)
    assert made.result.fine.spikes(1).tolist() == pytest.approx(
        (1e3 * dt / FINER * (np.flatnonzero(s[:, 1]) + 1)).tolist()
    )


def test_a_recurrent_node_gets_the_same_current_in_both() -> None:
    """Of the example: the current of `hidden` is what comes in, and its spikes of the step before, through `feedback`."""
    made = explore.nir()
    graph, run, fine = made.graph, made.result.run, made.result.fine
    weights, feedback, node = (graph.nodes[name].parameters for name in ("weights", "feedback", "hidden"))
    before = np.vstack([np.zeros(16), run.s[:-1]])
    current = made.result.x @ weights["weight"].T + before @ feedback["weight"].T
    i = v = np.zeros(16)
    for t, now in enumerate(current.repeat(FINER, 0)):
        i = i + (1 - np.exp(-1e-3 / FINER / node["tau_syn"])) * (now - i)
        v = v + (1 - np.exp(-1e-3 / FINER / node["tau_mem"])) * (i - v)
        if t < 200:
            np.testing.assert_allclose(fine.h[t], v, atol=1e-4)
        v = np.where(v > 1, 0.0, v)
    assert run.s.sum() > 50


def test_nodes_are_drawn_below_those_that_they_need() -> None:
    found = drawing(example())
    assert all(found.row[target] > found.row[source] for source, target in found.forward)
    assert found.back == (("feedback", "hidden"),)
    assert found.row["feedback"] == found.row["readout"]
    assert found.column["feedback"] != found.column["readout"]
    assert found.neurons == ("hidden", "classes")
    assert found.words("weights") == "weights: Affine, 16 × 12"
    assert "tau 0.01" in found.parameters("classes")


def test_a_step_that_euler_cannot_take_is_said() -> None:
    made = explore.nir()
    made.step = 8
    assert "an Euler step would overshoot" in made.message.value
    assert 'role="alert"' in made.message.value
    assert len(made.trace("steps").y) == 0
    made.leak = "exact"
    assert len(made.trace("steps").y) == 20
    assert spread(made.picture()) > 0.05


def test_what_the_notebook_says() -> None:
    made = explore.nir()
    assert [len(run.spikes(0)) for run in (made.result.run, made.result.fine)] == [16, 17]
    made.leak, made.step = "exact", 8
    assert [len(run.spikes(0)) for run in (made.result.run, made.result.fine)] == [8, 21]
    made.node, made.leak = "classes", "euler"
    counts = {}
    for step in (1, 4):
        made.step = step
        counts[step] = made.result.run.s.sum(), made.result.fine.s.sum()
    assert all(late > 2 * early for late, early in zip(counts[4], counts[1], strict=True))


def test_a_file_and_what_does_not_fit(tmp_path) -> None:
    write(single(), tmp_path / "lif.nir")
    assert explore.nir(tmp_path / "lif.nir", dt=1e-3).result.node == "lif"
    ends = Graph({"in": Node("Input", {"shape": 2}), "out": Node("Output", {"shape": 2})}, (("in", "out"),))
    with pytest.raises(ValueError, match="a node of neurons to look at, but has none"):
        explore.nir(ends)
    with pytest.raises(ValueError, match=r"must be a batch of one, \[T, 1, \*inputs\], but got shape \(5, 2, 2\)"):
        explore.nir(single(), torch.ones(5, 2, 2))
    with pytest.raises(ValueError, match="leak must be 'euler' or 'exact', but got 'none'"):
        explore.nir(leak="none")

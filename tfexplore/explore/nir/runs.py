"""A NIR graph run in time steps, and one of its nodes beside it in steps so short that time is nearly continuous."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from tfexplore.exchange import Graph, Node, from_nir
from tfexplore.exchange.counterparts import neuron_of
from tfexplore.explore.nir.drawing import Drawing, drawing
from tfexplore.nn import Layer, Recurrent, record

FINER = 32
"""Steps of the reference in one step."""
STRIDES = (1, 2, 4, 8)
LEAKS = ("euler", "exact")


def example(seed: int = 2) -> Graph:
    """12 inputs, 16 recurrent CubaLIF neurons, 4 LIF neurons; weights are drawn. Like a network that reads Braille, smaller."""
    rng = np.random.default_rng(seed)

    def cuba(n: int) -> Node:
        parameters = {"tau_mem": rng.uniform(8e-3, 16e-3, n), "tau_syn": rng.uniform(4e-3, 8e-3, n), "r": np.ones(n)}
        return Node("CubaLIF", parameters | {"v_leak": np.zeros(n), "v_threshold": np.ones(n), "w_in": np.ones(n)})

    def weights(kind: str, rows: int, columns: int, scale: float, shift: float) -> Node:
        weight = rng.normal(shift, scale, (rows, columns)) / np.sqrt(columns)
        return Node(kind, {"weight": weight, **({"bias": np.zeros(rows)} if kind == "Affine" else {})})

    lif = Node("LIF", {"tau": np.full(4, 10e-3), "r": np.ones(4), "v_leak": np.zeros(4), "v_threshold": np.ones(4)})
    nodes = {
        "input": Node("Input", {"shape": 12}),
        "weights": weights("Affine", 16, 12, 3.0, 2.0),
        "hidden": cuba(16),
        "feedback": weights("Linear", 16, 16, 5.0, -1.0),
        "readout": weights("Affine", 4, 16, 8.0, 4.0),
        "classes": lif,
        "output": Node("Output", {"shape": 4}),
    }
    chain = ("input", "weights", "hidden", "readout", "classes", "output")
    return Graph(nodes, (*pairwise(chain), ("hidden", "feedback"), ("feedback", "hidden")))


def example_input(steps: int, inputs: tuple[int, ...], seed: int = 0) -> Tensor:
    """Drawn spikes [T, 1, *inputs], a burst of them now and then."""
    rng = np.random.default_rng(seed)
    rate = 0.1 + 0.25 * (np.sin(np.arange(steps) / 12) > 0.2)
    drawn = rng.random((steps, 1, *inputs)) < rate.reshape(-1, *(1,) * (1 + len(inputs)))
    return torch.from_numpy(drawn.astype(np.float32))


@dataclass(frozen=True)
class Run:
    """What one node's neurons do.

    Args:
        dt: seconds of a step.
        h: potentials before the reset, [T, N].
        s: its output, spikes or a potential that is read, [T, N].
    """

    dt: float
    h: np.ndarray
    s: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """The end of every step, in ms."""
        return 1e3 * self.dt * np.arange(1, len(self.h) + 1)

    def spikes(self, neuron: int) -> np.ndarray:
        """When a neuron fires, in ms."""
        found: np.ndarray = self.times[self.s[:, neuron] > 0.5]
        return found


@dataclass(frozen=True)
class Shown:
    """A graph, and one of its nodes in steps of `run.dt`, and in nearly continuous time.

    Args:
        drawn: the graph, and where its nodes are.
        node: the neurons that are looked at; `spiking` or read as potentials.
        threshold: of each of them; NaN without.
        x: the network's input, [T, inputs], in steps of `run.dt`.
        run: with the chosen step and leak; empty where such a step is `refused`, which says why.
        fine: the same neurons on the same current, held, with the exact leak and steps that are FINER times shorter.
    """

    drawn: Drawing
    node: str
    spiking: bool
    threshold: np.ndarray
    x: np.ndarray
    run: Run
    fine: Run
    refused: str = ""

    def sentence(self, neuron: int) -> str:
        if self.refused:
            return self.refused
        where = f"Node {self.node!r}, neuron {neuron}, in steps of {1e3 * self.run.dt:g} ms"
        if not self.spiking:
            last = self.run.h[-1, neuron], self.fine.h[-1, neuron]
            return f"{where}: ends at {last[0]:.3g}; in nearly continuous time at {last[1]:.3g}."
        one, other = self.run.spikes(neuron), self.fine.spikes(neuron)
        if not len(one) and not len(other):
            return f"{where}: it does not fire, in steps or in nearly continuous time."
        first = ""
        if len(one) and len(other):
            late = one[0] - other[0]
            first = (
                f" The first comes {abs(late):.2g} ms {'later' if late > 0 else 'earlier'}." if abs(late) > 1e-9 else ""
            )
        return f"{where}: {len(one)} spikes; nearly continuous time has {len(other)} for the same current.{first}"


def look(graph: Graph, x: Tensor, dt: float, stride: int, leak: str, node: str) -> Shown:
    """Runs the graph; x [T, 1, *inputs] has steps of dt seconds, of which `stride` become one, with the mean of their input."""
    drawn = drawing(graph)
    coarse, step = x[: len(x) // stride * stride].unflatten(0, (-1, stride)).mean(1), dt * stride
    refused = ""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "dt / tau is above")  # that is what is looked at
        try:
            net = from_nir(graph, dt=step, leak=leak)
        except ValueError as error:  # an Euler step longer than a time constant
            refused, net = str(error), from_nir(graph, dt=step, leak="exact")
    layer, h, s, current = observed(net, net.places[node], coarse)
    finer = Layer(neuron_of(drawn.graph.nodes[node], step / FINER, "exact"))  # type: ignore[arg-type]  # a Node: it is flat
    _, fine_h, fine_s, _ = observed(nn.Sequential(finer), "0", current.repeat_interleave(FINER, 0))
    run = Run(step, h[:0], s[:0]) if refused else Run(step, h, s)
    values = getattr(layer.neuron, "v_threshold", np.nan)
    threshold = np.broadcast_to(
        getattr(values, "array", values), h.shape[1:] if np.ndim(values) == 0 else np.shape(values)
    )
    spiking, inputs = type(layer.neuron).spiking, coarse[:, 0].flatten(1).numpy()
    return Shown(drawn, node, spiking, threshold.ravel(), inputs, run, Run(step / FINER, fine_h, fine_s), refused)


def observed(net: nn.Module, place: str, x: Tensor) -> tuple[Layer, np.ndarray, np.ndarray, Tensor]:
    """A layer of a network while it runs: it, its potentials before the reset and its output [T, N], and its current."""
    layer = net.get_submodule(place)
    owner = net.get_submodule(place.rpartition(".")[0])
    recurrent = owner if isinstance(owner, Recurrent) else None
    seen: list[Tensor] = []
    handle = (recurrent or layer).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad(), record(net, "h", "s") as traces:
        net(x)
        h, s = (traces[place][name] for name in ("h", "s"))
        current = (
            seen[0] if recurrent is None else seen[0] + recurrent.feedback(torch.cat([torch.zeros_like(s[:1]), s[:-1]]))
        )
    handle.remove()
    assert isinstance(layer, Layer)
    return layer, h[:, 0].flatten(1).numpy(), s[:, 0].flatten(1).numpy(), current

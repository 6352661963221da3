"""The NIR explorer: a graph of another framework drawn, run in time steps, and compared with continuous time."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from tfexplore.exchange.importing import from_nir, graph_of
from tfexplore.explore.base.controls import Choice, Scale, Slider, moved
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.nir import figure
from tfexplore.explore.nir.drawing import drawing
from tfexplore.explore.nir.runs import LEAKS, STRIDES, Shown, example, example_input, look
from tfexplore.nn.checks import check_input

STEPS = 160


class Nir(Explorer):
    """A graph in NIR, the Neuromorphic Intermediate Representation: drawn, and run by `exchange.from_nir`.

    NIR's equations are continuous. In steps of dt they are something else: by how much is seen beside the same neurons on the
    same current in steps that are 32 times shorter, with the leak exact.

    Args:
        graph: an `exchange.Graph`, a `nir.NIRGraph` or the path of a file; without it, a small recurrent network.
        x: its input, `[T, 1, *inputs]`; without it, drawn spikes.
        dt: seconds of a step of x.

    Controls: node, neuron, step (how many steps of x become one), leak ("euler" or "exact").

    Result: `tfexplore.explore.nir.runs.Shown`, with the `run` in steps and the `fine` one.

    Raises:
        TypeError, ValueError: naming what does not fit; for a graph, the node.

    Example:
        >>> from tfexplore import explore
        >>> nir = explore.nir()
        >>> nir.result.drawn.back
        (('feedback', 'hidden'),)

    Pedersen et al., Neuromorphic intermediate representation, Nature Communications 15, 8122, 2024.
    """

    caption = (
        "Left: the nodes in the order in which they run; neurons are blue, the chosen ones yellow, and dashed arrows close a "
        "cycle. Right: the input; the potential of one neuron in the chosen steps, and in steps so short that time is nearly "
        "continuous; ticks above are its spikes; below, the spikes of its node."
    )

    node = Choice("neurons", (), help="the node whose neurons are shown")
    neuron = Slider("neuron shown", 0, 0, live=True)
    step = Scale(
        "a step takes", {stride: str(stride) for stride in STRIDES}, help="coarser steps take the mean of the input"
    )
    leak = Choice("leak", {"euler": "forward Euler: dt / τ", "exact": "exact: 1 − exp(−dt / τ)"})

    def __init__(self, graph: Any = None, x: Tensor | None = None, *, dt: float = 1e-3, leak: str = LEAKS[0]) -> None:
        if leak not in LEAKS:
            raise ValueError(f"leak must be {' or '.join(map(repr, LEAKS))}, but got {leak!r}.")
        self.graph = example() if graph is None else graph_of(graph).flat()
        self.dt = dt
        from_nir(self.graph, dt=dt, leak="exact")  # refuses what cannot run, by name
        drawn = drawing(self.graph)
        if not drawn.neurons:
            raise ValueError("graph must have a node of neurons to look at, but has none.")
        if x is None:
            (start,) = self.graph.named("Input")
            x = example_input(STEPS, self.graph.nodes[start].parameters["shape"])  # type: ignore[union-attr]
        else:
            check_input(x)
            if x.shape[1] != 1:
                raise ValueError(f"x must be a batch of one, [T, 1, *inputs], but got shape {tuple(x.shape)}.")
        self.x = x
        self.seen = functools.lru_cache(maxsize=32)(functools.partial(look, self.graph, self.x, self.dt))
        kind, nodes = type(self), drawn.neurons
        longest = {stride: f"{1e3 * dt * stride:g} ms" for stride in STRIDES if stride * 4 <= len(x)}
        super().__init__(node=kind.node.at(nodes[0], options=nodes), step=kind.step.at(1, options=longest), leak=leak)

    def look(self) -> Shown:
        return self.seen(self.step, self.leak, self.node)

    def update(self) -> None:
        self.result = self.look()
        with self.quietly():
            self.controls["neuron"].max = self.result.fine.h.shape[1] - 1
        self.choose()

    @moved("neuron")
    def choose(self) -> None:
        self.draw()
        self.say(self.sentence(), alarm=bool(self.result.refused))

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.neuron)

    def sentence(self) -> str:
        return self.result.sentence(self.neuron)

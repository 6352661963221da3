"""The memory explorer: what every way to run a network saves for backward and moves, predicted and then counted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.codegen.traffic import BYTES
from tfexplore.explore.base.controls import Choice, Slider, moved
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.memory import figure, kept
from tfexplore.explore.memory.footprint import BY_NAME, DEFAULT, SURROGATES, Footprint, network, noise
from tfexplore.neurons.library import BY_NAME as NEURONS


class Memory(Runner):
    r"""Memory and traffic of the ways to run a network: eager step by step or layer by layer, and fused.

    Fused, a layer saves for backward the potential of every step, or its input's tensor and the state at every K-th step
    (chunked checkpointing), or a bit per step where that is exact for its neurons. Without a gradient it saves nothing. All
    this is predicted from the equations; Start then runs a copy of the network in every way and counts what autograd holds
    and what the operators read and write. What two modules hold together is counted once, for the first of them.

    Args:
        net: a network of yours; without it, a small one is made.
        x: its input, of shape `[T, B, *features]`.
        steps: time steps `T` of the small network, from 64 to 512; of yours, all of x.
        neuron: the neuron of the small network's two layers, by the name of its class.
        neurons: of each of these layers, from 50 to 1000, for each of 4 samples.
        surrogate: the surrogate of these neurons, by the name of its class, or "the default".
        dtype: of inputs and spikes: "float16", "bfloat16", "float32" or "float64".
        way: the way that is shown module by module, such as "fused, keep input".

    Controls: way, steps; for the small network also neuron, surrogate, neurons, dtype; start, stop.

    Result: `tfexplore.explore.memory.footprint.Footprint`, with what is predicted and counted for every way.

    Raises:
        TypeError: if net or x is missing or no network or tensor.
        ValueError: if net has no layer of neurons or one that feeds back, or another argument is none of those allowed.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> memory = explore.memory(steps=64, neurons=50)
        >>> result = asyncio.run(memory.run())
        >>> result.predicted_kept("fused, keep potential"), result.counted_kept("fused, keep potential")
        (4.0, 4.0)

    Chunked checkpointing: Chen, Xu, Zhang and Guestrin, Training Deep Nets with Sublinear Memory Cost, 2016.
    """

    caption = (
        "Above: bytes per neuron and time step that the layers of neurons save for backward, and that they move, for the ways "
        "to run them. Below: what the neurons save against the number of time steps, and what each module saves in the way "
        "chosen. Hatched or hollow: predicted from the equations, which know nothing of the eager ways. Filled: counted."
    )

    way = Choice("way shown", list(BY_NAME), help="the way that is shown module by module, in the lower right")
    steps = Slider("time steps T", 64, 512, step=64)
    neuron = Choice("neuron", list(NEURONS), help="the neuron of both layers")
    surrogate = Choice("surrogate", [DEFAULT, *SURROGATES], help="the surrogate of these neurons")
    neurons = Slider("neurons per layer", 50, 1000, step=50, help="for each of 4 samples")
    dtype = Choice("number format", list(BYTES), help="the dtype of inputs and spikes")

    def __init__(
        self, net: nn.Module | None = None, x: Tensor | None = None, *, steps: int = 64, neuron: str = "LIF",
        neurons: int = 200, surrogate: str = DEFAULT, dtype: str = "float32", way: str = "fused, keep input",
    ) -> None:  # fmt: skip
        if (net is None) != (x is None):
            raise TypeError("memory takes your network and its input together, memory(net, x), or neither.")
        self.net, self.x = net, x
        own: dict[str, Any] = dict(steps=steps, neuron=neuron, surrogate=surrogate, neurons=neurons, dtype=dtype)  # noqa: C408
        if net is not None and x is not None:
            kept.cells_of(net, x)  # complains before a control is made
            most = Slider("time steps T", 1, len(x), value=len(x), help="the first T steps of your x")
            own = dict.fromkeys(own) | {"steps": most}
        super().__init__(way=way, **own)

    # -- what the controls do --------------------------------------------------------------------------------------

    def subject(self) -> tuple[nn.Module, Tensor]:
        """The network and its input, as the controls have them."""
        if self.net is not None and self.x is not None:
            return self.net, self.x[: self.steps]
        dtype = getattr(torch, self.dtype)
        return network(self.neuron, self.neurons, self.surrogate).to(dtype), noise(self.steps).to(dtype)

    def look(self) -> Footprint:
        return Footprint.of(*self.subject())

    def work(self, result: Footprint) -> Iterator[object]:
        net, x = self.subject()
        self.say("Counting. New kernels are compiled first: a few seconds the very first time, then they are kept.")
        for way in result.ways:
            sizes = []
            for steps in result.lengths:
                yield (count := self.in_background(partial(kept.kept, net, x[:steps], way)))
                sizes.append((steps, sum(count.result().get(name, 0) for name in result.cells)))
            yield (traffic := self.in_background(partial(kept.moved, net, x, way)))
            result.kept[way.name], result.lines[way.name] = count.result(), sizes
            result.moved[way.name] = traffic.result()
            self.show_way()

    @moved("way")
    def show_way(self) -> None:
        """Another way is shown module by module."""
        self.draw()
        self.say(self.sentence())

    # -- what is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.way)

    def sentence(self) -> str:
        found: str = self.result.sentence(self.way)
        return found

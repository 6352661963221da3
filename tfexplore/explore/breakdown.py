"""Where the time of one training step goes, before and after the neurons are fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from tfexplore.data import currents
from tfexplore.explore import plots
from tfexplore.explore.networks import WALKS, own, try_out, tuned
from tfexplore.measure import clock
from tfexplore.nn.layers import Stateful
from tfexplore.nn.networks import BATCH, RATES, built_in, fit

BEFORE, AFTER = "layer by layer", "fused"
PARTS = ("neurons", "linear and conv", "optimiser", "loss, Python, the rest")
LOOKS = ((4, "", ""), (0, "/", "//"), (1, "x", "xx"), (2, ".", ".."))  # colour, plotly's pattern, matplotlib's


@dataclass(frozen=True)
class Breakdown:
    """Milliseconds of one training step by part, for each walk; `parts[walk][part]`. Shows itself as stacked bars."""

    parts: dict[str, dict[str, float]]
    network: str
    steps: int
    machine: str

    caption = (
        "Median time of one training step by part: before fusion (each time step a handful of operations) and after."
    )

    def total(self, walk: str) -> float:
        return sum(self.parts[walk].values())

    @property
    def limit(self) -> float:
        """How many times as fast the whole step can become at most, if the neurons took no time at all (Amdahl's law)."""
        return self.total(BEFORE) / (self.total(BEFORE) - self.parts[BEFORE]["neurons"])

    def sentence(self) -> str:
        before, after = self.parts[BEFORE], self.parts[AFTER]
        share = before["neurons"] / self.total(BEFORE)
        return (
            f"{self.network}, T = {self.steps}: the neurons took {share:.0%} of a training step, so it can become at most "
            f"{self.limit:.1f} times as fast. Fused they are {before['neurons'] / after['neurons']:.1f} times as fast, the "
            f"whole step {self.total(BEFORE) / self.total(AFTER):.1f} times."
        )

    def __repr__(self) -> str:
        return f"Breakdown: {self.sentence()} ({self.machine})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        words = f"{self.caption} {self.sentence()}"
        return {"text/plain": repr(self), "image/png": self.picture()}, plots.about(self.figure(), words)

    def figure(self) -> go.Figure:
        """The same bars, to be touched."""
        made = plots.styled(go.Figure(), height=240, barmode="stack", xaxis={"title": "milliseconds per training step"})
        for part, (k, shape, _) in zip(PARTS, LOOKS, strict=True):
            marker = {"color": plots.colour(k), "pattern": {"shape": shape}}
            made.add_bar(
                x=[max(0.0, parts[part]) for parts in self.parts.values()],
                y=list(self.parts),
                orientation="h",
                name=part,
                marker=marker,
                hovertemplate="%{y}, " + part + ": %{x:.2f} ms<extra></extra>",
            )
        made.update_yaxes(autorange="reversed")
        return made.update_layout(legend={"orientation": "h", "traceorder": "normal", "y": 1.25})

    def picture(self) -> bytes:
        drawing = plots.static_figure(8, 2.3)
        axes = drawing.subplots()
        left = dict.fromkeys(self.parts, 0.0)
        for part, (k, _, hatch) in zip(PARTS, LOOKS, strict=True):
            widths = [max(0.0, parts[part]) for parts in self.parts.values()]
            look: dict[str, Any] = {"color": plots.rgb(k), "hatch": hatch, "edgecolor": "white", "label": part}
            axes.barh(list(self.parts), widths, left=list(left.values()), **look)
            left = {walk: begin + width for (walk, begin), width in zip(left.items(), widths, strict=True)}
        axes.invert_yaxis()
        axes.set(xlabel=f"milliseconds per training step ({self.network}, T = {self.steps})")
        drawing.legend(frameon=False, loc="outside upper center", ncols=len(PARTS))
        axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)


def breakdown(
    network: str | nn.Module = "mlp",
    data: Sequence[object] | None = None,
    *,
    steps: int = 16,
    hidden: int = 128,
    rounds: int = 15,
) -> Breakdown:
    """Times the parts of a training step one by one, and the whole of it.

    Neurons: every layer of them, forward and backward, on the inputs it gets in the network. Linear and conv: the modules
    between them (pooling too), in the same way. Optimiser: its step, and setting the gradients to zero. The rest is the
    difference to the whole step: loss, choosing the batch, autograd's and Python's work between the parts. A part alone
    finds its data in a cache more often than within the whole, so the rest is an estimate; noise can make it negative (then
    it is not drawn). Parts and wholes take turns; medians of `rounds`. A network of your own must be an nn.Sequential.

    >>> sorted(breakdown(steps=2, hidden=16, rounds=1).parts)
    ['fused', 'layer by layer']
    """
    if isinstance(network, nn.Module):
        if not isinstance(network, nn.Sequential):
            raise TypeError(f"net must be an nn.Sequential, to be taken apart, but got {type(network).__name__}.")
        base, split, rate, name = network, own(network, data), 2e-3, "your network"
        try_out(tuned(base, AFTER), split, AFTER, steps)
    elif data is not None:
        raise ValueError(f"network={network!r} has its own data; give data with a network of your own.")
    else:
        (base, split), rate, name = built_in(network, hidden=hidden), RATES[network], network
    nets = {walk: tuned(base, walk) for walk in (BEFORE, AFTER)}
    x = currents(split.train_images[:BATCH], steps)
    contestants: dict[str, Callable[[], object]] = {}
    for walk, net in nets.items():
        schedule, _ = WALKS[walk]
        contestants[f"{walk}: whole"] = fit(net, split, schedule, steps, rate).__next__
        alone = tuned(base, walk)  # its weights stay, whatever the whole learns meanwhile
        contestants[f"{walk}: neurons"] = there_and_back(alone, x, neurons=True)
    contestants["linear and conv"] = there_and_back(tuned(base, AFTER), x, neurons=False)
    contestants["optimiser"] = optimise(tuned(base, AFTER), x, rate)
    *_, medians = clock.rounds(contestants, rounds)
    ms = {key: 1e3 * value for key, value in medians.items()}
    parts = {}
    for walk in nets:
        known = [ms[f"{walk}: neurons"], ms["linear and conv"], ms["optimiser"]]
        parts[walk] = dict(zip(PARTS, [*known, ms[f"{walk}: whole"] - sum(known)], strict=True))
    return Breakdown(parts, name, steps, clock.machine())


def there_and_back(net: nn.Module, x: Tensor, neurons: bool) -> Callable[[], None]:
    """Forward and backward through each neuron layer (or each of the other modules) by itself, on its input in the net."""
    parts: list[tuple[nn.Module, Tensor, list[Tensor], Tensor]] = []
    for place, module in enumerate(net.children()):
        with torch.no_grad():
            out = module(x)
        if isinstance(module, Stateful) == neurons:
            x = x.detach().requires_grad_(place > 0)  # nobody asks for the gradient of the images
            wanted = [p for p in module.parameters() if p.requires_grad] + [x] * (place > 0)
            parts.append((module, x, wanted, torch.rand_like(out)))
        x = out

    def work() -> None:
        for module, x, wanted, gradient in parts:
            out = module(x)
            if wanted:
                torch.autograd.grad(out, wanted, gradient)

    return work


def optimise(net: nn.Module, x: Tensor, rate: float) -> Callable[[], None]:
    """One step of the optimiser, from gradients that are there, and setting them to zero."""
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    net(x).sum().backward()
    gradients = [p.grad for p in net.parameters()]

    def work() -> None:
        for p, gradient in zip(net.parameters(), gradients, strict=True):
            p.grad = gradient
        optimiser.step()
        optimiser.zero_grad()

    return work

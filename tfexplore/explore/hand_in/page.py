"""The page to hand in: three predictions for a network of the learner's own, and what was counted while it ran.

    saved        bytes that its layers of neurons save for backward, altogether
    moved        words that the neurons move, per neuron and time step, in the forward and the backward pass
    additions    of the multiply-adds of the layers behind spikes, the part that an event-driven machine would do as additions

Nothing of it is a time, so every machine hands in the same numbers for the same spikes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tfexplore.explore.memory.kept import Way, cells_of, kept, moved
from tfexplore.measure.timeline import leaves
from tfexplore.neurons.parameters import check_between
from tfexplore.nn.schedules import layer_by_layer

FUSED = Way("fused", layer_by_layer, fused=True)
WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
QUESTIONS = {
    "saved": "bytes saved for backward by the neurons",
    "moved": "words moved per neuron and time step",
    "additions": "event-driven additions per dense multiply-add",
}
RIGHT, CLOSE = 1.05, 2.0
"""Factors between prediction and count."""


@dataclass(frozen=True)
class Page:
    """Predictions beside counts. Markdown, in a notebook and as text.

    Args:
        name: of the learner.
        network: its layers, and the shape of its input.
        predicted: by question; None where nothing was predicted.
        counted: by question.
    """

    name: str
    network: str
    predicted: dict[str, float | None]
    counted: dict[str, float]

    def verdict(self, question: str) -> str:
        """ "right" within 5 %, "close" within a factor of 2, else how many times too much or too little."""
        guess, count = self.predicted[question], self.counted[question]
        if guess is None:
            return "no prediction"
        if guess == count:
            return "right"
        if min(guess, count) <= 0:
            return "off"
        factor = max(guess / count, count / guess)
        if factor <= CLOSE:
            return "right" if factor <= RIGHT else "close"
        return f"{factor:.3g} times too {'much' if guess > count else 'little'}"

    @property
    def markdown(self) -> str:
        """The page."""
        rows = [
            f"| {words} | {shown(self.predicted[key])} | {shown(self.counted[key])} | {self.verdict(key)} |"
            for key, words in QUESTIONS.items()
        ]
        head = [
            f"**{self.name or '(your name)'}**: {self.network}",
            "",
            "| | predicted | counted | |",
            "|---|---|---|---|",
        ]
        return "\n".join(head + rows)

    def __str__(self) -> str:
        return self.markdown

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return self.markdown


def hand_in(
    net: nn.Module, x: Tensor, *, name: str = "", saved: float | None = None, moved: float | None = None,
    additions: float | None = None,
) -> Page:  # fmt: skip
    """Checks three predictions by counting, and puts them on a page to hand in.

    Args:
        net: a network of layers of neurons and of weights, that can be walked layer by layer.
        x: its input, `[T, B, *features]`.
        name: yours.
        saved: predicted bytes that its layers of neurons save for backward, altogether.
        moved: predicted words that the neurons move, per neuron and time step, forward and backward.
        additions: predicted additions of an event-driven machine, per multiply-add of the layers of weights behind spikes.

    Returns:
        The `tfexplore.explore.hand_in.page.Page`.

    Raises:
        TypeError: if net is no module, or x no tensor.
        ValueError: if a prediction is no number from 0 on; if x is empty; if net has no layer of neurons, or no linear layer or
            convolution behind one.

    Example:
        >>> from tfexplore import LIF, explore
        >>> net = torch.nn.Sequential(LIF(), torch.nn.Linear(10, 2))
        >>> page = explore.hand_in(net, torch.full((8, 1, 10), 0.75), name="Ada", saved=320, moved=6)
        >>> page.counted, page.verdict("saved"), page.verdict("moved"), page.verdict("additions")
        ({'saved': 320, 'moved': 5.0, 'additions': 0.5}, 'right', 'close', 'no prediction')
    """
    predicted = {"saved": saved, "moved": moved, "additions": additions}
    for question, guess in predicted.items():
        if guess is not None:
            check_between(question, guess, 0)
    cells = cells_of(net, x)
    if not x.numel():
        raise ValueError(f"x must have at least one sample and one feature, but got shape {tuple(x.shape)}.")
    counted = {
        "saved": sum(size for layer, size in kept(net, x, FUSED).items() if layer in cells),
        "moved": words_moved(net, x),
        "additions": event_additions(net, x),
    }
    network = f"{', '.join(map(repr, leaves(net)))}; x {list(x.shape)}"
    return Page(name, network, predicted, counted)


def words_moved(net: nn.Module, x: Tensor) -> float:
    """Words of 32 bits that the fused neurons move, forward and backward, per neuron and time step."""
    cells, found = cells_of(net, x), moved(net, x, FUSED)
    return sum(found[name] / 4 * cell.neurons for name, cell in cells.items()) / sum(
        cell.neurons for cell in cells.values()
    )


def event_additions(net: nn.Module, x: Tensor) -> float:
    """Additions per multiply-add, in the layers of weights whose input is 0 and 1; at a border as inside."""
    macs, additions = 0, 0.0
    for module, given, out in calls(net, x):
        if bool(((given == 0) | (given == 1)).all()):
            weight: Tensor = module.get_parameter("weight")
            count = out.numel() * weight[0].numel()
            macs, additions = macs + count, additions + count * float(given.mean())
    if not macs:
        raise ValueError(
            "net has no linear layer or convolution behind a layer of neurons, so no spike meets a weight."
        )
    return additions / macs


def calls(net: nn.Module, x: Tensor) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
    """The layers of weights with their input and output, call by call."""
    found: list[tuple[nn.Module, Tensor, Tensor]] = []
    with ExitStack() as undo, torch.no_grad():
        for module in net.modules():
            if isinstance(module, WEIGHTS):
                hook = module.register_forward_hook(lambda own, given, out: found.append((own, given[0], out)))
                undo.callback(hook.remove)
        layer_by_layer(net, x)
    yield from found


def shown(value: float | None) -> str:
    """
    >>> shown(131072), shown(5.0), shown(0.12345), shown(None)
    ('131,072', '5', '0.123', '–')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

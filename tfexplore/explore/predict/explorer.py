"""A prediction, made before the experiment: radio buttons, and what was measured beside what was predicted."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from tfexplore.explore.base.selections import RadioButtons


class Prediction:
    """A question with options: choose one, run the experiment, then `check` it.

    Who commits to an answer first is surprised by the right one, and keeps it (Crouch et al., Am. J. Phys. 72, 2004).

    Args:
        question: what is asked, ending in a question mark.
        options: the answers to choose from; at least two.

    Raises:
        ValueError: for fewer than two options, or one that is there twice.

    Example:
        >>> from tfexplore import explore
        >>> guess = explore.predict("T is doubled. The time of a fused kernel ...", ["stays", "doubles"])
        >>> guess.check("doubles")
        You made no prediction. Measured: doubles.
        >>> guess.answer = "stays"          # what choosing it does
        >>> guess.check("doubles")
        You predicted: stays. Measured: doubles.
    """

    def __init__(self, question: str, options: Sequence[str]) -> None:
        options = list(options)
        if len(set(options)) < max(2, len(options)):
            raise ValueError(f"options must be at least two different answers, but got {options!r}.")
        self.question, self.options = question, options
        buttons = RadioButtons("answer", options=options, value=None, layout=widgets.Layout(width="auto"))
        self.controls = {"answer": buttons}
        title = widgets.HTML(f"<b>Predict first:</b> {html.escape(question)}")
        self.widget = widgets.VBox([title, buttons]).add_class("tfexplore")

    @property
    def answer(self) -> str | None:
        """The option chosen, None before."""
        chosen: str | None = self.controls["answer"].value
        return chosen

    @answer.setter
    def answer(self, answer: str | None) -> None:
        self.controls["answer"].value = answer

    def check(self, measured: str) -> None:
        """Prints what was predicted beside what was measured.

        Args:
            measured: the option that the experiment found.

        Raises:
            ValueError: where that is none of the options.
        """
        if measured not in self.options:
            raise ValueError(f"measured must be one of {', '.join(map(repr, self.options))}, but got {measured!r}.")
        if self.answer is None:
            print(f"You made no prediction. Measured: {measured}.")
        elif self.answer == measured:
            print(f"As you predicted: {measured}.")
        else:
            print(f"You predicted: {self.answer}. Measured: {measured}.")

    def __repr__(self) -> str:
        return f"Predict first: {self.question}\n" + "\n".join(f"  ( ) {option}" for option in self.options)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        view: dict[str, Any] = self.widget._repr_mimebundle_() or {}
        return view | {"text/plain": repr(self)}

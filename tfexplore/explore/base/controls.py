"""Controls, declared as class attributes of an explorer, and the methods that answer them.

    class Race(Explorer):
        steps = Slider("time steps T", 1, 256)

        @moved("steps")
        def measure(self): ...

On an explorer, `race.controls["steps"]` is the widget and `race.steps` its value; setting either does what moving the
slider in a browser does. A control that no method is `moved` by calls `update`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import ipywidgets as widgets
import traitlets

from tfexplore.explore.base.selections import Dropdown, SelectionSlider
from tfexplore.explore.base.sliders import FloatSlider, IntRangeSlider, IntSlider, Player

Method = TypeVar("Method", bound=Callable[..., Any])
STYLE, WIDTH = {"description_width": "155px"}, "330px"


@dataclass(frozen=True)
class Control:
    """A labelled widget. `value` is what it shows at first, where the explorer's constructor gives nothing else."""

    label: str
    _: KW_ONLY
    value: Any = None
    help: str = ""
    hidden: bool = False
    name: str = field(default="", init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)

    def __get__(self, explorer: Any, owner: type | None = None) -> Any:
        return self if explorer is None else explorer.controls[self.name].value

    def __set__(self, explorer: Any, value: Any) -> None:
        explorer.controls[self.name].value = value

    def at(self, value: Any, **changed: Any) -> Any:
        """The same control at another first value, maybe with other bounds or options."""
        return replace(self, value=value, **changed)

    def widget(self) -> widgets.Widget:
        raise NotImplementedError

    def common(self) -> dict[str, Any]:
        layout = widgets.Layout(width=WIDTH, margin="2px", display="none" if self.hidden else None)
        return {"description": self.label, "tooltip": self.help or self.label, "style": STYLE, "layout": layout}


@dataclass(frozen=True)
class Slider(Control):
    """From low to high. It reports when it is let go, or (`live`) while it is dragged; whole numbers if `step` is one."""

    low: float
    high: float
    _: KW_ONLY
    step: float = 1
    live: bool = False

    def widget(self) -> widgets.Widget:
        value = self.low if self.value is None else self.value
        whole = all(isinstance(number, int) for number in (value, self.low, self.high, self.step))
        bounds = {"min": min(self.low, value), "max": max(self.high, value), "step": self.step}
        return (IntSlider if whole else FloatSlider)(
            value=value, continuous_update=self.live, **bounds, **self.common()
        )


@dataclass(frozen=True)
class RangeSlider(Control):
    """From a first to a last whole number."""

    low: int
    high: int

    def widget(self) -> widgets.Widget:
        return IntRangeSlider(value=self.value or (self.low, self.high), min=self.low, max=self.high, **self.common())


@dataclass(frozen=True)
class Options(Control):
    """One of several words, or of values with a word for each; by default the first."""

    options: Mapping[Any, str] | Sequence[str]

    def menu(self) -> list[Any]:
        listed = self.options
        return [(word, value) for value, word in listed.items()] if isinstance(listed, Mapping) else list(listed)

    def common(self) -> dict[str, Any]:
        return {"value": next(iter(self.options)) if self.value is None else self.value, **super().common()}


@dataclass(frozen=True)
class Scale(Options):
    """A slider over some numbers, such as powers of two."""

    def widget(self) -> widgets.Widget:
        return SelectionSlider(self.name, options=self.menu(), continuous_update=True, **self.common())


@dataclass(frozen=True)
class Choice(Options):
    """A menu."""

    def widget(self) -> widgets.Widget:
        return Dropdown(self.name, options=self.menu(), **self.common())


@dataclass(frozen=True)
class Tick(Control):
    """Yes or no."""

    def widget(self) -> widgets.Widget:
        return widgets.Checkbox(value=bool(self.value), **self.common())


@dataclass(frozen=True)
class Knob(Control):
    """A small upright slider without a readout, several of which draw a curve."""

    def widget(self) -> widgets.Widget:
        size = widgets.Layout(width="34px", height="124px", overflow="visible")
        words = {"description": self.label, "tooltip": self.help or self.label}
        return FloatSlider(orientation="vertical", readout=False, layout=size, **words)


@dataclass(frozen=True)
class Play(Control):
    """Moves the slider named `of` from its beginning to its end, a place every `interval` milliseconds."""

    of: str
    _: KW_ONLY
    interval: int = 400

    def widget(self) -> widgets.Widget:
        words = {"description": self.label, "tooltip": self.help or self.label}
        return Player(interval=self.interval, min=0, max=1, **words)

    def drive(self, player: widgets.Widget, slider: widgets.Widget) -> None:
        """The values are linked in the browser alone: by way of Python, the slider would jump back to where it was."""
        traitlets.dlink((slider, "max"), (player, "max"))
        widgets.jslink((player, "value"), (slider, "value"))


def moved(*controls: str) -> Callable[[Method], Method]:
    """The method is called when one of these controls moves, instead of `update`."""

    def mark(method: Method) -> Method:
        method.moved = controls  # type: ignore[attr-defined]
        return method

    return mark


def button(
    label: str, *, icon: str, help: str = "", primary: bool = False, disabled: bool = False, wide: bool = False
) -> Any:
    """The method is what a button of this label does; the control has the method's name."""

    def mark(method: Method) -> Method:
        method.button = {  # type: ignore[attr-defined]
            "description": label, "icon": icon, "tooltip": help or label, "disabled": disabled,
            "button_style": "primary" if primary else "", "layout": {"width": "auto"} if wide else {},
        }  # fmt: skip
        return method

    return mark


def marked(kind: type, what: str) -> dict[str, Any]:
    """By name, what the methods of this class were given by `moved` or `button`; those of its bases first.

    A method that overrides a marked one need not be marked again.
    """
    every = [(name, method) for base in reversed(kind.__mro__) for name, method in vars(base).items()]
    return {name: getattr(method, what) for name, method in every if hasattr(method, what)}


def declared(kind: type, given: Mapping[str, Any]) -> dict[str, Control]:
    """The controls of this class with the values given: a first value, a whole control instead, or None to leave it out.

    A given control that the class does not have comes behind the one that is given before it, else first.
    """
    every = [
        name for base in reversed(kind.__mro__) for name, value in vars(base).items() if isinstance(value, Control)
    ]
    if unknown := [name for name, value in given.items() if name not in every and not isinstance(value, Control)]:
        raise TypeError(f"{kind.__name__} has the controls {', '.join(every)}, but got {unknown[0]!r}.")
    for before, name in pairwise(("", *given)):
        if name not in every:
            every.insert(every.index(before) + 1 if before else 0, name)
    found = {}
    for name in every:
        value = given.get(name, getattr(kind, name, None))
        if isinstance(value, Control):
            found[name] = value
        elif value is not None:
            found[name] = replace(getattr(kind, name), value=value)
    for name, control in found.items():
        control.__set_name__(kind, name)
    return found

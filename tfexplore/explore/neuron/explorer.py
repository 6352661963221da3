"""The neuron explorer: controls for a neuron and a current, and what they do."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from tfexplore import neurons
from tfexplore.codegen.latex import latex_of
from tfexplore.explore.base.controls import Choice, Knob, RangeSlider, Slider, moved
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.plotly_sheet import playing
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.neuron import figure
from tfexplore.explore.neuron.membrane import KINDS, STARTS, Curve, Recording, Stimulus, curve, lively, trace
from tfexplore.explore.neuron.ranges import nice, room, stretch
from tfexplore.neurons.neuron import Neuron, check_neuron
from tfexplore.neurons.parameters import parameters_of
from tfexplore.nn.layers import Layer

DRAWN = (0, 1, 2, 2, 0, 0, 0.8, 0.8, 1.2, 1.6, 2, 0.4)
"""A current drawn by hand, as it is at first, in units of the neuron's first current."""
HAND = [f"hand_{k + 1}" for k in range(len(DRAWN))]
LABELS = dict(
    zip(KINDS, ("constant current x", "current while on", "mean current", "", "weight of one spike"), strict=True)
)
NEEDS = {"on": ("step",), "sigma": ("noise",), "rate": ("spikes at a rate",), "seed": ("noise", "spikes at a rate"),
         **dict.fromkeys(HAND, ("drawn by hand",)), "strength": tuple(k for k in KINDS if k != "drawn by hand")}  # fmt: skip
"""Which controls which kinds of current have."""
PAGE = 15  # frames of a page without a kernel


class NeuronExplorer(Explorer):
    r"""One neuron under an input current: its membrane potential and spikes, and its firing rate (the f-I curve).

    At every time step the neuron charges, fires and resets; for LIF with a soft reset

        h[t] = v[t-1] - v[t-1] / tau + x[t],    s[t] = (h[t] >= v_threshold),    v[t] = h[t] - s[t] v_threshold

    The traces come from one `Layer` under `tfexplore.record`. It runs the fused kernel where there is one: the first time a
    neuron is chosen it compiles for a moment (and is kept).

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)` or of a class of your own, shown first; every neuron of the library
            can be chosen as well.
        current: the kind of input current: "constant", "step", "noise", "drawn by hand" or "spikes at a rate".
        strength: the size of the current, its mean, or the weight of one spike; by default one at which the neuron fires.
        steps: time steps `T`, from 10 to 1000.
        seed: of the noise and of the random spikes.

    Controls: neuron, reset, steps, current, strength, on, sigma, rate, seed, hand_1 to hand_12, and every parameter by its
    name (tau, v_threshold, ...); those that the neuron and the kind of current have are shown.

    Result: `tfexplore.explore.neuron.membrane.Recording`, with `x`, `h`, `v`, `s` and `threshold` of shape `[T]`.

    Raises:
        TypeError: if neuron is no neuron.
        ValueError: if current or steps is none of those allowed.

    Example:
        >>> from tfexplore import explore, neurons
        >>> explorer = explore.neuron(neurons.LIF(tau=2.0, reset="hard"), strength=0.6, steps=100)
        >>> print(explorer.result.sentence())
        33 spikes in 100 steps (rate 0.33 per step); threshold current 0.5: a constant current above it makes the neuron fire.
        >>> explorer.controls["tau"].value = 10.0
        >>> len(explorer.result.times)
        50

    The rate in continuous time: Gerstner and Kistler, Spiking Neuron Models, 2002, section 4.1.
    """

    caption = (
        "Left: the input current, the potential (at every step up to h, then, after a spike, down to v) and the spike times. "
        "Right: spikes per step of 81 neurons with constant currents, in the last 500 of 1,000 steps; the exact rate and that "
        "of continuous time, where there is a formula; and the trace on the left, at its mean current."
    )

    neuron = Choice("neuron", (), help="the neuron shown")
    reset = Choice("reset", ("soft",), help="what a spike does to the potential")
    steps = Slider("time steps T", 10, 1000, step=10, live=True)
    current = Choice("input current", KINDS, help="how the current goes over time")
    strength = Slider("constant current x", 0.0, 1.0, help="in the units of the potential, per time step", live=True)
    on = RangeSlider("on from step to step", 1, 1, help="the first and the last time step with current")
    sigma = Slider("noise σ", 0.0, 1.0, help="standard deviation of the current, drawn anew at every step", live=True)
    rate = Slider(
        "spikes per step", 0.0, 1.0, step=0.01, value=0.2, help="mean number of input spikes per step", live=True
    )
    seed = Slider("seed", 0, 20, help="another seed is another draw of the same randomness", live=True)

    def __init__(
        self, neuron: Neuron | type[Neuron] | None = None, *, current: str = "constant", strength: float | None = None,
        steps: int = 200, seed: int = 0,
    ) -> None:  # fmt: skip
        own = neuron() if isinstance(neuron, type) and issubclass(neuron, Neuron) else neuron
        if own is not None:
            check_neuron(own)
        if not 10 <= steps <= 1000:
            raise ValueError(f"steps must be from 10 to 1000, but got {steps!r}.")
        first = STARTS[neurons.LIF][0] if own is None else dataclasses.replace(own, learn=())  # here, sliders move them
        self.kinds = {type(first).__name__: first}
        for each in neurons.ALL:
            self.kinds.setdefault(each.__name__, STARTS[each][0] if each in STARTS else each(learn=()))
        self.layer, self.equations = Layer(first), widgets.HTMLMath()
        self._taken, self._given = "", strength  # the neuron whose parameters the controls show; the first current
        self._curve: tuple[Any, Curve | None] = (None, None)
        kind, names = type(self), dict.fromkeys(name for kind in self.kinds.values() for name in kind.parameters)
        self.parameters = {name: f"neuron_{name}" if hasattr(kind, name) else name for name in names}
        super().__init__(
            neuron=kind.neuron.at(type(first).__name__, options=list(self.kinds)),
            steps=kind.steps.at(steps, low=10 + steps % 10), current=current,
            on=kind.on.at((steps // 4, steps * 3 // 4), high=steps), seed=seed,
            **{name: Knob(str(k), help=f"current in part {k} of {len(HAND)} of the time") for k, name in enumerate(HAND, 1)},
            **{control: parameter(name) for name, control in self.parameters.items()},
        )  # fmt: skip

    # -- what the controls do --------------------------------------------------------------------------------------

    @moved("neuron")
    def take(self) -> None:
        """Another neuron: its parameters, its resets, and currents at which it is lively."""
        chosen, controls, given = self.neuron, self.controls, self._given
        neuron = self.kinds[chosen]
        if not self.ready(neuron, self.update):
            return
        self.layer.neuron = neuron
        known, start, low, high = STARTS.get(type(neuron), (None, 0.0, math.inf, -math.inf))
        if neuron != known:
            start, *wide = lively(self.layer)
            low, high = (min(low, start), max(high, 2 * start)) if known else wide
        if given is not None:
            start, low, high = given, min(low, given), max(high, given)
        with self.quietly():
            for name, control in self.parameters.items():
                self.show_control(control, name in neuron.parameters)
            for name, bound in parameters_of(type(neuron)).items():
                value = neuron.parameters[name]
                stretch(controls[self.parameters[name]], *room(name, value, bound, neuron), value)
            controls["reset"].options, self.reset = admitted(neuron), neuron.reset
            controls["reset"].disabled = len(controls["reset"].options) == 1
            stretch(controls["strength"], low, high, start)
            stretch(controls["sigma"], 0.0, nice(3 * abs(start) or 1.0), abs(start))
            for name, part in zip(HAND, DRAWN, strict=True):
                stretch(controls[name], low, high, float(f"{min(max(part * start, low), high):.3g}"))
        self._start, self._taken = start, chosen
        self.equations.value = f'<div style="font-size:85%">{latex_of(neuron)}</div>'
        self.choose()

    @moved("current")
    def choose(self) -> None:
        """Another kind of current: shows what it needs, and begins with the same mean."""
        kind, weight = self.current, self.controls["strength"]
        for name, kinds in NEEDS.items():
            self.show_control(name, kind in kinds)
        weight.description = LABELS[kind] or weight.description
        mean = self._start / (self.rate or 1.0 if kind == "spikes at a rate" else 1.0)
        with self.quietly():
            weight.value = float(f"{min(mean, weight.max):.3g}") if self._given is None else self._given
        self._given = None
        self.update()

    @moved("steps")
    def stretch(self) -> None:
        """Another T: the step of current keeps its place in it."""
        on = self.controls["on"]
        first, last = (round(t * self.steps / on.max) for t in on.value)
        # one message: else the browser moves the old value into the new range, and reports that
        with self.quietly(), on.hold_sync():
            on.max, on.value = self.steps, (max(first, 1), max(last, 1))
        self.update()

    def prepare(self, neuron: Neuron) -> None:
        layer = Layer(neuron)  # its own: this may run in another thread
        trace(layer, np.zeros(10, np.float32))
        curve(layer, 0.0, 1.0)

    def update(self) -> None:
        if self.neuron != self._taken:  # at first, and if it was chosen while kernels were compiled
            self.take()
            return
        neuron = self.kinds[self._taken]
        numbers: dict[str, Any] = {
            name: float(self.controls[self.parameters[name]].value) for name in neuron.parameters
        }
        neuron = dataclasses.replace(neuron, reset=self.reset, **numbers)
        if self.ready(neuron, self.update):
            self.layer.neuron = neuron
            super().update()

    def stimulus(self, **changed: Any) -> Stimulus:
        values = {name: self.controls[name].value for name in ("strength", "on", "sigma", "rate", "seed")} | changed
        return Stimulus(self.current, levels=tuple(self.controls[name].value for name in HAND), **values)

    def look(self, **changed: Any) -> Recording:
        x = self.stimulus(**changed).current(self.steps)
        key = (self.layer.neuron, *self.strengths)
        if key != self._curve[0]:  # it does not depend on the current over time
            self._curve = (key, curve(self.layer, *self.strengths))
        found = trace(self.layer, x)
        v, threshold = found[self.layer.neuron.states[0]], found.get("threshold", np.full_like(x, np.nan))
        return Recording(self.layer.neuron, x, found["h"], v, found["s"], threshold, self._curve[1])

    # -- what is shown ---------------------------------------------------------------------------------------------

    @property
    def strengths(self) -> tuple[float, float]:
        """The range of constant currents."""
        return self.controls["strength"].min, self.controls["strength"].max

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.strengths)

    def layout(self) -> widgets.Widget:
        made = super().layout()
        row = made.children[0]
        hand = [self.controls[name] for name in HAND]
        row.children = [control for control in row.children if control not in hand]
        self.equations.layout = widgets.Layout(overflow="visible", margin="6px 40px 0 0")
        drawn = widgets.HBox(hand, layout=widgets.Layout(overflow="visible"))
        both = widgets.HBox([self.equations, drawn], layout=widgets.Layout(flex_flow="row wrap"))
        return widgets.VBox([row, both, *made.children[1:]])

    def page(self) -> go.Figure:
        """The figure with a slider for the strength of the current, which moves without a kernel."""
        if self.current == "drawn by hand":
            return self.figure
        low, high = self.strengths
        apart = nice((high - low) / PAGE)
        grid = np.arange(np.ceil(low / apart - 1e-9), np.floor(high / apart + 1e-9) + 1) * apart
        seen = {value: self.look(strength=value) for value in sorted({*grid.round(9).tolist(), self.strength})}
        heights = np.array([figure.height(each.x, self.strengths) for each in seen.values()])
        axis = (float(heights[:, 0].min()), float(heights[:, 1].max()))
        sheets = {f"{value:.3g}": figure.sheet(each, self.strengths, axis) for value, each in seen.items()}
        return playing(sheets, f"{self.strength:.3g}", self.controls["strength"].description)


def admitted(neuron: Neuron) -> list[str]:
    """The resets that this neuron can do; a hard one needs a v_reset."""
    hard = "v_reset" in neuron.parameters or type(neuron).hard is not Neuron.hard
    return [reset for reset in neuron.resets if reset != "hard" or hard]


def parameter(name: str) -> Slider:
    """The control of a parameter."""
    unit = ", in time steps" if name.startswith("tau") else ""
    known = {"tau": "time constant τ", "v_threshold": "threshold", "v_reset": "reset potential"}
    return Slider(known.get(name, f"parameter {name}"), 0.0, 1.0, help=f"{name} in the equations{unit}", live=True)

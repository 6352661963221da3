"""What may be set of a layer at any time: its neuron, whether time steps are connected, and how time is walked."""

from __future__ import annotations

from typing import Any, TypeAlias

from tfexplore.backends import Given
from tfexplore.codegen import keep as keeping
from tfexplore.codegen import schedule as scheduling
from tfexplore.neurons.neuron import Neuron, check_neuron
from tfexplore.neurons.parameters import Bound, parameters_of
from tfexplore.neurons.step import by_value, cut_in_time, step_of
from tfexplore.nn.layout import Order
from tfexplore.nn.routes import name_of
from tfexplore.nn.stateful import Stateful

Known: TypeAlias = tuple[str, Given, Order]
"""The name of a kernel, what it takes besides x, and the order in which x's axes lie."""


class Settings(Stateful):
    """The settings of a `Layer`, each checked when it is set, and what follows from them.

    A subclass sets `backend` before `schedule`.
    """

    backend: str
    _neuron: Neuron
    bounds: dict[str, Bound]
    _temporal = "on"  # also of a layer that was saved before there was a choice
    _temporal_gradient = True
    _schedule = "auto"

    @property
    def neuron(self) -> Neuron:
        """The neuron as a value; another one may be set at any time (a slider does), if it learns the same parameters."""
        return self._neuron

    @neuron.setter
    def neuron(self, neuron: Neuron) -> None:
        check_neuron(neuron)
        before = getattr(self, "_neuron", neuron)
        if neuron.learn != before.learn:
            raise ValueError(f"this layer learns {before.learn}, but the new neuron {neuron.learn}; make a new layer.")
        if [(key, getattr(neuron, key)) for key in neuron.shaped] != [
            (key, getattr(before, key)) for key in before.shaped
        ]:
            raise ValueError(
                f"this layer has values for {before.shaped or 'no parameter'}, but the new neuron others, for {neuron.shaped}; "
                "make a new layer."
            )
        self._computes(neuron, self._temporal_gradient)

    def _computes(self, neuron: Neuron, temporal_gradient: bool) -> None:
        """Sets what follows from these two."""
        step = step_of(neuron) if temporal_gradient else cut_in_time(step_of(neuron))
        keeping.check(getattr(self, "keep", "auto"), step)
        self._neuron, self.step, self.step_name, self.by_value = neuron, step, name_of(step), by_value(neuron)
        self._temporal_gradient = temporal_gradient
        self.calls: dict[tuple[Any, ...], Known] = {}
        self.bounds = dict(parameters_of(type(neuron)))
        self.own_initial = any(value.free_symbols & {*step.per_neuron} for value in step.initial)

    @property
    def temporal(self) -> str:
        """Whether a step goes on from the state before: "on", or "off" for a layer without memory."""
        return self._temporal

    @temporal.setter
    def temporal(self, temporal: str) -> None:
        if temporal not in ("on", "off"):
            raise ValueError(f"temporal must be 'on' or 'off', but got {temporal!r}.")
        self._temporal = temporal

    @property
    def temporal_gradient(self) -> bool:
        """Whether a gradient flows from each step to the one before."""
        return self._temporal_gradient

    @temporal_gradient.setter
    def temporal_gradient(self, temporal_gradient: bool) -> None:
        if not isinstance(temporal_gradient, bool):
            raise TypeError(f"temporal_gradient must be True or False, but got {temporal_gradient!r}.")
        if temporal_gradient != self._temporal_gradient:
            self._computes(self._neuron, temporal_gradient)

    @property
    def schedule(self) -> str:
        """How a fused backend walks time: "serial", "chunked", "speculative" or "auto"."""
        return self._schedule

    @schedule.setter
    def schedule(self, schedule: str) -> None:
        scheduling.check(schedule, self.backend)
        self._schedule = schedule

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.neuron.states if self._temporal == "on" else ()

    @property
    def trace_names(self) -> tuple[str, ...]:
        return ("h", *self.neuron.states)

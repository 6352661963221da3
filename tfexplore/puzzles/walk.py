# mypy: allow-untyped-defs
"""Puzzles of notebook 02, schedules: the order of the (layer, time) cells, and the state carried over a cut in time.

What is right follows from which cell needs which, and from the library's own layer over all time steps at once.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from tfexplore.codegen.traffic import traffic_of, words
from tfexplore.neurons.library import LIF
from tfexplore.puzzles.puzzle import Array, Case, Complaint, Function, Memory, Puzzle

NEURONS = 10
"""Neurons of a layer, for counting the words of its state."""
ONE_PASS = words(traffic_of(LIF(), gradient=False))
"""Words per element-step of a fused layer without gradient, not counting its initial and final state."""


def walk_the_grid(layers, steps, feedback, cell):
    """Call cell(layer, t) once for every layer and every time step, in an order with as few launches as possible."""
    ### BEGIN SOLUTION
    if feedback:
        for t in range(steps):
            for layer in range(layers):
                cell(layer, t)
    else:
        for layer in range(layers):
            for t in range(steps):
                cell(layer, t)
    ### END SOLUTION


def carry_the_state(layer, chunks):
    """The spikes of all chunks of time, one after the other, as one array [T, neurons]."""
    ### BEGIN SOLUTION
    spikes, state = [], None
    for x in chunks:
        s, state = layer(x, state)
        spikes.append(s)
    return np.concatenate(spikes)
    ### END SOLUTION


def walked(function: Function, memory: Memory, layers: int, steps: int, feedback: bool) -> Array:
    """The cells that were run; the picture shows in which order."""
    when = memory.drawn = np.full((steps, layers), np.nan)
    last: list[int] = []  # the layer whose state is in the registers

    def cell(layer: int, t: int) -> None:
        if not (layer in range(layers) and t in range(steps)):
            raise Complaint(
                f"there is no cell (layer {layer}, t {t}): layers run from 0 to {layers - 1}, time steps from 0 to {steps - 1}."
            )
        if not np.isnan(when[t, layer]):
            raise Complaint(f"the cell (layer {layer}, t {t}) was run twice; each must be run once.")
        needs = {(layer, t - 1): "state", (layer - 1, t): "spikes"}
        if feedback and layer == 0:
            needs[layers - 1, t - 1] = "fed-back spikes"
        for (other, time), what in needs.items():
            if other >= 0 and time >= 0 and np.isnan(when[time, other]):
                raise Complaint(
                    f"the cell (layer {layer}, t {t}) was run before (layer {other}, t {time}), whose {what} it needs."
                )
        if last != [layer]:  # another kernel is launched: the state is read at its beginning, and written at its end
            memory.moved("state", "read", NEURONS)
            memory.moved("state", "write", NEURONS)
            last[:] = [layer]
        memory.moved("x", "read", NEURONS)
        memory.moved("spikes", "write", NEURONS)
        when[t, layer] = np.isfinite(when).sum()

    function(layers, steps, feedback, cell)
    if np.isnan(when).any():
        t, layer = np.argwhere(np.isnan(when))[0]
        missing = int(np.isnan(when).sum())
        raise Complaint(f"{missing} of {when.size} cells were never run, (layer {layer}, t {t}) among them.")
    return np.ones(when.shape)


def grid(name: str, layers: int, steps: int, feedback: bool) -> Case:
    numbers = np.arange(layers * steps, dtype=float)
    order = numbers.reshape(steps, layers) if feedback else numbers.reshape(layers, steps).T
    launches = layers * steps if feedback else layers
    given = {"layers": layers, "steps": steps, "feedback": feedback}
    return Case(
        name,
        given,
        np.ones((steps, layers)),
        ("time step t", "layer"),
        run=walked,
        drawn=order,
        budget=ONE_PASS + Fraction(2 * launches, layers * steps),
        elements=layers * steps * NEURONS,
    )


def grids() -> list[Case]:
    return [
        grid("2 layers and 3 time steps, with feedback", 2, 3, True),
        grid("3 layers and 8 time steps, with feedback from the last layer to the first", 3, 8, True),
        grid("3 layers and 8 time steps, without feedback", 3, 8, False),
    ]


def carried(function: Function, memory: Memory, x: Array, lengths: tuple[int, ...]) -> Any:
    from torch import from_numpy, tensor

    from tfexplore.nn.layers import Layer

    whole, neurons = Layer(LIF(tau=4.0), backend="torch"), x.shape[1]

    def layer(x: Any, state: Any = None) -> tuple[Array, Array]:
        x = np.array(x, float)
        if x.ndim != 2 or x.shape[1] != neurons:
            raise Complaint(f"layer was given a current of shape {x.shape}; it takes [time steps, {neurons}].")
        if state is not None and np.shape(state) != (neurons,):
            raise Complaint(
                f"layer was given a state of shape {np.shape(state)}; give it what it returned, or None to begin with."
            )
        if not memory.reads["x"] and len(x) > lengths[0]:
            raise Complaint(
                f"layer was given {len(x)} time steps at first, but the first chunk has {lengths[0]}: "
                "the others are not there yet."
            )
        given = None if state is None else (tensor(np.asarray(state, float))[None],)
        spikes, (v,) = whole(from_numpy(x)[:, None], given, return_state=True)
        memory.moved("x", "read", x.size)
        memory.moved("spikes", "write", x.size)
        memory.moved("state", "read", neurons)
        memory.moved("state", "write", neurons)
        return spikes[:, 0].numpy(), v[0].numpy()

    return function(layer, np.split(x, np.cumsum(lengths)[:-1]))


def chunks() -> list[Case]:
    from torch import from_numpy

    from tfexplore.nn.layers import Layer

    x = np.random.default_rng(4).uniform(-0.2, 0.9, (32, 6))
    expected = Layer(LIF(tau=4.0), backend="torch")(from_numpy(x)[:, None])[:, 0].numpy()
    found = []
    for name, lengths in {
        "32 time steps in one chunk": (32,),
        "chunks of 1, 24, 3 and 4 time steps": (1, 24, 3, 4),
        "four chunks of 8 time steps": (8, 8, 8, 8),
    }.items():
        budget = ONE_PASS + Fraction(2 * len(lengths), len(x))
        given = {"x": x, "lengths": lengths}
        axes = ("time step t", "neuron i")
        found.append(Case(name, given, expected, axes, run=carried, budget=budget, elements=x.size))
    return found


def forgets(layer, chunks):
    return np.concatenate([layer(x)[0] for x in chunks])


def keeps_the_first(layer, chunks):
    spikes, state = layer(chunks[0])
    return np.concatenate([spikes, *(layer(x, state)[0] for x in chunks[1:])])


PUZZLES = (
    Puzzle(
        walk_the_grid,
        "02_two_ways_to_walk",
        "walk the grid",
        """
A network of `layers` layers runs for `steps` time steps. `cell(layer, t)` runs one layer for one time step; it needs the
cell (layer, t − 1), for the potentials, and the cell (layer − 1, t), for its input. If `feedback` is true, layer 0 also needs
what the last layer sent out one step ago, the cell (layers − 1, t − 1). Layers and time steps count from 0.

Call `cell` once for every cell, in an order in which each finds what it needs. Cells of one layer that follow each other
are one launch of a kernel, which reads the layer's state when it begins and writes it when it ends: have few launches. The
budget below is for 8 time steps without feedback.
""",
        (
            "Two loops, one inside the other. Which one is the outer decides how often the layer changes.",
            "Without feedback, finish one layer before you begin the next: the outer loop is over the layers.",
            "With feedback, layer 0 at step t waits for the last layer at step t − 1: then the outer loop must be over time.",
        ),
        grids,
        "when a cell was run",
    ),
    Puzzle(
        carry_the_state,
        "02_two_ways_to_walk",
        "carry the state over a cut in time",
        """
A long recording comes in chunks: `chunks` is a list of currents, each of shape [time steps, neurons]. `layer(x, state)`
runs all time steps of one chunk, and returns two things: the spikes, of the same shape as `x`, and the state in which it
leaves the neurons. The state `None` is a layer at rest. The chunks arrive one after the other: give `layer` one at a time.
Return the spikes of the whole recording, as one array, as if it
had never been cut.
""",
        (
            "What must the second chunk know about the first? Nothing but where the potentials stood when it ended.",
            "Begin with `state = None`. In the loop: `s, state = layer(x, state)`; so each chunk takes what the last one left.",
            "Collect the spikes in a list, and join them at the end: `np.concatenate(spikes)`.",
        ),
        chunks,
        "spike s",
        {
            "Every chunk begins at rest: the state that the chunk before left is forgotten.": forgets,
            "Every chunk begins where the first one ended: the state must be taken over from each chunk to the next.": (
                keeps_the_first
            ),
        },
    ),
)

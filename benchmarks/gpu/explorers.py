"""The explorers' data functions on the device; they need neither ipywidgets nor plotly."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from tfexplore import Layer
from tfexplore.backends import choose, tuned
from tfexplore.codegen.variant import Variant
from tfexplore.explore.memory import kept
from tfexplore.explore.roofline import points
from tfexplore.explore.schedules import walks
from tfexplore.measure import contestants
from tfexplore.measure.clock import seconds
from tfexplore.neurons import ALIF, LIF
from tfexplore.neurons.step import step_of


def measure(device: str, out: str, count: int) -> dict[str, Any]:
    """Compares each with its result on a CPU, or with the eager loop; returns what was compared."""
    make = torch.Generator().manual_seed(0)
    contestants.check(contestants.contestants(16, count, device=device))  # the race's and the curves'

    x, gradient = (torch.randn(32, count, generator=make).to(device) for _ in range(2))
    planned = points.planned((LIF(), ALIF()), choose("auto", device).name)
    made = [points.counted(point, "float32", x.numel()) for point in planned]  # the roofline's
    for point in made:
        points.check(point, torch.float32, device)
        seconds(points.run_of(point, x, gradient), device)

    net, images = nn.Sequential(nn.Linear(8, 20), Layer(LIF()), nn.Linear(20, 5)), torch.rand(64, 2, 8, generator=make)
    ways = [way for way in kept.WAYS if way.keep != "bits"]
    for way in ways:  # the memory explorer's
        there, here = (kept.kept(net.to(place), images.to(place), way) for place in (device, "cpu"))
        if way.keep == "input":
            # beside x, a GPU keeps other states: its chunks are shorter, and it has no need of the first
            there["1"], here["1"] = (
                value["1"] - between(place, len(images), 2 * 20) for value, place in ((there, device), (here, "cpu"))
            )
        if there != here:
            raise RuntimeError(f"{way.name}: {there} bytes are kept on {device}, but {here} on the CPU.")

    unmet = {}
    for kind in ("feed-forward", "recurrent layer", "feedback"):  # the schedules'
        grids = [
            walks.grid(walks.example(kind).to(place), walks.example_input(4).to(place)) for place in (device, "cpu")
        ]
        unmet[kind], on_cpu = (sum(len(walk.unmet) for walk in grid.walks.values()) for grid in grids)
        if unmet[kind] != on_cpu:
            raise RuntimeError(f"the walks of {kind!r} meet other needs on {device} than on the CPU.")
    return {"points": [point.label for point in made], "ways": [way.name for way in ways], "unmet": unmet}


def between(device: str, steps: int, count: int) -> int:
    """Bytes of the states that a LIF saves between chunks of time."""
    variant = Variant(step_of(LIF()), keep="input")
    variant = tuned.built(variant, 0) if torch.device(device).type == "cuda" else variant
    return 4 * math.prod(variant.kept_shape(steps, count))

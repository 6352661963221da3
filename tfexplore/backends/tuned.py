"""The build of a GPU kernel: measured here (`tfexplore warm --tune`), measured by us on such a device, or predicted.

A measurement counts for a device and a `builds.Shape`: a user's neuron with that number of states, whose backward pass needs that
number of values, shares it. `tuned.json` beside this file holds the devices that we measured.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tfexplore.codegen.builds import Build, Config, Shape, default
from tfexplore.codegen.variant import Variant
from tfexplore.machine.files import write_whole
from tfexplore.machine.paths import cache_dir

SHIPPED = Path(__file__).with_name("tuned.json")


def built(variant: Variant, device: int) -> Variant:
    """The variant as it is built for this device."""
    return variant.for_gpu(choose(variant.shape, torch.cuda.get_device_name(device)))


def home() -> Path:
    """The file of what was measured here: {device: {shape: config}}."""
    return cache_dir() / "tuned.json"


def choose(shape: Shape, device: str) -> Config:
    """The config for a device of this name, such as "NVIDIA H200"."""
    return known().get(device, {}).get(str(shape)) or default(shape)


@functools.cache
def known() -> dict[str, dict[str, Config]]:
    """By device and shape; what was measured here comes before what is shipped."""
    found: dict[str, dict[str, Config]] = {}
    for path in (SHIPPED, home()):
        for device, shapes in read(path).items():
            found.setdefault(device, {}).update({shape: config_of(values) for shape, values in shapes.items()})
    return found


def remember(shape: Shape, device: str, config: Config) -> None:
    """Stores a measured choice for every later process."""
    kept = read(home())
    kept.setdefault(device, {})[str(shape)] = asdict(config)
    write_whole(home(), json.dumps(kept, indent=1, sort_keys=True) + "\n")
    known.cache_clear()


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def config_of(values: dict[str, Any]) -> Config:
    return Config(values["chunk"], Build(**values["forward"]), Build(**values["backward"]))

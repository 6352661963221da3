"""Whether anything was drawn: the pictures of the explorers and puzzles, as numbers; what a live figure sends."""

from __future__ import annotations

import io
from typing import Any


def spread(png: bytes) -> float:
    """0 for an empty picture."""
    from matplotlib.image import imread  # here: not every installation has it

    return float(imread(io.BytesIO(png))[..., :3].std())


def messages(figure: Any) -> list[dict[str, Any]]:
    """All that the live figure sends its half in the browser from now on."""
    sent: list[dict[str, Any]] = []
    for kind in (trait for trait in figure.trait_names() if trait.startswith("_py2js_")):
        figure.observe(lambda said: sent.append(said) if said["new"] is not None else None, names=kind)
    return sent

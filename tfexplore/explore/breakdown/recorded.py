"""Whole networks that were measured before: what share of a training step the neurons took, and what fusing them gained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfexplore.measure import results

LAYERED, FUSED, NEURONS, GRAPH = "layer by layer", "fused", "neurons", "CUDA graph of "


@dataclass(frozen=True)
class Whole:
    """A training step of one network on one machine, layer by layer in eager torch and fused.

    Args:
        network: its name, such as "resnet18".
        steps: time steps `T`.
        batch: samples.
        dtype: of the products: "bfloat16" under autocast, else "float32".
        where: machine, torch and date.
        layered: milliseconds of the whole step in eager torch.
        fused: the same, fused.
        neurons: milliseconds of its neurons alone, in eager torch; None where parts were not measured.
    """

    network: str
    steps: int
    batch: int
    dtype: str
    where: str
    layered: float
    fused: float
    neurons: float | None

    @property
    def gain(self) -> float:
        """How many times as fast the whole step became."""
        return self.layered / self.fused

    @property
    def share(self) -> float | None:
        """The part of the step that the neurons took before they were fused."""
        return None if self.neurons is None else self.neurons / self.layered

    @property
    def saved(self) -> float:
        """The part of the step that fusing saved: the neurons, and what is fused with them, took at least as much."""
        return 1 - self.fused / self.layered


def whole_networks(device: str | None = None) -> list[Whole]:
    """The whole networks that are recorded, on the machines of this kind ("cpu" or "cuda"), or on all.

    Of the same network and shape only the newest counts. On a GPU the times are those of CUDA graphs: the device's own,
    without Python's.

    Example:
        >>> made = whole_networks("cuda")[0]
        >>> made.network, made.where.split(",")[0], f"{made.gain:.2f}"
        ('resnet18', 'NVIDIA H200', '1.73')
    """
    newest: dict[tuple[Any, ...], Whole] = {}
    for record in sorted(results.records(benchmark="training"), key=lambda record: (record.device, record.date)):
        if device in (None, record.device):
            for row in record.rows:
                made = _whole(row, record.label, GRAPH if record.device == "cuda" else "")
                newest[record.device, made.network, made.steps, made.batch, made.dtype] = made
    return list(newest.values())


def _whole(row: dict[str, Any], where: str, graph: str) -> Whole:
    neurons = row.get("parts_ms", {}).get(LAYERED, {}).get(NEURONS)
    layered, fused = (row["median_ms"][graph + walk] for walk in (LAYERED, FUSED))
    return Whole(row["network"], row["T"], row["B"], row.get("autocast", row["dtype"]), where, layered, fused, neurons)

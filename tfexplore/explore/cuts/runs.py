"""What trainings from several seeds have shown of the cuts, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tfexplore.explore.cuts.experiment import CONTROLS, CUT, KEPT, Point


@dataclass
class CutRuns:
    """The measurements so far.

    Args:
        network: its name.
        layers: the names of all layers of neurons, in the order of the network.
        ends: of those at the end of a stage.
        runs: by seed, the `Point` before the first batch and after every few.
        alone: by finished seed, the cosine where one layer alone is cut, by its name.
    """

    network: str
    layers: tuple[str, ...]
    ends: tuple[str, ...]
    runs: list[list[Point]] = field(default_factory=list)
    alone: list[dict[str, float]] = field(default_factory=list)

    def batches(self) -> list[int]:
        """After how many batches all seeds have been measured; while the first seed runs, what it has."""
        runs = [run for run in self.runs if len(run) == len(self.runs[0])]
        return [point.batches for point in runs[0]] if runs else []

    def values(self, name: str) -> np.ndarray:
        """The cosines of a set of cuts, [seeds, measurements, draws], of the seeds that are as far as the first."""
        return values(self.runs, name)

    def layer(self, name: str) -> np.ndarray:
        """The cosines where this layer alone is cut, by seed."""
        return np.array([found[name] for found in self.alone])

    def sentence(self) -> str:
        if not self.runs or not self.runs[0]:
            return "Press Start to train, and to compare the gradients on the way."
        last = [run[-1] for run in self.runs if len(run) == len(self.runs[0])]
        right = f"{np.mean([point.accuracy for point in last]):.0%} of the test images classified correctly"
        seeds = f"{len(last)} seed{'s' * (len(last) > 1)}"
        parts = [f"{self.network}, {seeds}, after {last[0].batches} batches ({right})."]
        for case in (KEPT, CUT):
            if case in last[0].cosines:
                count = len(self.ends) if case == CUT else len(self.layers) - len(self.ends)
                parts.append(
                    f"{case[0].upper()}{case[1:]} ({count} of {len(self.layers)} layers cut): {compared(last, case)}."
                )
        if self.alone:
            least = min(self.layers, key=lambda name: self.layer(name).mean())
            parts.append(f"Cut alone, {least} changes the gradient most: cosine {self.layer(least).mean():.4f}.")
        return " ".join(parts)


def values(runs: Sequence[Sequence[Point]], name: str) -> np.ndarray:
    """[seeds, measurements, draws], of the seeds that are as far as the first."""
    whole = [run for run in runs if len(run) == len(runs[0])]
    return np.array([[point.cosines[name] for point in run] for run in whole])


def spread(found: np.ndarray) -> str:
    """The mean over the seeds, and their standard deviation where there are several."""
    each = found.reshape(len(found), -1).mean(1)
    return f"{each.mean():.3f}" + (f" ± {each.std(ddof=1):.3f}" if len(each) > 1 else "")


def below(found: Sequence[Point], case: str, control: str) -> tuple[int, int]:
    """How many random draws, each on the same weights and batch, have a lower cosine than this case; and of how many."""
    pairs = [(point.cosines[case][0], drawn) for point in found for drawn in point.cosines[control]]
    return sum(drawn < own for own, drawn in pairs), len(pairs)


def compared(last: Sequence[Point], case: str) -> str:
    """The cosine of this case beside that of its random control."""
    control = CONTROLS[case]
    own, random = (np.array([point.cosines[name] for point in last]) for name in (case, control))
    lower, count = below(last, case, control)
    return f"cosine {spread(own)}; {control} {spread(random)}, lower in {lower} of {count} draws"

"""What a race measures: how long each way through the two layers takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from tfexplore.measure.contestants import FUSED, STEPPED, WAYS


@dataclass
class RaceTimes:
    """How long each way through the two layers takes.

    Args:
        steps: time steps `T`.
        neurons: of each layer.
        machine: where it was measured.
        backend: the one that ran "fused".
        seconds: medians of one training pass, forward and backward, by way.
    """

    steps: int
    neurons: int
    machine: str
    backend: str
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def speedup(self) -> float:
        """How many times as fast as step by step the fused kernel is."""
        return self.seconds[STEPPED] / self.seconds[FUSED]

    def sentence(self) -> str:
        work = f"{self.steps} time steps of 2 × {self.neurons:,} neurons"
        if not self.seconds:
            return f"Three ways through {work}. Press Start."
        if len(self.seconds) < len(WAYS):
            return f"{len(self.seconds)} of {len(WAYS)} ways timed, through {work}."
        ratio = self.speedup
        compared = f"{ratio:.1f} times as fast" if ratio >= 1 else f"{1 / ratio:.1f} times as slow"
        where = f"{self.machine}; backend {self.backend}"
        return f"Fused runs {work}, forward and backward, {compared} as step by step ({where})."

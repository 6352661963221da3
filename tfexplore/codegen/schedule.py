"""How a layer walks time: the choices, and which is the fastest::

serial        the fused loop over time
chunked       chunks of time side by side, a scan in three phases: backward for every neuron, forward where the step is affine
speculative   forward by chunks from guessed states, again and again until nothing changes; backward as chunked
auto          the faster of serial and chunked
"""

from __future__ import annotations

import functools
import math

from tfexplore.codegen.variant import Variant
from tfexplore.neurons import affine

SCHEDULES = ("serial", "chunked", "speculative")


def check(schedule: str, backend: str = "auto") -> None:
    """Raises ValueError for an unknown choice, or one that the eager backend does not have."""
    if schedule not in (allowed := ("auto", *SCHEDULES)):
        raise ValueError(f"schedule must be one of {', '.join(map(repr, allowed))}, but got {schedule!r}.")
    if backend == "torch" and schedule in ("chunked", "speculative"):
        raise ValueError(
            f"schedule={schedule!r} belongs to the fused kernels, and backend='torch' is an eager loop; use backend='auto', or "
            "tfexplore.scan for a scan in plain torch."
        )


@functools.lru_cache(maxsize=4096)
def length(variant: Variant, loop: str, steps: int, neurons: int, threads: int) -> int:
    """The length of the chunks in which a pass runs ("forward", "backward"), 0 for one piece."""
    if variant.schedule == "serial" or variant.constant:
        return 0
    if variant.schedule == "auto":
        return 0
    if loop == "forward" and variant.schedule == "chunked" and affine.why_not(variant.step):
        return 0
    unit = math.lcm(variant.steps, variant.chunk if variant.keeps == "input" else 1)
    count = max(1, min(2048 // neurons, round(math.sqrt(steps))))
    chunk = -(-steps // (count * unit)) * unit
    return chunk if chunk < steps else 0

"""What is parallel in time: relaxations, layers whose steps all run at once because they are no LIF.

- `PSN`, `MaskedPSN`, `SlidingPSN`: a learned matrix over time in the place of leak and reset
- `FPT`: a few rounds of a smooth LIF, whose spikes are drawn at random; `fpt_error` counts how many are not LIF's
- `DelayedReset`: a LIF that a spike resets D steps later, exactly, in T/D rounds
"""

from tfexplore.scan.delayed import DelayedReset
from tfexplore.scan.fpt import FPT, FPTError, fpt_error
from tfexplore.scan.psn import PSN, MaskedPSN, SlidingPSN
from tfexplore.scan.relaxation import Relaxation, Work

__all__ = ["FPT", "PSN", "DelayedReset", "FPTError", "MaskedPSN", "Relaxation", "SlidingPSN", "Work", "fpt_error"]

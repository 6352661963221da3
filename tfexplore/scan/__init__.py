"""What is really parallel in time: steps of a neuron as affine pairs, and scans over them, in plain torch; and relaxations.

A step that is affine in its states, z -> A z + b, is a pair, and two pairs are one. So T steps may be grouped in any way:

- `pairs`: the pair, and four ways to walk a recurrence: `sequential`, `chunked`, `associative` (a tree), `doubling`; `Count`
- `steps`: from a neuron and x to pairs; `walk` is any neuron's serial loop, `run` an affine neuron's forward pass as a scan
- `backward`: the backward pass of *every* neuron as a scan, QIF, EIF and Izhikevich included
- `fixed_point`: neurons with a reset, exactly: guess all spikes, scan, compare, repeat; what is proved, and what is wasted

These are to be read, and to test faster ones against; nothing here is fast. No neuron is named: what is affine follows from
its equations (`neurons.affine_of`), and so do A, b and the adjoint.

Relaxations are layers whose steps all run at once because they are no LIF:

- `PSN`, `MaskedPSN`, `SlidingPSN`: a learned matrix over time in the place of leak and reset
- `FPT`: a few rounds of a smooth LIF, whose spikes are drawn at random; `fpt_error` counts how many are not LIF's
- `DelayedReset`: a LIF that a spike resets D steps later, exactly, in T/D rounds
"""

from tfexplore.scan.backward import Gradient, adjoint_pairs, gradient
from tfexplore.scan.delayed import DelayedReset
from tfexplore.scan.fixed_point import Solved, solve
from tfexplore.scan.fpt import FPT, FPTError, fpt_error
from tfexplore.scan.pairs import Count, Pairs, associative, chunked, combine, doubling, odd_even, sequential
from tfexplore.scan.psn import PSN, MaskedPSN, SlidingPSN
from tfexplore.scan.relaxation import Relaxation, Work
from tfexplore.scan.steps import HOW, Forward, pairs_of, run, walk

__all__ = [
    "FPT", "HOW", "PSN", "Count", "DelayedReset", "FPTError", "Forward", "Gradient", "MaskedPSN", "Pairs", "Relaxation",
    "SlidingPSN", "Solved", "Work", "adjoint_pairs", "associative", "chunked", "combine", "doubling", "fpt_error", "gradient",
    "odd_even", "pairs_of", "run", "sequential", "solve", "walk",
]  # fmt: skip

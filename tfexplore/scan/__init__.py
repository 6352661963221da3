"""What is really parallel in time: scans over the steps of a neuron, guesses where spikes come back, and other neurons.

A step that is affine in its states, z -> A z + b, is a pair, and two pairs are one. So T steps may be grouped in any way:

- `pairs`: the pair, and four ways to walk a recurrence: `sequential`, `chunked`, `associative` (a tree), `doubling`; `Count`
- `steps`: from a neuron and x to pairs; `walk` is any neuron's serial loop, `run` an affine neuron's forward pass as a scan
- `backward`: the backward pass of *every* neuron as a scan, QIF, EIF and Izhikevich included
- `fixed_point`: neurons with a reset, exactly: guess all spikes, scan, compare, repeat; what is proved, and what is wasted
- `cut`: neurons with a hard reset, exactly: a spike cuts the past, so scan up to the first one, commit, restart behind it
- `rounding`: how far sums in another order may be, and which spikes that may flip
- `work`: what each way does for a shape, counted on the scan itself

Other maps that stay of one kind when they are combined would do as well, such as fractions (a z + b) / (c z + d); "no scan" here
means: none of pairs.

These are to be read, and to test faster ones against; nothing here is fast. A layer's own scan is `schedule="chunked"`. No neuron
is named: what is affine follows from its equations (`neurons.affine_of`), and so do A, b and the adjoint.

Relaxations are layers whose steps all run at once because they are no LIF:

- `PSN`, `MaskedPSN`, `SlidingPSN`: a learned matrix over time in the place of leak and reset
- `FPT`: a few rounds of a smooth LIF, whose spikes are drawn at random; `fpt_error` counts how many are not LIF's
- `DelayedReset`: a LIF that a spike resets D steps later, exactly, in T/D rounds
"""

from tfexplore.scan.backward import Gradient, adjoint_pairs, gradient
from tfexplore.scan.cut import Cut, cut, rounds_of
from tfexplore.scan.delayed import DelayedReset
from tfexplore.scan.fixed_point import Solved, solve
from tfexplore.scan.fpt import FPT, FPTError, fpt_error
from tfexplore.scan.pairs import Count, Pairs, associative, chunked, combine, doubling, odd_even, sequential
from tfexplore.scan.psn import PSN, MaskedPSN, SlidingPSN
from tfexplore.scan.relaxations import Relaxation, WorkDepth
from tfexplore.scan.rounding import Flips, flips, rounding_bound
from tfexplore.scan.steps import HOW, Forward, pairs_of, run, walk, why_not
from tfexplore.scan.work import counted

__all__ = [
    "FPT",
    "HOW",
    "PSN",
    "Count",
    "Cut",
    "DelayedReset",
    "FPTError",
    "Flips",
    "Forward",
    "Gradient",
    "MaskedPSN",
    "Pairs",
    "Relaxation",
    "SlidingPSN",
    "Solved",
    "WorkDepth",
    "adjoint_pairs",
    "associative",
    "chunked",
    "combine",
    "counted",
    "cut",
    "doubling",
    "flips",
    "fpt_error",
    "gradient",
    "odd_even",
    "pairs_of",
    "rounding_bound",
    "rounds_of",
    "run",
    "sequential",
    "solve",
    "walk",
    "why_not",
]  # fmt: skip

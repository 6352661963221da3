"""Time walked backwards: training memory that need not grow with T, after T-RevSNN (Hu et al., ICML 2024).

- `ReversibleTime`: levels that step through time together; what is kept of them is a choice
- `Level`: a level's F, of what is below and what is above; `turned_off`: the spikes through which levels see each other
- `trevsnn`: the published network, small and large; `weighted_loss` trains its heads
- `merged`: the same for inference; `operations` counts what that costs
- `error`: how exactly the inverse holds for a network and an input
"""

from tfexplore.reversible.alpha import Alpha
from tfexplore.reversible.blocks import Block, StandardisedConv2d
from tfexplore.reversible.exactness import Exactness, error
from tfexplore.reversible.inference import Merged, merged, operations
from tfexplore.reversible.levels import Level, ReversibleTime
from tfexplore.reversible.networks import TRevSNN, trevsnn, weighted_loss
from tfexplore.reversible.reading import StraightThrough, turned_off
from tfexplore.reversible.safety import Choice, lost, most_steps

__all__ = [
    "Alpha",
    "Block",
    "Choice",
    "Exactness",
    "Level",
    "Merged",
    "ReversibleTime",
    "StandardisedConv2d",
    "StraightThrough",
    "TRevSNN",
    "error",
    "lost",
    "merged",
    "most_steps",
    "operations",
    "trevsnn",
    "turned_off",
    "weighted_loss",
]  # fmt: skip

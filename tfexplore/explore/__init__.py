"""The interactive explorers: plain Python objects with `.controls`, `.figure` and `.result` (see `explorer.py`)."""

from tfexplore.explore.breakdown import breakdown
from tfexplore.explore.race import Race
from tfexplore.explore.training import Training, losses

__all__ = ["Race", "Training", "breakdown", "losses"]

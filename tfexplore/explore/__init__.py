"""The interactive explorers: plain Python objects with `.controls`, `.figure` and `.result` (see `explorer.py`).

Each name here makes one: `explore.race(steps=32)`, with its first state drawn, shown by a notebook as it is, or by `.show()`.
"""

import sys

from tfexplore.explore.breakdown import breakdown
from tfexplore.explore.race import Race as race
from tfexplore.explore.training import Training as training
from tfexplore.explore.training import losses

__all__ = ["breakdown", "losses", "race", "training"]

if (
    "google.colab" in sys.modules
):  # Colab shows figure widgets only with this (untested: written from its documentation)
    from google.colab import output

    output.enable_custom_widget_manager()

"""The interactive explorers. Each name here makes one: `explore.race(steps=32)`, with its first state drawn.

An explorer has `.controls` (named ipywidgets), `.figure` (plotly) and `.result` (plain arrays); setting a control's value in
Python does what moving it in the browser does. A notebook shows it as it is; `.show()` displays it anywhere in a cell.
"""

import importlib.util
import sys
from typing import Any

if all(importlib.util.find_spec(name) for name in ("plotly", "ipywidgets")):
    from tfexplore.explore.backward.explorer import SurrogateExplorer as surrogate
    from tfexplore.explore.bits.explorer import Bits as bits
    from tfexplore.explore.breakdown.explorer import breakdown
    from tfexplore.explore.compile_cost.explorer import CompileCost as compile_cost
    from tfexplore.explore.conventions.explorer import Conventions as conventions
    from tfexplore.explore.cuts.explorer import Cuts as cuts
    from tfexplore.explore.data_path.explorer import DataPath as data_path
    from tfexplore.explore.drawn.explorer import Drawn as drawn
    from tfexplore.explore.drawn.explorer import bars
    from tfexplore.explore.event_driven.explorer import EventDriven as event_driven
    from tfexplore.explore.follow.explorer import Follow as follow
    from tfexplore.explore.hand_in.page import hand_in
    from tfexplore.explore.inverse.explorer import Inverse as inverse
    from tfexplore.explore.kernel.explorer import Kernel as kernel
    from tfexplore.explore.kernel.sources import Sources as sources
    from tfexplore.explore.memory.explorer import Memory as memory
    from tfexplore.explore.neuron.explorer import NeuronExplorer as neuron
    from tfexplore.explore.nir.explorer import Nir as nir
    from tfexplore.explore.policies.explorer import MemoryOverTime as memory_over_time
    from tfexplore.explore.predict.explorer import Prediction as predict
    from tfexplore.explore.race.explorer import Race as race
    from tfexplore.explore.roofline.explorer import Roofline as roofline
    from tfexplore.explore.scan.explorer import Scan as scan
    from tfexplore.explore.scan_map.explorer import ScanMapExplorer as scan_map
    from tfexplore.explore.schedules.explorer import Schedules as schedules
    from tfexplore.explore.seeds.explorer import Seeds as seeds
    from tfexplore.explore.speech.explorer import Speech as speech
    from tfexplore.explore.speed.explorer import Speed as speed
    from tfexplore.explore.split.explorer import SplitPlan as split_plan
    from tfexplore.explore.split.explorer import SplitRun as split_run
    from tfexplore.explore.training.explorer import Training as training
    from tfexplore.explore.training.networks import losses
    from tfexplore.explore.twins.explorer import TwinsExplorer as twins
    from tfexplore.explore.unrolling.explorer import Unrolling as unrolling
    from tfexplore.explore.whole_step.explorer import WholeStep as whole_step
else:  # the pure functions of these modules (kept, points, walks ...) need neither

    def __getattr__(name: str) -> Any:
        if name in __all__:
            raise ImportError(f"The explorer {name!r} needs plotly and ipywidgets: pip install 'tfexplore[notebooks]'.")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "bars",
    "bits",
    "breakdown",
    "compile_cost",
    "conventions",
    "cuts",
    "data_path",
    "drawn",
    "event_driven",
    "follow",
    "hand_in",
    "inverse",
    "kernel",
    "losses",
    "memory",
    "memory_over_time",
    "neuron",
    "nir",
    "predict",
    "race",
    "roofline",
    "scan",
    "scan_map",
    "schedules",
    "seeds",
    "sources",
    "speech",
    "speed",
    "split_plan",
    "split_run",
    "surrogate",
    "training",
    "twins",
    "unrolling",
    "whole_step",
]

if (
    "google.colab" in sys.modules
):  # Colab shows figure widgets only with this (untested: written from its documentation)
    from google.colab import output

    output.enable_custom_widget_manager()

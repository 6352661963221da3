"""Time, events and memory traffic measured honestly, and results recorded on other machines.

    clock        medians of rounds, CUDA events, a copy's bandwidth   `seconds`, `rounds`, `copy_bandwidth`, `machine`
    timeline     what the layers of a network executed, as events     `what_ran`, `Event`, `Events`
    peaks        bytes in use at once, and saved for backward         `peak`, `Peak`
    counting     arrays that count the words read and written         `Counted`, `Log`, `Access`
    results      recorded measurements                                `records`, `curve`, `Record`, `Curve`

Inside are also `contestants` (step by step, layer by layer, fused and `torch.compile` on the same work, checked against each
other), `server_process` (a subprocess that answers requests), `first_calls` (what runs in one) and `tune` (the
fastest GPU builds).
"""

from tfexplore.measure.clock import copy_bandwidth, machine, rounds, seconds
from tfexplore.measure.counting import Access, Counted, Log
from tfexplore.measure.peaks import Peak, peak
from tfexplore.measure.results import Curve, Record, curve, records
from tfexplore.measure.timeline import Event, Events, what_ran

__all__ = [
    "Access", "Counted", "Curve", "Event", "Events", "Log", "Peak", "Record", "copy_bandwidth", "curve", "machine", "peak",
    "records", "rounds", "seconds", "what_ran",
]  # fmt: skip

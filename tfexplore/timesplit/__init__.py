"""Time splitting: the T time steps of a network divided among the ranks of a process group, or among devices. ::

    with timesplit.ranks():                        # torchrun starts P of these processes
        split = timesplit.TimeSplit(net)           # an ordinary network
        out = split(split.segment(x))                # this rank's time steps; states cross the cuts
        loss = cross_entropy(split.mean(out), y)   # the same on every rank
        loss.backward()                            # the gradients of one process

To train: `ranks` joins the group that torchrun started, `TimeSplit` wraps the network, `RankError` reports the failure of another
rank; `Crew` starts processes from a notebook, `on_devices` needs none. To predict: `costs` and `link` measure, `plan`, `sweep`,
`best` and `rule` compare numbers of ranks, beside data parallelism. To look: `rank_events` records what every rank did when,
`traffic` counts what crosses from rank to rank.

Inside: `ranks.py` holds messages, collectives and failures, `cut.py` the states and gradients that cross a cut, `collectives.py`
differentiable sums over the ranks, `batchnorm.py` the barrier.
"""

from tfexplore.timesplit.costs import costs, link
from tfexplore.timesplit.crew import Crew
from tfexplore.timesplit.devices import on_devices
from tfexplore.timesplit.events import rank_events
from tfexplore.timesplit.plan import Cost, Link, Plan, Sweep, best, plan, rule, sweep
from tfexplore.timesplit.ranks import RankError, Ranks, ranks
from tfexplore.timesplit.split import TimeSplit
from tfexplore.timesplit.traffic import Traffic, traffic

__all__ = [
    "Cost", "Crew", "Link", "Plan", "RankError", "Ranks", "Sweep", "TimeSplit", "Traffic", "best", "costs", "link", "on_devices",
    "plan", "rank_events", "ranks", "rule", "sweep", "traffic",
]  # fmt: skip

"""Time splitting: the T time steps of a network cut into pieces, one for each of P processes or devices.

    with timesplit.ranks():                        # one line of torchrun starts P of these
        split = timesplit.TimeSplit(net)           # an ordinary network
        out = split(split.piece(x))                # this rank's time steps; states cross the cuts
        loss = cross_entropy(split.mean(out), y)   # the same on every rank
        loss.backward()                            # the gradients of one process

`ranks.py` is who takes part and what happens when one fails, `cut.py` the states' way over the cut and back, `sums.py` what all
ranks sum up, `batchnorm.py` the barrier, `split.py` the network. `crew.py` starts processes from a notebook. How long a step will
take, beside data parallelism, says `plan.py`, from what `costs.py` measures.
"""

from tfexplore.timesplit.costs import costs, link
from tfexplore.timesplit.crew import Crew
from tfexplore.timesplit.devices import on_devices
from tfexplore.timesplit.plan import Cost, Link, Plan, best, plan, rule, sweep
from tfexplore.timesplit.ranks import RankError, Ranks, ranks
from tfexplore.timesplit.record import what_ran
from tfexplore.timesplit.split import TimeSplit

__all__ = [
    "Cost", "Crew", "Link", "Plan", "RankError", "Ranks", "TimeSplit", "best", "costs", "link", "on_devices", "plan", "ranks",
    "rule", "sweep", "what_ran",
]  # fmt: skip

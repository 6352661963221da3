"""A quarter of an hour on a GPU: `python -m benchmarks.gpu` measures all that needs a GPU, the most valuable points first.

    plan.py       every point to measure, in order, with its limits
    child.py      a process that measures points, one after the other
    journal.py    the results, written line by line, keyed by the content that they depend on
    goals.py      the final table, from the journal alone
    machine, bits, tuning, sweep, calls, race, memory, split, explorers, tools, schedules: `measure(...)` of each measures a point

A point is measured by `benchmarks.gpu.MODULE.measure(device=..., out=..., **given)`, which returns its row.
"""

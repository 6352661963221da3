"""A quarter of an hour on a GPU: `python -m benchmarks.gpu` finds out all that only a GPU can tell, the most valuable first.

    plan.py       every point to find out, in order, with its limits
    child.py      a process that finds points out, one after the other
    journal.py    what was found, a line at once, by the content of what it depends on
    goals.py      the last table, from the journal alone
    machine, bits, tuning, sweep, calls, race, memory, split, explorers, tools: `measure(...)` of each finds one point out

A point is found out by `benchmarks.gpu.MODULE.measure(device=..., out=..., **given)`, which returns its row.
"""

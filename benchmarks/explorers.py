"""From a control's move to the updated figure, in Python: the neuron and the surrogate explorer at T=500.

    python benchmarks/explorers.py                  a minute on two cores
    python benchmarks/explorers.py --json out.json  the figures with the machine's name

Kernels are compiled and every control has moved once before. Each move is another value, as in a drag; the median and the
slowest of the moves are printed. Drawing in the browser comes on top.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from tfexplore import explore
from tfexplore.measure.clock import machine

STEPS = 500
MOVES: dict[str, tuple[Callable[[], Any], dict[str, tuple[float, float]]]] = {
    "neuron": (
        lambda: explore.neuron(steps=STEPS),
        {"strength": (0.1, 0.4), "tau": (5, 20), "v_threshold": (0.5, 1.5)},
    ),
    "neuron, noise": (lambda: explore.neuron(steps=STEPS, current="noise"), {"sigma": (0.05, 0.3), "tau": (5, 20)}),
    "surrogate": (lambda: explore.surrogate(steps=STEPS), {"scale": (0.5, 5), "tau": (2, 20)}),
}


def moves(explorer: Any, control: str, values: Iterable[float]) -> list[float]:
    taken = []
    for value in values:
        begin = time.perf_counter()
        explorer.controls[control].value = float(value)
        taken.append(time.perf_counter() - begin)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=60, help="of each control")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file")
    options = parser.parse_args()

    print(f"from a move to the updated figure, T={STEPS}, ms; {machine()}; torch {torch.__version__}")
    print(f"{'explorer':<16}{'control':<14}{'median':>9}{'slowest':>9}")
    results = []
    for name, (make, controls) in MOVES.items():
        if not hasattr(explore, name.partition(",")[0]):
            continue
        explorer = make()
        for control, (low, high) in controls.items():
            values = np.linspace(low, high, options.moves + 5)
            taken = [1e3 * seconds for seconds in moves(explorer, control, values)[5:]]
            print(f"{name:<16}{control:<14}{median(taken):9.1f}{max(taken):9.1f}", flush=True)
            results.append({"explorer": name, "control": control, "median_ms": median(taken), "slowest_ms": max(taken)})
    if options.json:
        about = {"machine": machine(), "torch": torch.__version__, "T": STEPS, "moves": options.moves}
        options.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

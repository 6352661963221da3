"""Two layers of LIF neurons: step by step, layer by layer, fused, and `torch.compile` of a plain loop, over T, N and dtype.

    python benchmarks/torch_compile.py                  the three ways without compiling, a minute
    python benchmarks/torch_compile.py --compile        torch.compile as well: it compiles every case for half a minute
    python benchmarks/torch_compile.py --json out.json  the figures with the machine's name, for `explore.speed`
    options: --device cuda, --rounds 9

Soft reset, ATan, two layers in a row without weights between them, x of random current, a dense random gradient. torch.compile
gets a plain loop over time with both layers inside (fullgraph, static shapes, default mode), so that it may merge all of it;
every case is compiled in a fresh process with an empty cache. All run in turn, after their results were compared.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from tfexplore.measure.clock import machine
from tfexplore.measure.contestants import COMPILED, INFERENCE, TRAINING, WAYS, why_not_compiled
from tfexplore.measure.server_process import ServerProcess

STEPS, NEURONS = (2, 4, 8, 16, 32), (1_000, 10_000, 100_000)
USUAL = (16, 10_000)
CASES = [
    *((steps, USUAL[1], "float32", TRAINING) for steps in STEPS),
    *((USUAL[0], neurons, "float32", TRAINING) for neurons in NEURONS if neurons != USUAL[1]),
    *((steps, USUAL[1], "float32", INFERENCE) for steps in (4, 16)),
    *((*USUAL, dtype, TRAINING) for dtype in ("float64", "bfloat16")),
    *((64, USUAL[1], "float32", passes) for passes in (INFERENCE, TRAINING)),  # minutes of compiling: last
]


def row(case: tuple[int, int, str, str], device: str, rounds: int, compiled: bool) -> dict[str, Any]:
    """One case, in a process of its own."""
    steps, neurons, dtype, passes = case
    with (
        tempfile.TemporaryDirectory() as empty,
        ServerProcess("tfexplore.measure.contestants", {"TORCHINDUCTOR_CACHE_DIR": empty}) as process,
    ):
        point = process.request(
            steps=steps, neurons=neurons, dtype=dtype, passes=passes, device=device, rounds=rounds, compiled=compiled
        )
    seconds = point["seconds"]
    return {
        "T": steps,
        "N": neurons,
        "dtype": dtype,
        "passes": passes,
        "rounds": point["rounds"],
        "median_ms": {name: 1e3 * values["median"] for name, values in seconds.items()},
        "quartiles_ms": {name: [1e3 * values["low"], 1e3 * values["high"]] for name, values in seconds.items()},
    } | ({"first_call_s": point["first_call"]} if compiled else {})


def load() -> float:
    """The load average of the last minute (one for each core is this benchmark's own); 0 where the system does not report it."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help="torch.compile as well: minutes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file")
    options = parser.parse_args()
    if options.compile and (reason := why_not_compiled(options.device)):
        raise SystemExit(reason)

    names = [*WAYS, COMPILED] if options.compile else list(WAYS)
    print(
        f"two layers of LIF neurons, median ms (quartiles); {machine(options.device)}; torch {torch.__version__}; load {load()}"
    )
    print(f"{'T':>3} {'N':>7} {'dtype':>8} {'passes':>18}" + "".join(f"{name:>26}" for name in names))
    rows: list[dict[str, Any]] = []
    for case in CASES:
        rows.append(row(case, options.device, options.rounds, options.compile) | {"load": load()})
        cells = (
            f"{rows[-1]['median_ms'][n]:.2f} ({low:.2f}–{high:.2f})"
            for n, (low, high) in rows[-1]["quartiles_ms"].items()
        )
        last = f"   compiled in {rows[-1]['first_call_s']:.0f} s" if options.compile else ""
        print("{:3} {:7} {:>8} {:>18}".format(*case) + "".join(f"{cell:>26}" for cell in cells) + last, flush=True)
        if options.json:  # after every case: what is there is there
            about = {
                "benchmark": "torch_compile",
                "machine": machine(options.device),
                "device": torch.device(options.device).type,
                "torch": torch.__version__,
                "date": dt.date.today().isoformat(),
                "what": " ".join((__doc__ or "").split("\n\n")[2].split()),
                "cores": os.cpu_count(),
            }
            options.json.write_text(json.dumps(about | {"results": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The files of measurements: one for each machine, in which every benchmark has its part.

    {"machine", "device", "cores", "parts": {benchmark: {"what", "date", "torch", "versions", "results": rows}}}

`tfexplore.results` reads them. Writing a part leaves the others as they are.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import ROOT, Row
from tfexplore.measure import machine

FOLDER = ROOT / "benchmarks" / "results"


def path_of(device: str = "cpu", folder: Path = FOLDER) -> Path:
    """This machine's file, by the name of its device: "AMD EPYC, 2 of 2 cores" is amd-epyc-2-of-2-cores.json."""
    return folder / (re.sub(r"[^a-z0-9]+", "-", machine(device).lower()).strip("-") + ".json")


def write(
    path: Path,
    benchmark: str,
    what: str,
    rows: list[Row],
    versions: Mapping[str, Mapping[str, str]],
    device: str = "cpu",
) -> None:
    """Replaces the part of one benchmark. `versions`: of what each contestant used."""
    about = {"machine": machine(device), "device": torch.device(device).type, "cores": os.cpu_count()}
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts = data.get("parts", {}) if data else {}
    today = dt.date.today().isoformat()
    part = {"what": what, "date": today, "torch": torch.__version__, "versions": versions, "results": rows}
    text = json.dumps(about | {"parts": parts | {benchmark: part}}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")  # an interrupted run must not leave half a file
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)

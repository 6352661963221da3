"""The files of measurements: one for each machine, in which every benchmark has its part.

    {"machine", "device", "cores", "parts": {benchmark: {"what", "date", "torch", "versions", "results": rows}}}

`tfexplore.measure.results` reads them. Writing a part leaves the others as they are.
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
from tfexplore.machine.files import write_whole
from tfexplore.measure.clock import machine

FOLDER = ROOT / "benchmarks" / "results"


def path_of(device: str = "cpu", folder: Path = FOLDER, name: str = "") -> Path:
    """This machine's file, by the name of its device: "AMD EPYC, 2 of 2 cores" is amd-epyc-2-of-2-cores.json."""
    return folder / (re.sub(r"[^a-z0-9]+", "-", (name or machine(device)).lower()).strip("-") + ".json")


def write(
    path: Path,
    benchmark: str,
    what: str,
    rows: list[Row],
    versions: Mapping[str, Mapping[str, str]],
    device: str = "cpu",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Replaces the part of one benchmark. versions: of what each contestant used. about: the machine, by default this one."""
    about = about or {
        "machine": machine(device),
        "device": torch.device(device).type,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "date": dt.date.today().isoformat(),
    }
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts = data.get("parts", {}) if data else {}
    part = {"what": what, "date": about["date"], "torch": about["torch"], "versions": versions, "results": rows}
    head = {key: about[key] for key in ("machine", "device", "cores")}
    text = json.dumps(head | {"parts": parts | {benchmark: part}}, indent=1)
    write_whole(path, text + "\n")

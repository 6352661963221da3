"""External programs: pytest, compute-sanitizer and ncu. Their whole output is stored beside the journal."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT
from tfexplore.measure.server_process import python_path

TESTS = ("tests/test_gpu.py", "tests/timesplit/test_timesplit.py")
SIDE_BY_SIDE = 12
SECTIONS = ("SpeedOfLight", "LaunchStats", "Occupancy", "WarpStateStats")
METRICS = ("gpu__time_duration.sum", "dram__bytes.sum", "smsp__inst_executed.sum", "smsp__inst_issued.sum")
WANTED = re.compile(
    r"^(gpu__time_duration\.sum|dram__(bytes\.sum|throughput\.avg\.pct.*)|gpu__dram_throughput\.avg\.pct.*|smsp__inst_(executed|issued)\.sum"
    r"|launch__(registers_per_thread|block_size|grid_size|occupancy_limit.*)|sm__(throughput\.avg\.pct|warps_active\.avg\.pct).*"
    r"|smsp__average_warps_issue_stalled_\w+_per_issue_active\.ratio)$"
)


def measure(device: str, out: str, tool: str) -> dict[str, Any]:
    row: dict[str, Any] = (
        {"pytest": pytest, "ncu": ncu}[tool](Path(out)) if tool in ("pytest", "ncu") else sanitized(tool, Path(out))
    )
    return row


def pytest(out: Path) -> dict[str, Any]:
    """How many passed, and which failed."""
    workers = min(SIDE_BY_SIDE, (os.cpu_count() or 1) * 3 // 4)
    beside = ("-p", "xdist.plugin", "-n", str(workers)) if workers > 1 and importlib.util.find_spec("xdist") else ()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *beside, *TESTS]
    # of the installed plugins only those we need: pytest-benchmark warns of xdist, and a warning is an error
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    text = output_of(command, out / "pytest.log", env, allowed=(0, 1, 5))  # 5: all were skipped with their module
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", text.splitlines()[-1])}
    return {"counts": counts, "failed": re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)}


def sanitized(tool: str, out: Path) -> dict[str, Any]:
    """Errors that compute-sanitizer finds in small runs, in which PyTorch's allocator caches nothing."""
    # calls to the driver that fail while PyTorch starts are no errors of memory
    options = ("--report-api-errors", "no") if tool == "memcheck" else ()
    command = [program("compute-sanitizer"), "--tool", tool, *options, "--print-limit", "20", *SMALL, "check"]
    text = output_of(command, out / f"{tool}.log", {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    if not (found := re.search(r"ERROR SUMMARY: (\d+) error", text)):
        raise RuntimeError(f"{tool} gave no summary: {last(text)}")
    return {"errors": int(found[1])}


def ncu(out: Path) -> dict[str, Any]:
    """The hardware's counters in a large run of each kernel; the clocks are left as they are."""
    wanted = [word for section in SECTIONS for word in ("--section", section)]
    log = out / "ncu.csv"
    command = [
        program("ncu"), "--clock-control", "none", "--csv", "--page", "raw", "--log-file", str(log), *wanted,
        "--metrics", ",".join(METRICS), "--kernel-name", "regex:^(forward|backward)$", *SMALL, "profile",
    ]  # fmt: skip
    text = output_of(command, None)
    kernels = counted(log.read_text(encoding="utf-8", errors="replace") if log.exists() else "")
    if not kernels:
        raise RuntimeError(f"ncu profiled no kernel: {last(text)}")
    return {"kernels": kernels}


def counted(text: str) -> list[dict[str, str]]:
    """The wanted columns, with their units, of each launch in ncu's raw page: a row of names, a row of units, the launches.

    >>> counted('==PROF== x\\n"ID","Kernel Name","dram__bytes.sum","other"\\n"","","Gbyte",""\\n"0","forward","1.07","7"\\n')
    [{'kernel': 'forward', 'dram__bytes.sum': '1.07 Gbyte'}]
    """
    table = list(csv.reader(line for line in text.splitlines() if line.startswith('"')))
    if len(table) < 3:
        return []
    names, units, *launches = table
    kernel = names.index("Kernel Name")
    return [
        {"kernel": row[kernel]}
        | {n: f"{v} {u}".strip() for n, u, v in zip(names, units, row, strict=True) if WANTED.match(n)}
        for row in launches
    ]


SMALL = (sys.executable, "-m", "benchmarks.gpu.small")


def program(name: str) -> str:
    if path := shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin"):
        return path
    raise RuntimeError(f"{name} is not on the PATH")


def output_of(
    command: Sequence[str], log: Path | None, env: dict[str, str] | None = None, allowed: Sequence[int] = (0,)
) -> str:
    """The output of a program, also written to `log` as it comes; it belongs to this process's group, and ends with it."""
    own = {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1", **(env or {})}
    found = []
    with (
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            encoding="utf-8", errors="replace",
        ) as running,
        open(log or os.devnull, "w", encoding="utf-8") as file,
    ):  # fmt: skip
        assert running.stdout is not None
        for line in running.stdout:
            found.append(line)
            file.write(line)
            file.flush()
    text = "".join(found)
    if running.returncode not in allowed:
        raise RuntimeError(f"{Path(command[0]).name} ended with {running.returncode}: {last(text)}")
    return text


def last(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-3:])

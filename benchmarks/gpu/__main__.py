"""The command line of a quarter of an hour on a GPU: `python -m benchmarks.gpu`, from a plain checkout.

What is known is not measured again: a run resumes where the last one was cut off, and repeats what has changed since.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.gpu import goals, sweep, tuning
from benchmarks.gpu.journal import Journal, Line
from benchmarks.gpu.plan import MACHINE, TUNING, Point, points
from benchmarks.harness import ENVIRONMENT, ROOT
from tfexplore.codegen.builds import Shape
from tfexplore.measure.server_process import ServerProcess

HOME = ROOT / "benchmarks" / "tmp" / "gpu"
JOURNAL, TABLE, TUNED, SCHEDULES = "journal.jsonl", "table.md", "tuned.json", "schedules.json"
TOGETHER = 15
"""Processes side by side, for points where nothing is timed."""
ENOUGH = 5.0
"""No further point is started with fewer seconds left."""


class Run:
    """The points, one after the other or side by side, each in a process that can be ended, each a line of the journal."""

    def __init__(self, out: Path, dry: bool, minutes: float = 0.0, retry: bool = False) -> None:
        self.out, self.dry, self.device, self.retry = out, dry, "cpu" if dry else "cuda", retry
        self.journal = Journal(out / JOURNAL, *(() if dry else (HOME / JOURNAL,)))  # OUT may be another one next time
        self.until = time.monotonic() + 60 * minutes
        self.lock = threading.Lock()
        self.machine: dict[str, Any] = {}
        self.environment = dict(ENVIRONMENT)

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    def all(self, wanted: Sequence[Point]) -> None:
        with Child(self.environment) as child:
            line = self.found(MACHINE, child, MACHINE.key({"device": self.device}))
            if "failed" in line:
                return
            self.machine = line["row"]
            for (_, together), group in itertools.groupby(wanted, lambda point: (point.section, point.together)):
                pending = [point for point in group if not self.known(point)]
                if together:
                    self.beside(pending)
                else:
                    for point in pending:
                        self.one(point, child)
                self.write()

    def known(self, point: Point) -> bool:
        line = self.journal.newest(point.key(self.machine["key"]))
        if line is not None and point.module == TUNING and "row" in line and not self.dry:
            tuning.remember(line["row"], self.machine["machine"])
        return line is not None and not ("failed" in line and self.retry)

    def beside(self, pending: Sequence[Point]) -> None:
        def work(point: Point) -> None:
            with Child(self.environment) as child:
                self.one(point, child)

        with ThreadPoolExecutor(min(TOGETHER, os.cpu_count() or 1)) as pool:
            list(pool.map(work, pending))

    def one(self, point: Point, child: Child) -> None:
        if self.left < max(ENOUGH, point.seconds):
            print(f"{point.section} {point.name}: left out, {max(0, self.left):.0f} s are left", flush=True)
        else:
            self.found(point, child, point.key(self.machine["key"]))

    def found(self, point: Point, child: Child, key: str) -> Line:
        begin = time.monotonic()
        line: Line = {"key": key, "section": point.section, "name": point.name, "dry": self.dry}
        limit = max(1.0, min(point.limit, self.left))
        try:
            line["row"] = child.request_within(
                limit, module=point.module, device=self.device, out=str(self.out), **point.given
            )
        except (RuntimeError, OSError, ValueError) as error:  # ended while it wrote, too
            line["failed"] = str(error)[:500]
            if limit < point.limit and isinstance(error, TimeoutError):  # it had no fair chance
                print(f"{point.section} {point.name}: cut off after {limit:.0f} s", flush=True)
                return line
        line["seconds"] = round(time.monotonic() - begin, 1)
        with self.lock:
            self.journal.add(line)
        print(f"{point.section} {point.name}: {line['seconds']} s  {summary(line)}", flush=True)
        return line

    def write(self) -> str:
        """Writes the goals' table and, unless this is dry, the machine's file in the format of benchmarks/results.

        From the results that are valid: those of the last machine, and of the kernels as they are now. Returns the table.
        """
        if not self.machine:
            known = (
                line["row"] for line in reversed(self.journal.lines) if line["name"] == MACHINE.name and "row" in line
            )
            self.machine = next(known, {})
        key = self.machine.get("key", {})
        found = [line for point in points(self.dry) if (line := self.journal.newest(point.key(key)))]
        text = "\n".join(goals.table(found, self.dry, self.machine.get("machine", "no GPU was seen")))
        (self.out / TABLE).write_text(text + "\n", encoding="utf-8")
        builds = {
            str(Shape(**row["shape"])): row["config"] for line in found if "config" in (row := line.get("row", {}))
        }
        if builds and not self.dry:  # as tfexplore/backends/tuned.json ships them
            shipped = json.dumps({self.machine["machine"]: builds}, indent=1, sort_keys=True)
            (self.out / TUNED).write_text(shipped + "\n", encoding="utf-8")
        schedules = [line["row"] for line in found if "fastest" in line.get("row", {})]
        if (
            schedules and not self.dry
        ):  # what schedule="auto" needs of a GPU: {machine: [{"T", "N", "forward": {...}, ...}]}
            rows = [{"T": row["T"], "N": row["N"], **row["fastest"]} for row in schedules]
            (self.out / SCHEDULES).write_text(
                json.dumps({self.machine["machine"]: rows}, indent=1) + "\n", encoding="utf-8"
            )
        if not self.dry:
            recorded([line["row"] for line in found if "row" in line], self.out, self.machine)
        return text


def recorded(rows: list[dict[str, Any]], folder: Path, machine: dict[str, Any]) -> None:
    """Writes the measurements in the format of benchmarks/results."""
    parts: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any]]] = {}
    for row in rows:
        if "about" in row:
            benchmark, what, versions = (row["about"][key] for key in ("benchmark", "what", "versions"))
            _, others, used = parts.setdefault(benchmark, (what, [], {}))
            others.append({key: value for key, value in row.items() if key != "about"})
            used.update(versions)
        elif "tried" in row:
            parts.setdefault("builds", (tuning.WHAT, [], {}))[1].extend(tuning.builds(row))
        elif "share" in row:
            parts.setdefault("share of a copy", (sweep.WHAT, [], {}))[1].append(row)
    for benchmark, (what, own, versions) in parts.items():
        path = record.path_of(folder=folder, name=machine["machine"])
        record.write(path, benchmark, what, own, versions, about=machine)


class Child:
    """A process that measures points; restarted when it has ended."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.process: ServerProcess | None = None

    def request_within(self, seconds: float, **request: Any) -> dict[str, Any]:
        if self.process is None or self.process.process.poll() is not None:
            self.__exit__()
            self.process = ServerProcess("benchmarks.gpu.child", self.environment)
        return self.process.request_within(seconds, **request)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        if self.process is not None:
            (self.process.end if kind else self.process.finish)()  # an interrupt does not wait


def summary(line: Line) -> str:
    """A row in one line."""
    if "failed" in line:
        return f"FAILED: {line['failed']}"
    row = line["row"]
    if "tried" in row:
        shares: dict[str, float] = {}
        for tried in row["tried"]:
            shares[tried["loop"]] = max(shares.get(tried["loop"], 0.0), tried.get("share", 0.0))
        best = ", ".join(f"{loop} {share:.1%}" for loop, share in shares.items())
        return f"{best} of copy, {row['gain']:.2f}x the predicted build; {len(row['tried'])} tried"
    if "us" in row:
        return "; ".join(f"{what} {taken:.1f} us" for what, taken in row["us"].items())
    if "share" in row:
        return f"{row['share']:.1%} of copy, {row['gb_s']['copy']:.0f} GB/s"
    if "median_ms" in row:
        fastest = sorted(row["median_ms"].items(), key=lambda item: item[1])
        return "; ".join(f"{label} {ms:.3f} ms" for label, ms in fastest)
    return "; ".join(
        f"{key} {value}" for key, value in row.items() if key in ("machine", "counts", "errors", "peak_bytes")
    )


def unpacked(wheels: Path, folder: str) -> None:
    """Puts the wheels of a folder on the path of all processes, without network and without touching this Python."""
    found = sorted(map(str, wheels.glob("*.whl")))
    if not found:
        raise SystemExit(f"--wheels must be a folder with wheels (*.whl), but there is none in {wheels}.")
    options = ("--no-index", "--no-deps", "--no-compile", "--target", folder)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options, *found], check=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder of the results; default: $OUT, else benchmarks/tmp/gpu")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels: the libraries to compare with")
    parser.add_argument(
        "--minutes", type=float, default=9.5, help="for the whole run; points that do not fit are left out"
    )
    parser.add_argument("--only", default="12345678", help="sections, such as 3,4")
    parser.add_argument("--match", default="", help="only points whose name has this regular expression in it")
    parser.add_argument("--retry", action="store_true", help="what has failed is tried again")
    parser.add_argument("--list", action="store_true", help="the points, their expected seconds and their limits")
    parser.add_argument(
        "--table", action="store_true", help="the goals' table and the results' file from the journal; runs nothing"
    )
    parser.add_argument(
        "--dry", action="store_true", help="all of it with small shapes on the CPU, in OUT/dry: no figure counts"
    )
    options = parser.parse_args(given)
    wanted = [
        point
        for point in points(options.dry)
        if str(point.section) in options.only and re.search(options.match, point.name)
    ]
    if options.list:
        for point in [MACHINE, *wanted]:
            print(f"{point.section}  {point.seconds:4.0f} s, at most {point.limit:4.0f} s  {point.name}")
        print(f"total {sum(point.seconds for point in [MACHINE, *wanted]):.0f} s")
        return
    out = Path(options.out or os.environ.get("OUT") or HOME) / ("dry" * options.dry)
    out.mkdir(parents=True, exist_ok=True)
    run = Run(out, options.dry, options.minutes, options.retry)
    if not options.table:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if options.wheels:
                unpacked(options.wheels, os.path.join(folder, "wheels"))
            run.environment = ENVIRONMENT | {"TMPDIR": folder}  # what a process that is ended leaves goes with the run
            run.all(wanted)
    print(f"\n{run.write()}\n\nin {out}")


if __name__ == "__main__":
    main()

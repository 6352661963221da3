"""The race: every contestant in a process of its own, checked against a reference, then timed in turn, one run at a time.

A benchmark is a module `benchmarks/NAME.py` with WHAT (one sentence), `run(stage, size)` (rows, one at a time; size is "quick",
"default" or "full") and, if `lines` here does not fit, its own `lines(row)`: the row as text. `Stage.race` makes a row of a case:

    case              as given: T, N, dtype, passes ...
    rounds, load      runs of each contestant that were counted; the machine's load average when the case began
    median_ms, quartiles_ms, first_s (including compilation), kept_bytes, least_bytes, apart    by contestant
    equation          by contestant, where it is another one, in words
    reasons           by contestant, why it was not timed
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from benchmarks.work import Arrays, Case, forget
from tfexplore.measure.server_process import ServerProcess

Row: TypeAlias = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
OURS, COPY = "ours", "copy"
SNN = ("spikingjelly", "snntorch", "norse", "sinabs", "spyx", "bindsnet")
SIZES = QUICK, DEFAULT, FULL = ("quick", "default", "full")
FUSED = ("numba", "cuda")  # what the names of our fused layers begin with
PEERS = " (`make peers` installs the peers)"
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # JAX would take most of a GPU for itself
LEFT_OUT = ("device", "seed", "every", "modes", "parts", "graphs", "compiled", "operations")  # of a case, in its row
SHORT, PAUSE = 0.1, 0.02
"""Seconds: shorter work runs again before each timed run; before each run, other processes' threads stop waiting for work."""
RUNNING, WAITING = 24, 4
"""Tensors of x's size that a contestant may hold while it runs (an eager loop's graph), and while others do."""


@dataclass(frozen=True)
class Tolerance:
    """Elements may be `near` the reference, relative to its largest value; at most this `share` of them may be farther."""

    near: float
    share: float = 0.0


@dataclass(frozen=True)
class Effort:
    """seconds: of timing for a contestant and case, from `least` to `most` runs. patience: seconds to wait for one answer.
    long: a first run of more seconds is timed only once."""

    seconds: float = 1.0
    least: int = 3
    most: int = 25
    patience: float = 300.0
    long: float = 20.0


@dataclass
class Player:
    """One mode of one contestant in the race."""

    name: str
    mode: str
    rounds: int = 0
    short: bool = False
    taken: list[float] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.mode if self.name == OURS else f"{self.name}: {self.mode}"


class Stage:
    """The contestants' processes, opened when they are needed and kept for the next case; ended on leaving the `with`."""

    def __init__(self, names: Sequence[str] = (OURS, *SNN), device: str = "cpu", effort: Effort = Effort()) -> None:
        self.names, self.device, self.effort = tuple(names), device, effort
        self.open: dict[str, ServerProcess] = {}
        self._folder = tempfile.TemporaryDirectory()
        self.expected = Path(self._folder.name)
        self.expected_of: tuple[Any, ...] = ()
        self.absent: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.open):
            self.close(name)
        self._folder.cleanup()

    def close(self, name: str) -> None:
        if process := self.open.pop(name, None):
            process.end()

    def request(self, name: str, /, **request: Any) -> dict[str, Any]:
        """A contestant's answer; RuntimeError with the reason if there is none (at every call, if it cannot be opened)."""
        if name in self.absent:
            raise RuntimeError(self.absent[name])
        if name not in self.open:
            limit = memory(self.device, 0.8) if torch.device(self.device).type == "cpu" else None
            self.open[name] = ServerProcess("benchmarks.play", ENVIRONMENT, python_of(name))
            try:
                self.versions[name] = self._request(name, do="open", name=name, memory=limit)["versions"]
            except RuntimeError as error:
                self.close(name)
                self.absent[name] = f"{error}{PEERS if 'No module named' in str(error) else ''}"
                raise RuntimeError(self.absent[name]) from error
        return self._request(name, **request)

    def _request(self, name: str, /, **request: Any) -> dict[str, Any]:
        process = self.open[name]
        try:
            return process.request_within(self.effort.patience, **request)
        except (RuntimeError, TimeoutError) as error:
            if process.process.poll() is not None:
                self.close(name)
            raise RuntimeError(_reason(str(error))) from error

    def race(
        self,
        benchmark: str,
        case: Case,
        reference: Callable[[Case], Arrays],
        allowed: Mapping[str, Tolerance],
        nbytes: int,
    ) -> Row:
        """One case: all contestants prepared, checked, then timed in turn; `nbytes` is the size of its largest tensor.

        Where memory does not suffice for all at once, they come in groups, each with ours and the copy.
        """
        case = case | {"device": self.device}
        row: Row = {key: value for key, value in case.items() if key not in LEFT_OUT}
        row |= {"load": load(), "rounds": {}, "median_ms": {}, "quartiles_ms": {}, "first_s": {}, "kept_bytes": {}}
        row |= {"least_bytes": {}, "apart": {}, "equation": {}, "reasons": {}}
        taken: dict[str, list[float]] = defaultdict(list)
        folder = self._expected(benchmark, case, reference)
        groups = list(self._groups(nbytes))
        for group in groups:
            players = [
                player for name in group for player in self._prepared(name, benchmark, case, folder, allowed, row)
            ]
            self._take_turns(players, row)
            for player in players:
                taken[player.label] += player.taken
            for name in group:
                with suppress(RuntimeError):
                    self.request(name, do="drop")
                if len(groups) > 1:
                    self.close(name)
        for label, seconds in taken.items():
            if label not in row["reasons"] and seconds:
                low, middle, high = statistics.quantiles(seconds * (1 + (len(seconds) < 2)), method="inclusive")
                row["rounds"][label] = len(seconds)
                row["median_ms"][label] = 1e3 * middle
                row["quartiles_ms"][label] = [1e3 * low, 1e3 * high]
        return row

    def _expected(self, benchmark: str, case: Case, reference: Callable[[Case], Arrays]) -> str:
        """The folder of the reference's results, which hold for all passes of a case: the last ones are kept."""
        key = (benchmark, *(item for item in sorted(case.items()) if item[0] != "passes"))
        if key != self.expected_of:
            for path in self.expected.glob("*.npy"):
                path.unlink()
            for name, values in reference(case).items():
                np.save(self.expected / f"{name}.npy", values)
            forget()
            self.expected_of = key
        return str(self.expected)

    def _groups(self, nbytes: int) -> Iterator[tuple[str, ...]]:
        room = memory(self.device, 0.9)
        count = len(self.names) if room is None else max(1, (room - RUNNING * nbytes) // (WAITING * nbytes + 1) - 1)
        others = [name for name in self.names if name != OURS]
        ours = tuple(name for name in self.names if name == OURS)
        for first in range(0, max(1, len(others)), count):
            yield (*ours, *others[first : first + count])

    def _prepared(
        self, name: str, benchmark: str, case: Case, folder: str, allowed: Mapping[str, Tolerance], row: Row
    ) -> Iterator[Player]:
        """The modes of a contestant whose results are right; the row gets the reasons why the others are not timed."""
        try:
            modes = self.request(name, do="prepare", benchmark=benchmark, case=case)["modes"]
        except RuntimeError as error:
            row["reasons"][name] = str(error)
            return
        near = {key: tolerance.near for key, tolerance in allowed.items()}
        for mode in modes:
            player = Player(name, mode)
            label = player.label
            try:
                found = self.request(name, do="check", mode=mode, folder=folder, tolerance=near)
            except RuntimeError as error:
                row["reasons"][label] = str(error)
                if name not in self.open:  # it ended, and its other modes with it
                    return
                continue
            row["first_s"][label], row["apart"][label] = found["first_s"], found["apart"]
            wrong = {key: share for key, share in found["apart"].items() if not share <= allowed[key].share}
            if wrong:
                key, share = next(iter(wrong.items()))
                row["reasons"][label] = (
                    f"wrong result: {share:.1e} of {key} differ from the reference, so it is not timed"
                )
                continue
            for there, key in (("kept", "kept_bytes"), ("least", "least_bytes"), ("equation", "equation")):
                if found[there] not in (None, ""):
                    row[key][label] = found[there]
            yield player

    def _take_turns(self, players: list[Player], row: Row) -> None:
        """Warms every contestant up, which determines its rounds; then they run in turn, so that noise hits all alike."""

        def run(player: Player, warm: bool = False) -> float | None:
            time.sleep(PAUSE)
            try:
                seconds: float = self.request(player.name, do="time", mode=player.mode, warm=warm)["seconds"]
            except RuntimeError as error:
                row["reasons"][player.label] = str(error)
                player.rounds = 0
                return None
            return seconds

        effort = self.effort
        for player in players:
            if (first := run(player, warm=True)) is not None:
                fitting = min(effort.most, max(effort.least, int(effort.seconds / max(first, 1e-9))))
                player.short = first < SHORT
                player.rounds = 1 if first > effort.long else fitting
        for count in range(max((player.rounds for player in players), default=0)):
            for player in players:
                if count < player.rounds and (seconds := run(player, player.short)) is not None:
                    player.taken.append(seconds)


def _reason(text: str) -> str:
    """An error for a table: its first line, and the same words for every way to run out of memory."""
    short = (
        "out of memory",
        "can't allocate memory",
        "MemoryError",
        "bad_alloc",
        "Unable to allocate",
        "RESOURCE_EXHAUSTED",
    )
    if any(words in text for words in short):
        return "out of memory"
    return text.splitlines()[0][:300]


def python_of(name: str) -> str:
    """The interpreter for a contestant: that of the environment whose requirements (benchmarks/peers) name it, else this one.

    >>> import sys
    >>> python_of("ours") == sys.executable
    True
    """
    for requirements in sorted((ROOT / "benchmarks" / "peers").glob("*.txt")):
        listed = [line.partition("==")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
        there = ROOT / ".venv-peers" / requirements.name.partition(".")[0] / ("Scripts" if os.name == "nt" else "bin")
        if name in listed:
            for python in (there / "python", there / "python.exe"):
                if python.exists():
                    return str(python)
    return sys.executable


def memory(device: str, share: float) -> int | None:
    """This share of the bytes that are free on a device; None where the system does not report them."""
    if torch.device(device).type == "cuda":
        return int(share * torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return int(share * next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))


def load() -> float:
    """The load average of the last minute; 0 where the system does not report it."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0


def rounded(value: Any) -> float:
    """As it is recorded: a share, a ratio or an accuracy."""
    return round(float(value), 5)


def lines(row: Row) -> Iterator[str]:
    """A row as text: the case, then its contestants from the fastest on, then those without a time."""
    yield ", ".join(f"{key}={value}" for key, value in row.items() if not isinstance(value, dict))
    medians = row["median_ms"]
    ours = min((ms for label, ms in medians.items() if label.startswith(FUSED)), default=None)
    width = max(map(len, [*medians, *row["reasons"], ""])) + 2
    heads = ("median ms", "low", "high", "rounds", "x ours", "x copy", "of copy", "kept MiB")
    yield f"  {'':<{width}}" + "".join(f"{head:>10}" for head in heads)
    for label, ms in sorted(medians.items(), key=lambda item: item[1]):
        kept, part = row["kept_bytes"].get(label), fraction(row, label)
        cells = [
            *(f"{value:.3f}" for value in (ms, *row["quartiles_ms"][label])),
            str(row["rounds"][label]),
            *("" if unit is None else f"{ms / unit:.2f}" for unit in (ours, medians.get(COPY))),
            "" if part is None else f"{part:.0%}",
            "" if kept is None else f"{kept / 2**20:.1f}",
        ]
        yield f"  {label:<{width}}" + "".join(f"{cell:>10}" for cell in cells)
    for label, text in (row["equation"] | row["reasons"]).items():
        yield f"  {label}: {text}"


def fraction(row: Row, label: str) -> float | None:
    """The bandwidth of the bytes that this way must move, as a fraction of the copy's, measured in the same row."""
    least, copy = row["least_bytes"].get(label), row["median_ms"].get(COPY)
    if least is None or copy is None or label not in row["median_ms"]:
        return None
    return float(least / row["median_ms"][label] / (row["least_bytes"][COPY] / copy))

"""The journal: one line of JSON for each point, written to the disk before the next one begins.

    {"key", "section", "name", "seconds", "row": {...}}            or "failed": the reason, instead of the row

The key is a fingerprint of all that the row depends on: a point whose sources, options or machine have changed is measured again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeAlias

from tfexplore.machine.files import write_whole

Line: TypeAlias = dict[str, Any]


class Journal:
    """paths: it is written to each of these files, and begins with the lines of all of them."""

    def __init__(self, *paths: Path) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self.lines: list[Line] = []
        for line in (line for path in self.paths for line in read(path)):
            if line not in self.lines:
                self.lines.append(line)
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        for path in self.paths:
            write_whole(path, text)

    def newest(self, key: str) -> Line | None:
        return next((line for line in reversed(self.lines) if line["key"] == key), None)

    def add(self, line: Line) -> None:
        self.lines.append(line)
        for path in self.paths:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())


def read(path: Path) -> list[Line]:
    """The whole lines of a journal; none where there is no file."""
    if not path.exists():
        return []
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:  # a run was cut off here
            continue
    return found

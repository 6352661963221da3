"""Files named by their content: written once, whole, and equal whoever writes them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_once(path: Path, text: str) -> None:
    """Writes a file unless it is there. Two processes at once leave the same file, never half of one.

    The time stamp is fixed because Numba drops its cache when a source file's stamp changes.
    """
    if path.exists():
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    os.utime(temporary, (1, 1))
    os.replace(temporary, path)

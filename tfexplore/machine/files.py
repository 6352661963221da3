"""Files written whole: one named by its content is written once, and equal whoever writes it."""

from __future__ import annotations

import hashlib
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


def write_whole(path: Path, text: str) -> None:
    """Writes a file, or another one in its place: who reads it meanwhile finds the old or the new, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    os.replace(partial, path)


def fingerprint(*texts: str) -> str:
    """A short content hash: equal texts share one compiled kernel, whoever wrote them and in whichever process."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

"""Atomic writes of files; a file that is named by its content is written once, and equal whichever process writes it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path


def write_once(path: Path, text: str) -> None:
    """Writes a file unless it exists. Two processes at the same time leave the same file, never a part of one.

    The time stamp is fixed, since Numba drops its cache when a source file's time stamp changes.
    """
    if path.exists():
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    os.utime(temporary, (1, 1))
    os.replace(temporary, path)


def write_whole(path: Path, text: str) -> None:
    """Writes or replaces a file: a process that reads it meanwhile finds the old text or the new one, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    os.replace(partial, path)


def fingerprint(*texts: str) -> str:
    """A short content hash: equal texts share one compiled kernel, in whichever process they were made."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

"""The field's words: phrases that a native engineer would not write, or that a PyTorch reader would not understand.

`WORDS` is the one list: a pattern, and what to write instead. The course's notebooks may keep a plain voice; where a plain
word is introduced, docs/glossary.md has the standard one beside it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
SCANNED = ("tfexplore", "kernels", "benchmarks", "tools", "tests", "book", "docs", *PAGES)
KINDS = {".py", ".cu", ".cuh", ".h", ".md", ".rst", ".js", ".css", ".toml", ".svg"}

WORDS = {
    r"(?<![a-z])way(?: |_)back\b": "backward pass",
    r"(?<![a-z])way(?: |_)there\b": "forward pass",
    r"\bthere and back\b": "forward and backward",
    r"\bkept for (?:the )?backward\b": "saved for backward",
    r"(?<!\")\bin all\b(?! [a-z`])": "in total, altogether",
    r"\bonce more\b": "again; reread",
    r"(?<![a-z])relax(?:ed|ation)\b": "smooth (spike)",
    r"\bwho (?:executes|runs|reads|computes|looks|asks|waits|compiles|takes part)\b": "that, which; name the thing",
    r"\b(?:is|are) told\b": "is reported; raises; learns",
    r"\bnone of both\b": "neither",
    r"\ball the same\b": "anyway",
    r"\bas ever\b|\bso many as\b": "the number, or the relation",
    r"\bpieces? of time\b": "chunk of time; a rank's segment",
    r"(?<![a-z])looked_at\b": "observed; traced",
    r"\bworks? aside\b": "in a background thread",
}

QUOTING = ("tests/docs/test_words.py", "docs/glossary.md")  # they name the phrases


def files() -> Iterator[str]:
    """The files of the checkout that are read by people, as git knows them; all there are where there is no git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", *SCANNED],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        found = (ROOT / name for name in SCANNED)
        listed = [p.relative_to(ROOT).as_posix() for f in found for p in ([f] if f.is_file() else f.rglob("*"))]
    for name in sorted(set(listed)):
        if Path(name).suffix in KINDS and name not in QUOTING and "_build" not in name and (ROOT / name).is_file():
            yield name


def complaints(name: str, text: str) -> list[str]:
    """Each as file:line: the phrase, and what to write. A phrase may run over the end of a line."""
    found = []
    for pattern, better in WORDS.items():
        for match in re.finditer(pattern.replace(" ", r"[\s#*/]+"), text):
            line = text.count("\n", 0, match.start()) + 1
            found.append((line, f"{name}:{line}: {' '.join(match[0].split())!r}: write {better}"))
    return [sentence for _, sentence in sorted(found)]


def test_words() -> None:
    found = [sentence for name in files() for sentence in complaints(name, (ROOT / name).read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("the gradient on its way back", "way back"),
        ("def _way_back(ctx):", "way_back"),
        ("# a value on the way\n# back", "way # back"),
        ("of T steps in all.", "in all"),
        ("Read once more", "once more"),
        ("the derivative of a relaxed spike", "relaxed"),
        ("who executes it", "who executes"),
    ],
)
def test_a_phrase_is_found(text: str, phrase: str) -> None:
    (sentence,) = complaints("a.py", "\n" + text)
    assert sentence.startswith(f"a.py:2: {phrase!r}: write ")


def test_good_words_pass() -> None:
    assert not complaints(
        "a.py", "In the backward pass what was saved for backward is read again, in all three languages."
    )

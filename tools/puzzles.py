"""The puzzles' cells in the notebooks, generated from tfexplore/puzzles: never edit them there.

    python tools/puzzles.py place [NAME...]   insert or refresh the puzzles' cells in the notebooks' .py halves
    python tools/puzzles.py check             report which puzzles are missing or out of date (exit status 1)
    python tools/puzzles.py teacher FOLDER    write an nbgrader course: source/NAME/NAME.ipynb, with the solutions

In a .py, a Markdown cell with `PUZZLE: charge` and nothing else becomes three cells: the text, the student's stub and the
check. The stub is what nbgrader's own ClearSolutions leaves of the solution. After `place`, run `make notebooks`. In
a teacher's FOLDER, `nbgrader generate_assignment NAME` then makes the student's copy.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import nbformat
from nbgrader.preprocessors import ClearSolutions

import notebooks
from tfexplore import puzzles
from tfexplore.puzzles import Puzzle

COLLECTION = "puzzles"  # the notebook with all of them
STUB = {"python": "raise NotImplementedError  # your turn"}
PLACE = re.compile(r"(?:# )+PUZZLE: (\S+)")
GRADE_ID = re.compile(r'nbgrader=\{"grade_id": "([^"]+)"\}')
CONFIG = f'''"""nbgrader's settings for the course: run `nbgrader generate_assignment NAME` in this folder."""

c = get_config()  # noqa: F821  (nbgrader gives it)
c.CourseDirectory.course_id = "tfexplore"
c.ClearSolutions.code_stub = {STUB!r}
'''


def stub(puzzle: Puzzle) -> str:
    """The solution's source without the solution, by nbgrader."""
    cell = nbformat.v4.new_code_cell(puzzle.source, metadata={"nbgrader": notebooks.nbgrader(puzzle.name, "code")})
    book = nbformat.v4.new_notebook(cells=[cell], metadata=notebooks.METADATA)
    cleared, _ = ClearSolutions(code_stub=STUB).preprocess(book, {})
    return cleared.cells[0].source


def check_line(puzzle: Puzzle) -> str:
    return f'puzzles.check("{puzzle.name}", {puzzle.name})'


def block(grade_id: str) -> str:
    """One cell of a puzzle, as it stands in the .py."""
    name, _, part = grade_id.partition("-")
    if name not in puzzles.ALL:
        raise ValueError(f"there is no puzzle {name!r}; there are {', '.join(puzzles.ALL)}.")
    puzzle = puzzles.ALL[name]
    if part == "text":
        body = "\n".join(f"# {line}".rstrip() for line in puzzle.markdown().splitlines())
    else:
        body = stub(puzzle) if not part else check_line(puzzle)
    kind = "[markdown] " if part == "text" else ""
    return f'# %% {kind}nbgrader={{"grade_id": "{grade_id}"}}\n{body}\n\n'


def placed(text: str) -> str:
    """The text of a .py with its puzzles inserted or brought up to date."""
    parts, count = [], 0
    for part in re.split(r"(?m)^(?=# %%)", text):
        head, _, body = part.partition("\n")
        wanted, known = PLACE.fullmatch(body.strip()), GRADE_ID.search(head)
        if head.startswith("# %%") and wanted:
            name = wanted[1]
            parts += [block(f"{name}-text"), block(name), block(f"{name}-check")]
        elif known:
            parts.append(block(known[1]))
        else:
            parts.append(part)
            continue
        count += 1
    return formatted(with_imports("".join(parts).rstrip("\n") + "\n")) if count else text


def with_imports(text: str) -> str:
    """NumPy for the learner and the puzzles, imported in the first code cell."""
    parts = re.split(r"(?m)^(?=# %%)", text)
    heads = [part.split("\n")[0] for part in parts]
    first = next(k for k, head in enumerate(heads) if head.startswith("# %%") and "[markdown]" not in head)
    if GRADE_ID.search(heads[first]):  # a puzzle comes before any other code
        parts.insert(first, "# %%\n")
    lines = parts[first].rstrip("\n").split("\n")
    if not re.search(r"(?m)^import numpy as np\b", text):
        used = any(re.search(r"\bnp\.", part) and not GRADE_ID.search(part) for part in parts)
        lines.insert(1, "import numpy as np" + ("" if used else "  # noqa: F401  (for your answers)"))
    if not re.search(r"(?m)^from tfexplore import .*\bpuzzles\b", text):
        at = next((k for k, line in enumerate(lines) if re.fullmatch(r"from tfexplore import [\w, ]+", line)), None)
        if at is not None:
            lines[at] += ", puzzles"
        else:
            imports = sum(line.startswith(("import ", "from ")) for line in lines)
            lines.insert(1 + imports, "from tfexplore import puzzles")
    parts[first] = "\n".join(lines) + "\n\n"
    return "".join(parts)


def formatted(text: str) -> str:
    """The text as `make format` leaves it: imports in order, blank lines as ruff wants them."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--quiet", "--select", "I", "--fix-only"], ["format", "--quiet"]):
        words = [*ruff, *command, "--stdin-filename", str(notebooks.FOLDER / "placed.py"), "-"]
        text = subprocess.run(words, input=text, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    return text


def grade_ids(text: str) -> list[str]:
    return [found[1] for line in text.splitlines() if line.startswith("# %%") and (found := GRADE_ID.search(line))]


def faults(folder: Path) -> Iterator[str]:
    """What is missing or out of date, one sentence each. A notebook that does not exist (yet) lacks nothing."""
    for script in notebooks.pairs(folder):
        text = script.read_text(encoding="utf-8")
        if placed(text) != text:
            yield f"{script.name} has puzzles that are not up to date: python tools/puzzles.py place {script.stem}"
        there = [name for name in grade_ids(placed(text)) if "-" not in name]
        for name, puzzle in puzzles.ALL.items():
            if script.stem in (COLLECTION, puzzle.notebook) and name not in there:
                yield f"{script.name} lacks the puzzle {name}: add a Markdown cell with PUZZLE: {name}"


def hidden_test(puzzle: Puzzle) -> str:
    """The check of a teacher's copy: an error where the answer is not right, which the student's copy lacks."""
    return "\n".join(
        [
            check_line(puzzle),
            "### BEGIN HIDDEN TESTS",
            f'assert puzzles.passed("{puzzle.name}"), str({check_line(puzzle)})',
            "### END HIDDEN TESTS",
        ]
    )


def teacher(folder: Path, scripts: list[Path]) -> list[Path]:
    """Writes every notebook that has puzzles with their solutions, in the layout of an nbgrader course."""
    written = []
    for script in scripts:
        notebook = notebooks.read_script(script)
        found = False
        for cell in notebook.cells:
            name, _, part = cell.metadata.get("nbgrader", {}).get("grade_id", "").partition("-")
            if name and part != "text":
                cell.source = hidden_test(puzzles.ALL[name]) if part else puzzles.ALL[name].source
                found = True
        if found:
            target = folder / "source" / script.stem / f"{script.stem}.ipynb"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(notebooks.dumps(notebook), encoding="utf-8", newline="\n")
            written.append(target)
    (folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8", newline="\n")
    return written


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["place", "check", "teacher"])
    parser.add_argument("names", nargs="*", help="notebooks by name, or the teacher's folder")
    parser.add_argument("--notebooks", type=Path, default=notebooks.FOLDER, help="where the notebooks are")
    args = parser.parse_args(argv)
    scripts = {path.stem: path for path in notebooks.pairs(args.notebooks)}
    if args.command == "teacher":
        if len(args.names) != 1:
            parser.error("name one folder: python tools/puzzles.py teacher FOLDER")
        for path in teacher(Path(args.names[0]), list(scripts.values())):
            print(path)
        return 0
    if args.command == "check":
        found = list(faults(args.notebooks))
        print("\n".join(found) or "every puzzle is in its place")
        return int(bool(found))
    if unknown := [name for name in args.names if name not in scripts]:
        parser.error(f"no such notebook: {', '.join(unknown)}; there are {', '.join(scripts) or 'none'}")
    for name in args.names or scripts:
        text = scripts[name].read_text(encoding="utf-8")
        if (new := placed(text)) != text:
            scripts[name].write_text(new, encoding="utf-8", newline="\n")
            print(f"{name}: {sum('-' not in grade_id for grade_id in grade_ids(new))} puzzles")
    return 0


if __name__ == "__main__":
    sys.exit(main())

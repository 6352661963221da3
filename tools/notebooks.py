"""The notebooks' pairs: NAME.py (percent format, for editing and review) and NAME.ipynb (with outputs, for reading).

    python tools/notebooks.py write [NAME...]   run each .py and write its .ipynb, in canonical form
    python tools/notebooks.py check [NAME...]   report what is out of step or not canonical (exit status 1)
    python tools/notebooks.py pull NAME...      the reverse: write cells edited in JupyterLab back into the .py

Canonical form: nothing in the file changes when nothing in the notebook changed. No widget state, no random ids, no
times, no version of Python. It compares no outputs: `make nbval` runs the notebooks again for that.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
FORMAT = "py:percent"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # nothing but a random model id
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
}
CELL_METADATA = ("tags", "slideshow", "nbgrader")  # what an author sets on a cell; everything else is a tool's noise
RAISES = "raises-exception"


def read_script(path: Path) -> NotebookNode:
    """The notebook that a percent script stands for, in canonical form and not yet run."""
    return canonical(jupytext.reads(path.read_text(encoding="utf-8"), fmt=FORMAT))


def canonical(notebook: NotebookNode) -> NotebookNode:
    """The same notebook without anything that changes from run to run or from tool to tool."""
    cells, seen, count = [], {}, 0
    for cell in notebook.cells:
        ident = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[ident] = seen.get(ident, 0) + 1
        clean = NotebookNode(
            id=ident if seen[ident] == 1 else f"{ident}-{seen[ident]}",
            cell_type=cell.cell_type,
            metadata=_metadata(cell),
            source=cell.source,
        )
        if cell.cell_type == "code":
            ran = cell.get("execution_count") is not None
            count += ran
            clean.execution_count = count if ran else None
            clean.outputs = list(_outputs(cell.get("outputs", []), clean.execution_count))
        cells.append(clean)
    return nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": METADATA, "cells": cells})


def _metadata(cell: NotebookNode) -> dict:
    found = {key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata}
    if "nbgrader" in found:
        found["nbgrader"] = nbgrader(found["nbgrader"]["grade_id"], cell.cell_type)
    return found


def nbgrader(grade_id: str, cell_type: str) -> dict:
    """nbgrader's metadata for a puzzle's cell; a .py has the grade_id only, whose ending determines the rest.

    NAME-text is the text, NAME the answer (from which the solution is cleared), NAME-check the check (one point).
    """
    check, text = grade_id.endswith("-check"), grade_id.endswith("-text")
    kind = {"grade": check, "solution": not (check or text), "locked": check or text, "task": False}
    points = {"points": 1} if check else {}
    return {"schema_version": 3, "grade_id": grade_id, "cell_type": cell_type} | kind | points


def _outputs(outputs: list[NotebookNode], count: int | None) -> Iterator[NotebookNode]:
    """Outputs without widget views; consecutive parts of one stream joined (where they are cut depends on timing)."""
    waiting: NotebookNode | None = None
    for output in outputs:
        if waiting is not None and output.output_type == "stream" and output.name == waiting.name:
            waiting.text += output.text
            continue
        if waiting is not None:
            yield waiting
            waiting = None
        if output.output_type == "stream":
            waiting = NotebookNode(output_type="stream", name=output.name, text=output.text)
        elif "data" in output:
            data = {mime: output.data[mime] for mime in sorted(output.data) if mime != WIDGET_VIEW}
            if data:
                result = {"execution_count": count} if output.output_type == "execute_result" else {}
                yield NotebookNode(output_type=output.output_type, metadata=output.metadata, data=data, **result)
        else:
            yield NotebookNode(output)
    if waiting is not None:
        yield waiting


def dumps(notebook: NotebookNode) -> str:
    """The text of the .ipynb file."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4) + "\n"


def run(notebook: NotebookNode, folder: Path, timeout: float = 600) -> NotebookNode:
    """Run every cell in a fresh kernel of this Python, with `folder` as the working directory."""
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", resources=resources, store_widget_state=False
    )
    return client.execute()


def write(script: Path) -> None:
    """Run the .py and write the .ipynb beside it."""
    notebook = canonical(run(read_script(script), script.parent))
    script.with_suffix(".ipynb").write_text(dumps(notebook), encoding="utf-8", newline="\n")


def pull(script: Path) -> None:
    """Take the cells of the .ipynb into the .py."""
    notebook = canonical(nbformat.read(script.with_suffix(".ipynb"), as_version=4))
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata["nbgrader"] = {"grade_id": cell.metadata["nbgrader"]["grade_id"]}
    notebook.metadata = {"jupytext": {"notebook_metadata_filter": "-all", "cell_metadata_filter": "-all,tags,nbgrader"}}
    script.write_text(jupytext.writes(notebook, fmt=FORMAT), encoding="utf-8", newline="\n")


def faults(script: Path) -> Iterator[str]:
    """What is wrong with a pair, one sentence each, with the command that repairs it."""
    saved = script.with_suffix(".ipynb")
    for half in (script, saved):
        if not half.exists():
            remedy = "pull" if half == script else "write"
            yield f"{half.name} is missing; complete the pair: python tools/notebooks.py {remedy} {script.stem}"
            return
    notebook, text = nbformat.read(saved, as_version=4), saved.read_text(encoding="utf-8")
    mine, theirs = (list(map(_essence, book.cells)) for book in (read_script(script), notebook))
    if mine != theirs:
        both = enumerate(zip(mine, theirs, strict=False))
        first = next((i for i, (a, b) in both if a != b), min(len(mine), len(theirs)))
        yield (
            f"{saved.name} is out of step with {script.name} from cell {first + 1} on; edited the .py: make notebooks; "
            f"edited the .ipynb: python tools/notebooks.py pull {script.stem}"
        )
    if text != dumps(canonical(notebook)):
        yield f"{saved.name} is not in canonical form (as after a save in JupyterLab): make notebooks"
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            yield f"{saved.name} was not run from cell {number} on, and nbval compares only what was: make notebooks"
            return
        allowed = RAISES in cell.metadata.get("tags", [])
        if not allowed and any(output.output_type == "error" for output in cell.outputs):
            yield f"{saved.name}, cell {number} ends in an error: fix it, or tag it {RAISES}"


def _essence(cell: NotebookNode) -> tuple[str, str, list[str], str]:
    grade_id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
    return cell.cell_type, cell.source, cell.metadata.get("tags", []), grade_id


def pairs(folder: Path = FOLDER) -> list[Path]:
    """The .py half of every pair, whether it exists or only its .ipynb does. Names with _ are helpers, no notebooks."""
    names = {path.with_suffix(".py") for path in folder.glob("*.ipynb")}
    names |= {path for path in folder.glob("*.py") if not path.name.startswith("_")}
    return sorted(names)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["write", "check", "pull"])
    parser.add_argument("names", nargs="*", help="notebooks by name, without suffix; all of them if none is given")
    args = parser.parse_args(argv)
    known = {path.stem: path for path in pairs()}
    unknown = [name for name in args.names if name not in known]
    if unknown:
        parser.error(f"no such notebook: {', '.join(unknown)}; there are {', '.join(known) or 'none'}")
    if args.command == "pull" and not args.names:
        parser.error("pull overwrites the .py: name the notebooks")
    status = 0
    for name in args.names or known:
        if args.command == "write":
            print(f"{name}: running", flush=True)
            write(known[name])
        elif args.command == "pull":
            pull(known[name])
        else:
            for fault in faults(known[name]):
                print(fault)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())

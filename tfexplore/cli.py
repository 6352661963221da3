"""The command `tfexplore`: lab (notebooks into a folder, then JupyterLab), doctor, warm, bench, wheels.

It only parses, copies and prints; the work is done by the modules it calls. What can be expected to go wrong ends in
one sentence and exit status 1, never in a traceback.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from tfexplore.machine import doctor, paths
from tfexplore.machine import wheels as room

FIRST = "00_start_here.ipynb"
MANIFEST = ".tfexplore-copied.json"


class Refused(Exception):
    """Something the user can put right; the message says how."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    parser = _parser()
    args = parser.parse_args(words[:cut])
    args.passed_on = words[cut + 1 :]
    if args.passed_on and args.command not in ("lab", "wheels"):
        parser.error("only `tfexplore lab` and `tfexplore wheels` pass options on after --")
    try:
        return args.run(args)
    except (Refused, OSError, ImportError) as error:
        print(f"tfexplore {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tfexplore", description="See, measure and use temporal fusion in SNNs.")
    parser.add_argument("--version", action="version", version=f"tfexplore {_version()}")
    commands = parser.add_subparsers(dest="command", required=True)

    lab = commands.add_parser(
        "lab",
        help="copy the notebooks to a folder (your edits are kept) and open JupyterLab there",
        epilog="Options after -- go to JupyterLab: tfexplore lab -- --no-browser --port 9999",
    )
    lab.add_argument("folder", nargs="?", default="tfexplore-notebooks", type=Path, help="default: %(default)s")
    lab.add_argument("--copy-only", "--no-open", action="store_true", help="copy, and do not start JupyterLab")
    lab.set_defaults(run=_lab)

    looks = commands.add_parser("doctor", help="what this machine can do, and the command for what is missing")
    looks.add_argument("--short", action="store_true", help="one line: is this machine ready for the notebooks?")
    looks.set_defaults(run=lambda args: doctor.short() if args.short else doctor.report())
    warm = commands.add_parser("warm", help="compile the common kernels ahead, so that nothing waits later")
    warm.add_argument(
        "--tune", action="store_true", help="on a GPU: measure which build of the kernels is the fastest, and keep it"
    )
    warm.set_defaults(run=_warm)

    bench = commands.add_parser(
        "bench",
        help="measure the fused layers side by side with other libraries, or draw what was measured",
        epilog="`make peers` installs the other libraries; one that is missing is named and left out.",
    )
    bench.add_argument("names", nargs="*", help="neuron, keep, linear_lif, training, growth, split; default: all")
    sizes = bench.add_mutually_exclusive_group()
    sizes.add_argument("--quick", dest="size", action="store_const", const="quick", help="few cases, and not recorded")
    sizes.add_argument(
        "--full", dest="size", action="store_const", const="full", help="all that memory holds: hours on a CPU"
    )
    bench.add_argument("--device", help="default: cuda if there is one, else cpu")
    bench.add_argument(
        "--results", type=Path, metavar="FOLDER", help="of the recorded measurements; default: the checkout's"
    )
    bench.add_argument(
        "--draw", action="store_true", help="measure nothing; draw docs/speed*.png from the measurements"
    )
    bench.set_defaults(run=_bench)

    wheels = commands.add_parser(
        "wheels",
        help="collect all wheels for a room without a network in a folder",
        epilog="Options after -- go to pip download: tfexplore wheels FOLDER -- --extra-index-url ADDRESS",
    )
    wheels.add_argument("folder", type=Path)
    kinds = f"{', '.join(room.TAGS)}, or a platform tag of pip's; may be given several times; default: this machine's"
    wheels.add_argument("--platform", action="append", default=[], help=kinds)
    wheels.add_argument(
        "--python-version", action="append", default=[], help="such as 3.12; may be given several times"
    )
    pins = wheels.add_mutually_exclusive_group()
    pins.add_argument(
        "--constraints", type=Path, help="pip's constraints; default: the checkout's, or what is installed here"
    )
    pins.add_argument("--no-constraints", action="store_true", help="take the newest versions")
    wheels.set_defaults(run=_wheels)
    return parser


def _version() -> str:
    try:
        return metadata.version("tfexplore")
    except metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def _bench(args: argparse.Namespace) -> int:
    if not (paths.PACKAGE.parent / "benchmarks" / "bench.py").is_file():
        raise Refused(
            "the benchmarks are in tfexplore's checkout, not in its package: run `python -m tfexplore bench` there"
        )
    from benchmarks import bench, draw, record

    if unknown := [name for name in args.names if name not in bench.NAMES]:
        raise Refused(f"there is no benchmark {unknown[0]!r}; there are {', '.join(bench.NAMES)}")
    if args.draw:
        if not (written := draw.draw(args.results)):
            raise Refused("there is no recorded measurement to draw: run `tfexplore bench neuron` first")
        print(*(f"drawn: {path}" for path in written), sep="\n")
        return 0
    import torch

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    folder = args.results or (None if args.size == "quick" else record.FOLDER)
    bench.run(args.names or bench.NAMES, args.size or "default", device, folder)
    return 0


def _warm(args: argparse.Namespace) -> int:
    if args.tune:
        _tune()
    from tfexplore.backends.warm import warm

    count, spent = 0, 0.0
    for done, total, label, seconds in warm():
        print(f"[{done}/{total}] {label}: {seconds:.1f} s", flush=True)
        count, spent = done, spent + seconds
    print(f"{count} kernels are ready ({spent:.0f} s); they are kept in {paths.cache_dir()}")
    return 0


def _tune() -> None:
    """Before what is compiled ahead, which then is what was found."""
    from tfexplore.backends import cuda, tuned
    from tfexplore.measure import tune

    if reason := cuda.why_not():
        raise Refused(f"--tune measures on a GPU: {reason}")
    for done, total, shape, config, gain in tune.tune():
        better = f"{gain:.2f} times as fast as predicted" if gain >= 1.005 else "as predicted"
        print(f"[{done}/{total}] {shape}: {better}, {config}", flush=True)
    print(f"the fastest builds are kept in {tuned.home()}")


def _wheels(args: argparse.Namespace) -> int:
    folder, wanted = args.folder.expanduser().resolve(), room.targets(args.platform, args.python_version)
    if args.constraints is not None and not args.constraints.exists():
        raise Refused(f"--constraints names {args.constraints}, which is not there")
    pins = None if args.no_constraints else args.constraints or room.default_constraints(folder)
    print(room.collect(folder, wanted, pins, args.passed_on))
    return 0


def _unlisted(shipped: Path, folder: Path) -> list[str]:
    """JupyterLab's options for a file browser that lists the notebooks, not the .py halves of the pairs or their pictures."""
    names = {path.name for path in shipped.glob("*.svg")}
    if folder == shipped.resolve():
        names |= {path.with_suffix(".py").name for path in shipped.glob("*.ipynb")}
    default = ["__pycache__", "*.pyc", "*.pyo", ".DS_Store", "*~"]  # JupyterLab's own; the option replaces them
    return [f"--ContentsManager.hide_globs={name}" for name in (names and [*default, *sorted(names)])]


def _lab(args: argparse.Namespace) -> int:
    shipped, folder = paths.notebooks_dir(), args.folder.expanduser().resolve()
    if folder != shipped.resolve():  # in a checkout, `tfexplore lab notebooks` opens the notebooks themselves
        for line in copy_notebooks(shipped, folder):
            print(line)
    if args.copy_only:
        return 0
    if importlib.util.find_spec("jupyterlab") is None:
        raise Refused(f"JupyterLab is not installed: {doctor.pip('jupyterlab')}")
    first = [str(folder / FIRST)] if (folder / FIRST).exists() else []
    words = [sys.executable, "-m", "jupyterlab", *first, *_unlisted(shipped, folder), *args.passed_on]
    return subprocess.call(words, cwd=folder)


def copy_notebooks(shipped: Path, folder: Path) -> list[str]:
    """Bring `folder` up to date with the notebooks in `shipped`, and say what was done.

    A manifest remembers the hash of each file as it was copied. So a file that still has that hash is the user's
    untouched copy, and follows an upgrade; any other file that differs from the shipped one is theirs, and stays.
    """
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is a file: name a folder, for example: tfexplore lab my-notebooks")
    copied, updated, lines = 0, 0, []
    remembered = _read_manifest(folder / MANIFEST)
    for name in _shipped_files(shipped):
        source, target = shipped / name, folder / name
        fresh, last = _digest(source), remembered.get(name)
        if target.is_dir():
            raise Refused(f"{target} is a folder where the notebook {name} should go: rename it, and try again")
        mine = _digest(target) if target.exists() else None
        if mine is None or (mine == last and mine != fresh):
            _copy(source, target)
            copied, updated = copied + (mine is None), updated + (mine is not None)
        elif mine != fresh:
            newer = last is None or last != fresh
            hint = "; tfexplore now ships another version: rename yours and run this again to get it" if newer else ""
            lines.append(f"kept your {name}{hint}")
            continue  # remember what it was copied from, so that the hint stays right
        remembered[name] = fresh
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / MANIFEST, (json.dumps(remembered, indent=1, sort_keys=True) + "\n").encode())
    done = [f"{copied} copied"] * (copied > 0) + [f"{updated} updated"] * (updated > 0)
    return [f"notebooks in {folder}: {', '.join(done) or 'nothing new'}", *lines]


def _shipped_files(shipped: Path) -> list[str]:
    """Names of everything a learner needs: not the .py halves of the pairs, and nothing a tool left behind."""
    files = (path for path in sorted(shipped.rglob("*")) if path.is_file())
    return [
        file.relative_to(shipped).as_posix()
        for file in files
        if not any(part.startswith((".", "__")) for part in file.relative_to(shipped).parts)
        and not (file.suffix == ".py" and file.with_suffix(".ipynb").exists())
    ]


def _read_manifest(path: Path) -> dict[str, str]:
    """What was copied before; nothing if that is unknown, which only means that more is taken for the user's own."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(target, source.read_bytes())


def _write(target: Path, content: bytes) -> None:
    """All or nothing: an interrupted copy must not look like an edited notebook."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


__all__ = ["copy_notebooks", "main"]

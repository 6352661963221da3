"""The command `tfexplore`: lab (notebooks into a folder, then JupyterLab), doctor, warm, bench, wheels.

It only parses, copies and prints; the work is done by the modules it calls. Expected failures end in one sentence and exit
status 1, never in a traceback.
"""

import argparse
import hashlib
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tfexplore.machine import doctor, paths, wheels

if TYPE_CHECKING:
    from torch import nn

FIRST = "00_start_here.ipynb"
MANIFEST = ".tfexplore-copied.json"


class Refused(Exception):
    """An error that the user can put right; its message names what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: its arguments; by default those of this process. What follows `--` is passed on to JupyterLab or pip.

    Returns:
        The exit status: 0, 1 after an error in one sentence, 130 after Ctrl-C.

    Raises:
        SystemExit: argparse printed help, the version, or an error in the arguments (status 2).
    """
    given = list(sys.argv[1:] if argv is None else argv)
    cut = given.index("--") if "--" in given else len(given)
    parser = command_line()
    args = parser.parse_args(given[:cut])
    args.passed_on = given[cut + 1 :]
    if args.passed_on and args.command not in ("lab", "wheels"):
        parser.error("only `tfexplore lab` and `tfexplore wheels` pass options on after --")
    try:
        return args.run(args)
    except (Refused, OSError, ImportError) as error:
        print(f"tfexplore {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def command_line() -> argparse.ArgumentParser:
    """The parser of `tfexplore`, with one subcommand for each entry of `COMMANDS`; its help is the reference."""
    parser = argparse.ArgumentParser(
        prog="tfexplore",
        description="See, measure and use temporal fusion in spiking neural networks (SNNs).",
        epilog="tfexplore COMMAND --help describes each command.",
    )
    parser.add_argument("--version", action="version", version=f"tfexplore {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (help, epilog, add_arguments) in COMMANDS.items():
        command = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", epilog=epilog)
        add_arguments(command)
    return parser


def _lab_arguments(lab: argparse.ArgumentParser) -> None:
    folder = "where the notebooks go, created if needed; default: %(default)s"
    lab.add_argument("folder", nargs="?", default="tfexplore-notebooks", type=Path, help=folder)
    copy_only = "copy or update the notebooks, and do not start JupyterLab"
    lab.add_argument("--copy-only", "--no-open", action="store_true", help=copy_only)
    lab.set_defaults(run=_lab)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    short = "print one line: whether this machine is ready for the notebooks, else what is missing"
    parser.add_argument("--short", action="store_true", help=short)
    parser.set_defaults(run=lambda args: doctor.short() if args.short else doctor.report())


def _warm_arguments(warm: argparse.ArgumentParser) -> None:
    tune = "on a GPU, first measure which build of the kernels is the fastest, and store it for all later processes"
    warm.add_argument("--tune", action="store_true", help=tune)
    network = "package.module:name of a network of yours, or of a function that makes one; default: the common neurons"
    warm.add_argument("network", nargs="?", metavar="NETWORK", help=network)
    shape = "of the network's input, time first, with commas: 10,32,784"
    warm.add_argument("--shape", help=shape)
    dtype = "of the input; float16 and bfloat16 run under autocast; default: %(default)s"
    warm.add_argument("--dtype", default="float32", choices=("float32", "float64", "float16", "bfloat16"), help=dtype)
    warm.add_argument("--device", help="cpu or cuda; default: cuda if there is a GPU, else cpu")
    warm.set_defaults(run=_warm)


def _bench_arguments(bench: argparse.ArgumentParser) -> None:
    every = (
        "neuron, small, keep, linear_lif, recurrent, batchnorm, training, growth, memory, inverse, bits, split, cuts, step, "
        "scan, relaxations"
    )
    names = f"benchmarks to run: {every}; default: all"
    bench.add_argument("names", nargs="*", metavar="NAME", help=names)
    sizes = bench.add_mutually_exclusive_group()
    quick, full = "a few small cases, which are not recorded", "every size that memory holds: hours on a CPU"
    sizes.add_argument("--quick", dest="size", action="store_const", const="quick", help=quick)
    sizes.add_argument("--full", dest="size", action="store_const", const="full", help=full)
    bench.add_argument("--device", help="cpu or cuda; default: cuda if there is a GPU, else cpu")
    results = "folder of the recorded measurements; default: benchmarks/results of the checkout"
    bench.add_argument("--results", type=Path, metavar="FOLDER", help=results)
    draw = "measure nothing; draw docs/speed*.png from the recorded measurements"
    bench.add_argument("--draw", action="store_true", help=draw)
    bench.set_defaults(run=_bench)


def _wheels_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where the wheels and their README.txt go, created if needed")
    kinds = f"{', '.join(wheels.TAGS)}, or a platform tag of pip's; may be repeated; default: this machine's"
    parser.add_argument("--platform", action="append", default=[], help=kinds)
    versions = "of Python, such as 3.12; may be repeated; default: this Python's"
    parser.add_argument("--python-version", action="append", default=[], metavar="VERSION", help=versions)
    pins = parser.add_mutually_exclusive_group()
    constraints = "pip's constraints file; default: the checkout's, or the versions that are installed here"
    pins.add_argument("--constraints", type=Path, metavar="FILE", help=constraints)
    pins.add_argument("--no-constraints", action="store_true", help="take the newest versions")
    parser.set_defaults(run=_wheels)


COMMANDS = {
    "lab": (
        "copy the notebooks into a folder (your edits are kept) and open JupyterLab there",
        "Options after -- go to JupyterLab: tfexplore lab -- --no-browser --port 9999",
        _lab_arguments,
    ),
    "doctor": (
        "report what this machine can do, with the command for whatever is missing",
        "The exit status is 0 when everything that the CPU needs is there; a missing GPU is no error.",
        _doctor_arguments,
    ),
    "warm": (
        "compile the common kernels, or those of a network of yours, ahead, so that no later call waits for a compiler",
        "The kernels are kept in a cache. A network of yours: tfexplore warm my_project.networks:make --shape 10,32,784",
        _warm_arguments,
    ),
    "bench": (
        "measure the fused layers side by side with other libraries, or draw what was measured",
        "`make peers` installs the other libraries; one that is missing is named and left out.",
        _bench_arguments,
    ),
    "wheels": (
        "collect all wheels for a classroom without a network in one folder",
        "Options after -- go to pip download: tfexplore wheels FOLDER -- --extra-index-url ADDRESS",
        _wheels_arguments,
    ),
}
"""The subcommands: what each does, a note at the end of its help, and the function that adds its arguments."""


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
        raise Refused(f"there is no benchmark {unknown[0]!r}; choose from {', '.join(bench.NAMES)}")
    if args.draw:
        if not (written := draw.draw(args.results)):
            raise Refused("there is no recorded measurement to draw: run `tfexplore bench neuron` first")
        print(*(f"drawn: {path}" for path in written), sep="\n")
        return 0
    from tfexplore.measure.clock import or_gpu

    folder = args.results or (None if args.size == "quick" else record.FOLDER)
    bench.run(args.names or bench.NAMES, args.size or "default", or_gpu(args.device), folder)
    return 0


def _warm(args: argparse.Namespace) -> int:
    if args.tune:
        _tune()
    if args.network or args.shape:
        return _warm_network(args)
    from tfexplore.backends.warm import warm

    count, spent = 0, 0.0
    for done, total, label, seconds in warm():
        print(f"[{done}/{total}] {label}: {seconds:.1f} s", flush=True)
        count, spent = done, spent + seconds
    print(f"{count} kernels are ready ({spent:.0f} s); they are kept in {paths.cache_dir()}")
    return 0


def _warm_network(args: argparse.Namespace) -> int:
    """Compiles what one network needs."""
    if not (args.network and args.shape):
        raise Refused("a network needs the shape of its input: tfexplore warm package.module:network --shape 10,32,784")
    if not re.fullmatch(r"0*[1-9]\d*(,0*[1-9]\d*)+", args.shape):
        raise Refused(
            f"--shape must be whole numbers from 1 on with commas, time first, such as 10,32,784, but got {args.shape!r}"
        )
    import torch

    from tfexplore.measure.clock import or_gpu
    from tfexplore.nn.warming import warming

    device, dtype = or_gpu(args.device), getattr(torch, args.dtype)
    net = _network(args.network).to(device)
    if dtype == torch.float64:
        net = net.double()
    x, spent = torch.zeros([int(n) for n in args.shape.split(",")], dtype=dtype, device=device), 0.0
    try:
        for done in warming(net, x):
            print(done, flush=True)
            spent += done.seconds
    except (RuntimeError, TypeError, ValueError) as error:
        raise Refused(f"{args.network} does not run with an input {args.shape}, {args.dtype}: {error}") from error
    print(f"the network's kernels are ready ({spent:.0f} s); they are kept in {paths.cache_dir()}")
    return 0


def _network(name: str) -> "nn.Module":
    """The network of this name, or what the function of this name makes."""
    from torch import nn

    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise Refused(f"name a network as package.module:name, for example my_project.networks:make, not {name!r}")
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        there = importlib.import_module(module)
    finally:
        sys.path.remove(os.getcwd())
    if not hasattr(there, attribute):
        raise Refused(f"{module} has no {attribute!r}")
    found = getattr(there, attribute)
    try:
        made = found() if callable(found) and not isinstance(found, nn.Module) else found
    except Exception as error:  # a function of the user's may raise any
        raise Refused(f"{name}() makes no network: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise Refused(f"{name} is neither a network nor a function that makes one, but {type(made).__name__}")
    return made


def _tune() -> None:
    """Finds the fastest builds; `warm` then compiles those."""
    from tfexplore.backends import cuda, tuned
    from tfexplore.measure import tune

    if reason := cuda.why_not():
        raise Refused(f"--tune measures on a GPU: {reason}")
    for done, total, shape, config, gain in tune.tune():
        better = f"{gain:.2f} times as fast as predicted" if gain >= 1.005 else "as predicted"
        print(f"[{done}/{total}] {shape}: {better}, {config}", flush=True)
    print(f"the fastest builds are kept in {tuned.home()}")


def _wheels(args: argparse.Namespace) -> int:
    folder, wanted = args.folder.expanduser().resolve(), wheels.targets(args.platform, args.python_version)
    if args.constraints is not None and not args.constraints.exists():
        raise Refused(f"--constraints names {args.constraints}, which does not exist")
    pins = None if args.no_constraints else args.constraints or wheels.default_constraints(folder)
    print(wheels.collect(folder, wanted, pins, args.passed_on))
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
    """Brings `folder` up to date with the notebooks in `shipped`.

    A manifest stores the hash of each file as it was copied. A file that still has that hash is the user's unchanged copy, and
    follows an upgrade; any other file that differs from the shipped one is the user's own, and stays.

    Returns:
        What was done, in sentences.

    Raises:
        Refused: a file or a folder is in the way.
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
    """The files that a learner needs: not the .py halves of the pairs, and nothing that a tool left behind."""
    files = (path for path in sorted(shipped.rglob("*")) if path.is_file())
    return [
        file.relative_to(shipped).as_posix()
        for file in files
        if not any(part.startswith((".", "__")) for part in file.relative_to(shipped).parts)
        and not (file.suffix == ".py" and file.with_suffix(".ipynb").exists())
    ]


def _read_manifest(path: Path) -> dict[str, str]:
    """What was copied before; empty if that is unknown, so that more files count as the user's own."""
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
    """Writes atomically: an interrupted copy must not look like an edited notebook."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


__all__ = ["COMMANDS", "command_line", "copy_notebooks", "main"]

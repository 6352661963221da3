"""All wheels for a classroom without a network, in one folder: `tfexplore wheels FOLDER`.

pip resolves and downloads; this module calls it once for tfexplore's own wheel, and once for every platform and version of
Python. Then pip must be able to install from the folder alone; for machines like this one, that is tried (without installing
anything).
"""

import base64
import hashlib
import itertools
import platform
import re
import subprocess
import sys
import zipfile
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tfexplore.machine import paths

EXTRA = "tfexplore[notebooks]"
GLIBC = ["manylinux1", "manylinux2010", "manylinux2014", *(f"manylinux_2_{minor}" for minor in range(5, 29))]
# What a wheel may be built for, so that it runs on such a machine (a Linux of 2018 or later, a Mac with macOS 14).
TAGS = {
    "linux": [f"{glibc}_x86_64" for glibc in GLIBC],
    "windows": ["win_amd64"],
    "macos": ["macosx_14_0_arm64", "macosx_14_0_universal2"],
}
# pip evaluates "only on Windows" for the machine it runs on, so these are requested by name.
ONLY_THERE = {"linux": ["pexpect", "ptyprocess"], "macos": ["pexpect", "ptyprocess", "appnope"]}
ONLY_THERE["windows"] = ["colorama", "pywinpty"]


class WheelsError(OSError):
    """The folder could not be filled; the message gives the reason, and what to do."""


@dataclass(frozen=True)
class Target:
    """A kind of machine.

    Args:
        platform: "linux", "windows", "macos", or a platform tag of pip's; None for that of this machine.
        python: a version such as "3.12"; None for that of this Python.
    """

    platform: str | None = None
    python: str | None = None

    def __str__(self) -> str:
        here = f"{platform.system()} {platform.machine()}"
        return f"{self.platform or here}, Python {self.python or '.'.join(platform.python_version_tuple()[:2])}"

    def options(self) -> list[str]:
        """pip's options for it."""
        tags = [] if self.platform is None else TAGS.get(self.platform, [self.platform])
        version = ["--python-version", self.python] if self.python else []
        return [*itertools.chain.from_iterable(("--platform", tag) for tag in tags), *version]


def targets(platforms: Sequence[str], pythons: Sequence[str]) -> list[Target]:
    """Every platform combined with every version of Python; those of this machine where none is named.

    Raises:
        WheelsError: a version is malformed, or too old for tfexplore.

    Example:
        >>> [str(target) for target in targets(["windows", "macos"], ["3.12"])]
        ['windows, Python 3.12', 'macos, Python 3.12']
    """
    for version in pythons:
        if not re.fullmatch(r"3\.\d+", version):
            raise WheelsError(f"--python-version must look like 3.12, but got {version!r}")
        if int(version[2:]) < 11:
            raise WheelsError(f"tfexplore needs Python 3.11 or newer, but got --python-version {version}")
    systems: list[str | None] = [*platforms] or [None]
    versions: list[str | None] = [*pythons] or [None]
    return [Target(*pair) for pair in itertools.product(systems, versions)]


def collect(
    folder: Path, wanted: Sequence[Target], constraints: Path | None = None, passed_on: Sequence[str] = ()
) -> str:
    """Fills `folder` with wheels and a README.txt.

    Args:
        folder: created if needed.
        wanted: the kinds of machines.
        constraints: a constraints file of pip's, or None.
        passed_on: further options for `pip download`.

    Returns:
        What is in the folder, and the command that installs from it.

    Raises:
        WheelsError: pip is missing or failed.
    """
    # not find_spec("pip"): setuptools hooks into that, and warns in a process that has used distutils
    if not any(metadata.distributions(name="pip")):
        raise WheelsError(f"pip is not installed in this Python: {sys.executable} -m ensurepip")
    _make(folder)
    wheel = own_wheel(folder)
    pins = ["--constraint", str(constraints)] if constraints else []
    for target in wanted:
        arguments = ["download", "--dest", str(folder), "--find-links", str(folder), "--only-binary", ":all:", *pins]
        names = ONLY_THERE.get(target.platform or "", [])
        _pip([*arguments, *target.options(), *passed_on, f"{wheel}[notebooks]", *names], target)
    if Target() in wanted:
        arguments = ["install", "--isolated", "--dry-run", "--ignore-installed", "--quiet"]
        _pip([*arguments, "--no-index", "--find-links", str(folder), EXTRA], Target())
        tried = "pip can install from this folder alone: a dry run succeeded."
    else:
        tried = "Whether they are complete was not tried: pip can try it on such a machine only."
    kinds = "; ".join(map(str, wanted))
    (folder / "README.txt").write_text(README.format(kinds=kinds, tried=tried), encoding="utf-8")
    wheels = list(folder.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels) / 1e6
    return (
        f"{len(wheels)} wheels ({size:,.0f} MB) for {kinds} are in {folder}. {tried}\n"
        f"On a machine without network: python -m pip install --no-index --find-links {folder.name} '{EXTRA}'"
    )


def default_constraints(folder: Path) -> Path:
    """Writes folder/versions.txt, versions that work together: the checkout's or, for an installed tfexplore, those installed.

    Without CUDA's own packages: a wheel of PyTorch requires those it was built with; the checkout's are for its tests.
    """
    _make(folder)
    if _in_checkout():
        lines = (paths.PACKAGE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    else:  # 2.13.0+cpu stands for any 2.13.0; what a broken install left has no name
        lines = sorted({f"{d.name.lower()}=={d.version.partition('+')[0]}" for d in metadata.distributions() if d.name})
    pins = folder / "versions.txt"
    kept = [line for line in lines if not line.startswith(("cuda", "cupy", "nvidia", "#"))]
    pins.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return pins


def _make(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise WheelsError(f"{folder} is a file: name a folder, for example: tfexplore wheels wheels")
    folder.mkdir(parents=True, exist_ok=True)


def own_wheel(folder: Path) -> Path:
    """Writes tfexplore's wheel into `folder`: built from the checkout, or packed again from the files that pip installed."""
    for old in folder.glob("tfexplore-*.whl"):
        old.unlink()
    if _in_checkout():
        _pip(["wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(paths.PACKAGE.parent)], Target())
    else:
        _pack(metadata.distribution("tfexplore"), folder)
    return next(folder.glob("tfexplore-*.whl"))


def _in_checkout() -> bool:
    project = paths.PACKAGE.parent / "pyproject.toml"
    return project.exists() and 'name = "tfexplore"' in project.read_text(encoding="utf-8")


def _pack(installed: metadata.Distribution, folder: Path) -> None:
    """A wheel is a zip of what it installs, and a RECORD with each file's hash."""
    by_pip = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    inside = sorted(
        path
        for path in installed.files or []
        if ".." not in path.parts and "__pycache__" not in path.parts and path.name not in by_pip
    )
    info = next(path.parent.as_posix() for path in inside if path.name == "METADATA")
    record = []
    with zipfile.ZipFile(
        folder / f"tfexplore-{installed.version}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED
    ) as wheel:
        for path in inside:
            content = Path(str(path.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            wheel.writestr(path.as_posix(), content)
            record.append(f"{path.as_posix()},sha256={digest},{len(content)}\n")
        wheel.writestr(f"{info}/RECORD", "".join([*record, f"{info}/RECORD,,\n"]))


def _pip(arguments: Iterable[str], target: Target) -> None:
    """Runs pip and prints its output as it comes; WheelsError with one sentence if it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    output: deque[str] = deque(maxlen=200)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            output.append(line)
    if process.returncode:
        raise WheelsError(explain("".join(output), target))


def explain(output: str, target: Target) -> str:
    """What pip's output means, in one sentence."""
    if re.search(r"No space left on device|not enough space|Errno 28|WinError 112", output):
        return "the disk is full; free some space (or name a folder on another disk) and run this again, it goes on from there"
    if re.search(
        r"NewConnectionError|name resolution|getaddrinfo|ConnectTimeout|Network is unreachable|ProxyError", output
    ):
        return "pip cannot reach the package index; run this where there is a network, then carry the folder to the classroom"
    elsewhere = (
        f"; pip evaluates 'only on {platform.system()}' for the machine it runs on, so run this on one of that kind"
    )
    if missing := re.search(r"No matching distribution found for (\S+)", output):
        return (
            f"there is no wheel of {missing[1]} for {target}{elsewhere if target.platform else '; try another Python'}"
        )
    if "ResolutionImpossible" in output:
        rest = elsewhere if target.platform else "; try --no-constraints"
        return f"for {target}, the versions in the constraints and what the packages need contradict each other{rest}"
    last = [line.removeprefix("ERROR:").strip() for line in output.splitlines() if line.startswith("ERROR:")]
    return f"pip failed: {last[-1] if last else output.strip().splitlines()[-1] if output.strip() else 'it printed nothing'}"


README = """\
tfexplore for a classroom without a network
===========================================

These wheels are for: {kinds}.
{tried}
Python itself is not among them: each machine needs one of the versions above.

In a terminal in this folder, on Linux or macOS:

    python3 -m venv tfexplore-room
    tfexplore-room/bin/python -m pip install --no-index --find-links . "tfexplore[notebooks]"
    tfexplore-room/bin/tfexplore doctor --short
    tfexplore-room/bin/tfexplore warm
    tfexplore-room/bin/tfexplore lab my-notebooks

On Windows:

    py -m venv tfexplore-room
    tfexplore-room\\Scripts\\python -m pip install --no-index --find-links . "tfexplore[notebooks]"
    tfexplore-room\\Scripts\\tfexplore doctor --short
    tfexplore-room\\Scripts\\tfexplore warm
    tfexplore-room\\Scripts\\tfexplore lab my-notebooks

If pip finds no matching distribution, the machine's Python or system is not one of those named above.
"""

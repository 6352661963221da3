"""The folders of tfexplore: kernels, notebooks, and the cache of compiled code.

It finds and makes folders; it neither reads kernels nor copies notebooks. The kernels and the notebooks lie inside the
package in an installed wheel, and beside it in a checkout.
"""

import atexit
import functools
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


class MissingFiles(FileNotFoundError):
    """Files that belong to tfexplore are neither inside the package nor beside it."""


def kernels_dir() -> Path:
    """The folder of the fused loops: CUDA C++ (*.cu) and Python for Numba (*.py)."""
    return _shipped("kernels", "*.cu")


def notebooks_dir() -> Path:
    """The folder of the notebooks as shipped (`*.ipynb`)."""
    return _shipped("notebooks", "*.ipynb")


def _shipped(name: str, pattern: str) -> Path:
    for folder in (PACKAGE / name, PACKAGE.parent / name):
        if any(folder.glob(pattern)):
            return folder
    raise MissingFiles(
        f"tfexplore's {name} ({pattern}) are neither in {PACKAGE / name} nor in {PACKAGE.parent / name}: "
        f"reinstall tfexplore, or copy the folder {name}/ of the checkout beside the folder tfexplore/"
    )


def cache_dir() -> Path:
    """The folder for compiled kernels, created if needed. The environment variable TFEXPLORE_CACHE names another one.

    Where it cannot be written, a RuntimeWarning names the reason, and a temporary folder of this process takes its place.
    """
    named = os.environ.get("TFEXPLORE_CACHE")
    return _usable(Path(named).expanduser().absolute() if named else default_cache_dir())


def default_cache_dir() -> Path:
    """The folder for compiled kernels among this platform's caches."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "tfexplore" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "tfexplore"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "tfexplore"


def writable(folder: Path) -> str | None:
    """None if files can be created in `folder` (which is created if needed), else the reason why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


@functools.cache
def _usable(folder: Path) -> Path:
    reason = writable(folder)
    if reason is None:
        return folder
    # A fresh private folder, never a guessable name in a shared one: its files are loaded as code.
    stand_in = Path(tempfile.mkdtemp(prefix="tfexplore-"))
    atexit.register(shutil.rmtree, stand_in, ignore_errors=True)
    warnings.warn(
        f"compiled kernels cannot be kept in {folder} ({reason}), so they are compiled again in every session; "
        "set the environment variable TFEXPLORE_CACHE to a folder you can write",
        RuntimeWarning,
        stacklevel=3,
    )
    return stand_in

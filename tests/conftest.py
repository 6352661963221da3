"""What all tests share: hypothesis profiles, one cache of compiled kernels, `require`, and GPU tests that skip."""

import functools
import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.cuda_text import FakeCupy
    from tfexplore.timesplit import Crew

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports tfexplore. Kept between runs, so that a second run compiles nothing; kernels of notebooks and
# subprocesses find it through the environment.
os.environ.setdefault("TFEXPLORE_CACHE", str(ROOT / ".tfexplore-cache"))
# PyTorch's compiler keeps its code and its headers (150 MB) in the system's temporary folder, where they would stay.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(ROOT / ".tfexplore-cache" / "inductor"))
os.environ.setdefault("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "0")
# Its pool of compiling processes, one for each core, would outlive the tests (seen on 16 cores with a GPU).
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# A plain checkout works without being installed, in the subprocesses of tests too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

# Workers side by side have a core each: more threads wait for each other, busily (a ResNet18's step: 20 times as long).
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What compilers make is many objects that live: by default the collector looks at all of them again and again.
gc.set_threshold(50_000, 20, 20)

settings.register_profile("local", deadline=None)  # the first example may compile a kernel
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") or os.environ.get("TFEXPLORE_REQUIRE") else "local")


def require(*programs: str, why: str) -> str:
    """The path of the first of `programs` found; without one the test skips, or fails if TFEXPLORE_REQUIRE is set."""
    for program in programs:
        if path := shutil.which(program):
            return path
    reason = f"needs {' or '.join(programs)} {why}; .ci/run installs it on Debian and Ubuntu"
    if os.environ.get("TFEXPLORE_REQUIRE"):
        pytest.fail(f"TFEXPLORE_REQUIRE is set, and this test {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(name="require", scope="session")
def _require() -> Callable[..., str]:
    return require


@functools.cache
def together(nodeid: str) -> str:
    """What one worker runs: tests that share a browser, processes, or a fixture of their file; else one test."""
    path = nodeid.partition("::")[0]
    if "/browser/" in path:
        return "browser"
    if "/test_timesplit" in path:
        return "processes"
    return path if 'scope="module"' in (ROOT / path).read_text(encoding="utf-8") else nodeid


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker begins with it when all others have ended."""
    items.sort(key=lambda item: together(item.nodeid) not in ("browser", "processes"))


def pytest_collection_finish() -> None:
    gc.freeze()  # what is imported by now stays: no collection need look at it


@pytest.hookimpl(optionalhook=True)  # where xdist is
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deals the tests out; xdist's own loadgroup, in version 3.8, finds no groups under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    config.option.loadscopereorder = False
    return Together(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests with the reason, where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            from tfexplore.machine.doctor import checks

            device = next(check for check in checks() if check.name == "device")
            pytest.skip(f"needs an NVIDIA GPU that torch can use; here: {device.message}")


def children() -> dict[int, str]:
    """The living processes that this one has started, and their command lines; none where the system has no /proc."""
    found = {}
    for listed in Path("/proc/self/task").glob("*/children"):
        for pid in listed.read_text().split():
            with suppress(OSError):  # it has just ended
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return {pid: line for pid, line in found.items() if line and "resource_tracker" not in line}


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """First of all to begin, so last to end: no process outlives the tests of a worker."""
    before = children()
    yield
    left = {pid: line for pid, line in children().items() if pid not in before}
    assert not left, f"the tests have left these processes: {left}"


@pytest.fixture(scope="session")
def crews() -> Iterator[Callable[..., "Crew"]]:
    """crews(size, timeout): processes that the tests of a worker share, started when a test first needs them."""
    from tfexplore.timesplit import Crew

    made: dict[int, Crew] = {}

    def crew(size: int, timeout: float) -> Crew:
        shared = made.setdefault(size, Crew(size, threads=1))
        shared.timeout = timeout
        return shared

    try:
        yield crew
    finally:
        for shared in made.values():
            shared.end()


@pytest.fixture
def kernels_used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that layers ran, in order."""
    from tfexplore.nn import layers

    used: list[str] = []
    find = layers.kernel_for
    monkeypatch.setattr(layers, "kernel_for", lambda *wanted: used.append(find(*wanted)) or used[-1])
    return used


@pytest.fixture
def fake_cupy(require: Callable[..., str]) -> Iterator["FakeCupy"]:
    """Layers with backend="cuda" run the CUDA text as C++, on CPU tensors."""
    from tests.cuda_text import on_cpu

    with on_cpu(require("g++", "clang++", why="to run the CUDA kernels as C++")) as fake:
        yield fake


@pytest.fixture
def python() -> str:
    """This Python, for subprocesses."""
    return sys.executable

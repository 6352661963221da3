"""The CUDA kernels without a GPU, for tests: run on the CPU as C++. (NVRTC compiles them in `tools/candidates.py`.)

`FakeCupy` takes CuPy's place: all of `backends/cuda.py` runs unchanged, and its "RawModule" compiles the
text it is given, with the include folder it is given, by g++ behind `cuda_on_cpu/cuda_on_cpu.h`.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tfexplore import backends
from tfexplore.backends import cuda
from tfexplore.machine.files import fingerprint
from tfexplore.machine.paths import cache_dir
from tfexplore.nn import routes
from tools import candidates

FOLDER = Path(__file__).parent / "cuda_on_cpu"
LOOPS = ("backward", "forward")  # the kernels around a neuron
STREAM = 0xC0FFEE  # the address of a stream that only tests know
# No fused multiply-add unless by name, and no reassociation, as on the GPU: the same bits. (Not -mfma: with it, g++ 12 takes
# -fma(a, b, -c) for fma(-a, b, c), which is another zero.)
# C++17 but for the standard: its <math.h> has special functions that take longer to parse than a kernel takes to compile.
FLAGS = (
    "-std=gnu++14", "-Wno-c++17-extensions", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Werror",
    "-Wno-unknown-pragmas",
)  # fmt: skip


def header_folders() -> list[str]:
    """The folders of CUDA's headers; without the wheels the test skips, or fails if TFEXPLORE_REQUIRE is set."""
    try:
        return candidates.header_folders()
    except metadata.PackageNotFoundError as missing:
        reason = f"needs CUDA's headers from the wheel {missing.name}; .[test] installs it on Linux"
        (pytest.fail if os.environ.get("TFEXPLORE_REQUIRE") else pytest.skip)(reason)


def compiled(compiler: str, code: str, loop: str, options: tuple[str, ...]) -> Path:
    """The shared library of one kernel; compiled once per content and kept in the cache."""
    given = [option for option in options if option.startswith(("-I", "-D"))]
    folders = [Path(option[2:]) for option in given if option.startswith("-I")]
    header = "".join(path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.glob("*.cuh")))
    text = f'#include "cuda_on_cpu.h"\n{code}\nRUN({loop})\n'
    # -isystem: warnings count in our text, not in NVIDIA's
    theirs = (
        [word for folder in header_folders() for word in ("-isystem", folder)]
        if "#include <cuda" in header + code
        else []
    )
    versions = "".join(path.read_text(encoding="utf-8") for path in FOLDER.iterdir())
    library = cache_dir() / "cuda_on_cpu" / f"{fingerprint(text, header, versions, compiler, *FLAGS, *given)}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as own:
            made = Path(own) / "kernel.so"
            command = [compiler, "-x", "c++", "-", *FLAGS, *given, f"-I{FOLDER}", *theirs, "-o", str(made)]
            done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
            os.replace(made, library)
    return library


@contextmanager
def on_cpu(compiler: str) -> Iterator["FakeCupy"]:
    """Layers with backend="cuda" run the CUDA text on CPU tensors; nothing between layer and kernel is replaced."""
    fake = FakeCupy(compiler)
    caches = (cuda.load, cuda.prepared, cuda.processors, routes.cached_kernel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", fake)
        patch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=STREAM))
        patch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=0))
        patch.setattr(torch.cuda, "get_device_name", lambda device: "a CPU that plays a GPU")
        patch.setattr(backends, "choose", lambda backend, device: backends.Choice(backend, "requested by the test"))
        for cache in caches:
            cache.cache_clear()
        try:
            yield fake
        finally:
            for cache in caches:  # a test after this one must not find these
                cache.cache_clear()


class FakeCupy:
    """As much of `cupy` as backends/cuda.py uses, on the CPU. It keeps the devices, launches and last arguments it saw."""

    def __init__(self, compiler: str) -> None:
        self.compiler = compiler
        self.devices: list[int] = []
        self.launches: list[tuple[str, int]] = []
        self.last: tuple[int, ...] = ()
        self.cuda = SimpleNamespace(Device=self.device)

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        self.devices.append(index)
        yield
        self.devices.pop()

    def RawModule(self, *, code: str, options: tuple[str, ...]) -> SimpleNamespace:
        assert options[: len(cuda.OPTIONS)] == cuda.OPTIONS
        return SimpleNamespace(get_function=lambda name: self.kernel(code, name, options))

    def kernel(self, code: str, name: str, options: tuple[str, ...]) -> Callable[..., None]:
        library = ctypes.CDLL(str(compiled(self.compiler, code, name, options)))
        library.run.restype = ctypes.c_bool

        def launch(grid: tuple[int], block: tuple[int], args: tuple[Any, ...], *, stream: Any) -> None:
            assert self.devices, "a kernel must be launched on its tensors' device"
            assert stream.ptr == STREAM, "a kernel must be launched on torch's current stream"
            held = [np.asarray(argument) for argument in args]
            sizes = (ctypes.c_size_t * len(held))(*(argument.nbytes for argument in held))
            pointers = (ctypes.c_void_p * len(held))(*(argument.ctypes.data for argument in held))
            # CuPy launches no empty grid either: max(1, ...)
            done = library.run(max(1, grid[0]), block[0], ctypes.c_size_t(len(held)), sizes, pointers)
            assert done, f"{name}.cu takes other arguments than backends/cuda.py gives: {[a.nbytes for a in held]}"
            self.launches.append((name, grid[0]))
            self.last = tuple(int(argument) for argument in args if argument.dtype.kind != "V")  # but structs

        return launch

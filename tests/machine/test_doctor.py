"""The doctor: one line per check, the exact command for each fault, and every usual CUDA error explained."""

import sys

import pytest

from tfexplore.machine import cuda_setup, doctor


@pytest.fixture
def machine(monkeypatch):
    """Pretend: which CUDA the driver runs (None: no driver) and which CuPy wheels are installed."""

    def pretend(driver, wheels=()):
        for module in (doctor, cuda_setup):
            monkeypatch.setattr(module, "driver_cuda", lambda: driver)
            monkeypatch.setattr(module, "cupy_wheels", lambda: list(wheels))

    return pretend


def test_every_check_is_one_line_and_every_fault_has_a_cure():
    found = doctor.checks()
    names = [check.name for check in found]
    assert len(names) == len(set(names))
    assert {"Python", "torch", "device", "CuPy", "NVRTC", "Numba", "cache", "jupyterlab", "scikit-learn"} <= set(names)
    for check in found:
        assert check.status in {"ok", "missing", "info"}
        assert "\n" not in str(check)
    by_name = {check.name: check for check in found}
    assert by_name["torch"].status == by_name["Numba"].status == "ok"


@pytest.mark.parametrize("module", ["torch", "numba", "jupyterlab", "ipywidgets", "plotly", "sklearn"])
def test_a_missing_package_is_named_with_its_command(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # `import module` now fails as if it were not installed
    name = {"numba": "Numba", "sklearn": "scikit-learn"}.get(module, module)
    check = next(check for check in doctor.checks() if check.name == name)
    assert check.status == "missing"
    assert check.fix.endswith(f"-m pip install {name.lower()}")


def test_a_package_that_does_not_load_is_no_traceback(monkeypatch):
    def broken(name):
        raise OSError("libsomething.so: bad\nsecond line")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    for check in (doctor._torch(), doctor._numba(), doctor._device(), *doctor._jupyter()):
        assert check.status in {"missing", "info"}
        assert "second line" not in str(check)


@pytest.mark.parametrize(
    ("driver", "wheels", "status", "words"),
    [
        (None, [], "info", "not needed without"),
        ((12, 4), [], "missing", "pip install cupy-cuda12x nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12"),
        ((13, 0), [], "missing", "pip install cupy-cuda13x"),
        ((13, 0), ["cupy-cuda12x", "cupy-cuda13x"], "missing", "uninstall -y cupy-cuda12x cupy-cuda13x &&"),
    ],
)
def test_cupy_advice_follows_the_driver(machine, driver, wheels, status, words):
    machine(driver, wheels)
    check = doctor._cupy()
    assert check.status == status
    assert words in str(check)


def test_a_wheel_newer_than_the_driver_is_a_fault(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", sys)  # any module will do: it loads
    machine((12, 4), ["cupy-cuda13x"])
    check = doctor._cupy()
    assert check.status == "missing"
    assert "is for CUDA 13, but the driver runs CUDA 12.4 at most" in check.message
    assert "pip install cupy-cuda12x" in check.fix
    machine((13, 0), ["cupy-cuda12x"])
    assert doctor._cupy().status == "ok"  # drivers run older CUDA


def wrapped(inner: Exception, outer: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


# Real messages of CuPy, NVRTC, the driver and torch (from their issue trackers, and from machines without a GPU).
INSTALL_FAILED = (
    "\n====\nFailed to import CuPy.\n\nIf you installed CuPy via wheels, make sure...\n\nOriginal error:\n  "
)
MESSAGES = [
    (ModuleNotFoundError("No module named 'cupy'"), "CuPy is not installed", "pip install cupy-cuda12x"),
    (
        ImportError(INSTALL_FAILED + "ImportError: libcudart.so.12: cannot open shared object file: No such file"),
        "CuPy does not load, usually because its wheel is for another CUDA",
        "pip install cupy-cuda12x",
    ),
    (
        RuntimeError("CuPy failed to load libnvrtc.so.12: OSError: libnvrtc.so.12: cannot open shared object file"),
        "NVRTC, which compiles the kernels, is missing (libnvrtc.so.12 does not load)",
        "--force-reinstall nvidia-cuda-nvrtc-cu12",
    ),
    (
        RuntimeError('Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file: libnvrtc.so.13'),
        "NVRTC, which compiles the kernels, is missing (libnvrtc.so.13 does not load)",
        "--force-reinstall nvidia-cuda-nvrtc-cu12",
    ),
    (
        RuntimeError("CuPy failed to load nvrtc64_120_0.dll: FileNotFoundError: Could not find module"),
        "(nvrtc64_120_0.dll does not load)",
        "nvidia-cuda-nvrtc-cu12",
    ),
    (
        RuntimeError("nvrtc: error: failed to open nvrtc-builtins64_131.dll.\n  Make sure that it is installed"),
        "only half installed (nvrtc-builtins64_131.dll does not load)",
        "nvidia-cuda-nvrtc-cu12",
    ),
    (
        wrapped(
            RuntimeError("NVRTC_ERROR_COMPILATION (6)"),
            RuntimeError('a.cubin.cu(4): catastrophic error: cannot open source file "vector_types.h"'),
        ),
        "CUDA's headers, which the kernels include, are missing (vector_types.h is not found)",
        "pip install nvidia-cuda-runtime-cu12",
    ),
    (
        RuntimeError("nvrtc: error: invalid value for --gpu-architecture (-arch)"),
        "does not know this GPU",
        "pip install cupy-cuda13x",
    ),
    (
        RuntimeError(
            "CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the provided PTX was compiled with an unsupported toolchain."
        ),
        "older than the installed NVRTC",
        "nvidia-cuda-nvrtc-cu12==12.4.*",
    ),
    (
        RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution on the device"),
        "not built for this GPU",
        "pip install cupy-cuda13x",
    ),
    (
        RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"),
        "the NVIDIA driver (CUDA 12.4) is too old",
        "update it",
    ),
    (
        RuntimeError(
            "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver"
        ),
        "the NVIDIA driver (CUDA 12.4) is too old",
        "update it",
    ),
    (AssertionError("Torch not compiled with CUDA enabled"), "this torch is a CPU build", "uninstall -y torch"),
    (RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected"), "no such GPU", "CUDA_VISIBLE_DEVICES"),
    (RuntimeError("No CUDA GPUs are available"), "no such GPU", "CUDA_VISIBLE_DEVICES"),
    (RuntimeError("cudaErrorSystemDriverMismatch: system has unsupported display driver"), "was updated", "restart"),
    (
        RuntimeError("cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable"),
        "holds",
        "nvidia-smi",
    ),
    (RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"), "not start", "restart"),
    (
        AttributeError("module 'cupy' has no attribute 'RawModule'"),
        "installation is incomplete",
        "uninstall -y cupy-cuda12x &&",
    ),
    (
        ImportError("numpy.core.multiarray failed to import (auto-generated because you didn't call it)"),
        "built for another NumPy",
        "--upgrade cupy-cuda12x",
    ),
    (
        UserWarning("CuPy may not function correctly because multiple CuPy packages are installed"),
        "several CuPy wheels",
        "uninstall -y",
    ),
]


@pytest.mark.parametrize(("error", "sentence", "cure"), MESSAGES, ids=lambda value: str(value)[:40].strip())
def test_explain_knows_the_real_messages(machine, error, sentence, cure):
    machine((12, 4), ["cupy-cuda12x"])
    message = doctor.explain(error)
    assert sentence in message
    assert cure in message
    assert "\n" not in message


def test_explain_separates_no_driver_from_an_old_one(machine):
    error = RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")
    machine(None, ["cupy-cuda12x"])
    assert "no working NVIDIA driver" in doctor.explain(error)
    machine((12, 8), ["cupy-cuda13x"])  # the wheel is what is too new
    assert "pip install cupy-cuda12x" in doctor.explain(error)


def test_explain_passes_on_what_it_does_not_know():
    message = doctor.explain(RuntimeError("something new\nwith details"))
    assert "something new" in message
    assert "tfexplore doctor" in message
    assert "\n" not in message


def test_nvrtc_compiles_without_a_gpu():
    cupy = pytest.importorskip("cupy", reason="needs CuPy (pip install -e '.[test]' brings it on Linux)")
    route, version = cuda_setup.compile_tiny()
    assert version >= (12, 0)
    assert route == ("on this GPU" if cupy.cuda.is_available() else "without a GPU")


def test_the_real_error_of_a_machine_without_a_gpu_is_explained():
    cupy = pytest.importorskip("cupy", reason="needs CuPy (pip install -e '.[test]' brings it on Linux)")
    if cupy.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    with pytest.raises(Exception, match="cuda") as caught:
        cupy.zeros(3)
    message = doctor.explain(caught.value)
    assert not message.startswith("CUDA cannot be used here")  # it is one of the known ones


def test_commands_name_this_python():
    assert cuda_setup.pip("plotly").endswith("-m pip install plotly")
    assert "'nvidia-cuda-nvrtc==13.*'" in cuda_setup.pip("nvidia-cuda-nvrtc==13.*") or sys.platform == "win32"

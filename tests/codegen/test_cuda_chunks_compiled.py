"""The CUDA kernels of a chunked schedule, compiled for GPUs: nothing spills, and phase 1 costs what part.cuh says."""

import itertools

import pytest

from tests.cuda_text import header_folders
from tfexplore import neurons
from tfexplore.codegen.variant import Variant
from tfexplore.machine.paths import kernels_dir
from tfexplore.neurons import Neuron
from tfexplore.neurons.step import step_of
from tools import candidates

ALL = [neurons.IF, neurons.LIF, neurons.ParametricLIF, neurons.ALIF, neurons.CubaLIF, neurons.LI, neurons.QIF,
       neurons.EIF, neurons.Izhikevich, neurons.PaperLIF]  # fmt: skip


@pytest.mark.parametrize("neuron", ALL, ids=lambda n: n.__name__)
def test_nvrtc_compiles_chunks_without_spilling(neuron: type[Neuron]) -> None:
    """Each loop and phase in two of the dtypes, in another architecture, build and keep in turn."""
    pytest.importorskip("cuda.core", reason="compiles without a GPU through cuda-core; .[test] installs it on Linux")
    archs, keeps = itertools.cycle(("sm_75", "sm_90", "sm_100")), itertools.cycle(("input", "potential", "input"))
    wide = itertools.cycle((True, True, False))
    phases = itertools.product(("forward", "backward"), (False, True))
    for (loop, ends), data in zip([*phases] * 2, itertools.cycle(("float32", "bfloat16", "float64")), strict=False):
        made = Variant(step_of(neuron()), "float64" if data == "float64" else "float32", data, next(keeps)).for_gpu()
        build = getattr(made.config, loop)
        build = build if next(wide) else build.narrow(made.chunk)
        binary = candidates.compiled(made, loop, build, next(archs), False, chunked=True, ends=ends)
        case = (data, loop, ends, build, made.keep, binary)
        assert binary.size > 0, case
        # float64 is there for gradcheck: QIF's backward pass is 28 bytes short of registers
        assert binary.spilled <= (32 if data == "float64" else 0), case
        assert binary.stack <= (32 if data == "float64" else 0), case


def test_the_matrix_comes_along_for_a_few_instructions() -> None:
    """Phase 1 of the backward pass of a LIF: less than a fifth more than the adjoint; a launch of its own would double it."""
    pytest.importorskip("cuda.core", reason="compiles without a GPU through cuda-core; .[test] installs it on Linux")
    made = Variant(step_of(neurons.LIF()), keep="input").for_gpu()
    assert made.config is not None
    serial, chunk, ends = (
        candidates.compiled(made, "backward", made.config.backward, "sm_90", chunked=chunked, ends=only)
        for chunked, only in ((False, False), (True, False), (True, True))
    )
    assert chunk.instructions <= 1.02 * serial.instructions
    assert ends.instructions <= 1.2 * serial.instructions
    assert max(chunk.registers, ends.registers) <= serial.registers + 8


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_phase_2(arch: str) -> None:
    core = pytest.importorskip(
        "cuda.core", reason="compiles without a GPU through cuda-core; .[test] installs it on Linux"
    )
    text = (kernels_dir() / "combine.cu").read_text(encoding="utf-8")
    for states, real, matrix in (
        (1, "float", "float"),
        (2, "float", "double"),
        (3, "double", "double"),
        (5, "float", "float"),
    ):
        defined = [("REAL", real), ("MATRIX", matrix), ("STATES", str(states)), ("AHEAD", str(max(1, 16 // states**2)))]
        options = core.ProgramOptions(
            arch=arch, std="c++17", fma=False, define_macro=defined, include_path=header_folders(),
            device_as_default_execution_space=True,
        )  # fmt: skip
        assert core.Program(text, "c++", options).compile("cubin").code

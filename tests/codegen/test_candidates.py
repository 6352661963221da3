"""tools/candidates.py: what it reads from compiled code; the tables at the kernels' heads are what the compiler makes."""

import re

import pytest

from tfexplore import neurons
from tfexplore.codegen.builds import Build
from tfexplore.codegen.variant import Variant
from tfexplore.machine.paths import kernels_dir
from tfexplore.measure import results
from tfexplore.neurons.step import step_of
from tools import candidates
from tools.candidates import MACHINES, Compiled

LOOPS = ("forward", "backward")
NESTED = """
        .weak           k
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDG.E R2, desc[UR4][R4.64] ;
.L_x_2:
        /*0020*/                   FMUL R2, R2, R3 ;
        /*0030*/                   BSSY B0, `(.L_x_4) ;
        /*0040*/               @P0 BRA `(.L_x_3) ;
        /*0050*/                   MOV R4, 0x70 ;
        /*0060*/                   CALL.REL.NOINC `($quotient) ;
.L_x_3:
        /*0070*/                   BSYNC B0 ;
.L_x_4:
        /*0080*/               @P1 BRA `(.L_x_2) ;
        /*0090*/                   STG.E desc[UR4][R4.64], R2 ;
        /*00a0*/               @P2 BRA `(.L_x_1) ;
        /*00b0*/                   EXIT ;
.L_x_5:
        /*00c0*/                   BRA `(.L_x_5);
        /*00d0*/                   NOP ;
"""


def test_instructions_of_a_loop_within_a_loop() -> None:
    # counted manually: load, store and branch once; in each of four turns FMUL, BSSY, BRA, BSYNC, BRA, without the long division
    assert candidates.in_loop(NESTED, turns=4) == 3 + 4 * 5


def test_threads_of_a_multiprocessor() -> None:
    h200 = MACHINES["sm_90"]
    # 65,536 registers, handed out to warps by eights: 33 are 40, for 1,638 threads, in whole blocks of 128
    assert [Compiled(regs, 0, 0, 0, 1.0).threads(h200) for regs in (32, 33, 64, 255)] == [2048, 1536, 1024, 256]
    assert Compiled(32, 0, 0, 32 * 1024, 1.0).threads(h200) == 6 * 128, (
        "of 227 KB, blocks of 32 and one of the driver's"
    )


def test_the_prediction_is_that_of_its_slowest_bound() -> None:
    variant, h200 = Variant(step_of(neurons.LIF()), keep="potential").for_gpu(), MACHINES["sm_90"]
    build = Build(4, 8)
    light = candidates.predicted(variant, "forward", build, Compiled(64, 0, 0, 0, 10.0), h200)
    assert (light.threads, light.in_flight) == (1024, 1024 * 4 * 8 * 4)
    assert 0.99 < light.share < 1
    # twelve bytes: a copy leaves time for 132 * 128 * 1.98e9 / 4.3e12 * 12 = 93 instructions
    heavy = candidates.predicted(variant, "forward", build, Compiled(64, 0, 0, 0, 930.0), h200)
    assert heavy.share == pytest.approx(0.1, rel=0.02)
    # a third of 4.3 TB/s for 800 ns, of 132 multiprocessors, is 8.7 KB; one warp in four has 1 KB
    few = candidates.predicted(variant, "forward", Build(1, 2), Compiled(255, 0, 0, 0, 10.0), h200)
    assert few.in_flight == 2048
    assert few.share == pytest.approx(2048 / (4.3e12 / 3 * 800e-9 / 132), rel=0.02)


def rows(loop: str) -> list[str]:
    text = (kernels_dir() / f"{loop}.cu").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if re.match(r"// (float32|bfloat16) ", line)]


@pytest.mark.parametrize("loop", LOOPS)
def test_the_tables_hold_the_builds_that_are_chosen(loop: str) -> None:
    shown = [(v.data, v.keep, str(b.vector), str(b.ahead)) for v, b in candidates.shown(loop)]
    assert [tuple(line.split()[1:5]) for line in rows(loop)] == shown


@pytest.mark.parametrize("loop", LOOPS)
def test_the_tables_show_what_was_measured(loop: str) -> None:
    """Beside the prediction for an H200, of benchmarks/results."""
    (record,) = (record for record in results.records(benchmark="builds") if record.machine == "NVIDIA H200")
    shown = 0
    for line, (variant, build) in zip(rows(loop), candidates.shown(loop), strict=True):
        wanted = {
            "passes": loop, "dtype": variant.data, "keep": variant.keep, "vector": build.vector, "ahead": build.ahead,
            "shared": build.shared, "streaming": False, **({"chunk": variant.chunk} if variant.keep == "input" else {}),
        }  # fmt: skip
        same = [row["share"] for row in record.rows if wanted.items() <= row.items()]
        found = line.split("|")[2].split()[4:]
        assert found == ([f"{max(same):.2f}"] if same else []), line
        shown += len(found)
    assert shown >= 8


@pytest.mark.parametrize("loop", LOOPS)
def test_no_kernel_got_worse_than_its_table_says(loop: str) -> None:
    """The defaults, compiled anew: another release of NVRTC may take a few registers or instructions more."""
    pytest.importorskip("cuda.core", reason="compiles without a GPU through cuda-core; .[test] installs it on Linux")
    seen = set()
    for line, (variant, build) in zip(rows(loop), candidates.shown(loop), strict=True):
        if (variant.data, variant.keep) in seen or (variant.keep == "potential" and variant.data == "bfloat16"):
            continue
        seen.add((variant.data, variant.keep))
        for arch, cell in zip(MACHINES, line.split("|")[1:], strict=True):
            if arch != "sm_90" and variant.keep != "input":
                continue
            registers, instructions, _, share, *_ = map(float, cell.split())
            made = candidates.compiled(variant, loop, build, arch)
            assert made.spilled == 0, (line, arch)
            assert made.registers <= registers + 8, (line, arch)
            assert made.instructions <= 1.05 * instructions, (line, arch)
            assert candidates.predicted(variant, loop, build, made, MACHINES[arch]).share >= share - 0.03, (line, arch)
    assert {("float32", "input"), ("bfloat16", "input")} <= seen

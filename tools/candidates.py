"""What the compiler makes of the CUDA kernels, without a GPU: registers, instructions, bytes in flight, and what that predicts.

    python tools/candidates.py                          renews the tables at the heads of kernels/*.cu
    python tools/candidates.py LIF float32 input        every build of one neuron, dtype and keep, the fastest first
    python tools/candidates.py LIF float32 input sm_80  for another architecture than sm_90

NVRTC compiles for any architecture and nvdisasm shows the machine code; neither needs a GPU or its driver. Instructions are
counted in the loop over whole chunks, as issued when every division takes its short way.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path

from tfexplore import neurons, surrogates
from tfexplore.codegen.builds import BYTES, THREADS, Build, Config, Shape, default, fits
from tfexplore.codegen.cuda_source import cuda_source
from tfexplore.codegen.traffic import accesses_of, nbytes
from tfexplore.codegen.variant import Variant
from tfexplore.machine.paths import kernels_dir
from tfexplore.measure import results
from tfexplore.neurons import Neuron
from tfexplore.neurons.step import step_of

# CUDA's headers for half precision and the disassembler, and the wheels in which they lie.
HEADERS = {
    "nvidia-cuda-runtime": "nvidia/cu13/include",
    "cupy-cuda13x": "cupy/_core/include/cupy/_cccl/libcudacxx",
}
NVDISASM = ("nvidia-cuda-nvdisasm", "nvidia/cu13/bin/nvdisasm")


@dataclass(frozen=True)
class Machine:
    """A GPU: its multiprocessors, what each holds, and the rates that bound a kernel.

    copies: bytes a second that a device-to-device copy moves, read and written; measured on the H200 (4.3e12), elsewhere
    90 % of the data sheet's memory rate.
    """

    name: str
    multiprocessors: int
    hertz: float
    copies: float
    threads: int = 2048
    registers: int = 65536
    shared: int = 227 * 1024


MACHINES = {
    "sm_80": Machine("A100", 108, 1.41e9, 0.9 * 2.04e12, shared=163 * 1024),
    "sm_90": Machine("H200", 132, 1.98e9, 4.3e12),
    "sm_100": Machine("B200", 148, 1.965e9, 0.9 * 8e12),
}
ISSUED = 4 * 32  # instructions of single threads that a multiprocessor issues in a cycle
LATENCY = 800e-9  # seconds of a load under load
SHARPNESS = 4  # the bounds overlap, but not perfectly: their times are added as an l4 norm


@dataclass(frozen=True)
class Compiled:
    """One loop: registers, stack and spilled bytes of a thread; shared bytes of a block; instructions of an element-step."""

    registers: int
    stack: int
    spilled: int
    shared: int
    instructions: float
    size: int = 0

    def threads(self, machine: Machine) -> int:
        """Threads that a multiprocessor holds: registers are handed out by 256 for a warp, shared memory by blocks."""
        by_registers = machine.registers // (THREADS * -(-self.registers // 8) * 8)
        by_shared = machine.shared // (self.shared + 1024) if self.shared else 32
        return min(machine.threads // THREADS, 32, by_registers, by_shared) * THREADS


def header_folders() -> list[str]:
    return [str(metadata.distribution(wheel).locate_file(folder)) for wheel, folder in HEADERS.items()]


def compiled(
    variant: Variant,
    loop: str,
    build: Build,
    arch: str,
    counted: bool = True,
    chunked: bool = False,
    ends: bool = False,
) -> Compiled:
    """`loop` around this neuron, for an architecture such as "sm_90"; to disassemble it takes longer than to compile it.

    chunked, ends: as `Build.options` has them.
    """
    from cuda.core import Program, ProgramOptions

    chunk = variant.chunk if variant.keeps == "input" else build.ahead
    given = build.options(chunk, chunked=chunked, ends=ends)
    defined = [tuple(option.removeprefix("-D").split("=")) for option in given]
    log = io.StringIO()
    with tempfile.TemporaryDirectory() as own:
        (Path(own) / "neuron.cuh").write_text(cuda_source(variant), encoding="utf-8")
        options = ProgramOptions(
            name=f"{loop}.cu", arch=arch, std="c++17", fma=False, ptxas_options="-v", define_macro=defined,
            include_path=[own, str(kernels_dir()), *header_folders()], ftz=True, device_as_default_execution_space=True,
        )  # fmt: skip
        text = (kernels_dir() / f"{loop}.cu").read_text(encoding="utf-8")
        code = Program(text, "c++", options).compile("cubin", logs=log).code
        (Path(own) / "kernel.cubin").write_bytes(code)
        sass = disassembled(Path(own) / "kernel.cubin") if counted else ""
    numbers = r"(\d+) bytes stack frame, (\d+) bytes spill stores.*?Used (\d+) registers(?:.*?(\d+) bytes smem)?"
    found = re.search(numbers, log.getvalue(), re.DOTALL)
    assert found, log.getvalue()
    stack, spilled, registers, shared = (int(number or 0) for number in found.groups())
    steps = chunk if loop == "backward" else build.ahead
    instructions = in_loop(sass, steps // build.ahead) / (steps * build.vector) if counted else math.nan
    return Compiled(registers, stack, spilled, shared, instructions, len(code))


def disassembled(cubin: Path) -> str:
    program = metadata.distribution(NVDISASM[0]).locate_file(NVDISASM[1])
    return subprocess.run([str(program), "-c", str(cubin)], capture_output=True, text=True, check=True).stdout


def in_loop(sass: str, turns: int) -> float:
    """Instructions issued in one turn of the loop over whole chunks; an inner loop takes `turns` turns in each of its own."""
    code, labels = [], {}
    for line in sass.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            code.append(instruction[1].strip())
    jumps = [(k, labels[t[1]]) for k, text in enumerate(code) if (t := re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", text))]
    # the long division stands behind a branch that a short one takes
    skipped = {
        inside for k, to in jumps if k < to and to - k < 8 and any("CALL" in text for text in code[k:to])
        for inside in range(k + 1, to)
    }  # fmt: skip
    issued = [0 if k in skipped or text == "NOP" else 1 for k, text in enumerate(code)]
    loops = [(to, k + 1) for k, to in jumps if to < k]
    outermost = [a for a in loops if not any(b != a and b[0] <= a[0] and a[1] <= b[1] for b in loops)]
    nests = [(outer, [a for a in loops if a != outer and outer[0] <= a[0] and a[1] <= outer[1]]) for outer in outermost]
    # the loop over whole chunks: with loops inside where there are any, else the longest
    (begin, end), inner = max(nests, key=lambda nest: (bool(nest[1]), sum(issued[slice(*nest[0])])))
    return sum(issued[begin:end]) + sum((turns - 1) * sum(issued[a:b]) for a, b in inner)


@dataclass(frozen=True)
class Prediction:
    """threads and bytes in flight of a multiprocessor; share: of the pace of a copy of the least bytes."""

    threads: int
    in_flight: int
    share: float


def predicted(variant: Variant, loop: str, build: Build, made: Compiled, machine: Machine) -> Prediction:
    """The pace against a copy of the least bytes (without the states of chunks), whose time is 1: the bounds are the bytes
    moved, the instructions issued, and the bytes in flight."""
    threads, data = made.threads(machine), BYTES[variant.data]
    back = loop == "backward"
    with_g = len(variant.needs) * BYTES[variant.real] if back and variant.keeps == "potential" else 0
    in_flight = threads * build.vector * build.ahead * (data + with_g)
    accesses = accesses_of(variant)
    without_chunks = [a for a in accesses if not (a.array == "kept" and variant.keeps == "input")]
    moved, least = (float(nbytes(chosen, variant.data, loop)) for chosen in (accesses, without_chunks))
    issue = made.instructions * machine.copies / (least * machine.multiprocessors * ISSUED * machine.hertz)
    wanted = machine.copies * ((moved - data if back else data) / moved) * LATENCY / machine.multiprocessors
    bounds = (moved / least, issue, wanted / in_flight)
    time = sum(bound**SHARPNESS for bound in bounds) ** (1 / SHARPNESS)
    return Prediction(threads, in_flight, 1 / time)


def builds(shape: Shape) -> Iterator[Config]:
    """Every config that fits, the forward loop as wide and as far ahead as the backward one."""
    recomputes = shape.keep == "input"
    for chunk, vector, ahead, shared in itertools.product(
        (8, 16, 32) if recomputes else (16,), (1, 2, 4, 8), (2, 4, 8), (False, True) if recomputes else (False,)
    ):
        config = Config(chunk, Build(vector, ahead), Build(vector, ahead, shared))
        if fits(config, shape):
            yield config


def neuron_for(name: str, keep: str) -> Neuron:
    """A neuron of the library by name; with the surrogate for which bits are exact."""
    box = {"surrogate": surrogates.Rectangle()} if keep == "bits" else {}
    made: Neuron = getattr(neurons, name)(**box)
    return made


def place(loop: str, data: str, keep: str, vector: int, ahead: int, chunk: int, shared: bool) -> tuple[object, ...]:
    """A build of LIF in what was measured; a chunk counts only where there is one."""
    return loop, data, keep, vector, ahead, chunk if keep == "input" else 0, shared


@cache
def measured(machine: str) -> dict[tuple[object, ...], float]:
    """The best share of a copy's pace by `place`, as benchmarks/results have them of LIF; empty where none was measured."""
    found: dict[tuple[object, ...], float] = {}
    for record in results.records(benchmark="builds"):
        for row in record.rows if machine in record.machine else ():
            if row["neuron"] == "LIF" and not row["streaming"]:
                build = (row[key] for key in ("passes", "dtype", "keep", "vector", "ahead", "chunk", "shared"))
                here = place(*build)
                found[here] = max(row["share"], found.get(here, 0.0))
    return found


HEAD = "as compiled (tools/candidates.py writes this table)"
COLUMNS = "regs  instr   KB  share"


def row(variant: Variant, loop: str, build: Build, archs: tuple[str, ...]) -> str:
    """One line of a table: the build, and for each architecture what the compiler made of it and what that predicts."""
    cells = []
    for arch in archs:
        made = compiled(variant, loop, build, arch)
        prediction = predicted(variant, loop, build, made, MACHINES[arch])
        spills = " spills" if made.spilled else ""
        there = measured(MACHINES[arch].name)
        found = there.get(
            place(loop, variant.data, variant.keeps, build.vector, build.ahead, variant.chunk, build.shared)
        )
        cells.append(
            f"{made.registers:4d} {made.instructions:6.1f} {prediction.in_flight / 1024:4.0f}   {prediction.share:.2f}{spills}"
            + (f"   {found:.2f}" if found else " " * 7 * bool(there))
        )
    where = ("shared" if build.shared else "registers") if loop == "backward" and variant.keeps == "input" else ""
    chunk = f"{variant.chunk}" if variant.keeps == "input" else ""
    return (
        f"{variant.data:9s}{variant.keeps:10s}{build.vector:3d}{build.ahead:6d}{chunk:>6s}  {where:10s}"
        + "".join(f"| {cell} " for cell in cells).rstrip()
    )


def shown(loop: str) -> Iterator[tuple[Variant, Build]]:
    """What stands in the table of a kernel: for each dtype and keep of LIF the default, and what it was preferred to."""
    for keep, data in itertools.product(("nothing", "input", "potential", "bits"), ("float32", "bfloat16")):
        if loop == "backward" and keep == "nothing":
            continue
        variant = Variant(step_of(neuron_for("LIF", keep)), "float32", data, keep)
        usual = default(variant.shape)
        build: Build = getattr(usual, loop)
        yield variant.for_gpu(usual), build
        others = [replace(build, ahead=4), replace(build, vector=build.vector // 2)]
        if build.shared:
            others = [replace(build, shared=False), *others]
        for other in others:
            yield variant.for_gpu(replace(usual, **{loop: other})), other


def table(loop: str, archs: tuple[str, ...] = tuple(MACHINES)) -> list[str]:
    """The lines of a kernel's table, as comments; the first of each dtype and keep is the default."""
    columns = {arch: COLUMNS + "  found" * bool(measured(MACHINES[arch].name)) for arch in archs}
    names = "".join(f"| {f'{arch} ({MACHINES[arch].name})':{len(columns[arch]) + 1}s}" for arch in archs)
    lines = [
        f"Builds of LIF, {HEAD}; the first of each dtype and keep is the default.",
        "regs: registers of a thread; instr: instructions issued for an element-step; KB: bytes in flight of a multiprocessor;",
        "share: predicted, of the pace of a copy of the least bytes; found: measured, where it was (T = 32, N = 4,194,304;",
        "benchmarks/results, `python -m benchmarks.gpu`).",
        "",
        f"{'x':9s}{'keep':10s}{'vector':>6s} ahead chunk {'held in':10s}{names}".rstrip(),
    ]
    lines += [" " * 46 + "".join(f"| {columns[arch]} " for arch in archs).rstrip()]
    lines += [row(variant, loop, build, archs) for variant, build in shown(loop)]
    return [f"// {line}".rstrip() for line in lines]


def write(loop: str) -> None:
    """Puts the table above the kernel's first include, in place of the one that is there."""
    path = kernels_dir() / f"{loop}.cu"
    head, include, rest = path.read_text(encoding="utf-8").partition('\n#include "neuron.cuh"')
    head = head.partition(f"\n//\n// Builds of LIF, {HEAD}")[0].rstrip()
    path.write_text("\n".join([head, "//", *table(loop)]) + "\n" + include + rest, encoding="utf-8")


def main(arguments: list[str]) -> None:
    if not arguments:
        for loop in ("forward", "backward"):
            write(loop)
        return
    name, data, keep, arch = (*arguments, "sm_90")[:4]
    base = Variant(step_of(neuron_for(name, keep)), "float64" if data == "float64" else "float32", data, keep)
    for loop in ("forward", "backward")[: 1 if keep == "nothing" else 2]:
        rows = {row(base.for_gpu(config), loop, getattr(config, loop), (arch,)) for config in builds(base.shape)}
        print(f"{loop}\n" + "\n".join(sorted(rows, key=lambda text: text.split()[-1], reverse=True)))


if __name__ == "__main__":
    main(sys.argv[1:])

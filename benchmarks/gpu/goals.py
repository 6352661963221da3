"""The final table: each goal, what was measured, met or not. Computed from the journal alone; a dry run measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.gpu.journal import Line
from benchmarks.work import BACKWARD, BOTH, FORWARD, GRAPH

Rows: TypeAlias = list[dict[str, Any]]
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Goal:
    """find: the number to compare, from all rows, or None. least: whether `bound` is the least allowed, or the most."""

    what: str
    bound: float
    find: Callable[[Rows], float | None]
    least: bool = True
    text: str = "{:.2f}"

    def line(self, rows: Rows) -> tuple[str, str, str, str]:
        found = self.find(rows)
        bound = f"{'≥' if self.least else '≤'} {self.text.format(self.bound)}"
        if found is None:
            return self.what, bound, "", NOT_MEASURED
        met = found >= self.bound if self.least else found <= self.bound
        return self.what, bound, self.text.format(found), "met" if met else "not met"


def share(dtype: str, passes: str) -> Callable[[Rows], float | None]:
    """The share of a copy with what a layer saves by default ("auto")."""

    def find(rows: Rows) -> float | None:
        found = [row for row in rows if "share" in row and row["surrogate"] == "ATan" and row["keep"] == row["auto"]]
        return first(row["share"] for row in found if (row["dtype"], row["passes"]) == (dtype, passes))

    return find


def speedup(
    theirs: str, T: int | None = None, N: int | None = None, dtype: str = "float32", graph: bool = False
) -> Callable[[Rows], float | None]:
    """The speed-up of our fastest way over the fastest whose name begins with `theirs`; the worst of the cases.

    Both are called from Python; or (graph) ours is replayed as a CUDA graph, where no launch waits for Python.
    """

    def find(rows: Rows) -> float | None:
        alike = [row for row in raced(rows, "neuron") if (row["passes"], row["surrogate"]) == (BOTH, "ATan")]
        sized = [row for row in alike if T in (None, row["T"]) and N in (None, row["N"])]
        cases = [row for row in sized if row["dtype"] == dtype]
        return worst(ratio(row["median_ms"], "cuda", theirs, (graph, False)) for row in cases)

    return find


def training(network: str, autocast: str) -> Callable[[Rows], float | None]:
    """Ours against SpikingJelly's, each in its faster way: eager or as a CUDA graph."""

    def find(rows: Rows) -> float | None:
        cases = [
            row
            for row in raced(rows, "training")
            if (row["network"], row.get("autocast", "float32")) == (network, autocast)
        ]
        return worst(ratio(row["median_ms"], "fused", "spikingjelly: ", (True, True)) for row in cases)

    return find


def gain(name: str, T: int, N: int) -> Callable[[Rows], float | None]:
    """The speed-up of the fastest schedule of this pass over the serial one."""

    def find(rows: Rows) -> float | None:
        cases = [row for row in rows if name in row.get("fastest", {}) and (row["T"], row["N"]) == (T, N)]
        return first(row["fastest"][name]["gain"] for row in cases)

    return find


def raced(rows: Rows, benchmark: str) -> Rows:
    return [row for row in rows if row.get("about", {}).get("benchmark") == benchmark]


def ratio(ms: dict[str, float], ours: str, theirs: str, graphs: tuple[bool, bool]) -> float | None:
    """graphs: whether ours, and theirs, may be a CUDA graph."""

    def fastest(name: str, graphs: bool) -> float | None:
        owner, _, mode = name.rpartition(": ")
        owner += ": " * bool(owner)
        starts = (name, *([f"{owner}{GRAPH}{mode}"] if graphs else []))
        plain = [value for label, value in ms.items() if label.startswith(starts) and (graphs or GRAPH not in label)]
        return min(plain, default=None)

    mine, other = fastest(ours, graphs[0]), fastest(theirs, graphs[1])
    return None if mine is None or other is None else other / mine


def worst(found: Iterator[float | None]) -> float | None:
    """The smallest number; None if there is none. Cases without a number are skipped."""
    return min((value for value in found if value is not None), default=None)


def first(found: Iterator[float]) -> float | None:
    return next(found, None)


def bits(rows: Rows) -> float | None:
    return first(row["kept_bytes_per_element_step"] for row in rows if row.get("keep") == "bits" and "share" in row)


def errors(rows: Rows) -> float | None:
    """The errors of both tools; None before both have run."""
    found = [row["errors"] for row in rows if "errors" in row]
    return float(sum(found)) if len(found) == 2 else None


def failed(rows: Rows) -> float | None:
    found = [row for row in rows if "counts" in row and row["counts"].get("passed")]
    return float(len(found[-1]["failed"])) if found else None


GOALS = (
    *(Goal(f"{passes}, {dtype}, of measured copy", 0.9, share(dtype, passes), text="{:.1%}")
      for dtype in ("float32", "bfloat16") for passes in (FORWARD, BACKWARD)),
    Goal("layer, float32, T=32, N=10⁷: times SpikingJelly", 1.2, speedup("spikingjelly: ", 32, 10**7)),
    Goal("layer, bfloat16, T=32, N=10⁷: times SpikingJelly", 1.6, speedup("spikingjelly: ", 32, 10**7, "bfloat16")),
    Goal("layer, T=32, N=10⁴ (launches bind): times the eager loop", 40, speedup("plain loop", 32, 10**4), text="{:.1f}"),
    Goal("layer, T=32, N=10⁴, as a CUDA graph: times the eager loop", 40, speedup("plain loop", 32, 10**4, graph=True),
         text="{:.0f}"),
    Goal("layer, every T and N: times JAX, at worst", 1.0, speedup("jax: ")),
    Goal("layer, every T and N, as a CUDA graph: times JAX, at worst", 1.0, speedup("jax: ", graph=True)),
    Goal("training step, ResNet18, bf16: times SpikingJelly's", 1.3, training("resnet18", "bfloat16")),
    *(Goal(f"{name}, T=65536, N=1, in chunks: times the serial kernel", 10, gain(name, 65536, 1), text="{:.0f}")
      for name in ("forward, no reset", "backward")),
    Goal("bits: bytes kept per element-step", 0.25, bits, least=False, text="{:.4f}"),
    Goal("compute-sanitizer: errors", 0, errors, least=False, text="{:.0f}"),
    Goal("pytest -m gpu: failures", 0, failed, least=False, text="{:.0f}"),
)  # fmt: skip


def table(lines: Sequence[Line], dry: bool, machine: str) -> list[str]:
    """As Markdown: the goals, then whatever has failed, with its reason. lines: one for each point."""
    rows = [line["row"] for line in lines if "row" in line and not (dry or line["dry"])]
    where = "a dry run: no figure here is a GPU's" if dry else machine
    found = [f"# {where}", "", "| goal | wanted | measured | |", "|---|---|---|---|"]
    found += [f"| {' | '.join(goal.line(rows))} |" for goal in GOALS]
    if reasons := [f"- {line['name']}: {line['failed']}" for line in lines if "failed" in line]:
        found += ["", "Failed:", "", *reasons]
    return found

"""The pictures of docs/speed.md, drawn from recorded measurements of a neuron alone: `tfexplore bench --draw`.

speed.png is of the last CPU measured, speed-gpu.png of the last GPU.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import COPY, FUSED, ROOT, Row
from benchmarks.work import BOTH, GRAPH
from tfexplore.measure import results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = ROOT / "docs"
PICTURES = {"cpu": "speed.png", "cuda": "speed-gpu.png"}
OURS = "tfexplore, fused"
MARKS, DASHES = "osD^vP*Xd<>", ("-", "--", ":", "-.")


def draw(place: Path | None = None, folder: Path = FOLDER) -> list[Path]:
    """Writes the pictures of the recorded measurements in `place` (default: this checkout's); those written."""
    from tfexplore.explore.base.style import png

    newest = {record.device: record for record in sorted(results.records(place, "neuron"), key=lambda r: r.date)}
    written = []
    for device, record in newest.items():
        rows = [row for row in record.rows if row.get("surrogate") == "ATan" and row["passes"] == BOTH]
        rows = [row for row in rows if row["dtype"] == "float32" and OURS in families(row)]
        if rows:
            folder.mkdir(parents=True, exist_ok=True)
            written.append(folder / PICTURES[device])
            written[-1].write_bytes(png(picture(rows, record.label)))
    return written


def fastest(row: Row) -> dict[str, str]:
    """The fastest mode of each library, and each way without one; a CUDA graph is another way."""
    found: dict[str, str] = {}
    for label in sorted(row["median_ms"], key=lambda label: row["median_ms"][label]):
        library, _, mode = label.rpartition(": ")
        way = mode.removeprefix(GRAPH)
        name = library or (OURS if way.startswith(FUSED) else way.removeprefix("the "))
        found.setdefault(name + ", as a CUDA graph" * (way != mode), label)
    return found


def families(row: Row) -> dict[str, float]:
    """Milliseconds of `fastest`."""
    return {name: row["median_ms"][label] for name, label in fastest(row).items()}


def picture(rows: list[Row], label: str) -> Any:
    """Left, the time of each contestant as a multiple of the fused layer's, in the largest case; right, time against T."""
    from tfexplore.explore.base.style import static_figure

    with static_figure(11, 4.6) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        bars(left, max(rows, key=lambda row: (row["T"] * row["N"], row["T"])))
        curves(right, rows)
        figure.suptitle(f"One LIF layer, forward + backward, float32: {label}", x=0.01, ha="left")
    return figure


def bars(axes: Axes, row: Row) -> None:
    from tfexplore.explore.base.style import INK, SKY

    medians = families(row)
    ratios = {name: ms / medians[OURS] for name, ms in medians.items() if name not in (OURS, COPY)}
    names = sorted(ratios, key=lambda name: ratios[name], reverse=True)
    stars = {name: " *" if label in row.get("equation", {}) else "" for name, label in fastest(row).items()}
    near = "\n* an equation near to it" if any(stars.values()) else ""
    drawn = axes.barh([name + stars[name] for name in names], [ratios[name] for name in names], color=SKY)
    axes.bar_label(drawn, [f" {ratios[name]:.3g}×" for name in names], fontsize=8)
    axes.set(xscale="log", xlabel=f"time, as a multiple of {OURS} ({medians[OURS]:.3g} ms){near}")
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_xlim(min(0.5, *ratios.values()) * 0.8, max(ratios.values()) * 3)  # room for the last label
    axes.set_title(f"T = {row['T']}, {row['N']:,} neurons")


def curves(axes: Axes, rows: list[Row]) -> None:
    """Over T, at the number of neurons with most T; a line ends where a contestant was left out."""
    from tfexplore.explore.base.style import FUSED, MUTED, PALETTE

    steps: dict[int, set[int]] = defaultdict(set)
    for row in rows:
        steps[row["N"]].add(row["T"])
    neurons = max(steps, key=lambda n: (len(steps[n]), n))
    chosen = sorted((row for row in rows if row["N"] == neurons), key=lambda row: row["T"])
    found = [(row["T"], families(row)) for row in chosen]
    names = list(
        dict.fromkeys(name for _, medians in reversed(found) for name in reversed(medians))
    )  # the slowest first
    others = [colour for colour in PALETTE if colour != FUSED]
    for k, name in enumerate(names):
        points = [(t, medians[name]) for t, medians in found if name in medians]
        ours = name.startswith(OURS)
        look: dict[str, Any] = {
            "color": FUSED if ours else MUTED if name == COPY else others[k % len(others)],
            "linewidth": 2.4 if ours else 1.2,
            "marker": MARKS[k % len(MARKS)],
            "linestyle": DASHES[k % len(DASHES)],
        }
        axes.plot(*zip(*points, strict=True), label=name, markersize=5, **look)
    axes.set(xscale="log", yscale="log", xlabel="time steps T", ylabel="ms")
    axes.set_xticks([t for t, _ in found], [str(t) for t, _ in found])
    axes.minorticks_off()
    axes.set_title(f"{neurons:,} neurons")
    axes.grid(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

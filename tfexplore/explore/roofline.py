"""The roofline: how near the fused kernels come to what this machine's memory allows."""

from __future__ import annotations

import html
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import ipywidgets as widgets
import plotly.graph_objects as go
import torch

from tfexplore.backends import choose
from tfexplore.codegen.traffic import BYTES
from tfexplore.explore import plots
from tfexplore.explore.explorer import Runner, choice, slider
from tfexplore.explore.points import NOTHING, Point, check, kernels, named, run_of
from tfexplore.measure import clock
from tfexplore.neurons.neuron import Neuron

ROUNDS, ENOUGH = 5, 1.5  # after so many seconds no new round begins
DTYPES = ("float32", "float64")
RANGE = (-1.5, 1.5)  # powers of ten: operations per byte
LARGEST, MOST_NEURONS = 20_000_000, 1_000_000  # time steps times neurons
MARKS = {"circle": "o", "diamond": "D", "square": "s", "x": "X", "triangle-up": "^"}


ROOFS = {"memory roof (copy)": "solid", "copy into new memory": "dash", "compute roof (matrix product)": "dot"}
STYLES = {"solid": "-", "dash": "--", "dot": ":"}


@dataclass
class Result:
    """The roofs, in bytes and operations per second, and the points below them."""

    machine: str
    backend: str
    dtype: str
    steps: int
    neurons: int
    bandwidth: float = float("nan")
    fresh: float = float("nan")  # of a copy that makes new memory for its result, as torch does
    peak: float = float("nan")
    kernels: list[Point] = field(default_factory=list)

    def share(self, kernel: Point) -> float:
        """The part of the copy bandwidth that a kernel reaches."""
        return kernel.bytes_per_second / self.bandwidth

    def sentence(self) -> str:
        fused = [kernel for kernel in self.kernels if kernel.backend != "torch"]
        if not self.kernels:
            return (
                f"Press Start: this machine's memory, and {self.steps} time steps of {self.neurons:,} neurons in {self.dtype}, "
                "are measured in turn."
            )
        if not fused:
            return f"This machine copies {self.bandwidth / 1e9:.1f} GB/s; no fused backend runs here ({self.machine})."
        first = fused[0]
        return (
            f"The fused {first.passes} of {type(first.neuron).__name__} reaches {self.share(first):.0%} of this machine's copy "
            f"bandwidth: {first.bytes_per_second / 1e9:.1f} of {self.bandwidth / 1e9:.1f} GB/s ({self.machine})."
        )


class Roofline(Runner):
    """This machine's roofs and, below them, the fused kernels of a few neurons and the eager loop of the first.

    which: names of the library's neurons, or values such as `neurons.LIF(tau=3.0)`, your own too.
    controls: steps (T), neurons (N), dtype, start, stop;   result: `Result`.

    >>> import asyncio
    >>> roofline = Roofline(["LIF"], steps=4, neurons=1000, mebibytes=1)
    >>> for kernel in asyncio.run(roofline.run()).kernels: print(kernel.label)
    LIF forward
    LIF forward + backward, keep=input
    LIF forward + backward, keep=potential
    LIF forward, the whole layer
    LIF forward, eager
    """

    caption = (
        "Operations per second over operations per byte, on logarithmic axes. The slanted line is the memory's roof, a large "
        "copy, dashed where the copy makes new memory for its result; the level one the processor's, the fastest of some "
        "products of matrices."
    )

    def __init__(
        self,
        which: Sequence[Neuron | str] = ("LIF", "Izhikevich"),
        *,
        steps: int = 32,
        neurons: int = 500_000,
        dtype: str = "float32",
        device: str | None = None,
        mebibytes: int = 128,
    ) -> None:
        self.device, self.mebibytes = device or ("cuda" if torch.cuda.is_available() else "cpu"), mebibytes
        self.neurons = [named(neuron) for neuron in which]
        if not self.neurons:
            raise ValueError("which must name at least one neuron, like ['LIF'], but is empty.")
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, but got {dtype!r}.")
        if not (1 <= steps <= 128 and 1000 <= neurons <= MOST_NEURONS and steps * neurons <= LARGEST):
            raise ValueError(
                f"steps must be from 1 to 128, neurons from 1000 to {MOST_NEURONS:,} and their product at most {LARGEST:,}, but "
                f"got {steps} and {neurons:,}."
            )
        controls = {
            "steps": slider("time steps T", steps, 1, 128, help="time steps in one pass"),
            "neurons": slider(
                "neurons N",
                neurons,
                min(1000, neurons),
                max(1_000_000, neurons),
                step=1000,
                help="neurons in one layer",
            ),
            "dtype": choice("dtype", list(DTYPES), dtype, "the numbers of x, of the spikes and of the state"),
        }
        self.backend = choose("auto", self.device)
        self.shown = kernels(self.neurons, self.backend.name, dtype, 1)
        super().__init__(controls, self._figure(), None)
        self.notes = widgets.HTML()
        for name in controls:
            self.on(name, self.reset)
        self.reset()
        self.go_live()

    def begin(self) -> Result:
        value = {name: self.controls[name].value for name in ("steps", "neurons", "dtype")}
        return Result(clock.machine(self.device), self.backend.name, value["dtype"], value["steps"], value["neurons"])

    def reset(self) -> None:
        """A control moved: the points begin anew."""
        steps, neurons = self.controls["steps"], self.controls["neurons"]
        neurons.max = min(MOST_NEURONS, LARGEST // steps.value // 1000 * 1000)
        super().reset()

    def work(self, result: Result) -> Iterator[object]:
        dtype, size = getattr(torch, result.dtype), (result.steps, result.neurons)
        wanted = kernels(self.neurons, result.backend, result.dtype, result.steps * result.neurons)
        lead = "" if result.backend != "torch" else f"No fused backend here, only eager: {self.backend.reason} "
        self.say(f"{lead}Compiling the kernels: a few seconds the very first time, then they are kept.")
        for kernel in wanted:
            yield self.aside(partial(check, kernel, dtype, self.device))
        self.say("Measuring the copy, the matrix product and the kernels, in turn.")
        x, gradient = (torch.randn(size, dtype=dtype, device=self.device) for _ in range(2))
        copy, nbytes = clock.large_copy(self.device, self.mebibytes)
        product, flops = clock.matrix_product(self.device)
        work: dict[str, Callable[[], object]] = {"copy": copy, "fresh copy": x.clone, "product": product}
        work |= {str(k): run_of(kernel, x, gradient) for k, kernel in enumerate(wanted)}
        turns, last, began = clock.samples(work, ROUNDS, self.device), dict[str, list[float]](), time.perf_counter()
        for k in range(ROUNDS + 1):
            for _ in work:
                yield self.aside(lambda: last.update(next(turns)))
            medians = {name: statistics.median(taken) for name, taken in last.items()}
            result.bandwidth, result.fresh = nbytes / medians["copy"], 2 * x.nbytes / medians["fresh copy"]
            result.peak = flops / min(last["product"])  # a limit: what was reached once can be reached
            result.kernels = [replace(kernel, seconds=medians[str(k)]) for k, kernel in enumerate(wanted)]
            self.draw()
            self.say(result.sentence())
            if k and time.perf_counter() - began > ENOUGH:
                break

    # -- the figure ----------------------------------------------------------------------------------------------

    def look(self, k: int) -> tuple[int, str]:
        """Colour and sign of a kernel: a colour for every neuron, a sign for every pass."""
        kernel = self.shown[k]
        signs = {NOTHING: "circle", "input": "diamond", "potential": "square"}
        sign = "x" if kernel.backend == "torch" else "triangle-up" if kernel.layer else signs[kernel.keep]
        return self.neurons.index(kernel.neuron), sign

    def _figure(self) -> go.Figure:
        legend = {"x": 0.995, "y": 0.02, "xanchor": "right", "yanchor": "bottom", "bgcolor": "rgba(255,255,255,0.75)"}
        figure = plots.styled(go.Figure(), height=460, legend=legend)
        for name, dash in ROOFS.items():
            figure.add_scatter(x=[], y=[], mode="lines", name=name, line={"color": "#444444", "dash": dash, "width": 2})
        for k, kernel in enumerate(self.shown):
            colour, sign = self.look(k)
            figure.add_scatter(
                x=[], y=[], mode="markers", name=kernel.label, text=[],
                marker={"color": plots.colour(colour), "symbol": sign, "size": 13, "line": {"color": "black", "width": 1}},
                hovertemplate="%{text}<br>%{x:.2f} operations per byte<br>%{y:.2f} · 10⁹ operations per second<extra></extra>",
            )  # fmt: skip
        figure.update_xaxes(type="log", title="operations per byte", range=RANGE, dtick=1, exponentformat="none")
        return figure.update_yaxes(type="log", title="10⁹ operations per second", exponentformat="none", dtick=1)

    def roofs(self) -> list[tuple[list[float], list[float]]]:
        """Memory's two, from the left up to where they meet the processor's, which goes on to the right."""
        result, left, right = self.result, 10 ** RANGE[0], 10 ** RANGE[1]
        if not result.kernels:
            return [([], [])] * len(ROOFS)
        slanted = [(bandwidth, result.peak / bandwidth) for bandwidth in (result.bandwidth, result.fresh)]
        found = [([left, ridge], [1e-9 * bandwidth * left, 1e-9 * result.peak]) for bandwidth, ridge in slanted]
        return [*found, ([slanted[0][1], max(right, slanted[1][1])], [1e-9 * result.peak] * 2)]

    @plots.at_once
    def draw(self) -> None:
        for k, (x, y) in enumerate(self.roofs()):
            self.figure.data[k].update(x=x, y=y)
        found = self.result.kernels or [None] * len(self.shown)
        for k, kernel in enumerate(found):
            if kernel is None:
                self.figure.data[len(ROOFS) + k].update(x=[], y=[], text=[])
                continue
            told = f"{kernel.bytes_per_second / 1e9:.1f} GB/s, {self.result.share(kernel):.0%} of the copy"
            self.figure.data[len(ROOFS) + k].update(
                x=[kernel.intensity],
                y=[1e-9 * kernel.flops_per_second],
                text=[f"{kernel.label}: {told}"],
            )
        self.notes.value = self.table()

    def layout(self) -> widgets.Widget:
        box = super().layout()
        *above, fit = box.children
        box.children = (*above, self.notes, fit)
        return box

    def table(self) -> str:
        """The numbers, and what must be said about them."""
        result = self.result
        if not result.kernels:
            return ""
        head = ("pass", "operations per element-step", "bytes per element-step", "GB/s", "of the copy")
        rows = [
            (k.label, f"{k.flops:.0f}", f"{k.bytes:.4g}", f"{1e-9 * k.bytes_per_second:.1f}", f"{result.share(k):.0%}")
            for k in result.kernels
        ]
        cells = "".join(
            "<tr>" + "".join(f'<td style="padding:0 12px 0 0">{html.escape(cell)}</td>' for cell in row) + "</tr>"
            for row in rows
        )
        heads = "".join(f'<th style="text-align:left;padding:0 12px 0 0">{html.escape(cell)}</th>' for cell in head)
        size = result.steps * result.neurons * BYTES[result.dtype] / 2**20
        return (
            f"<table><tr>{heads}</tr>{cells}</table><div>Bytes of the fused kernels are derived from the equations, those of the "
            "eager loop were counted while it ran; operations are counted by SymPy, a division as one. A copy into new memory "
            f"reaches {1e-9 * result.fresh:.1f} GB/s; fused layers on a CPU use memory again that was let go of. Here x has "
            f"{size:.0f} MiB; what fits a cache, as the eager loop's rows often do, can lie above the memory's roof.</div>"
        )

    def picture(self) -> bytes:
        drawing = plots.static_figure(9, 4.4)
        axes = drawing.subplots()
        for (x, y), (name, dash) in zip(self.roofs() if self.result.kernels else (), ROOFS.items(), strict=False):
            axes.plot(x, y, STYLES[dash], color="#444444", lw=1.2 if dash == "dash" else 2, label=name)
        for k, kernel in enumerate(self.result.kernels):
            colour, sign = self.look(k)
            axes.plot(
                [kernel.intensity], [1e-9 * kernel.flops_per_second], MARKS[sign], color=plots.rgb(colour), mec="black", ms=9,
                ls="", label=f"{kernel.label}: {self.result.share(kernel):.0%}",
            )  # fmt: skip
        axes.set(xlabel="operations per byte", ylabel="10⁹ operations per second", xlim=[10**edge for edge in RANGE])
        if not self.result.kernels:
            axes.set_ylim(0.1, 1000)
        axes.set(xscale="log", yscale="log")
        axes.set_title(self.result.sentence(), fontsize=8, loc="left")
        if self.result.kernels:
            axes.legend(
                frameon=False, fontsize=8, loc="lower right", title="share of the copy bandwidth", title_fontsize=8
            )
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)

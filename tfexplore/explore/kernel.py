"""The kernel explorer: threads in lockstep through a real kernel's source, and the words of memory that they touch."""

from __future__ import annotations

import html
import textwrap
from fractions import Fraction
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from tfexplore import neurons
from tfexplore.explore import plots
from tfexplore.explore.explorer import Explorer, choice, slider
from tfexplore.explore.sources import source_panel, table
from tfexplore.explore.stepping import ENDS, KEEPS, KERNELS, REGISTERS, body, stepped
from tfexplore.neurons.neuron import Neuron

STATES = ("not touched yet", "touched before", "read now", "written now")
COLOURS = ("#f3f3f3", "#c9c9c9", plots.colour(0), plots.colour(1))
SIGNS = ("", "", "R", "W")
SLOTS = 5  # grids that a figure has room for
MOST_THREADS, MOST_STEPS = 16, 40
MOST_FRAMES = 120  # of the page that plays without a kernel


def cell(mark: int, value: float, room: int) -> str:
    """What is written into a cell: R or W at this moment, and where there is room the value of a touched word."""
    if not mark or not room or np.isnan(value):
        return SIGNS[mark]
    digits = f"{value:.0f}" if value == int(value) else f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"
    digits = digits.replace("0.", ".", 1) if abs(value) < 1 else digits
    return f"{SIGNS[mark]} {digits}".strip() if room > 1 or mark == 1 else SIGNS[mark]


class Kernel(Explorer):
    """Threads that go through a fused kernel line by line.

    controls: kernel, keep, neuron, threads, steps (T), micro_step and play;   result: `Stepped`.
    `neuron` is the name of a neuron of the library, or a neuron of your own.

    >>> explorer = Kernel("LIF", threads=4, steps=3)
    >>> explorer.controls["micro_step"].value = 4
    >>> explorer.result.words("x", "read"), explorer.result.words("x", "read", moment=3)
    (12, 4)
    """

    caption = (
        "The arrays in memory, a row per time step and a column per thread: R (blue) is being read and W (red) written; "
        "grey words were touched before, pale ones not yet."
    )

    def __init__(
        self,
        neuron: Neuron | str = "LIF",
        kernel: str = "forward",
        keep: str = "input",
        threads: int = 8,
        steps: int = 6,
        micro_step: int | None = None,
    ) -> None:
        self.neurons: dict[str, Neuron] = {cls.__name__: cls() for cls in neurons.ALL}
        if isinstance(neuron, Neuron):
            name = type(neuron).__name__
            self.neurons[name] = neuron
        elif neuron in self.neurons:
            name = neuron
        else:
            raise ValueError(
                f"neuron must be one of {', '.join(self.neurons)}, or one of your own like LIF(tau=3.0), but got {neuron!r}."
            )
        result = stepped(self.neurons[name], kernel, keep, threads, steps)
        keeps = KEEPS if kernel == "forward" else KEEPS[1:]
        controls = {
            "kernel": choice("kernel", list(KERNELS), kernel, "the way there, or the way back"),
            "keep": choice(
                "keep for the way back", list(keeps), keep, "what the forward kernel writes for the way back"
            ),
            "neuron": choice("neuron", list(self.neurons), name, "whose equations the kernel runs"),
            "threads": slider(
                "threads (neurons)", threads, 1, max(MOST_THREADS, threads), help="one thread per neuron"
            ),
            "steps": slider("time steps T", steps, 1, max(MOST_STEPS, steps), help="time steps of the whole loop"),
            "micro_step": slider(
                "micro-step", 0, 0, len(result.lines), help="one line of the kernel, in all threads at once", live=True
            ),
            "play": widgets.Play(
                min=0, max=len(result.lines), interval=600, description="play the micro-steps",
                tooltip="play the kernel, micro-step by micro-step",
            ),
        }  # fmt: skip
        figure = plots.styled(go.Figure(), height=300, margin={"l": 60, "r": 40, "t": 60, "b": 15})
        figure.update_layout(plot_bgcolor="rgba(0,0,0,0)", showlegend=False)
        for k in range(SLOTS):
            scale = [edge for n, c in enumerate(COLOURS) for edge in ((n / 4, c), ((n + 1) / 4, c))]
            name_of = "" if not k else str(k + 1)
            figure.add_heatmap(
                z=[[0]], xaxis=f"x{name_of}", yaxis=f"y{name_of}", zmin=-0.5, zmax=3.5, colorscale=scale,
                showscale=False, xgap=2, ygap=2, texttemplate="%{text}", textfont={"color": "#1f2328", "size": 10},
                hovertemplate="thread %{x}, row %{y}: %{customdata}<extra></extra>",
            )  # fmt: skip
        super().__init__(controls, figure, result)
        widgets.jslink((controls["play"], "value"), (controls["micro_step"], "value"))
        self.source, self.registers, self.traffic = (widgets.HTML() for _ in range(3))
        figure.update_layout(self.axes())
        controls["micro_step"].value = self.first_look() if micro_step is None else micro_step
        self.draw()
        for control in ("keep", "neuron", "threads", "steps"):
            self.on(control, self.restart)
        self.on("kernel", self.other_kernel)
        self.on("micro_step", self.draw)
        self.go_live()

    @property
    def moment(self) -> int:
        """The moment that is shown, from 0; -1 before the first."""
        return int(self.controls["micro_step"].value) - 1

    def first_look(self) -> int:
        """Where to begin: the third time that the threads read what comes in from outside, so that some has happened."""
        of = self.result.arrays.index("x" if self.result.kernel == "forward" else "g_out")
        reads = np.unique(self.result.touches[self.result.touches[:, 2] == of, 0])
        return int(reads[min(2, len(reads) - 1)]) + 1

    # -- what the controls do ------------------------------------------------------------------------------------

    def other_kernel(self) -> None:
        """The way back needs something kept, so the choice is another one there."""
        keep, keeps = self.controls["keep"], KEEPS if self.controls["kernel"].value == "forward" else KEEPS[1:]
        value = keep.value if keep.value in keeps else "potential"
        with self.quietly():
            keep.options = list(keeps)
            keep.value = value
        self.restart()

    def restart(self) -> None:
        """Another kernel, or other numbers: it is run anew, and shown at a first moment."""
        value = {name: control.value for name, control in self.controls.items()}
        self.result = stepped(
            self.neurons[value["neuron"]], value["kernel"], value["keep"], value["threads"], value["steps"]
        )
        with self.quietly():
            micro = self.controls["micro_step"]
            micro.max = self.controls["play"].max = len(self.result.lines)
            micro.value = self.first_look()
        self.draw_anew()

    # -- drawing -------------------------------------------------------------------------------------------------

    def layout(self) -> widgets.Widget:
        base = super().layout()
        row, *rest = base.children
        play, micro = self.controls["play"], self.controls["micro_step"]
        row.children = tuple(control for control in row.children if control not in (play, micro))
        micro.layout = widgets.Layout(flex="1 1 350px", max_width="800px")
        player = widgets.HBox([play, micro], layout=widgets.Layout(flex_flow="row wrap"))
        wide = widgets.Layout(flex="1 1 430px", min_width="0", margin="0")
        side = widgets.VBox([self.registers, self.traffic], layout=wide)
        self.source.layout = wide
        panels = widgets.HBox([self.source, side], layout=widgets.Layout(flex_flow="row wrap", grid_gap="6px 12px"))
        base.children = (row, player, *rest[:-1], panels, rest[-1])
        return base

    def axes(self) -> dict[str, Any]:
        """The layout: axes side by side, for as many grids as there are."""
        names, gap = list(self.result.grids), 0.07
        width = (1 - gap * (len(names) - 1)) / len(names)
        tall = max(len(rows) for rows in self.result.labels.values())
        layout: dict[str, Any] = {"height": 75 + min(28 * max(tall, 5), 420)}
        plain = {"showgrid": False, "zeroline": False, "ticks": "", "tickfont": {"size": 10}, "fixedrange": True}
        for k in range(SLOTS):
            used, n = k < len(names), k + 1 if k else ""
            left = (k if used else 0) * (width + gap)  # one that is not used lies, unseen, under the first
            rows = self.result.labels[names[k]] if used else ("",)
            every = max(1, -(-len(rows) // 20))
            head = {
                "text": f"<b>{self.result.titles[names[k]]}</b>" if used else "",
                "font": {"size": 15},
                "standoff": 4,
            }
            layout[f"xaxis{n}"] = plain | {
                "domain": [left, left + width], "anchor": f"y{n}", "visible": used, "side": "top", "title": head,
                "dtick": 1, "range": [-0.5, self.result.threads - 0.5],
            }  # fmt: skip
            layout[f"yaxis{n}"] = plain | {
                "domain": [1 - len(rows) / tall, 1], "anchor": f"x{n}", "visible": used, "range": [len(rows) - 0.5, -0.5],
                "tickvals": list(range(0, len(rows), every)), "ticktext": list(rows[::every]),
                "title": {"text": "time step t" if k == 0 else "", "standoff": 6},
            }  # fmt: skip
        return layout

    def cells(self, moment: int) -> list[dict[str, Any]]:
        """Per grid: the marks, what is written into the cells, and the words for the pointer."""
        found = []
        for name, marks in self.result.marks(moment).items():
            room = 0 if marks.shape[0] > 16 else 32 // (len(self.result.grids) * marks.shape[1])
            text = [
                [cell(mark, value, room) for mark, value in zip(*rows, strict=True)]
                for rows in zip(marks, self.result.grids[name], strict=True)
            ]
            found.append({"z": marks.tolist(), "text": text, "customdata": [[STATES[m] for m in row] for row in marks]})
        return found

    @plots.at_once
    def draw_anew(self) -> None:
        """Other grids have other axes too."""
        self.figure.update_layout(self.axes())
        self.draw()

    @plots.at_once
    def draw(self) -> None:
        unused = [{"z": [[0]], "text": [[""]]}] * (SLOTS - len(self.result.grids))
        for k, values in enumerate(self.cells(self.moment) + unused):
            self.figure.data[k].update(**values, visible=k < len(self.result.grids))
        run = self.result
        first, lines = body(run.source, run.kernel)
        current = int(run.lines[self.moment]) if self.moment >= 0 else 0
        head = f"kernels/{run.kernel}.py, run as plain Python; on a GPU every thread has an i of its own"
        self.source.value = f'<div style="font-weight:600;line-height:1.3;margin:2px 0">{head}</div>' + source_panel(
            lines, first, current, run.ran
        )
        self.registers.value, self.traffic.value = self.register_table(), self.traffic_table()
        self.say(self.sentence(self.moment))

    def register_table(self) -> str:
        run = self.result
        values = run.registers[max(self.moment, 0)] if self.moment >= 0 else np.full(run.registers.shape[1:], np.nan)
        rows = [
            [name, *("" if np.isnan(v) else f"{v:.3g}" for v in row)]
            for name, row in zip(run.names, values, strict=True)
        ]
        return table(["thread", *map(str, range(run.threads))], rows, "Registers: every thread's own variables")

    def traffic_table(self) -> str:
        """Words so far, and per element-step at the end, beside what the equations say."""
        run, rows = self.result, []
        counted, derived = run.counted(), run.derived()
        for array, action in derived:
            so_far = run.words(array, action, self.moment)
            rows.append([f"{array} {action}", so_far, *(str(d.get((array, action), 0)) for d in (counted, derived))])
        totals = (sum(d.values(), Fraction(0)) for d in (counted, derived))
        rows.append(["together", sum(row[1] for row in rows), *map(str, totals)])
        ends = sum(run.words(name, "read", self.moment) for name in ENDS)
        kept = sum(run.words(name, act, self.moment) for name in REGISTERS for act in ("read", "write"))
        rows.append(["first state (once)" if run.kernel == "forward" else "last gradient (once)", ends, "", ""])
        rows.append(["registers (no traffic)", kept, "", ""])
        return table(
            ["", "so far", "in all, per element-step", "from the equations"],
            rows,
            "Words of memory, all threads",
        )

    def sentence(self, m: int) -> str:
        """What happens at moment m, in words."""
        run = self.result
        if m < 0:
            return f"Nothing has run yet: {run.threads} threads stand before the first line."
        when = f"Micro-step {m + 1} of {len(run.lines)}" + (f", t = {run.times[m]}" if run.times[m] >= 0 else "")
        at = run.touches[run.touches[:, 0] == m]
        did = []
        for written, verb in enumerate(("read", "write")):
            named = [
                self.touched(at[(at[:, 4] == written) & (at[:, 2] == a)], name) for a, name in enumerate(run.arrays)
            ]
            if any(named):
                did.append(f"{verb} {' and '.join(filter(None, named))}")
        if did:
            return f"{when}: the threads {', and '.join(did)}."
        if len(at):
            return f"{when}: no memory is touched; this moves values between a thread's registers."
        return f"{when}: no memory is touched; the threads compute in their registers."

    def touched(self, touches: np.ndarray, name: str) -> str:
        """Which words of an array, and how they lie in memory; "" if none, or registers that are not drawn."""
        if not len(touches) or (name in REGISTERS and name != "scratch"):
            return ""
        if name == "scratch":
            return "q (in registers)"
        threads, words = self.result.threads, len(touches)
        rows = words // threads
        lie = "" if threads == 1 else " (neighbours: one sweep" if rows == 1 else f" ({rows} rows: {rows} sweeps"
        return f"{words} word{'s' * (words > 1)} of {name}" + (f"{lie} of {4 * threads} bytes)" if lie else "")

    # -- without a kernel ----------------------------------------------------------------------------------------

    def code_line(self, moment: int) -> str:
        if moment < 0:
            return "0"
        number = int(self.result.lines[moment])
        return f"{number}: {self.result.source.splitlines()[number - 1].strip()}"

    def picture(self) -> bytes:
        from matplotlib.colors import ListedColormap

        run = self.result
        tall = max(map(len, run.labels.values()))
        drawing = plots.static_figure(9, 1.4 + 0.28 * min(tall, 14))
        axes = drawing.subplots(1, len(run.grids), squeeze=False)[0]
        colours = ListedColormap([(0.953,) * 3, (0.788,) * 3, plots.rgb(0), plots.rgb(1)])  # as COLOURS
        for ax, (name, marks), cells in zip(axes, run.marks(self.moment).items(), self.cells(self.moment), strict=True):
            ax.pcolormesh(marks, cmap=colours, vmin=-0.5, vmax=3.5, edgecolors="white", linewidth=1)
            ax.set_ylim(tall, 0)  # all cells are equally high
            for (row, thread), _ in np.ndenumerate(marks) if marks.shape[0] <= 16 else ():
                ax.text(thread + 0.5, row + 0.5, cells["text"][row][thread], ha="center", va="center", fontsize=5.5)
            every = max(1, -(-marks.shape[0] // 20))
            ax.set_yticks(np.arange(0, marks.shape[0], every) + 0.5, run.labels[name][::every], fontsize=7)
            ax.set_xticks(np.arange(run.threads) + 0.5, range(run.threads), fontsize=7)
            ax.set_title(run.titles[name], fontsize=9)
            ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
            ax.spines[:].set_visible(False)
        axes[0].set_ylabel("time step t", fontsize=8)
        words = textwrap.fill(self.sentence(self.moment), 125)
        drawing.suptitle(f"{words}\nline {self.code_line(self.moment)}", fontsize=8.5, x=0.01, ha="left")
        return plots.png(drawing)

    def page(self) -> go.Figure:
        """A figure that plays by itself: a frame per micro-step, with the line of the kernel above it."""
        figure = go.Figure(self.figure)
        here, moments = self.controls["micro_step"].value, len(self.result.lines)
        if moments > MOST_FRAMES:
            return figure
        frames = [self.frame(k) for k in range(moments + 1)]
        at_once = {"mode": "immediate", "transition": {"duration": 0}}
        steps = [{"label": str(k), "method": "animate", "args": [[str(k)], at_once]} for k in range(moments + 1)]
        play = {"fromcurrent": True, "frame": {"duration": 600}, **at_once}
        buttons = [
            {"label": "▶", "method": "animate", "args": [None, play]},
            {"label": "❚❚", "method": "animate", "args": [[None], {"frame": {"duration": 0}, **at_once}]},
        ]
        figure.frames = frames
        figure.update_layout(
            frames[here].layout,
            margin={"t": 120, "b": 90},
            height=figure.layout.height + 135,
            sliders=[
                {"active": here, "currentvalue": {"prefix": "micro-step "}, "pad": {"l": 90, "t": 10}, "steps": steps}
            ],
            updatemenus=[
                {
                    "type": "buttons",
                    "direction": "left",
                    "x": 0,
                    "y": 0,
                    "yanchor": "top",
                    "pad": {"t": 30},
                    "buttons": buttons,
                }
            ],
        )
        return figure

    def frame(self, micro_step: int) -> go.Frame:
        """What `draw` shows at this micro-step, with the sentence and the line of the kernel as a title."""
        m = micro_step - 1
        cells, words, line = self.cells(m), self.sentence(m), self.code_line(m)
        traces = [go.Heatmap(z=cell["z"], text=cell["text"]) for cell in cells]
        text = f"{html.escape(words)}<br><span style='font-family:monospace'>{html.escape(line)}</span>"
        top = {"text": text, "font": {"size": 13}, "x": 0.01, "y": 0.97, "yanchor": "top"}
        return go.Frame(name=str(micro_step), data=traces, traces=list(range(len(traces))), layout={"title": top})

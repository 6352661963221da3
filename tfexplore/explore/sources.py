"""A neuron's code side by side: the equations, what is generated from them for CUDA and for Numba, and the loops around it."""

from __future__ import annotations

import functools
import html
from typing import Any

from tfexplore.codegen.cuda_source import cuda_functions
from tfexplore.codegen.functions import functions_of, python_function
from tfexplore.codegen.latex import latex_of
from tfexplore.codegen.printing import NUMBA
from tfexplore.codegen.variant import Variant
from tfexplore.explore.stepping import check
from tfexplore.machine.paths import kernels_dir
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import step_of

CARD = "background:#fff;color:#1f2328;border:1px solid #8c959f;border-radius:4px;"  # readable on a dark page too
CODE = "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11px;line-height:1.45;"

BOUND = "width:0;min-width:100%;box-sizing:border-box;"  # as wide as the room, and not as the longest line
PLAIN = "margin:0;padding:0;background:transparent;color:inherit;white-space:pre;"  # whatever the page's theme says


@functools.lru_cache(maxsize=64)
def highlighted(source: str, language: str) -> tuple[str, ...]:
    """The source as lines of HTML, with colours that need no style sheet."""
    from pygments import formatters, highlight, lexers  # type: ignore[import-untyped]

    lexer = lexers.get_lexer_by_name(language, stripnl=False)
    return tuple(
        highlight(source, lexer, formatters.HtmlFormatter(nowrap=True, noclasses=True, style="vs")).splitlines()
    )


def panel(title: str, source: str, language: str, height: int) -> str:
    """Scrolls with the mouse, and with the arrow keys when it has the focus."""
    code = "\n".join(highlighted(source, language))
    return (
        f'<div style="flex:1 1 380px;min-width:0"><div style="font-weight:600;margin:2px 0">{html.escape(title)}</div>'
        f'<div tabindex="0" role="region" aria-label="{html.escape(title)}" '
        f'style="{CARD}max-height:{height}px;overflow:auto;padding:6px 8px">'
        f'<pre style="{CODE}{PLAIN}">{code}</pre></div></div>'
    )


def from_line(source: str, start: str) -> tuple[int, str]:
    """The source without what stands above the line that starts so, and the number of that line."""
    lines = source.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith(start))
    return first + 1, "\n".join(lines[first:])


class Sources:
    """The code of one neuron's kernel: shown as HTML by a notebook, and as text in its attributes.

    latex:   the equations;   cuda, numba: what is generated from them;   cuda_loop, numba_loop: the loops of `kernels/`.

    >>> from tfexplore.neurons.library import LIF
    >>> code = Sources(LIF())
    >>> code
    Sources(LIF(tau=2.0, v_threshold=1.0, v_reset=0.0, decay_input=False), kernel='forward', keep='input')
    >>> print(code.numba.split("def ")[1].strip())
    charge(z, x, p):
        v = z[0]
        tau = p[0]
        v_reset = p[2]
        h_v = v + x - (v - v_reset)/tau
        return (h_v,)
    """

    def __init__(self, neuron: Neuron, kernel: str = "forward", keep: str = "input") -> None:
        check(neuron, kernel, keep, 1, 1)
        self.neuron, self.kernel, self.keep = neuron, kernel, keep
        variant = Variant(step_of(neuron), keep=keep)
        functions = functions_of(variant)
        shown = ["charge", "fire", "spike", "reset", *(["output"] if kernel == "forward" else ["adjoint"])]
        chosen = [function for name in shown for function in functions if function.name == name]
        self.latex = latex_of(neuron)
        cuda = cuda_functions(variant)
        self.cuda = "\n".join(cuda[name] for name in ("derive", *(function.name for function in chosen)))
        self.numba = "\n\n".join(python_function(function, NUMBA) for function in chosen) + "\n"
        self.cuda_loop, self.numba_loop = (
            (kernels_dir() / f"{kernel}.{ending}").read_text(encoding="utf-8") for ending in ("cu", "py")
        )

    def __repr__(self) -> str:
        return f"Sources({self.neuron!r}, kernel={self.kernel!r}, keep={self.keep!r})"

    def _repr_html_(self) -> str:
        math = self.latex.strip("$")
        loop = self.kernel
        at_cuda, cuda = from_line(self.cuda_loop, 'extern "C"')
        at_numba, numba = from_line(self.numba_loop, "@njit")
        rows = (
            (
                panel("CUDA: neuron.cuh (its equations)", self.cuda, "cuda", 260),
                panel("Numba: generated_neuron.py (its equations)", self.numba, "python", 260),
            ),
            (
                panel(f"CUDA: kernels/{loop}.cu, from line {at_cuda}", cuda, "cuda", 430),
                panel(f"Numba: kernels/{loop}.py, from line {at_numba}", numba, "python", 430),
            ),
        )
        heads = ("generated from the equations", "written by hand, the same for every neuron")
        body = "".join(
            f'<div style="margin-top:8px"><i>{head}</i>'
            f'<div style="display:flex;flex-wrap:wrap;gap:8px 12px">{"".join(row)}</div></div>'
            for head, row in zip(heads, rows, strict=True)
        )
        return f'<div><div class="math notranslate nohighlight">\\[{math}\\]</div>{body}</div>'


def source_panel(lines: list[str], first: int, current: int, ran: set[int]) -> str:
    """A kernel's loop with an arrow at the current line; lines that this variant never runs are pale."""
    shown = []
    for number, line in enumerate(highlighted("\n".join(lines), "python"), start=first):
        here = number == current
        look = "background:#fff3b0;outline:1px solid #b08800;" if here else ""
        look += "" if number in ran else "opacity:.45;"
        mark = "▶" if here else " "
        shown.append(f'<div style="{look}">{number:3d} {mark} {line or " "}</div>')
    return (
        f'<div tabindex="0" role="region" aria-label="source of the kernel, at line {current}" '
        f'style="{CARD}{BOUND}overflow-x:auto;padding:6px 4px">'
        f'<pre style="{CODE}{PLAIN}">{"".join(shown)}</pre></div>'
    )


def table(head: list[str], rows: list[list[Any]], caption: str) -> str:
    """A small HTML table, with row heads."""
    cell = "padding:1px 7px;border-bottom:1px solid #d0d7de;"
    top = "".join(f'<th scope="col" style="{cell}text-align:right">{html.escape(str(h))}</th>' for h in head)
    body = "".join(
        f'<tr><th scope="row" style="{cell}text-align:left;white-space:nowrap">{html.escape(str(row[0]))}</th>'
        + "".join(f'<td style="{cell}text-align:right">{html.escape(str(c))}</td>' for c in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div style="{CARD}{BOUND}padding:4px 6px;overflow-x:auto"><table style="{CODE}border-collapse:collapse;margin:0">'
        f'<caption style="text-align:left;caption-side:top;font-weight:600;color:#1f2328">{html.escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )

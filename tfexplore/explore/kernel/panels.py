"""HTML beside the figure: source code, the kernel's loop with its current line, tables of registers and of words."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.kernel.stepping import ENDS, REGISTERS, Stepped, body

CARD = "border:1px solid #8c959f99;border-radius:4px;"
CODE = "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11px;line-height:1.45;"

BOUND = "width:0;min-width:100%;box-sizing:border-box;"  # as wide as the room, and not as the longest line
PLAIN = "margin:0;padding:0;background:transparent;color:inherit;white-space:pre;"  # whatever the page's theme says


@functools.lru_cache(maxsize=64)
def highlighted(source: str, language: str) -> tuple[str, ...]:
    """The source as lines of HTML, with colours that need no style sheet and are read on light and on dark paper."""
    from pygments import formatters, highlight, lexers, token  # type: ignore[import-untyped]
    from pygments.style import Style  # type: ignore[import-untyped]

    own = {token.Keyword: style.VIOLET, token.Operator.Word: style.VIOLET, token.Comment.Preproc: style.VIOLET,
           token.Comment: style.GREEN, token.String: style.ROSE}  # fmt: skip
    look = type("Look", (Style,), {"styles": own})
    lexer = lexers.get_lexer_by_name(language, stripnl=False)
    return tuple(
        highlight(source, lexer, formatters.HtmlFormatter(nowrap=True, noclasses=True, style=look)).splitlines()
    )


def code_panel(title: str, source: str, language: str, height: int) -> str:
    """Scrolls with the mouse, and with the arrow keys when it has the focus."""
    code = "\n".join(highlighted(source, language))
    return (
        f'<div style="flex:1 1 380px;min-width:0"><div style="font-weight:600;margin:2px 0">{html.escape(title)}</div>'
        f'<div tabindex="0" role="region" aria-label="{html.escape(title)}" '
        f'style="{CARD}max-height:{height}px;overflow:auto;padding:6px 8px">'
        f'<pre style="{CODE}{PLAIN}">{code}</pre></div></div>'
    )


def loop_panel(run: Stepped, moment: int) -> str:
    """The kernel's loop with an arrow at the current line; lines that this variant never runs are pale."""
    first, lines = body(run.source, run.kernel)
    current = int(run.lines[moment]) if moment >= 0 else 0
    shown = []
    for number, line in enumerate(highlighted("\n".join(lines), "python"), start=first):
        here = number == current
        look = "background:#b0880040;outline:1px solid #b08800;" if here else ""
        look += "" if number in run.ran else "opacity:.7;"
        mark = "▶" if here else " "
        shown.append(f'<div style="{look}">{number:3d} {mark} {line or " "}</div>')
    head = f"kernels/{run.kernel}.py, run as plain Python; on a GPU every thread has an i of its own"
    return (
        f'<div style="font-weight:600;line-height:1.3;margin:2px 0">{head}</div>'
        f'<div tabindex="0" role="region" aria-label="source of the kernel, at line {current}" '
        f'style="{CARD}{BOUND}overflow-x:auto;padding:6px 4px">'
        f'<pre style="{CODE}{PLAIN}">{"".join(shown)}</pre></div>'
    )


def register_table(run: Stepped, moment: int) -> str:
    """Every thread's own variables after this moment."""
    values = run.registers[moment] if moment >= 0 else np.full(run.registers.shape[1:], np.nan)
    rows = [
        [name, *("" if np.isnan(value) else f"{value:.3g}" for value in row)]
        for name, row in zip(run.names, values, strict=True)
    ]
    return table(["thread", *range(run.threads)], rows, "Registers: every thread's own variables")


def traffic_table(run: Stepped, moment: int) -> str:
    """Words up to this moment, and per element-step at the end, beside what follows from the equations."""
    counted, derived = run.counted(), run.derived()
    rows: list[list[Any]] = [
        [f"{array} {action}", run.words(array, action, moment), counted.get((array, action), 0), words]
        for (array, action), words in derived.items()
    ]
    rows.append(["together", sum(row[1] for row in rows), sum(counted.values()), sum(derived.values())])
    ends = sum(run.words(name, "read", moment) for name in ENDS)
    kept = sum(run.words(name, action, moment) for name in REGISTERS for action in ("read", "write"))
    rows.append(["first state (once)" if run.kernel == "forward" else "last gradient (once)", ends, "", ""])
    rows.append(["registers (no traffic)", kept, "", ""])
    head = ["", "so far", "total, per element-step", "from the equations"]
    return table(head, rows, "Words of memory, all threads")


def table(head: Sequence[Any], rows: list[list[Any]], caption: str) -> str:
    """A small HTML table, with row heads."""
    cell = "padding:1px 7px;border-bottom:1px solid #8c959f55;white-space:nowrap;"
    top = "".join(f'<th scope="col" style="{cell}text-align:right">{html.escape(str(h))}</th>' for h in head)
    body = "".join(
        f'<tr><th scope="row" style="{cell}text-align:left">{html.escape(str(row[0]))}</th>'
        + "".join(f'<td style="{cell}text-align:right">{html.escape(str(c))}</td>' for c in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div style="{CARD}{BOUND}padding:4px 6px;overflow-x:auto"><table style="{CODE}border-collapse:collapse;margin:0">'
        f'<caption style="text-align:left;caption-side:top;font-weight:600">{html.escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )

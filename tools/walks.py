"""The picture of the three walks: `python tools/walks.py` records them and writes docs/walks.svg and notebooks/walks.svg.

A small network runs step by step, layer by layer and fused, and `what_ran` records it. The picture replays the three records
side by side on one clock, where one tick is one launch. It moves by CSS alone, so it moves as an <img> too; for readers who
prefer reduced motion it stands still at tick STILL. It loads nothing, and brings its own paper, light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from string import Template

from tfexplore.explore.base import style
from tfexplore.explore.schedules.walks import BATCH, NETWORKS, Piece, Walk, example, example_input, grid

ROOT = Path(__file__).resolve().parent.parent
# Learners copy the notebooks without docs/, so they have one of their own.
FILES = ROOT / "docs" / "walks.svg", ROOT / "notebooks" / "walks.svg"
ORDERS = {
    "step by step": "each time step through all layers",
    "layer by layer": "each layer through all time steps",
    "fused": "each layer in a single launch",
}
STEPS = 8

# The explorers' colours. Here words are small, so muted ones are darker.
WALK = {"step by step": style.STEPPED, "layer by layer": style.LAYERED, "fused": style.FUSED}
DONE = style.DONE
LIGHT = {
    "ink": style.INK, "muted": "#616e7c", "line": style.GRID, "paper": style.PAPER, "wait": style.WAITING, "done": DONE,
}  # fmt: skip
DARK = {"ink": "#e5e7eb", "muted": "#9aa5b1", "line": "#374151", "paper": "#111827", "wait": "#1f2937", "done": DONE}

TICK, LEAD, REST = 0.06, 14, 56  # seconds a tick; ticks of rest before the first launch and after the last
STILL = 40  # the tick at which the picture stands for readers who prefer reduced motion
LEFT, TOP, WIDTH, GUTTER = 98, 176, 300, 30  # of the grids
ROW, GAP, LINE = 34, 4, 48  # heights of a row and of a counter's line; the gap between two cells


@dataclass(frozen=True)
class Record:
    """A walk of the schedules explorer, its layers, and what it had cost when each of its pieces ended."""

    walk: Walk
    layers: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.walk.name

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.walk.pieces

    @property
    def ends(self) -> list[int]:
        """The tick at which each piece ends, and after them the work outside: the outputs are stacked last."""
        return list(accumulate([*(piece.launches for piece in self.pieces), self.walk.outside[0]]))

    @property
    def words(self) -> list[int]:
        """Those moved by then."""
        return list(accumulate([*(piece.words for piece in self.pieces), self.walk.outside[1]]))


def walks() -> list[Record]:
    """The three walks of the schedules explorer's first network, recorded now."""
    found = grid(example(NETWORKS[0]), example_input(STEPS))
    return [Record(walk, found.kinds) for walk in found.walks.values()]


class Picture:
    """Draws; `motion` gathers the rules by which its parts move."""

    def __init__(self, walks: list[Record]) -> None:
        self.walks = walks
        self.launches = max(walk.ends[-1] for walk in walks)
        self.words = max(walk.words[-1] for walk in walks)
        self.ticks = LEAD + self.launches + REST
        self.bottom = TOP + len(walks[0].layers) * ROW
        self.motion: list[str] = []

    def svg(self) -> str:
        """The whole file."""
        layers = self.walks[0].layers
        panels = [self.panel(number, walk) for number, walk in enumerate(self.walks)]
        names = [(LEFT - 14, self.bottom - row * ROW - ROW / 2, name) for row, name in enumerate(layers)]
        totals = "; ".join(f"{walk.name}: {walk.ends[-1]:,} launches, {walk.words[-1]:,} words" for walk in self.walks)
        style = STYLE.substitute(
            light=variables(LIGHT),
            dark=variables(DARK),
            own="".join(f".w{number}{{--own:{WALK[walk.name]}}}" for number, walk in enumerate(self.walks)),
            seconds=f"{self.ticks * TICK:g}s",
            line=LINE,
            motion="\n".join(self.motion),
        )
        return FILE.substitute(
            style=style,
            totals=totals,
            grid=f"{len(layers)} layers, {STEPS} time steps, a batch of {BATCH}",
            numbers=strip(range(self.launches + 1)),
            layers="\n".join(f'<text class="layer" x="{x}" y="{y:g}">{name}</text>' for x, y, name in names),
            panels="\n".join(panels),
        )

    def panel(self, number: int, walk: Record) -> str:
        """One walk: its name, the cells that wait, the bars over them, a check mark when all is done, and its counters."""
        ends, y = walk.ends, self.bottom
        spans = zip(walk.pieces, [0, *ends], ends, strict=False)
        bars = [self.bar(f"b{number}-{k}", *span) for k, span in enumerate(spans)]
        self.moves(f"d{number}", (ends[-1], "opacity:0"), (ends[-1] + 4, "opacity:1"))
        one_by_one = f"transform:none;animation-timing-function:steps({ends[-1]})"
        self.moves(f"l{number}", (0, one_by_one), (ends[-1], f"transform:translateY({-LINE * ends[-1]}px)"))
        self.moves(f"l{number}-bar", (0, "transform:scaleX(0)"), (ends[-1], "transform:none"))
        self.jumps(f"m{number}", "none", ((end, f"translateY({-LINE * k}px)") for k, end in enumerate(ends, 1)))
        grown = [f"scaleX({words / walk.words[-1]:.3g})" for words in walk.words]
        self.jumps(f"m{number}-bar", "scaleX(0)", zip(ends, grown, strict=True))
        launches = min(STILL, ends[-1])
        past = sum(end <= STILL for end in ends)
        words = [0, *walk.words]
        return PANEL.substitute(
            number=number,
            x=LEFT + number * (WIDTH + GUTTER),
            name=walk.name,
            order=ORDERS[walk.name],
            cells="".join(cell(t, row) for row in range(len(walk.layers)) for t in range(STEPS)),
            bars="\n".join(bars),
            seen=int(ends[-1] <= STILL),
            launches=meter(
                f"l{number}", y + 32, "launches", '<use href="#n"/>', launches, launches, ends[-1], self.launches
            ),
            words=meter(f"m{number}", y + 88, "words", strip(words), past, words[past], words[-1], self.words),
        )

    def bar(self, name: str, piece: Piece, begin: int, end: int) -> str:
        """One piece of work: grows while its launches run, in its walk's colour, and then becomes a done cell."""
        own, done = "fill:var(--own)", "fill:var(--done)"
        whole = "transform:none"
        self.moves(name, (begin, f"transform:scaleX(0);{own}"), (end, f"{whole};{own}"), (end + 8, f"{whole};{done}"))
        part = min(max((STILL - begin) / (end - begin), 0), 1)
        still = f"transform:scaleX({part:.3g});{own};" if part < 1 else ""
        x, width = piece.first * WIDTH / STEPS + GAP / 2, (piece.last - piece.first) * WIDTH / STEPS - GAP
        y = self.bottom - (piece.row + 1) * ROW + GAP / 2
        return (
            f'<rect class="bar" x="{x:g}" y="{y:g}" width="{width:g}" height="{ROW - GAP}" rx="5" '
            f'style="{still}animation-name:{name}"/>'
        )

    def at(self, tick: float) -> str:
        """A tick as a percentage of the loop."""
        return f"{100 * (LEAD + tick) / self.ticks:.4g}%"

    def moves(self, name: str, *frames: tuple[int, str]) -> None:
        """From one look to the next without a jump; the first holds from the beginning, the last to the end."""
        (first, start), *between, (last, end) = frames
        moves = "".join(f"{self.at(tick)}{{{look}}}" for tick, look in between)
        self.motion.append(f"@keyframes {name}{{0%,{self.at(first)}{{{start}}}{moves}{self.at(last)},100%{{{end}}}}}")

    def jumps(self, name: str, still: str, frames: Iterable[tuple[int, str]]) -> None:
        """`still` holds until the first frame, and every frame until the next (`.jump`)."""
        looks = "".join(f"{self.at(tick)}{{transform:{look}}}" for tick, look in frames)
        self.motion.append(f"@keyframes {name}{{0%{{transform:{still}}}{looks}}}")


def variables(colours: dict[str, str]) -> str:
    """Colours as CSS variables."""
    return ";".join(f"--{name}:{colour}" for name, colour in colours.items())


def cell(t: int, row: int) -> str:
    """One cell that waits, as a piece of a path."""
    width, height, r = WIDTH / STEPS - GAP, ROW - GAP, 5
    start = f"M{t * WIDTH / STEPS + GAP / 2 + r:g} {TOP + row * ROW + GAP / 2:g}"
    across, down = width - 2 * r, height - 2 * r
    return f"{start}h{across:g}q5 0 5 5v{down}q0 5-5 5h-{across:g}q-5 0-5-5v-{down}q0-5 5-5z"


def strip(numbers: Iterable[int]) -> str:
    """Numbers one below the other; a counter is a window behind which they move."""
    lines = "".join(f'<tspan x="0" dy="{LINE}">{number:,}</tspan>' for number in numbers)
    return f'<text y="{36 - LINE}">{lines}</text>'


def meter(name: str, y: int, unit: str, numbers: str, line: int, value: int, total: int, most: int) -> str:
    """A counter above its bar. At tick STILL it shows a line of its strip, which is `value`. The longest bar is `most`."""
    return METER.substitute(
        name=name,
        unit=unit,
        numbers=numbers,
        line=-LINE * line,
        part=f"{value / total:.3g}",
        total=f"{total:,}",
        width=f"{WIDTH * total / most:.4g}",
        kind="jump" if unit == "words" else "",
        y=y,
        text=y + 36,
        bar=y + 44,
    )


STYLE = Template("""\
svg{$light;font-family:system-ui,-apple-system,"Segoe UI",sans-serif;font-variant-numeric:tabular-nums;fill:var(--ink)}
$own
@media (prefers-color-scheme:dark){svg{$dark}}
.card{fill:var(--paper);stroke:var(--line)}
.title{font-size:27px;font-weight:700;letter-spacing:-.3px}
.sub,.order,.of,.foot{fill:var(--muted);font-size:15px}
.name{font-size:21px;font-weight:700}
.layer,.time{fill:var(--muted);font-size:14px;text-anchor:end;dominant-baseline:central}
.time{text-anchor:middle}
.unit{font-size:17px}
.of,.count{text-anchor:end}
.count{font-size:27px;font-weight:700;transform:translateX(208px)}
.wait,.track{fill:var(--wait)}
.own{fill:var(--own)}
.bar{fill:var(--done)}
.bar,.meter{transform-box:fill-box;transform-origin:left}
.check path{fill:none;stroke:#fff;stroke-width:2.5;stroke-linecap:round;stroke-linejoin:round}
.w1 .check path{stroke:#1f2933}
@media (max-width:600px){
.title{font-size:43px}
.sub{font-size:28px;transform:translateY(12px)}
.order,.of,.foot,.time{display:none}
.head{transform:translateY(20px)}
.name{font-size:33px}
.layer{font-size:23px}
.unit{font-size:29px}
.count{font-size:38px;transform:translateX(300px)}
}
@media (prefers-color-scheme:dark){.check path{stroke:#111827}}
@media (prefers-reduced-motion:no-preference){
.bar,.strip,.meter,.check,.live{animation:none $seconds linear infinite}
.jump{animation-timing-function:step-end}
.live{animation-name:live}
}
@keyframes live{0%{opacity:0}1%,98%{opacity:1}99.5%,100%{opacity:0}}
$motion
""")

FILE = Template("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1088 540" width="1088" height="540" role="img" aria-labelledby="t d">
<title id="t">Three walks through one spiking network: step by step, layer by layer, and fused</title>
<desc id="d">$totals.
The fused walk is done when the others have hardly begun. Recorded on $grid; replayed at one launch per tick.</desc>
<style>
$style</style>
<defs><g id="n">$numbers</g></defs>
<rect class="card" x=".5" y=".5" width="1087" height="539" rx="18"/>
<text class="title" x="30" y="56">Three walks through one spiking network</text>
<text class="sub" x="30" y="86">Recorded as they ran, replayed side by side at one launch per tick.</text>
$layers
$panels
<text class="foot" x="98" y="520">A launch starts one operation; a word is one number read or written. Here: $grid.</text>
</svg>
""")

PANEL = Template("""\
<g class="w$number" transform="translate($x)">
<g class="head"><circle class="own" cx="8" cy="123" r="8"/><text class="name" x="26" y="130">$name</text></g>
<text class="order" y="156">$order</text>
<path class="wait" d="$cells"/>
<g class="live">
$bars
<g class="head"><g class="check" style="opacity:$seen;animation-name:d$number">
<circle class="own" cx="287" cy="123" r="11"/><path d="M282 123l4 4 7-8"/></g></g>
</g>
<text class="time" x="150" y="362">time steps →</text>
$launches
$words
</g>""")

METER = Template("""\
<text class="unit" y="$text">$unit</text><text class="of" x="300" y="$text">of $total</text>
<svg y="$y" width="300" height="42"><g class="count"><g class="live"><g class="strip $kind" \
style="transform:translateY(${line}px);animation-name:$name">$numbers</g></g></g></svg>
<rect class="track" y="$bar" width="$width" height="6" rx="3"/>
<g class="live"><rect class="own meter $kind" y="$bar" width="$width" height="6" rx="3" \
style="transform:scaleX($part);animation-name:$name-bar"/></g>""")


def main() -> None:
    """Record, draw, write."""
    text = Picture(walks()).svg()
    for path in FILES:
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{path.relative_to(ROOT)}: {len(text.encode()):,} bytes")


if __name__ == "__main__":
    main()

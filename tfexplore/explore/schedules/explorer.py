"""The schedules explorer: the order in which a network really walked its (layer, time) cells, played piece by piece."""

from __future__ import annotations

import math

import plotly.graph_objects as go
from torch import Tensor, nn

from tfexplore.backends import choose
from tfexplore.explore.base.controls import Choice, Play, Slider, moved
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.plotly_sheet import playing
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.schedules import figure
from tfexplore.explore.schedules.walks import NETWORKS, WALKS, Grid, Walk, check, example, example_input, grid
from tfexplore.neurons.parameters import checked_count

MOST_CELLS, MOST_FRAMES = 600, 80


class Schedules(Explorer):
    r"""Plays the recorded order in which the cells of the (layer, time) grid were executed, and what each piece cost.

    Step by step, a network of L layers runs all of them for one time step after the other; layer by layer, each runs all T
    steps before the next begins; fused, such a layer's T steps are one kernel. Nothing is made up: the network is run in all
    three ways, and every piece of work, its launches and its words of memory are recorded.

    Args:
        net: a network of yours; without it, small ones to choose from.
        x: its input, of shape `[T, B, *features]`.
        network: the small network shown first: "feed-forward", "recurrent layer" or "feedback".
        walk: the walk shown first: "step by step", "layer by layer" or "fused".
        steps: time steps `T`, at most those of x; by default 8 or fewer.

    Controls: network (only without net), walk, steps, play, piece (how many pieces of work have run; none at first).

    Result: `tfexplore.explore.schedules.walks.Grid`, with every walk's pieces, launches, words and unmet needs.

    Raises:
        TypeError: if net or x is missing or no network or tensor.
        ValueError: if net does not run on x, or another argument is none of those allowed.

    Example:
        >>> from tfexplore import explore
        >>> made = explore.schedules()
        >>> made.controls["walk"].value = "fused"
        >>> len(made.shown.pieces), made.shown.launches
        (5, 5)
    """

    caption = (
        "Each bar is one piece of work that was executed, numbered in the order of execution; the arrows are what the "
        "current piece needs. The curves count the launches and the words moved: thin for the whole of each walk, thick as "
        "far as the one on the left has come."
    )

    network = Choice("network", NETWORKS, help="what is connected to what")
    walk = Choice("walk", WALKS, help="the order in which the cells are executed")
    steps = Slider("time steps T", 1, 16, help="time steps in one pass")
    piece = Slider("pieces done", 0, 1, help="how many pieces of work have been executed", live=True)
    play = Play("play the walk", of="piece", help="play the walk, piece by piece")

    def __init__(
        self, net: nn.Module | None = None, x: Tensor | None = None, *, network: str = NETWORKS[0], walk: str = WALKS[0],
        steps: int | None = None,
    ) -> None:  # fmt: skip
        if net is None and x is not None:
            raise TypeError("net is missing: give the network that x is for, or neither of the two.")
        most = type(self).steps.high
        if net is not None:
            x = check(net, x)
            most = min(len(x), max(1, MOST_CELLS // len(grid(net, x[:1]).rows)))
        steps = min(8, most) if steps is None else steps
        checked_count("steps", steps, most)
        self.net, self.x = net, x
        super().__init__(
            network=network if net is None else None, walk=walk, steps=type(self).steps.at(steps, high=most)
        )

    @property
    def shown(self) -> Walk:
        """The walk that is shown."""
        found: Walk = self.result.walks[self.walk]
        return found

    # -- what the controls do --------------------------------------------------------------------------------------

    def look(self) -> Grid:
        if self.net is None or self.x is None:
            return grid(example(self.network), example_input(self.steps))
        return grid(self.net, self.x[: self.steps])

    def update(self) -> None:
        """Another grid."""
        self.result = self.look()
        self.rewind()

    @moved("walk")
    def rewind(self) -> None:
        """Another walk: it is shown from its beginning."""
        with self.quietly():
            self.controls["piece"].max = len(self.shown.pieces)
            self.piece = self.play = 0
        self.move()

    @moved("piece")
    def move(self) -> None:
        """The player stands somewhere else."""
        self.draw()
        at_an_end = self.piece in (0, len(self.shown.pieces))
        self.say(self.sentence(), alarm=bool(self.shown.refusal) and at_an_end)

    # -- what is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.shown, self.piece)

    def sentence(self) -> str:
        walk, position = self.shown, self.piece
        done, name = walk.pieces[:position], walk.name.capitalize()
        if position == 0:
            refusal = f" The library refuses it: {walk.refusal}" if walk.refusal else ""
            return f"{name}: nothing has run yet. Press play, or move the slider with the arrow keys.{refusal}"
        if position == len(walk.pieces):
            return self.summary()
        launches, words = sum(p.launches for p in done), sum(p.words for p in done)
        piece, bad = done[-1], " It needs spikes that are not there yet (×)." if done[-1].unmet else ""
        where = f"{figure.label(self.result, piece.row)}, {figure.when(piece)}"
        return f"{name}, piece {position} of {len(walk.pieces)}: {where}. So far {launches:,} launches, {words:,} words.{bad}"

    def summary(self) -> str:
        """What the whole walk cost, whether the library allows it, and whether its result is right."""
        walk, stepped = self.shown, self.result.walks[WALKS[0]]
        if walk.refusal:
            unmet = f" {len(walk.unmet)} cells (×) needed what was not there yet." if walk.unmet else ""
            return f"The library refuses: {walk.refusal} Run anyway:{unmet} {walk.verdict()}".strip()
        cost = f"{len(walk.pieces)} pieces of work, {walk.launches:,} launches, about {rounded(walk.words)} words moved"
        if walk is not stepped:
            cost += f"; step by step took {stepped.launches:,} launches and {rounded(stepped.words)} words"
        if walk.name == "fused" and walk.pieces == self.result.walks["layer by layer"].pieces:
            device = "cpu" if self.x is None else self.x.device
            cost += f". Nothing was fused here ({choose('auto', device).reason})"
        return f"{walk.name.capitalize()}: {cost}. {walk.verdict()}".strip()

    def page(self) -> go.Figure:
        """The chosen walk, played by itself."""
        total = len(self.shown.pieces)
        stops = sorted({*range(0, total, -(-total // MOST_FRAMES)), total, self.piece})
        sheets = {str(k): figure.sheet(self.result, self.shown, k) for k in stops}
        return playing(sheets, str(self.piece), "pieces done", interval=400)


def rounded(count: int) -> str:
    """Two digits are enough to compare.

    >>> rounded(500_368)
    '500,000'
    """
    return f"{round(count, 1 - int(math.log10(max(count, 1)))):,}"

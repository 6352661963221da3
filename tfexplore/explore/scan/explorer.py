"""The scan explorer: what is parallel in time, played round after round on one neuron."""

from __future__ import annotations

import plotly.graph_objects as go

from tfexplore.explore.base.controls import Choice, Play, Slider, moved
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.plotly_sheet import playing
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.scan import figure
from tfexplore.explore.scan.ways import GUESSES, SCANS, WAYS, Played, current, play, without_reset
from tfexplore.neurons.library import LIF

ROWS, MOST_FRAMES = 24, 40
CHUNKED = ("chunked scan", "speculative chunks")


class Scan(Explorer):
    r"""Plays the ways over time of one LIF neuron: scans where it has no reset, guesses where it has one.

    Without a reset a step is affine, :math:`v_t = a\, v_{t-1} + b_t`, and two steps are one,
    :math:`(a_2, b_2) \circ (a_1, b_1) = (a_2 a_1,\ a_2 b_1 + b_2)`: steps may be combined in any grouping. With a reset, spikes
    or states are guessed and the guess is repeated until nothing changes, which gives exactly what the loop gives. Every round
    is really computed; the cells of one need nothing of each other, so its depth is what a machine with enough cores would wait.

    Args:
        way: the way shown first, one of `tfexplore.explore.scan.ways.WAYS`.
        steps: time steps `T`.
        chunk: steps of a chunk, where there are chunks.
        tau: membrane time constant, in time steps.
        strength: the mean of the input current, in units of the threshold.
        reset: "soft" or "hard", where the way takes a neuron with a reset.

    Controls: those, play, and `rounds` (how many have run).

    Result: `tfexplore.explore.scan.ways.Played`.

    Raises:
        ValueError: if an argument is none of those allowed.

    Example:
        >>> from tfexplore import explore
        >>> made = explore.scan(way="tree scan", steps=32)
        >>> made.result.work(), made.result.depth()
        (57, 9)
        >>> made.way = "fixed point"
        >>> len(made.result.rounds) <= 32
        True

    Blelloch, Prefix Sums and Their Applications, 1990.
    """

    caption = (
        "Above: a row for each round, a column for each time step; dots were computed in that round, crosses in vain, green is "
        "final. Below: the potential as it is known. Right: operations in total against those that wait for each other."
    )

    way = Choice("way over time", WAYS, help="how the time steps are computed")
    steps = Slider("time steps T", 4, 64, help="of the one neuron that is shown")
    chunk = Slider("steps of a chunk", 2, 16, help="where time is cut into chunks")
    tau = Slider("time constant τ", 1.5, 20.0, step=0.5, help="of the leak, in time steps")
    strength = Slider("input current", 0.1, 1.2, step=0.05, help="its mean, in units of the threshold")
    reset = Choice("reset", ("soft", "hard"), help="what a spike does to the potential")
    rounds = Slider("rounds done", 0, 1, help="how many rounds have run", live=True)
    play = Play("play the rounds", of="rounds", help="play the rounds, one after the other", interval=500)

    def __init__(
        self, *, way: str = "tree scan", steps: int = 32, chunk: int = 8, tau: float = 4.0, strength: float = 0.35,
        reset: str = "soft",
    ) -> None:  # fmt: skip
        super().__init__(way=way, steps=steps, chunk=chunk, tau=tau, strength=strength, reset=reset)

    def look(self) -> Played:
        neuron, x = LIF(tau=self.tau, reset=self.reset), current(self.steps, self.strength)
        self.ways = [play(way, without_reset(way, neuron), x, self.chunk) for way in WAYS]
        return next(each for each in self.ways if each.way == self.way)

    # -- what the controls do --------------------------------------------------------------------------------------

    def update(self) -> None:
        """Another neuron, current or way: all of its rounds are shown."""
        self.result = self.look()
        self.show_control("chunk", self.way in CHUNKED)
        self.show_control("reset", self.way in GUESSES)
        with self.quietly():
            self.controls["rounds"].max = len(self.result.rounds)
            self.rounds = len(self.result.rounds)
        self.move()

    @moved("rounds")
    def move(self) -> None:
        self.draw()
        self.say(self.sentence())

    # -- what is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return self.at(self.rounds)

    def at(self, rounds: int) -> Sheet:
        """The figure after so many rounds, beside the ways that take the same kind of neuron."""
        alike = SCANS if self.way in SCANS else (SCANS[0], *GUESSES)
        return figure.sheet(self.result, rounds, [each for each in self.ways if each.way in alike], ROWS)

    def sentence(self) -> str:
        return self.result.sentence(self.rounds)

    def page(self) -> go.Figure:
        """The rounds, played by themselves."""
        total = len(self.result.rounds)
        stops = sorted({*range(0, total, -(-total // MOST_FRAMES)), total, self.rounds})
        return playing({str(k): self.at(k) for k in stops}, str(self.rounds), "rounds done", interval=500)

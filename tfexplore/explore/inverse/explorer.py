"""The inverse explorer: levels played forward, and backwards from their last states, until a spike flips."""

from __future__ import annotations

import plotly.graph_objects as go
from torch import Tensor

from tfexplore.explore.base.controls import Choice, Play, Slider, moved
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.plotly_sheet import playing
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.inverse import figure
from tfexplore.explore.inverse.backwards import DTYPES, READS, Backwards, example, example_input, look
from tfexplore.nn.checks import check_input
from tfexplore.reversible import ReversibleTime

MOST_FRAMES = 40


class Inverse(Explorer):
    r"""Plays the inverse of levels beside what they were: :math:`c_{t-1} = (c_t - F) / \alpha`, from the last step back.

    Each step multiplies the error of the state by :math:`1/|\alpha|`. As long as no neuron is seen on the other side of its
    threshold the gradients are exact; with the first flipped spike the inverse becomes that of another network.

    Args:
        net: a `ReversibleTime` of yours; without it, three levels of 48, 32 and 24 neurons.
        x: its input, `[T, B, *features]`.
        alpha: what is left of a state after a step, without net.
        steps: time steps `T`, at most those of x.
        read: how the levels see each other, without net: "as spikes" or "as numbers".
        precision: "float32" or "float64", without net.

    Controls: alpha, read, precision (only without net), steps, level, neuron, play, back (how many steps have been inverted).

    Result: `tfexplore.explore.inverse.backwards.Backwards`, in `exactness` the errors and flips of every level and step.

    Raises:
        TypeError: if net or x is missing, or is none.
        ValueError: if net does not run on x, or another argument is none of those allowed.

    Example:
        >>> from tfexplore import explore
        >>> inverse = explore.inverse(alpha=0.5, steps=8)
        >>> bool(inverse.result.exactness.flips.any())
        False

    Hu et al., High-Performance Temporal Reversible Spiking Neural Networks, ICML 2024.
    """

    caption = (
        "Above: the state of one neuron, forward and as the inverse finds it again; ticks are the steps at which the other "
        "levels see a spike of it. Below: the largest error in each level on a logarithmic axis, with what rounding alone "
        "predicts, and how many neurons are seen on the wrong side of their threshold."
    )

    alpha = Slider("α", 0.1, 1.0, step=0.05, help="what is left of a state after a step")
    steps = Slider("time steps T", 2, 96)
    read = Choice("levels are seen", READS, help="through neurons without memory, or as they are")
    precision = Choice("precision", tuple(DTYPES), help="24 bits of mantissa (float32) or 53 (float64)")
    level = Slider("level shown", 0, 2)
    neuron = Slider("neuron shown", 0, 1)
    back = Slider("steps back", 0, 1, help="how many steps have been inverted", live=True)
    play = Play("play backwards", of="back", help="invert step after step", interval=250)

    def __init__(
        self, net: ReversibleTime | None = None, x: Tensor | None = None, *, alpha: float = 0.5, steps: int | None = None,
        read: str = READS[0], precision: str = "float32",
    ) -> None:  # fmt: skip
        if (net is None) != (x is None):
            raise TypeError(
                f"{'net' if net is None else 'x'} is missing: give a ReversibleTime and its input, or neither."
            )
        kind = type(self)
        most = int(kind.steps.high)
        if net is not None:
            if not isinstance(net, ReversibleTime):
                raise TypeError(f"net must be a ReversibleTime, but got {type(net).__name__}.")
            check_input(x)
            assert x is not None
            most = min(most, len(x))
        if read not in READS or precision not in DTYPES:
            raise ValueError(
                f"read must be one of {READS} and precision one of {tuple(DTYPES)}, but got {read!r}, {precision!r}."
            )
        self.net, self.x = net, x
        mine = (
            {"alpha": alpha, "read": read, "precision": precision}
            if net is None
            else dict.fromkeys(("alpha", "read", "precision"))
        )
        fixed = net is not None and net.own
        super().__init__(**mine, steps=None if fixed else kind.steps.at(min(steps or 24, most), high=most))

    def look(self) -> Backwards:
        if self.net is None or self.x is None:
            precision = self.precision
            return look(example(self.alpha, self.read, precision), example_input(self.steps, precision))
        steps = self.steps if "steps" in self.controls else len(self.x)
        return look(self.net, self.x[:steps])

    # -- what the controls do --------------------------------------------------------------------------------------

    def update(self) -> None:
        """Other levels: the whole inverse is shown."""
        self.result = self.look()
        with self.quietly():
            self.controls["level"].max = len(self.result.there) - 1
            self.controls["back"].max = self.result.steps - 1
            self.back = self.result.steps - 1
        self.choose()

    @moved("level", "neuron")
    def choose(self) -> None:
        with self.quietly():
            self.controls["neuron"].max = self.result.there[self.level].shape[1] - 1
        self.move()

    @moved("back")
    def move(self) -> None:
        self.draw()
        flips = self.result.exactness.flips[:, self.result.steps - 1 - self.back :].any()
        self.say(self.sentence(), alarm=bool(flips))

    # -- what is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.level, self.neuron, self.back)

    def sentence(self) -> str:
        return self.result.sentence(self.back)

    def page(self) -> go.Figure:
        """The inverse, played by itself."""
        total = self.result.steps - 1
        stops = sorted({*range(0, total, -(-total // MOST_FRAMES)), total, self.back})
        sheets = {str(k): figure.sheet(self.result, self.level, self.neuron, k) for k in stops}
        return playing(sheets, str(self.back), "steps back", interval=250)

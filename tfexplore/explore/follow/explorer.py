"""The explorer of a loss on the potential: the weights of one neuron are trained, live, until its potential follows a curve."""

from __future__ import annotations

from collections.abc import Iterator

from tfexplore.explore.base.controls import Choice, Slider
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.follow import figure
from tfexplore.explore.follow.fitting import CURVES, ROUNDS, WHERE, Fit, curve, training
from tfexplore.neurons.library import LIF

DRAWN = 10  # rounds from one drawing to the next


class Follow(Runner):
    r"""A loss on the potential: one LIF neuron learns the weights of three hundred inputs, so that its potential follows a curve.

    The inputs fire at random, in the same way at every round. The loss compares the charged potential h[t], before the reset,
    with the curve r[t], at every step or at the last one only, through the trace that the fused kernel writes (`layer(x,
    trace="h")`):

    .. math:: L = \frac{1}{T} \sum_t (h_t - r_t)^2

    Args:
        curve: "sine", "two bumps" or "steps".
        where: the steps at which the loss compares: "every step" or "the last step".
        tau: the membrane time constant, in time steps.
        threshold: where the neuron fires; below the curve it fires on the way.

    Controls: curve, where, tau, threshold, start, stop.

    Result: `tfexplore.explore.follow.fitting.Fit`, with `potential`, `spikes` and `gradient`, each `[T]`, and the `losses`.

    Raises:
        ValueError: if curve or where is none of those allowed, or tau or threshold is out of range.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> result = asyncio.run(explore.follow().run())
        >>> result.distance < 0.05
        True
    """

    caption = (
        "Above: the potential of one neuron, and the curve that it must follow. Below: the gradient of the loss with respect to "
        "its current at every step. Right: the loss of every round of training."
    )

    curve = Choice("curve to follow", CURVES)
    where = Choice("the loss looks at", WHERE, help="the steps at which the loss compares potential and curve")
    tau = Slider("time constant τ", 1.0, 50.0, step=0.5, help="membrane time constant, in time steps")
    threshold = Slider("threshold", 0.2, 2.0, step=0.1, help="potential from which the neuron fires")

    def __init__(
        self, curve: str = "sine", where: str = "every step", *, tau: float = 5.0, threshold: float = 1.0
    ) -> None:
        for name, value, allowed in (("curve", curve, CURVES), ("where", where, WHERE)):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, but got {value!r}.")
        LIF(tau=tau, v_threshold=threshold)  # says what is wrong with them
        super().__init__(curve=curve, where=where, tau=float(tau), threshold=float(threshold))

    def look(self) -> Fit:
        made = Fit(LIF(tau=self.tau, v_threshold=self.threshold), curve(self.curve), self.where)
        next(training(made))  # untrained
        return made

    def work(self, result: Fit) -> Iterator[object]:
        result.losses.clear()
        rounds = training(result)
        for k in range(ROUNDS + 1):
            next(rounds)
            if k % DRAWN == 0:
                self.draw()
                self.say(result.sentence())
            yield None

    def sheet(self) -> Sheet:
        return figure.sheet(self.result)

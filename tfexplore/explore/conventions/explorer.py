"""The conventions explorer: one leaky neuron with the same numbers in six libraries, two of them compared."""

from __future__ import annotations

from tfexplore.explore.base.controls import Choice, Scale, Slider, Tick
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.conventions import figure
from tfexplore.explore.conventions.traces import KINDS, NAMES, Traces, look

STEPS = {0.5: "0.5 ms", 1.0: "1 ms", 2.0: "2 ms", 5.0: "5 ms"}


class Conventions(Explorer):
    r"""A leaky integrate-and-fire neuron, :math:`\tau \dot v = -v + x`, as six libraries compute it.

    Same time constant, threshold and current, and yet other spikes: they differ in how a step is taken, in whether the input is
    divided by :math:`\tau`, in when they compare with the threshold and how, and in the reset. No library is needed: each one's
    equations are a neuron here (`exchange.convention`), which tests compare with the library itself.

    Args:
        library: the one that is looked at: "exact", "norse", "snntorch", "spikingjelly", "sinabs" or "spyx".
        other: the one it is compared with.
        tau: the membrane time constant, in ms.
        dt: a time step, in ms: 0.5, 1, 2 or 5.

    Controls: library, other, tau, dt, threshold, current, strength, scaled (dt/τ of the current for those that add all of it).

    Result: `tfexplore.explore.conventions.traces.Traces`, with the traces `by_library`.

    Raises:
        ValueError: if an argument is none of those allowed.

    Example:
        >>> from tfexplore import explore
        >>> conventions = explore.conventions("norse", "spikingjelly", tau=10, dt=1)
        >>> conventions.result.apart("norse", "spikingjelly") is None       # the same spikes: Euler, and a reset to 0
        True
    """

    caption = (
        "Above: the current. Middle: the potential that two of the libraries compare with the threshold. Below: the spikes of "
        "all six; the vertical line is the first step in which those two differ."
    )

    library = Choice("library", NAMES)
    other = Choice("compared with", NAMES)
    tau = Slider("time constant τ in ms", 5.0, 50.0, step=0.5)
    dt = Scale("time step", STEPS)
    threshold = Slider("threshold", 0.1, 2.0, step=0.05)
    current = Choice("current", KINDS)
    strength = Slider("strength of the current", 0.2, 5.0, step=0.1)
    scaled = Tick("dt/τ of the current", help="where a library adds all of it, as its users put it in their weights")

    def __init__(self, library: str = "snntorch", other: str = "exact", *, tau: float = 20.0, dt: float = 2.0) -> None:
        super().__init__(
            library=library, other=other, tau=float(tau), dt=float(dt), threshold=1.0, current="pulses", strength=3.0
        )

    def look(self) -> Traces:
        return look(self.tau / 1e3, self.dt / 1e3, self.threshold, self.current, self.strength, self.scaled)

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.library, self.other)

    def sentence(self) -> str:
        found: str = self.result.sentence(self.library, self.other)
        return found

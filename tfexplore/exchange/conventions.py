"""The same leaky neuron as each library computes it, as values: one set of numbers in, another trace from each.

None of the libraries is needed. What each does is on the page "Which library computes what"; tests run the library beside it.
"""

from __future__ import annotations

import math

from tfexplore.exchange import norse, sinabs, slopes, snntorch, spikingjelly
from tfexplore.neurons import surrogates
from tfexplore.neurons.neuron import Neuron, Value
from tfexplore.neurons.parameters import check_between


class Spyx(Neuron):
    """Spyx' LIF: it fires on the potential *before* the input, and then v' = beta v + x - s threshold.

    `seen` is that potential. The reset is not detached.
    """

    states = ("seen", "v")
    resets = ("none",)
    reset: str = "none"
    strict: bool = True
    beta: float = 0.9
    v_threshold: float = 1.0

    def charge(self, seen: Value, v: Value, x: Value) -> tuple[Value, ...]:
        return v, self.beta * v + x

    def after(self, s: Value, seen: Value, v: Value) -> tuple[Value, ...]:
        return (v - s * self.v_threshold,)


LIBRARIES = ("exact", "norse", "snntorch", "spikingjelly", "sinabs", "spyx")
"""What `convention` knows."""


def convention(library: str, *, tau: float, dt: float, v_threshold: float = 1.0) -> Neuron:
    """A leaky integrate-and-fire neuron tau dv/dt = -v + x as a library computes it, with that library's defaults.

    Args:
        library: one of `LIBRARIES`. `"exact"` solves the equation of NIR's LIF for a current that is constant within a step.
        tau: the membrane time constant, in seconds.
        dt: the length of a time step, in seconds; at most tau.
        v_threshold: the threshold.

    Returns:
        The neuron: a `Layer` runs it. With a = exp(-dt / tau):

        ============  ========================  ======  ==================================
        library       charge                    fires   reset
        ============  ========================  ======  ==================================
        exact         a v + (1 - a) x           >       to 0
        norse         v + dt/tau (x - v)        >       to 0
        snntorch      (1 - dt/tau) v + x        >       less one threshold, a step later
        spikingjelly  v + (x - v) dt/tau        >=      to 0
        sinabs        a v + (1 - a) x           >=      less one threshold
        spyx          (1 - dt/tau) v + x        >       so too; it fires before it charges
        ============  ========================  ======  ==================================

    Raises:
        ValueError: for a library that is not known, or numbers that are not positive, or dt above tau.

    Example:
        >>> import torch, tfexplore
        >>> x = torch.full((6, 1, 1), 0.6)
        >>> for name in ("snntorch", "spyx"):
        ...     spikes = tfexplore.Layer(convention(name, tau=0.02, dt=0.01), backend="torch")(x)
        ...     print(name, spikes.flatten().int().tolist())
        snntorch [0, 0, 1, 0, 0, 0]
        spyx [0, 0, 0, 1, 0, 0]
    """
    if library not in LIBRARIES:
        raise ValueError(f"library must be one of {', '.join(map(repr, LIBRARIES))}, but got {library!r}.")
    check_between("tau", tau, 0, above=True)
    check_between("dt", dt, 0, tau, above=True)
    check_between("v_threshold", v_threshold, 0, above=True)
    ratio, kept = dt / tau, math.exp(-dt / tau)
    made: dict[str, Neuron] = {
        "exact": sinabs.LIF(alpha=kept, v_threshold=v_threshold, reset="hard", strict=True),
        "norse": norse.Box(rate=ratio, v_threshold=v_threshold, reset="hard", surrogate=surrogates.SuperSpike(1.0)),
        "snntorch": snntorch.Leaky(beta=1 - ratio, v_threshold=v_threshold),
        "spikingjelly": spikingjelly.LIF(
            tau=tau / dt, decay_input=True, v_threshold=v_threshold, reset="hard", detach_reset=False,
            surrogate=surrogates.Sigmoid(4.0),
        ),
        "sinabs": sinabs.LIF(
            alpha=kept, v_threshold=v_threshold, subtracted=v_threshold,
            surrogate=slopes.Exponential(v_threshold / 2, 2 / v_threshold),
        ),
        "spyx": Spyx(beta=1 - ratio, v_threshold=v_threshold),
    }  # fmt: skip
    return made[library]

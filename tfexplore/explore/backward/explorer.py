"""The surrogate explorer: what stands in for the slope of a step, and how far the gradient then flows back through time."""

from __future__ import annotations

import dataclasses

from tfexplore.explore.backward import figure
from tfexplore.explore.backward.gradient import SCALES, BackwardPass, look
from tfexplore.explore.base.controls import Choice, Slider, Tick, moved
from tfexplore.explore.base.explorer import Explorer, running
from tfexplore.explore.base.sheet import Sheet
from tfexplore.neurons.library import LIF
from tfexplore.neurons.parameters import parameters_of
from tfexplore.neurons.surrogates import ALL, ATan, Surrogate


class SurrogateExplorer(Explorer):
    r"""A surrogate gradient, and how far it lets the gradient flow back through time.

    Forward, a neuron fires where u = h - v_threshold >= 0; backward, the slope of a surrogate stands in for the step's, which
    is zero almost everywhere. For LIF with a detached soft reset the gradient then fades by (1 - 1/tau) per time step:

        dL/dx[t] = slope(u[t]) dL/ds[t] + (1 - 1/tau) dL/dx[t+1]

    Args:
        surrogate: one of `surrogates.ALL` or of your own (also from `surrogates.custom`), shown first.
        tau: the membrane time constant, in time steps.
        reset: what a spike does to the potential: "soft", "hard" or "none".
        detach_reset: whether no gradient flows through the spike in the reset.
        steps: time steps `T`.
        neurons: rows of the heat map, from 1 to 64; the first gets a weak current, the last a strong one.
        seed: of the currents' noise.

    Controls: surrogate, scale (and scale_2, ... if yours has more), tau, reset, detach_reset, steps, loss_at, colours.

    Result: `tfexplore.explore.backward.gradient.BackwardPass`, in `flow` the gradient, `u` and `spikes`, each `[T, neurons]`.

    Raises:
        TypeError: if surrogate is none.
        ValueError: if neurons is out of range.

    Example:
        >>> from tfexplore import explore
        >>> explorer = explore.surrogate(steps=60, tau=2.0)
        >>> explorer.result.flow.reach
        6
        >>> explorer.controls["tau"].value = 4.0
        >>> explorer.result.flow.reach
        16

    Surrogate gradients: Neftci, Mostafa and Zenke, IEEE Signal Processing Magazine 36, 2019.
    """

    caption = (
        "Left: the step function, a smooth step and its slope, the surrogate; below, where the potentials of all neurons fall. "
        "Right: the gradient of the loss with respect to every neuron's current at every time step (grey: exactly zero; dots: "
        "spikes); below, its mean magnitude and the factor (1 − 1/τ) per step."
    )

    surrogate = Choice("surrogate", (), help="the slope used in the backward pass")
    scale = Slider("scale", 0.05, 20.0, step=0.05, live=True)
    tau = Slider("time constant τ", 1.0, 50.0, step=0.5, help="in time steps", live=True)
    reset = Choice("reset", list(LIF.resets), help="what a spike does to the potential")
    detach_reset = Tick("detach reset", help="no gradient flows through the spike in the reset")
    steps = Slider("time steps T", 20, 500, step=10, live=True)
    loss_at = Slider("loss at time step", 1, 500, help="the loss counts spikes up to here", live=True)
    colours = Choice("colour scale", SCALES, help="how the magnitude of a gradient becomes a colour")

    def __init__(
        self, surrogate: Surrogate = ATan(), *, tau: float = 5.0, reset: str = "soft",  # noqa: B008  (a frozen value)
        detach_reset: bool = True, steps: int = 100, neurons: int = 24, seed: int = 0,
    ) -> None:  # fmt: skip
        if not isinstance(surrogate, Surrogate):
            raise TypeError(f"surrogate must be like surrogates.ATan(alpha=2.0), but got {surrogate!r}.")
        if not 1 <= neurons <= 64:
            raise ValueError(f"neurons must be from 1 to 64, the rows of the heat map, but got {neurons!r}.")
        self.neurons, self.seed = neurons, seed
        self.kinds: dict[str, Surrogate] = {kind.__name__: kind() for kind in ALL} | {
            type(surrogate).__name__: surrogate
        }
        count = max(1, *(len(parameters_of(type(kind))) for kind in self.kinds.values()))
        self.scales = ["scale", *(f"scale_{k}" for k in range(2, count + 1))]
        own, kind = vars(surrogate).values(), type(self)
        low, high = min([kind.scale.low, *own]), max([kind.scale.high, *own])
        super().__init__(
            surrogate=kind.surrogate.at(type(surrogate).__name__, options=list(self.kinds)),
            **{name: kind.scale.at(1.0, low=low, high=high, step=low) for name in self.scales},
            tau=float(tau), reset=reset, detach_reset=detach_reset, steps=steps,
            loss_at=kind.loss_at.at(steps, high=steps),
        )  # fmt: skip

    def chosen(self, kind: str | None = None) -> LIF:
        """The neuron of the controls, or the one with another surrogate as it came."""
        surrogate = self.kinds[kind or self.surrogate]
        if kind in (None, self.surrogate):
            names = parameters_of(type(surrogate))
            values = {key: self.controls[name].value for key, name in zip(names, self.scales, strict=False)}
            surrogate = dataclasses.replace(surrogate, **values)
        return LIF(tau=self.tau, reset=self.reset, detach_reset=self.detach_reset, surrogate=surrogate)

    # -- what the controls do --------------------------------------------------------------------------------------

    @moved("surrogate")
    def change(self) -> None:
        """Another surrogate: its own scales, as it came."""
        surrogate = self.kinds[self.surrogate]
        names = [*parameters_of(type(surrogate)), *[""] * len(self.scales)]
        with self.quietly():
            for name, key in zip(self.scales, names, strict=False):
                control = self.controls[name]
                self.show_control(name, bool(key))
                if key:
                    control.description = control.tooltip = f"{key} of the surrogate"
                    control.value = getattr(surrogate, key)
        self.update()

    @moved("steps")
    def stretch(self) -> None:
        """Another T: the loss stays at the end, if it was there."""
        end = self.controls["loss_at"]
        at_end = end.value == end.max
        # one message: the browser's echo of a half-changed slider would come back as a value
        with self.quietly(), end.hold_sync():
            end.max = self.steps
            end.value = end.max if at_end else end.value
        self.update()

    @moved("colours")
    def recolour(self) -> None:
        self.draw()

    def update(self) -> None:
        if self.ready(self.chosen(), self.update):
            super().update()

    def look(self) -> BackwardPass:
        return look(self.chosen(), self.steps, self.neurons, self.loss_at, self.seed)

    def prepare(self, neuron: LIF) -> None:
        look(neuron, 10, 1, 10, self.seed)

    def begin(self) -> None:
        self.change()  # the scales of the first surrogate

    # -- what is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.colours)

    def show(self) -> None:
        super().show()
        if (loop := running()) is not None:
            self._warming = loop.create_task(self.warm(self.chosen(kind) for kind in self.kinds))
            self._warming.add_done_callback(lambda task: task.cancelled() or self.guarded(task.result)())

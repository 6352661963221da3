"""The roofline explorer: this machine's roofs, and the fused kernels measured below them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import ipywidgets as widgets
import torch

from tfexplore.backends import choose
from tfexplore.explore.base.controls import Choice, Slider
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.roofline import figure
from tfexplore.explore.roofline.points import Roofs, check, counted, named, planned, run_of
from tfexplore.measure import clock
from tfexplore.neurons.neuron import Neuron

ROUNDS, ENOUGH = 5, 1.5  # after so many seconds no new round begins
DTYPES = ("float32", "float64")
LARGEST, MOST_NEURONS = 20_000_000, 1_000_000  # time steps times neurons


class Roofline(Runner):
    r"""This machine's roofs and, below them, the fused kernels of some neurons and the eager loop of the first.

    A pass of `F` operations and `B` bytes per element-step cannot be faster than either roof allows:

        operations per second <= min(peak, bandwidth F / B)

    F and B are derived from the neuron's equations. The bandwidth is that of a large copy, the peak that of a matrix product,
    measured in turn with the kernels, each of which must first agree with the eager loop on a small input.

    Args:
        which: names of the library's neurons, or values such as `neurons.LIF(tau=3.0)` or of a class of your own.
        steps: time steps `T`, from 1 to 128.
        neurons: in one layer, from 1000 to 1,000,000; at most 20,000,000 in T steps.
        dtype: of x, of the spikes and of the state: "float32" or "float64".
        device: "cpu" or "cuda"; by default the GPU if there is one.
        mebibytes: size of the tensors that are copied; too large for the caches.

    Controls: steps, neurons, dtype, start, stop.

    Result: `tfexplore.explore.roofline.points.Roofs`, with `bandwidth`, `fresh`, `peak` and the points, `kernels`.

    Raises:
        ValueError: if an argument is none of those allowed.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> roofline = explore.roofline(["LIF"], steps=4, neurons=1000, mebibytes=1)
        >>> for kernel in asyncio.run(roofline.run()).kernels: print(kernel.label)
        LIF forward
        LIF forward + backward, keep=input
        LIF forward + backward, keep=potential
        LIF forward, the whole layer
        LIF forward, eager

    The model: Williams, Waterman and Patterson, Roofline, Communications of the ACM 52(4), 2009.
    """

    caption = (
        "Operations per second over operations per byte, on logarithmic axes. Slanted: the memory's roof, a large copy, dashed "
        "where the copy allocates its result. Level: the processor's roof, the fastest of some matrix products. In "
        "brackets: the share of the copy's bytes per second."
    )

    steps = Slider("time steps T", 1, 128, help="time steps in one pass")
    neurons = Slider("neurons N", 1000, MOST_NEURONS, step=1000, help="neurons in one layer")
    dtype = Choice("dtype", DTYPES, help="of x, of the spikes and of the state")

    def __init__(
        self, which: Sequence[Neuron | str] = ("LIF", "Izhikevich"), *, steps: int = 32, neurons: int = 500_000,
        dtype: str = "float32", device: str | None = None, mebibytes: int = 128,
    ) -> None:  # fmt: skip
        self.device, self.mebibytes = clock.or_gpu(device), mebibytes
        self.which = list(dict.fromkeys(map(named, which)))
        if not self.which:
            raise ValueError("which must name at least one neuron, like ['LIF'], but is empty.")
        if not (1 <= steps <= 128 and 1000 <= neurons <= MOST_NEURONS and steps * neurons <= LARGEST):
            raise ValueError(
                f"steps must be from 1 to 128, neurons from 1000 to {MOST_NEURONS:,} and their product at most {LARGEST:,}, but "
                f"got {steps} and {neurons:,}."
            )
        self.backend, self.notes = choose("auto", self.device), widgets.HTML()
        self.wanted = planned(self.which, self.backend.name)
        super().__init__(steps=steps, neurons=neurons, dtype=dtype)

    # -- what the controls do --------------------------------------------------------------------------------------

    def update(self) -> None:
        """A control moved: the points begin anew."""
        with self.quietly():  # more steps leave room for fewer neurons
            self.controls["neurons"].max = min(MOST_NEURONS, LARGEST // self.steps // 1000 * 1000)
        super().update()

    def look(self) -> Roofs:
        return Roofs(clock.machine(self.device), self.backend.name, self.dtype, self.steps, self.neurons)

    def work(self, result: Roofs) -> Iterator[object]:
        dtype, size = getattr(torch, result.dtype), (result.steps, result.neurons)
        wanted = [counted(point, result.dtype, result.steps * result.neurons) for point in self.wanted]
        self.say_compiling(self.device)
        for kernel in wanted:
            yield self.in_background(partial(check, kernel, dtype, self.device))
        self.say("Measuring the copy, the matrix product and the kernels, in turn.")
        x, gradient = (torch.randn(size, dtype=dtype, device=self.device) for _ in range(2))
        copy, nbytes = clock.large_copy(self.device, self.mebibytes)
        product, flops = clock.matrix_product(self.device)
        work: dict[str, Callable[[], object]] = {"copy": copy, "fresh copy": x.clone, "product": product}
        work |= {str(k): run_of(kernel, x, gradient) for k, kernel in enumerate(wanted)}
        taken: dict[str, list[float]] = {}
        for run in self.in_turn(work, ROUNDS, ENOUGH, self.device, taken):
            yield run
            if taken.keys() != work.keys():
                continue
            medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
            result.bandwidth, result.fresh = nbytes / medians["copy"], 2 * x.nbytes / medians["fresh copy"]
            result.peak = flops / min(taken["product"])  # a limit: what was reached once can be reached
            result.kernels = [replace(kernel, seconds=medians[str(k)]) for k, kernel in enumerate(wanted)]
            self.draw()
            self.say(self.sentence())

    # -- what is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.wanted)

    def draw(self) -> None:
        super().draw()
        self.notes.value = figure.table(self.result)

    def layout(self) -> widgets.Widget:
        box = super().layout()
        box.children += (self.notes,)
        return box

"""A network and its conversion on the same input: the same spikes? And what is gained?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.exchange import norse, sinabs, snntorch, spikingjelly
from tfexplore.exchange.walk import Conversion
from tfexplore.measure import clock

RUN = {"norse": norse.run, "sinabs": sinabs.run, "snntorch": snntorch.run, "spikingjelly": spikingjelly.run}


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; `print` it.

    Args:
        package: the library of the original.
        shape: of the output, `[T, B, ...]`.
        differing: how many of its values differ.
        first_step: the first time step with one that differs; None if all are equal.
        largest: the largest difference.
        active: the part of the original's outputs that are not 0; two silent networks are equal too.
        seconds: of a forward and backward pass of the original and of the conversion; medians.
        machine: where that was measured.
    """

    package: str
    shape: tuple[int, ...]
    differing: int
    first_step: int | None
    largest: float
    active: float
    seconds: tuple[float, float]
    machine: str

    @property
    def ratio(self) -> float:
        """How many times as fast the conversion is."""
        return self.seconds[0] / self.seconds[1]

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        same = f"all {size} outputs are equal, {self.active:.1%} of them not 0"
        if self.first_step is not None:
            first = f"the first at step {self.first_step}, the largest by {self.largest:.2g}"
            same = f"{self.differing:,} of {size} outputs differ, {first}"
        theirs, ours = (f"{1e3 * each:.3g} ms" for each in self.seconds)
        return (
            f"{same}\nforward and backward: {self.package} {theirs}, tfexplore {ours}, {self.ratio:.3g} times as fast\n"
            f"({self.machine})"
        )


def compare(
    theirs: nn.Module, converted: nn.Module, x: Tensor, *, run: Callable[[Tensor], Tensor] | None = None, count: int = 5
) -> Comparison:
    """Runs a network and its conversion on the same input, and says whether they agree and which is faster.

    Args:
        theirs: the network as it was.
        converted: what `from_snntorch`, `from_norse`, `from_spikingjelly` or `from_sinabs` made of it.
        x: the input, time first.
        run: how `theirs` runs, x `[T, B, ...]` to its output `[T, B, ...]`; by default as the library's users run a network
            without a loop of its own: step by step or at once, from the initial states.
        count: rounds, of which the median counts; one more warms up.

    Shape:
        - x: `[T, B, *features]`

    Returns:
        The comparison. No `.grad` is changed.

    Raises:
        TypeError: if `converted` is no conversion.
        ValueError: if the outputs have other shapes.

    Example:
        ::

            net = nn.Sequential(nn.Linear(700, 128), snntorch.Leaky(beta=0.9, init_hidden=True))
            print(compare(net, from_snntorch(net), x))
    """
    conversion = getattr(converted, "conversion", None)
    if not isinstance(conversion, Conversion):
        raise TypeError("converted must be what from_snntorch, from_norse, from_spikingjelly or from_sinabs returned.")
    as_usual = RUN[conversion.package]

    def passes(net: nn.Module, forward: Callable[[Tensor], Any]) -> Callable[[], Tensor]:
        trained: list[Tensor] = [parameter for parameter in net.parameters() if parameter.requires_grad]

        def work() -> Tensor:
            given = x.detach().requires_grad_(not trained)
            out = forward(given)
            spikes: Tensor = out[0] if isinstance(out, tuple) else out
            torch.autograd.grad(spikes.sum(), trained or [given], allow_unused=True)
            return spikes.detach()

        return work

    work = {
        "theirs": passes(theirs, run or (lambda given: as_usual(theirs, given))),
        "ours": passes(converted, converted),
    }
    a, b = (each() for each in work.values())
    if a.shape != b.shape:
        raise ValueError(
            f"the outputs must have one shape, [T, B, ...], but got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    unequal = a != b
    steps = unequal.flatten(1).any(1).nonzero().flatten().tolist()
    *_, medians = clock.rounds(work, count, x.device)
    return Comparison(
        conversion.package,
        shape=tuple(a.shape),
        differing=int(unequal.sum()),
        first_step=steps[0] if steps else None,
        largest=float((a - b).abs().max()),
        active=float((a != 0).float().mean()),
        seconds=(medians["theirs"], medians["ours"]),
        machine=clock.machine(x.device),
    )

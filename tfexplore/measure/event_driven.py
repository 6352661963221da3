r"""What a layer of weights costs for spikes: dense, as a matrix product, or event-driven, spike by spike.

Spikes s `[rows, inputs]` meet a weight `[outputs, inputs]`; rows are time steps times samples. A *synapse-step* is one weight in
one row. Of the synapse-steps, the part `rate` has a spike::

                      dense                                            event-driven
    multiplications   rows inputs outputs                              0: a spike is 1
    additions         rows inputs outputs                              rate of them
    far words         the weight once, s and the result once each      weights far: a word for each addition; else 0
    near words        two for each multiply-add, shared by a tile      the sum read and written for each addition, and the
                                                                       weight where the weights are near

Far is the memory outside of the chip, near the memory beside the arithmetic. A dense product uses a weight again for every row;
an event-driven one fetches it for every spike. The dense one's spikes and results go through far memory, as between two layers'
kernels; the events stay on the chip, and how they move from core to core is left out. That favours events, most in narrow layers:
with many rows 128 inputs and outputs are two thirds of the dense energy. Left out of both: the neurons' own updates,
instructions, clocks, and what leaks while nothing happens.

Energies are published ones: Horowitz, Computing's Energy Problem (and what we can do about it), ISSCC 2014, for 45 nm and 0.9 V:
an addition of float32 0.9 pJ, a multiplication 3.7 pJ; 64 bits of an 8 kB SRAM 10 pJ, of DRAM 1,300 to 2,600 pJ. Newer chips need
less of each; what is compared are ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from torch import Tensor, nn

from tfexplore.neurons.parameters import check_between, checked_count
from tfexplore.nn.layers import Layer

ADD, MULTIPLY = 0.9, 3.7
"""Picojoules of one operation on float32."""
NEAR, FAR = 5.0, 650.0
"""Picojoules of a word of 32 bits: half of Horowitz's 64 bits; of DRAM the lower of his two numbers."""
TILE = 32
"""Side of the blocks of a dense product: a word fetched into near memory is used this often."""
HOW = DENSE, EVENTS_FAR, EVENTS_NEAR = ("dense", "event-driven, weights far", "event-driven, weights near")


@dataclass(frozen=True)
class Cost:
    """Operations, and words of 32 bits.

    Args:
        multiplications: on float32.
        additions: the same.
        far: words from and to the memory outside of the chip.
        near: words from and to the memory beside the arithmetic.
    """

    multiplications: float
    additions: float
    far: float
    near: float

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return self.multiplications + self.additions

    @property
    def energy(self) -> float:
        """Picojoules, by the numbers of 45 nm: an estimate, to compare and not to believe to the digit."""
        return MULTIPLY * self.multiplications + ADD * self.additions + FAR * self.far + NEAR * self.near


COUNTED: dict[str, Callable[[Cost], float]] = {
    "operations": lambda cost: cost.operations,
    "words from far": lambda cost: cost.far,
    "energy, 45 nm": lambda cost: cost.energy,
}
"""What may be compared, by name."""


def cost(how: str, rate: float, rows: int, inputs: int, outputs: int) -> Cost:
    """What the spikes [rows, inputs] cost on their way through a weight [outputs, inputs].

    Args:
        how: `"dense"`, `"event-driven, weights far"` or `"event-driven, weights near"`.
        rate: the part of s that is 1, from 0 to 1.
        rows: time steps times samples.
        inputs: neurons before the weight.
        outputs: neurons behind it.

    Raises:
        ValueError: for another way, or a rate that is no part.

    Example:
        >>> cost("dense", 0.1, rows=8, inputs=10, outputs=20)
        Cost(multiplications=1600, additions=1600, far=440, near=100.0)
        >>> cost("event-driven, weights far", 0.1, rows=8, inputs=10, outputs=20)
        Cost(multiplications=0, additions=160.0, far=160.0, near=320.0)
    """
    if how not in HOW:
        raise ValueError(f"how must be one of {', '.join(map(repr, HOW))}, but got {how!r}.")
    check_between("rate, the part of all neurons and steps with a spike,", rate, 0, 1)
    for name, size in (("rows", rows), ("inputs", inputs), ("outputs", outputs)):
        checked_count(name, size)
    synapses = rows * inputs * outputs
    if how == DENSE:
        return Cost(synapses, synapses, inputs * outputs + rows * (inputs + outputs), 2 * synapses / TILE)
    events = rate * synapses
    return Cost(0, events, events, 2 * events) if how == EVENTS_FAR else Cost(0, events, 0, 3 * events)


def crossing(counted: str, how: str, rows: int, inputs: int, outputs: int) -> float:
    """The firing rate at which an event-driven way costs what a dense one does; above 1: it costs less at any rate.

    Example:
        >>> crossing("operations", "event-driven, weights near", rows=8, inputs=10, outputs=20)
        2.0
    """
    if counted not in COUNTED:
        raise ValueError(f"counted must be one of {', '.join(map(repr, COUNTED))}, but got {counted!r}.")
    size = (rows, inputs, outputs)
    each = COUNTED[counted](cost(how, 1.0, *size))
    return COUNTED[counted](cost(DENSE, 1.0, *size)) / each if each else float("inf")


@dataclass(frozen=True)
class Sparsity:
    """How much of a layer's tensors is not zero.

    Args:
        spikes: the part of its spikes that is 1: its firing rate.
        gradient: the part of the gradient of its current that is not 0.
    """

    spikes: float
    gradient: float


def sparsity(net: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Sparsity]:
    """What is zero in the forward and in the backward pass, by the name of each layer of neurons.

    Args:
        net: the network.
        loss: runs the network once, and returns a loss to go back from.

    Example:
        >>> import torch
        >>> from tfexplore.nn import IF
        >>> net = nn.Sequential(IF())
        >>> sparsity(net, lambda: net(torch.ones(4, 1, 1, requires_grad=True) / 2).sum())
        {'0': Sparsity(spikes=0.5, gradient=1.0)}
    """
    spikes: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}

    def watch(name: str, given: Tensor, out: Tensor) -> None:
        spikes[name] = out.detach()
        if given.requires_grad:
            given.register_hook(lambda g: gradients.__setitem__(name, g))

    with ExitStack() as undo:
        for name, layer in _layers(net):
            hook = layer.register_forward_hook(lambda _, given, out, name=name: watch(name, given[0], out))
            undo.callback(hook.remove)
        loss().backward()
    return {name: Sparsity(_part(s), _part(gradients[name])) for name, s in spikes.items() if name in gradients}


def _layers(net: nn.Module) -> Iterator[tuple[str, Layer]]:
    return ((name, module) for name, module in net.named_modules() if isinstance(module, Layer))


def _part(values: Tensor) -> float:
    """Of the values, the part that is not 0."""
    return float((values != 0).float().mean())

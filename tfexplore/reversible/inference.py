"""T-RevSNN as it is used once trained: everything that is linear between two spikes is in the convolutions' weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tfexplore.reversible.blocks import StandardisedConv2d
from tfexplore.reversible.networks import TRevSNN, heads_after, together

States = tuple[Tensor, ...]


def spikes(x: Tensor) -> Tensor:
    return (x >= 0.5).to(x.dtype)


def fixed(number: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(number.detach().to(like.dtype), requires_grad=False)


def plain(conv: Any, scale: Tensor | None = None, shift: Tensor | None = None) -> nn.Conv2d:
    """The convolution with the weights that this one convolves with; its output times scale, plus shift."""
    weight = (conv.standardised if isinstance(conv, StandardisedConv2d) else conv.weight).double()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.double()
    if scale is not None:
        scale = scale.double().flatten()
        weight, bias = weight * scale.view(-1, 1, 1, 1), bias * scale
    size = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding, "groups": conv.groups}
    with torch.device("meta"):  # no weights to begin with
        made = nn.Conv2d(conv.in_channels, conv.out_channels, **size)
    made.weight = fixed(weight, conv.weight)
    made.bias = fixed(bias if shift is None else bias + shift, conv.weight)
    return made


def normalised(conv: nn.Module, norm: Any) -> nn.Conv2d:
    """A convolution and the BatchNorm behind it, with its running statistics."""
    scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    return plain(conv, scale, norm.bias.double() - scale * norm.running_mean.double())


Halves = dict[nn.Module, nn.Sequential]


def second_half(block: Any, made: Halves) -> nn.Sequential:
    """Of a block, with its gamma; what several blocks share is made once."""
    if block.second not in made:
        widest, last = block.second
        made[block.second] = nn.Sequential(plain(widest), plain(last, block.gamma))
    return made[block.second]


class MergedBlock(nn.Module):
    """A block without gamma."""

    def __init__(self, block: Any, second: nn.Sequential) -> None:
        super().__init__()
        self.first = nn.Sequential(*map(plain, block.first))
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.second(spikes(self.first(spikes(x))))
        return made


class MergedLevel(nn.Module):
    """F of a level: two convolutions that see spikes (the lowest level sees the stem's output as it is), then two blocks."""

    def __init__(self, level: Any, made: Halves) -> None:
        super().__init__()
        self.down = nn.Identity() if isinstance(level.down, nn.Identity) else normalised(*level.down)
        self.up: nn.Sequential | None = None
        if level.up is not None:
            conv, norm, *larger = level.up
            self.up = nn.Sequential(normalised(conv, norm), *larger)
        self.blocks = nn.Sequential(*(MergedBlock(block, second_half(block, made)) for block in level.then))

    def forward(self, below: Tensor, above: Tensor | None) -> Tensor:
        x: Tensor = self.down(below)
        if self.up is not None and above is not None:
            x = x + self.up(above)
        made: Tensor = self.blocks(x)
        return made


class MergedHead(nn.Module):
    """The mean over space, of the spikes for the last head, and one linear map."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        first, *behind = ((conv.standardised[..., 0, 0].double(), conv.bias.double()) for conv in head.classify)
        weight, bias = first
        for then, shift in behind:
            weight, bias = then @ weight, then @ bias + shift
        self.last = head.spikes is not None
        self.weight, self.bias = (fixed(number, head.classify[0].weight) for number in (weight, bias))

    def forward(self, top: Tensor) -> Tensor:
        seen = spikes(top) if self.last else top
        return nn.functional.linear(seen.mean((-2, -1)), self.weight, self.bias)


class Merged(nn.Module):
    """A `TRevSNN` in evaluation, of plain convolutions only; `merged` makes it, and says what it is."""

    def __init__(self, net: TRevSNN) -> None:
        super().__init__()
        self.steps, self.groups, self.logits, self.own_weights = net.steps, net.groups, net.logits, net.own_weights
        self.stem = nn.Sequential(*map(plain, net.stem))
        made: Halves = {}
        rows: Any = net.time.steps
        self.levels = nn.ModuleList(nn.ModuleList(MergedLevel(level, made) for level in row) for row in rows)
        self.alphas = nn.ParameterList(fixed(alpha, alpha) for alpha in net.time.alphas)
        self.heads = nn.ModuleList(MergedHead(head) for head in net.asked())
        self.train(False)

    def step(self, t: int, x: Tensor, state: States = ()) -> States:
        """The levels behind step t, from those behind the step before: all that is ever kept.

        Args:
            t: the step, from 0; its weights are used where each step has its own.
            x: what the stem gives for it, `[B, C, h, w]`.
            state: of each level `[B, C, ...]`; none before the first step.
        """
        row: Any = self.levels[t if self.own_weights else 0]
        found: list[Tensor] = []
        for k, level in enumerate(row):
            above = spikes(state[k + 1]) if state and k + 1 < len(state) else None
            made = level(spikes(found[-1]) if k else x, above)
            alpha = self.alphas[k][t] if self.own_weights else self.alphas[k]
            found.append(made + alpha.view(-1, 1, 1) * state[k] if state else made)
        return tuple(found)

    def currents(self, x: Tensor) -> Sequence[Tensor]:
        """What the stem gives for each step."""
        if x.ndim == 5:
            each: Tensor = self.stem(x.flatten(0, 1))
            return each.unflatten(0, x.shape[:2]).unbind()
        made: Tensor = self.stem(x)
        return made.chunk(self.groups, 1) if self.groups > 1 else [made] * self.steps

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        currents = self.currents(x)
        if self.own_weights and len(currents) != len(self.levels):
            steps = len(self.levels)
            raise ValueError(
                f"each of the {steps} time steps has weights of its own: x must have them all, but has {len(currents)}."
            )
        state: States = ()
        logits: list[Tensor] = []
        places = heads_after(len(currents), len(self.heads))
        for t, current in enumerate(currents):
            state = self.step(t, current, state)
            if t in places:
                logits.append(self.heads[places.index(t)](state[-1]))
        return logits if self.logits == "all" else together(logits)


@torch.no_grad()
def merged(net: TRevSNN) -> Merged:
    r"""A trained T-RevSNN as a plain module for inference, with the outputs of `net.eval()` to rounding.

    BatchNorms (by their running statistics), gamma and the standardisation become weights and biases of the convolutions; the
    two convolutions of the last head one. With `net.logits = "last"` the other heads are left out: of "tiny" and "small"
    15.2 and 29.7 million numbers remain.

    What a step does: the convolutions behind spikes (down, up, the first and third of each block, the last head) add weights
    where spikes come in; a block's point-wise convolution behind a depth-wise one, or the reverse, takes its sums and multiplies,
    as do the stem and :math:`\alpha`. From step to step only the levels' states are kept (`step`), whatever T is.

    Args:
        net: the network, which stays as it is; a later change of its weights does not reach the result.

    Returns:
        A module of images `[B, C, h, w]` or time-first `[T, B, C, h, w]`, without gradients, for `torch.export.export` too.

    Raises:
        TypeError: for another network.

    Example:
        >>> from tfexplore.reversible import merged, trevsnn
        >>> net = trevsnn("mini", logits="last").eval()
        >>> x = torch.rand(2, 1, 8, 8)
        >>> torch.allclose(merged(net)(x), net(x), atol=1e-5)
        True
    """
    if not isinstance(net, TRevSNN):
        raise TypeError(f"net must be a TRevSNN, but got {type(net).__name__}.")
    return Merged(net)


def operations(net: TRevSNN, x: Tensor) -> int:
    """Multiply-adds of an inference on x, of convolutions and linear modules; a spike's 0 counts as a multiplication too.

    Args:
        net: the network.
        x: of the shape in question; its values are not looked at.

    Example:
        >>> from tfexplore.reversible import operations, trevsnn
        >>> x = torch.empty(1, 1, 8, 8)
        >>> four, eight = (operations(trevsnn("mini", steps=steps), x) for steps in (4, 8))
        >>> round(eight / four, 1)
        2.0
    """
    form = merged(net).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        form(x.to("meta"))
    return counter.get_total_flops() // 2

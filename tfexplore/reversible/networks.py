r"""T-RevSNN (Hu et al., ICML 2024): a network whose time is in its levels alone, in the sizes that were published, and small.

Each time step is a sub-network with weights and :math:`\alpha` of its own; the sub-networks share only what ends their second
blocks. A level's F joins the spikes of its neighbours and makes two blocks of them (`blocks`); `ReversibleTime` steps through it:

.. math:: c_l[t] = F_l^t(s_{l-1}[t],\, s_{l+1}[t-1]) + \alpha_l^t \, c_l[t-1]

Paper and published code differ, and this follows the code, but where it is said:

- The paper's sub-networks get a group of the encoded features each; the code's all get the same: `stem="split"` and `"repeat"`.
- In the paper a level sees the potentials of all levels above it, each with a decay; in the code the spikes of the next one,
  through a convolution and a BatchNorm, and the top level sees nothing above.
- The paper's parameters, 15.2 and 29.8 million, are those of the code without what serves training only: the first three heads,
  and the second convolution of the last, which is the first's in another form. `merged` leaves out both.
- For events, the code gives every sub-network a stem of its own, and adds up the top level over the steps, but classifies a T-th
  of the last. Here all share the stem, and the heads are those for images.
- The code's 0.5 fires in training but not in evaluation, its BatchNorms move twice in each step, and |alpha| >= 1e-3 is written
  into the parameter. Here 0.5 always fires, BatchNorms move once, and the bound is alpha's parametrisation (see `Alpha`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfexplore.neurons.parameters import check_between, checked_count
from tfexplore.nn.constant import repeated
from tfexplore.reversible.blocks import Head, encoder, initialise, level, shrink
from tfexplore.reversible.levels import ReversibleTime
from tfexplore.reversible.reading import turned_off

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"channels": (64, 128, 256, 384), "classes": 1000, "in_channels": 3, "stem_stride": 4},
    "small": {"channels": (96, 192, 384, 512), "classes": 1000, "in_channels": 3, "stem_stride": 4},
    "mini": {"channels": (16, 32, 48), "classes": 10, "in_channels": 1, "stem_stride": 1},
}
"""The two published sizes, and one for images of 8 x 8 to 28 x 28."""


def heads_after(steps: int, heads: int) -> tuple[int, ...]:
    """The steps behind which a head stands: the ends of equal parts, the last at the end.

    >>> heads_after(8, 4), heads_after(6, 4)
    ((1, 3, 5, 7), (1, 2, 4, 5))
    """
    if steps < heads:
        raise ValueError(f"steps must be at least as many as heads, {heads}, but got {steps}.")
    return tuple(-(-steps * k // heads) - 1 for k in range(1, heads + 1))


def together(logits: list[Tensor]) -> Tensor:
    """Their mean, of one itself."""
    return torch.stack(logits).mean(0) if len(logits) > 1 else logits[0]


class TRevSNN(nn.Module):
    r"""Images, or frames of events, through T sub-networks, one for each time step, to logits.

    The lowest level has the size of the stem's output; each level above it half of that, but the top level, which has the size
    of the one below it.

    What it costs: with `stem="repeat"` every step is a network of its own on all the features, T times the operations of one
    (`operations`). With `stem="split"` the stem makes T groups of features, and each step has the width for its own group
    only: a network of W features in total has `channels` of W / T, and its cost does not grow with T, the paper's O(1).

    Args:
        channels: of each level of a sub-network, from the lowest up.
        classes: how many.
        steps: T; with weights shared over time it may be set at any time.
        in_channels: of the images.
        stem: `"repeat"`, the same features for every step, computed once; or `"split"`, a group of them for each.
        stem_stride: 4 for a 7 x 7 and a 3 x 3 convolution of stride 2; 1 for one 3 x 3 convolution.
        kernel_size: of the depth-wise convolutions.
        width: channels in the middle of a block, as a multiple of the level's.
        own_weights: whether each step has weights of its own; else all share them, and T may be anything.
        heads: how many classifiers, after equal parts of the steps.
        logits: `"all"` for a list of every head's; `"last"` for the last's alone; `"mean"` over all heads.
        keep: what is saved for the backward pass (see `ReversibleTime`).
        options: further ones of `ReversibleTime`, such as `alpha` and `least`.

    Shape:
        - x: images `[B, in_channels, h, w]`, shown at every step, or time-first `[T, B, in_channels, h, w]`
        - output: a list of `[B, classes]` for each head; with "last" and "mean" one of them

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Source: Hu et al., High-Performance Temporal Reversible Spiking Neural Networks with O(L) Training Memory and O(1) Inference
    Cost, ICML 2024.

    Example:
        >>> net = TRevSNN((8, 12, 16), classes=10, in_channels=1, stem_stride=1)
        >>> [tuple(logits.shape) for logits in net(torch.rand(2, 1, 8, 8))]
        [(2, 10), (2, 10), (2, 10), (2, 10)]
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        *,
        steps: int = 4,
        in_channels: int = 3,
        stem: str = "repeat",
        stem_stride: int = 4,
        kernel_size: int = 5,
        width: int = 4,
        own_weights: bool = True,
        heads: int = 4,
        logits: str = "all",
        keep: str = "auto",
        **options: Any,
    ) -> None:
        super().__init__()
        for name, count in {
            "classes": classes, "steps": steps, "in_channels": in_channels, "kernel_size": kernel_size, "width": width,
            "heads": heads,
        }.items():  # fmt: skip
            checked_count(name, count)
        for count in channels:
            checked_count("channels", count)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that a block keeps its size, but got {kernel_size}.")
        if stem not in ("repeat", "split"):
            raise ValueError(f"stem must be 'repeat' or 'split', but got {stem!r}.")
        self.groups = steps if stem == "split" else 1
        self.own_weights, self.steps, self.logits = own_weights, steps, logits
        self.stem = encoder(in_channels, channels[0], channels[0] * self.groups, stem_stride)
        numbers = range(len(channels))
        seconds = [shrink(width * c, c, kernel_size) for c in channels]
        rows = [
            [level(k, channels, kernel_size, width, own_weights and t == 0, seconds[k]) for k in numbers]
            for t in range(steps if own_weights else 1)
        ]
        given: dict[str, Any] = {"least": 1e-3} | options
        self.time = ReversibleTime(rows if own_weights else rows[0], channels, read=turned_off(), keep=keep, **given)
        self.heads = nn.ModuleList(Head(channels[-1], classes, last=k == heads - 1) for k in range(heads))
        heads_after(steps, heads)
        initialise(self)

    def asked(self) -> nn.ModuleList:
        """The heads whose logits are wanted."""
        if self.logits not in ("all", "last", "mean"):
            raise ValueError(f"logits must be 'all', 'last' or 'mean', but got {self.logits!r}.")
        return self.heads[-1:] if self.logits == "last" else self.heads

    def currents(self, x: Tensor) -> Tensor:
        """What the lowest level gets, [T, B, channels, h, w]: one step on a view of T, where it is the same at every step."""
        if x.ndim not in (4, 5):
            raise ValueError(
                f"x must be images [B, C, h, w] or time-first [T, B, C, h, w], but got shape {list(x.shape)}."
            )
        if self.groups > 1 and x.ndim == 5:
            raise ValueError(
                "stem='split' makes time steps out of images [B, C, h, w], but got x with steps of its own."
            )
        if x.ndim == 5:
            made: Tensor = self.stem(x)
        else:
            one = self.stem(x.unsqueeze(0))
            made = (
                one[0].unflatten(1, (self.groups, -1)).transpose(0, 1) if self.groups > 1 else repeated(one, self.steps)
            )
        halved = 2 ** max(0, len(self.time.channels) - 2)
        if any(side % halved for side in made.shape[-2:]):
            size = " x ".join(map(str, made.shape[-2:]))
            raise ValueError(
                f"the stem's output must have sides that are multiples of {halved}, but is {size}; pad the images."
            )
        return made

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        currents, heads = self.currents(x), self.asked()
        self.time.out = heads_after(len(currents), len(heads))
        logits = [head(top) for head, top in zip(heads, self.time(currents), strict=True)]
        return logits if self.logits == "all" else together(logits)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, own_weights={self.own_weights}, logits={self.logits!r}"


def trevsnn(size: str = "tiny", **options: Any) -> TRevSNN:
    """T-RevSNN in a size of its own.

    ===== ================== ============================== ==========
    size  channels           for                            parameters
    ===== ================== ============================== ==========
    tiny  64, 128, 256, 384  1000 kinds of 224 x 224 pixels 17,376,912
    small 96, 192, 384, 512  the same                       32,331,312
    mini  16, 32, 48         digits of 8 x 8 to 28 x 28     260,632
    ===== ================== ============================== ==========

    Those of tiny and small are the published code's, with its recipe's kernel_size=5. Images should have mean 0 and deviation 1:
    a state outside [0, 1] has no gradient through its spike, and brightness from 0 to 1 makes few spikes.

    Args:
        size: `"tiny"`, `"small"` or `"mini"`.
        options: of `TRevSNN`, in place of the size's.

    Raises:
        ValueError: for another size.

    Source: Hu et al., ICML 2024.

    Example:
        >>> net = trevsnn("mini", own_weights=False, steps=64, logits="last")
        >>> net(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(map(repr, SIZES))}, but got {size!r}.")
    return TRevSNN(**(SIZES[size] | options))


def weighted_loss(outputs: Sequence[Tensor], labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy of every head, the later the heavier, and of the last again: 1/4, 1/2, 3/4, 1 + 1 for four heads.

    .. math:: \sum_{k=1}^{n} \frac{k}{n} \, \mathrm{CE}(z_k, y) + \mathrm{CE}(z_n, y)

    Args:
        outputs: the logits z of the n heads, from the first on.
        labels: each sample's class y, an integer from 0 on.
        label_smoothing: the part of the target that is spread evenly over all classes, in 0..1; 0.1 in the published recipe.

    Shape:
        - outputs: `[B, classes]` each
        - labels: `[B]`
        - output: a scalar

    Raises:
        ValueError: for no outputs, or a label_smoothing out of its range.

    Source: Hu et al., ICML 2024 (its code).

    Example:
        >>> logits = torch.zeros(1, 2)
        >>> weighted_loss([logits] * 4, torch.tensor([0])).item() / torch.tensor(2.0).log().item()
        3.5
    """
    if len(outputs) == 0 or outputs[0].ndim != 2:
        raise ValueError("outputs must be the logits of every head, [B, classes] each, as logits='all' gives them.")
    check_between("label_smoothing", label_smoothing, 0, 1)
    losses = [cross_entropy(logits, labels, label_smoothing=label_smoothing) for logits in outputs]
    return torch.stack([k / len(losses) * loss for k, loss in enumerate(losses, 1)]).sum() + losses[-1]

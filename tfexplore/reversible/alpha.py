r"""What is left of a level's state after a step: :math:`\alpha`, a number for each channel, bounded by its parametrisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfexplore.neurons.parameters import checked_count


class Alpha(nn.Module):
    r"""The factor :math:`\alpha` of a level's state, learned within its bounds.

    .. math:: \alpha = a + (b - a) \, \mathrm{sigmoid}(r)

    r is what training moves, and has no bounds. With `least` = 0, :math:`\alpha` lies between a = -1 and b = 1; else it keeps its
    sign, and lies between `least` and 1, or between -1 and -`least`. The published code clamps :math:`|\alpha| \ge 10^{-3}`
    by writing into the parameter, behind the optimiser's back.

    Args:
        channels: how many.
        alpha: what it starts with: a number, or a tensor that broadcasts to `[channels]` (`[steps, channels]`).
        least: a bound below for its magnitude.
        learn: whether training moves it.
        steps: one for each of so many time steps; None for one at all of them.

    Raises:
        ValueError: for a start that lies outside of the bounds.

    Example:
        >>> Alpha(2, alpha=0.5)()
        tensor([0.5000, 0.5000], grad_fn=<AddBackward0>)
    """

    low: Tensor
    range: Tensor
    fixed: Tensor

    def __init__(
        self, channels: int, alpha: float | Tensor = 0.5, *, least: float = 0.0, learn: bool = True, steps: int | None = None
    ) -> None:  # fmt: skip
        super().__init__()
        checked_count("channels", channels)
        if not 0 <= least < 1:
            raise ValueError(f"least must be from 0 to below 1, but got {least!r}.")
        shape = (channels,) if steps is None else (steps, channels)
        start = torch.as_tensor(alpha, dtype=torch.float32).broadcast_to(shape).clone()
        magnitude = start.abs()
        self.least, self.learn = least, learn
        if not learn:
            if not bool(torch.isfinite(start).all()):
                raise ValueError(f"alpha must be finite, but got {alpha!r}.")
            self.register_buffer("fixed", start)
            return
        if not bool(((magnitude > least) | (least == 0)).all() and (magnitude < 1).all()):
            allowed = "between -1 and 1" if least == 0 else f"above {least} (its least) and below 1 in magnitude"
            raise ValueError(f"a learned alpha must start {allowed}, but got {alpha!r}.")
        one = torch.ones_like(start)
        low = -one if least == 0 else torch.where(start > 0, least * one, -one)
        high = one if least == 0 else torch.where(start > 0, one, -least * one)
        self.register_buffer("low", low)
        self.register_buffer("range", high - low)
        self.raw = nn.Parameter(torch.logit((start.double() - low) / (high - low)).float())

    def forward(self) -> Tensor:
        return self.low + self.range * torch.sigmoid(self.raw) if self.learn else self.fixed

    def extra_repr(self) -> str:
        with torch.no_grad():
            alpha = self()
        return f"{list(alpha.shape)}, {alpha.min():.3g} to {alpha.max():.3g}" + ("" if self.learn else ", learn=False")

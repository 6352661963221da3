"""From the output of a network over time to one value per class: the rate, the count, the last or the highest potential.

Sequences of different length share a batch, padded at their end; `lengths` says how many steps of each are its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tfexplore.nn.checks import check_input, checked_lengths
from tfexplore.nn.routes import state_dtype

READOUTS = ("mean", "sum", "last", "max")


def readout(out: Tensor, over: str = "mean", lengths: Tensor | None = None) -> Tensor:
    """One value per sample and neuron from all time steps.

    Over the steps t = 1 ... L of a sample (L = T without `lengths`)::

        "mean"   1/L sum_t out[t]     of spikes the firing rate, in spikes per step
        "sum"    sum_t out[t]         of spikes the spike count
        "last"   out[L]               of an `LI`, what it has integrated, with its leak
        "max"    max_t out[t]         the highest potential; steps that share it share the gradient

    Args:
        out: spikes or potentials, such as the output of a network that ends in `LI`.
        over: `"mean"`, `"sum"`, `"last"` or `"max"`.
        lengths: the number of steps of each sample, integers from 1 to T; padded steps behind them count for nothing, whatever
            they hold. On the CPU (as for `torch.nn.utils.rnn.pack_padded_sequence`), or on the device of `out`, where checking
            them waits for the GPU. None for T steps each.

    Shape:
        - out: `[T, B, *features]`
        - lengths: `[B]`
        - output: `[B, *features]`, in float32 (float64 for float64)

    Raises:
        TypeError: for an `out` that no layer could give, or lengths that are no tensor of integers.
        ValueError: for another `over`, no time step, or lengths of another shape or outside of 1..T.

    Example:
        >>> import torch
        >>> from tfexplore.nn import readout
        >>> out = torch.tensor([[1.0, 4.0], [3.0, 0.0], [2.0, 0.0]]).unsqueeze(-1)     # T = 3, two samples, one neuron
        >>> readout(out).flatten().tolist()
        [2.0, 1.3333333730697632]
        >>> readout(out, "last", lengths=torch.tensor([2, 1])).flatten().tolist()
        [3.0, 4.0]
    """
    if over not in READOUTS:
        raise ValueError(f"over must be one of {', '.join(map(repr, READOUTS))}, but got {over!r}.")
    check_steps("out", out)
    steps = checked_lengths(lengths, out, least=1)
    wide = state_dtype(out.dtype)
    if over == "last":
        last = out[-1] if steps is None else out[steps - 1, torch.arange(len(steps), device=out.device)]
        return last.to(wide)
    if over == "max":
        return valid(out, steps, -torch.inf).amax(0).to(wide)
    total = valid(out, steps).sum(0, dtype=wide)
    if over == "sum":
        return total
    return total / (len(out) if steps is None else steps.view(-1, *(1,) * (out.ndim - 2)))


def valid(out: Tensor, steps: Tensor | None, elsewhere: float = 0.0) -> Tensor:
    """The valid steps of `out`, with `elsewhere` in the padded ones."""
    if steps is None:
        return out
    mask = torch.arange(len(out), device=out.device).unsqueeze(1) < steps
    return out.where(mask.view(*out.shape[:2], *(1,) * (out.ndim - 2)), elsewhere)


def check_steps(name: str, out: Tensor) -> None:
    """Raises TypeError or ValueError unless this is the output of a layer, over one time step or more."""
    check_input(out, name)
    if len(out) == 0:
        raise ValueError(f"{name} must have one time step or more, but got shape {tuple(out.shape)}.")

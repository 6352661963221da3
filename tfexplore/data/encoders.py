"""Encoders: from numbers to the input of a spiking network, each a function, time first.

`currents`, `rate`, `latency` and `delta` make time steps `[T, B, *features]`; `population` and `angle` spread each number over
several neurons, `[B, *features, neurons]`, and are followed by one of the former. A value outside of its range is an error.

>>> import torch
>>> from tfexplore.data import encoders
>>> x = torch.rand(8, 3)                                                          # [B, features] in 0..1
>>> encoders.rate(encoders.population(x, neurons=5), steps=20).shape
torch.Size([20, 8, 3, 5])
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tfexplore.neurons.parameters import check_between, checked_count

__all__ = ["angle", "currents", "delta", "latency", "population", "rate"]


def currents(x: Tensor, steps: int) -> Tensor:
    """Direct encoding: the same numbers as a current at every time step (Rueckauer et al., Frontiers 2017).

    With T the number of steps::

        out[t] = x,   t = 1 ... T

    Args:
        x: the numbers, such as the brightness of pixels.
        steps: T.

    Shape:
        - x: `[B, *features]`
        - output: `[T, B, *features]`, a view of x with stride 0, without a copy

    Raises:
        ValueError: if `steps` is no whole number from 1 on.

    Example:
        >>> import torch
        >>> from tfexplore import data
        >>> data.currents(torch.rand(8, 64), steps=10).shape
        torch.Size([10, 8, 64])
    """
    checked_count("steps", steps)
    return x.expand(steps, *x.shape)


def rate(x: Tensor, steps: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Rate encoding: random spikes, drawn anew at each time step (a Bernoulli process, the Poisson process in discrete time).

    With the probability x of a spike in a step, independent of all others::

        P(out[t] = 1) = x

    Args:
        x: spikes per step, in 0..1.
        steps: T.
        generator: of the random numbers, on the device of x; None for PyTorch's own.

    Shape:
        - x: `[B, *features]`
        - output: `[T, B, *features]`, in the dtype of x, without gradient

    Raises:
        TypeError: for an x that is no tensor of floats.
        ValueError: for a value outside of 0..1, or `steps` that are no whole number from 1 on.

    Example:
        >>> import torch
        >>> from tfexplore.data import encoders
        >>> encoders.rate(torch.tensor([0.0, 1.0]), steps=1000, generator=torch.Generator().manual_seed(0)).mean(0)
        tensor([0., 1.])
    """
    check_values(x, 0, 1)
    return torch.bernoulli(currents(x.detach(), steps), generator=generator)


def latency(x: Tensor, steps: int, *, form: str = "linear", threshold: float = 0.01, tau: float = 1.0) -> Tensor:
    """Latency encoding: one spike each, the larger the number the earlier (time to first spike; Thorpe et al., 2001).

    The spike is at the step t, from 0 on and rounded; a number below `threshold` gives none::

        t = (T - 1) (1 - x)                       "linear"
        t = tau ln(x / (x - threshold))           "log"

    The second is the time in which a leaky integrator with the constant input x reaches the threshold; beyond T there is no
    spike.

    Args:
        x: in 0..1.
        steps: T.
        form: `"linear"` or `"log"`.
        threshold: below it, no spike; from 0 to 1, above 0 for "log".
        tau: time constant of "log", in time steps; above 0.

    Shape:
        - x: `[B, *features]`
        - output: `[T, B, *features]`, in the dtype of x, without gradient

    Raises:
        TypeError: for an x that is no tensor of floats.
        ValueError: for a value outside of 0..1, or another argument outside of its range; the message names it.

    Example:
        >>> import torch
        >>> from tfexplore.data import encoders
        >>> encoders.latency(torch.tensor([1.0, 0.5, 0.0]), steps=3)
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 0.]])
    """
    checked_count("steps", steps)
    if form not in ("linear", "log"):
        raise ValueError(f"form must be 'linear' or 'log', but got {form!r}.")
    check_between("threshold", threshold, 0, 1, above=form == "log")
    check_between("tau", tau, 0, above=True)
    check_values(x, 0, 1)
    value = x.to(torch.promote_types(x.dtype, torch.float32))  # half precision does not tell late steps apart
    # at the threshold and below it the logarithm is infinite or NaN, and equals no step
    time = (steps - 1) * (1 - value) if form == "linear" else tau * (value / (value - threshold)).log()
    each = torch.arange(steps, device=x.device).view(-1, *(1,) * x.ndim)
    return ((time.round() == each) & (value >= threshold)).to(x.dtype)


def delta(x: Tensor, threshold: float, *, off_spikes: bool = False) -> Tensor:
    """Delta encoding: a spike where the signal has changed since the last step, as a pixel of an event camera.

    With x[-1] = x[0] before the first step, so that it has no spike::

        out[t] =  1   where x[t] - x[t-1] >= threshold
        out[t] = -1   where x[t] - x[t-1] <= -threshold, with off_spikes

    Args:
        x: a signal over time.
        threshold: the change that makes a spike; above 0.
        off_spikes: make spikes of -1 where the signal falls.

    Shape:
        - x: `[T, B, *features]`
        - output: that of x, in its dtype, without gradient

    Raises:
        TypeError: for an x that is no tensor of floats.
        ValueError: for a threshold that is not above 0, or a value that is not finite.

    Example:
        >>> import torch
        >>> from tfexplore.data import encoders
        >>> encoders.delta(torch.tensor([1.0, 2.0, 0.0, 0.5, 2.0]), 1.0, off_spikes=True)
        tensor([ 0.,  1., -1.,  0.,  1.])
    """
    check_between("threshold", threshold, 0, above=True)
    check_values(x, -math.inf, math.inf)
    change = x.diff(dim=0, prepend=x[:1])
    spikes = (change >= threshold).to(x.dtype)
    return spikes - (change <= -threshold).to(x.dtype) if off_spikes else spikes


def population(x: Tensor, neurons: int, *, low: float = 0.0, high: float = 1.0, sigma: float | None = None) -> Tensor:
    """Population encoding by Gaussian receptive fields (Bohte et al., Neurocomputing 2002).

    The fields' centres lie evenly from `low` to `high`; neuron k = 0 ... K - 1 has the activity::

        out[k] = exp(-(x - m_k)^2 / (2 sigma^2)),   m_k = low + k (high - low) / (K - 1)

    Args:
        x: in low..high.
        neurons: K, at least 2.
        low: the centre of the first field.
        high: the centre of the last.
        sigma: the width of a field, in the units of x; None for the distance of two centres.

    Shape:
        - x: `[B, *features]`
        - output: `[B, *features, K]`, in 0..1: rates for `rate`, currents for `currents`; it has a gradient

    Raises:
        TypeError: for an x that is no tensor of floats.
        ValueError: for a value outside of low..high, or another argument outside of its range; the message names it.

    Example:
        >>> import torch
        >>> from tfexplore.data import encoders
        >>> encoders.population(torch.tensor([0.0, 0.75]), neurons=3)
        tensor([[1.0000, 0.6065, 0.1353],
                [0.3247, 0.8825, 0.8825]])
    """
    centres = evenly(x, neurons, low, high)
    sigma = (high - low) / (neurons - 1) if sigma is None else sigma
    check_between("sigma", sigma, 0, above=True)
    return (-((x.unsqueeze(-1) - centres) / sigma).square() / 2).exp()


def angle(x: Tensor, neurons: int, *, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Angle encoding: the one neuron in whose interval the number lies is active, as in Spyx (`angle_code`).

    The intervals begin evenly from `low` to `high`, so that the last is the single number `high`; for k = 0 ... K - 1::

        out[k] = 1   where m_k <= x < m_(k+1),   m_k = low + k (high - low) / (K - 1)

    Args:
        x: in low..high.
        neurons: K, at least 2.
        low: where the first interval begins.
        high: where the last does.

    Shape:
        - x: `[B, *features]`
        - output: `[B, *features, K]`, one-hot, in the dtype of x, without gradient

    Raises:
        TypeError: for an x that is no tensor of floats.
        ValueError: for a value outside of low..high, or another argument outside of its range; the message names it.

    Example:
        >>> import torch
        >>> from tfexplore.data import encoders
        >>> encoders.angle(torch.tensor([0.0, 0.75]), neurons=3)
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """
    begins = evenly(x, neurons, low, high)
    at = torch.bucketize(x.detach().contiguous(), begins, right=True) - 1
    return torch.nn.functional.one_hot(at, neurons).to(x.dtype)


def evenly(x: Tensor, neurons: int, low: float, high: float) -> Tensor:
    """The numbers m_k of `population` and `angle`, after the checks of their arguments."""
    checked_count("neurons", neurons)
    if neurons < 2:
        raise ValueError(f"neurons must be at least 2, for the two ends of the range, but got {neurons}.")
    check_between("low", low, -math.inf)
    check_between("high", high, low, above=True)
    check_values(x, low, high)
    return torch.linspace(low, high, neurons, dtype=x.dtype, device=x.device)


def check_values(x: Tensor, low: float, high: float) -> None:
    """Raises TypeError or ValueError unless x is a tensor of finite floats from `low` to `high`."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        came = str(x.dtype).removeprefix("torch.") if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a tensor of floats, but got {came}.")
    if x.numel() == 0:
        return
    least, most = x.aminmax()  # NaN, where there is one
    if not (low <= least and most <= high and most.isfinite() and least.isfinite()):
        came = f"but got values from {least.item():g} to {most.item():g}"
        if high < math.inf:
            raise ValueError(f"x must be from {low:g} to {high:g}, {came}; scale or clamp it first.")
        raise ValueError(f"x must be finite, {came}.")

"""Penalties on the activity of a layer (regularisers): functions from its spikes to a scalar, to be added to the loss.

They compute in float32 (float64 for float64). Padded steps do not count where `lengths` are given (see `nn.readout`).

>>> import torch, tfexplore
>>> lif, last = tfexplore.LIF(), torch.nn.Linear(4, 3)
>>> spikes = lif(torch.rand(10, 2, 4, requires_grad=True))
>>> loss = tfexplore.losses.potential_cross_entropy(last(spikes), torch.tensor([0, 2]))
>>> (loss + 0.1 * tfexplore.penalties.silence(spikes)).backward()
"""

from __future__ import annotations

from torch import Tensor

from tfexplore.neurons.parameters import check_between
from tfexplore.nn.readouts import check_steps, readout

__all__ = ["firing_rate", "silence"]


def firing_rate(spikes: Tensor, *, lower: float = 0.0, upper: float, lengths: Tensor | None = None) -> Tensor:
    """A penalty on neurons whose firing rate leaves a band: an upper bound, both bounds, or one target rate.

    With the rate r_n of each neuron, the mean over its steps and the batch::

        penalty = mean_n (max(0, r_n - upper)^2 + max(0, lower - r_n)^2)

    The two bounds are those of Zenke and Vogels (Neural Computation, 2021). With lower = upper it is the squared distance from
    a target rate, as in Bellec et al. (Nature Communications, 2020), there half and summed.

    Args:
        spikes: a hidden layer's spikes.
        lower: the rate from which neurons may fire, in spikes per step.
        upper: the rate up to which neurons may fire, from `lower` to 1.
        lengths: the number of steps of each sample; None for T.

    Shape:
        - spikes: `[T, B, *features]`
        - lengths: `[B]`
        - output: a scalar

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch
        >>> from tfexplore import penalties
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])     # rates 1 and 0
        >>> penalties.firing_rate(spikes, upper=0.5).item()
        0.125
        >>> penalties.firing_rate(spikes, lower=0.5, upper=0.5).item()
        0.25
    """
    check_steps("spikes", spikes)
    check_between("upper", upper, 0, 1)
    check_between("lower", lower, 0, upper)
    rates = readout(spikes, "mean", lengths).mean(0)
    return ((rates - upper).relu().square() + (lower - rates).relu().square()).mean()


def silence(spikes: Tensor, *, at_least: float = 1.0, per: str = "neuron", lengths: Tensor | None = None) -> Tensor:
    """A penalty on silence: on neurons that hardly ever fire, or on samples that make hardly any neuron fire.

    With the spike count n_i of each neuron, the mean over the batch, or of each sample, the sum over its neurons::

        penalty = mean_i max(0, at_least - n_i)^2

    A silent neuron gets no gradient from a loss of the output; this one reaches it through the surrogate.

    Args:
        spikes: a hidden layer's spikes.
        at_least: the spike count from which nothing is paid.
        per: `"neuron"` or `"sample"`.
        lengths: the number of steps of each sample; None for T.

    Shape:
        - spikes: `[T, B, *features]`
        - lengths: `[B]`
        - output: a scalar

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch
        >>> from tfexplore import penalties
        >>> spikes = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])     # one step: only the first neuron fires, in the first sample
        >>> penalties.silence(spikes).item(), penalties.silence(spikes, per="sample").item()
        (0.625, 0.5)
    """
    check_steps("spikes", spikes)
    if per not in ("neuron", "sample"):
        raise ValueError(f"per must be 'neuron' or 'sample', but got {per!r}.")
    check_between("at_least", at_least, 0)
    counts = readout(spikes, "sum", lengths)
    counts = counts.mean(0) if per == "neuron" else counts.flatten(1).sum(1)
    return (at_least - counts).relu().square().mean()

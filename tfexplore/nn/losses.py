"""Losses of spiking networks, each a function from an output `[T, B, ...]`, time first, to a scalar.

All take `lengths` where sequences are padded (see `nn.readout`): a sample's loss is then what it is alone and unpadded, and the
result is the mean over samples. They compute in float32 (float64 for float64).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tfexplore.machine.torch_private import is_recorded
from tfexplore.neurons.parameters import check_between
from tfexplore.nn.checks import check_input, check_integers, checked_lengths
from tfexplore.nn.library import LI
from tfexplore.nn.readouts import check_steps, readout, valid
from tfexplore.nn.routes import state_dtype

__all__ = [
    "count_cross_entropy", "count_mse", "per_step_cross_entropy", "potential_cross_entropy", "rate_cross_entropy", "rate_mse",
    "van_rossum_distance",
]  # fmt: skip

NO_INDEX = torch.iinfo(torch.int64).min
"""PyTorch's cross-entropy leaves out the samples of one index, by default -100, without a word; no sample has this one."""


def rate_cross_entropy(
    spikes: Tensor, target: Tensor, *, lengths: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy with the firing rates as logits.

    With the rate r = 1/T sum_t s[t] of each class's neuron, and the sample's class y::

        loss = -log(exp(r_y) / sum_c exp(r_c))

    Rates lie within 0..1, so the loss stays above log(1 + (C - 1) / e) for C classes: 1.46 for ten. `count_cross_entropy` has
    no such bound.

    Args:
        spikes: the output layer's spikes.
        target: each sample's class, an integer from 0 on.
        lengths: the number of steps of each sample; None for T.
        label_smoothing: the part of the target that is spread evenly over all classes, in 0..1 (Szegedy et al., CVPR 2016).

    Shape:
        - spikes: `[T, B, classes]`
        - target, lengths: `[B]`
        - output: a scalar

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch
        >>> from tfexplore import losses
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])     # rates 1 and 0.5
        >>> round(losses.rate_cross_entropy(spikes, torch.tensor([0])).item(), 4)
        0.4741
    """
    return _cross_entropy("spikes", spikes, target, "mean", lengths, label_smoothing)


def count_cross_entropy(
    spikes: Tensor, target: Tensor, *, lengths: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy with the spike counts as logits.

    With the count n = sum_t s[t] of each class's neuron, and the sample's class y::

        loss = -log(exp(n_y) / sum_c exp(n_c))

    Args:
        spikes: the output layer's spikes.
        target: each sample's class, an integer from 0 on.
        lengths: the number of steps of each sample; None for T.
        label_smoothing: the part of the target that is spread evenly over all classes, in 0..1.

    Shape:
        - spikes: `[T, B, classes]`
        - target, lengths: `[B]`
        - output: a scalar

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch
        >>> from tfexplore import losses
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])     # counts 2 and 1
        >>> round(losses.count_cross_entropy(spikes, torch.tensor([0])).item(), 4)
        0.3133
    """
    return _cross_entropy("spikes", spikes, target, "sum", lengths, label_smoothing)


def potential_cross_entropy(
    v: Tensor, target: Tensor, over: str = "mean", *, lengths: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy with a readout of the potentials as logits.

    With the readout z of each class's potential over time, and the sample's class y::

        loss = -log(exp(z_y) / sum_c exp(z_c))

    The maximum over time is that of Cramer et al. (IEEE TNNLS 2022), who compare it with the last step; "sum" is the integral.

    Args:
        v: potentials without spikes, such as the output of `LI`.
        target: each sample's class, an integer from 0 on.
        over: `"mean"`, `"sum"`, `"last"` or `"max"`, as of `nn.readout`.
        lengths: the number of steps of each sample; None for T.
        label_smoothing: the part of the target that is spread evenly over all classes, in 0..1.

    Shape:
        - v: `[T, B, classes]`
        - target, lengths: `[B]`
        - output: a scalar

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch
        >>> from tfexplore import losses
        >>> v = torch.tensor([[[3.0, 0.0]], [[1.0, 1.0]]])
        >>> [round(losses.potential_cross_entropy(v, torch.tensor([0]), over).item(), 4) for over in ("mean", "max", "last")]
        [0.2014, 0.1269, 0.6931]
    """
    return _cross_entropy("v", v, target, over, lengths, label_smoothing)


def _cross_entropy(
    name: str, out: Tensor, target: Tensor, over: str, lengths: Tensor | None, label_smoothing: float
) -> Tensor:
    check_classes(name, out, target)
    check_between("label_smoothing", label_smoothing, 0, 1)
    logits = readout(out, over, lengths)
    return functional.cross_entropy(logits, target.long(), ignore_index=NO_INDEX, label_smoothing=label_smoothing)


def per_step_cross_entropy(
    out: Tensor,
    target: Tensor,
    *,
    lam: float = 0.0,
    phi: float = 1.0,
    lengths: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy at every time step: temporal efficient training, TET (Deng et al., ICLR 2022).

    With the logits o[t] of each step, and the sample's class y::

        loss = (1 - lam) 1/T sum_t CE(o[t], y) + lam 1/T sum_t mean_c (o_c[t] - phi)^2

    The second term keeps single outputs from growing; the paper takes lam = 0.05 and phi = v_threshold.

    Args:
        out: currents or potentials, such as the output of `nn.Linear` or `LI`; the paper's is a current.
        target: each sample's class, an integer from 0 on.
        lam: the weight of the second term, in 0..1.
        phi: the constant towards which it pulls all outputs.
        lengths: the number of steps of each sample; None for T.
        label_smoothing: the part of the target that is spread evenly over all classes, in 0..1.

    Shape:
        - out: `[T, B, classes]`
        - target, lengths: `[B]`
        - output: a scalar

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch
        >>> from tfexplore import losses
        >>> out = torch.tensor([[[3.0, 0.0]], [[1.0, 1.0]]])
        >>> round(losses.per_step_cross_entropy(out, torch.tensor([0])).item(), 4)     # the mean of 0.0486 and 0.6931
        0.3709
        >>> round(losses.per_step_cross_entropy(out, torch.tensor([0]), lam=0.05).item(), 4)
        0.4148
    """
    check_classes("out", out, target)
    check_between("label_smoothing", label_smoothing, 0, 1)
    check_between("lam", lam, 0, 1)
    check_between("phi", phi, -math.inf)
    out = out.to(state_dtype(out.dtype))
    each = functional.cross_entropy(
        out.flatten(0, 1),
        target.long().expand(out.shape[:2]).flatten(),
        ignore_index=NO_INDEX,
        label_smoothing=label_smoothing,
        reduction="none",
    ).view(out.shape[:2])
    if lam:
        each = (1 - lam) * each + lam * (out - phi).square().mean(2)
    return readout(each, "mean", lengths).mean()


def rate_mse(
    spikes: Tensor, target: Tensor, *, correct: float = 1.0, incorrect: float = 0.0, lengths: Tensor | None = None
) -> Tensor:
    """Mean squared error of the firing rates, towards one rate for the correct class and one for all others.

    With the rate r = 1/T sum_t s[t] of each class's neuron, and the sample's class y::

        loss = mean_c (r_c - (correct if c = y else incorrect))^2

    Args:
        spikes: the output layer's spikes.
        target: each sample's class, an integer from 0 on.
        correct: the rate wanted of the correct class, in spikes per step, in 0..1.
        incorrect: the rate wanted of all others.
        lengths: the number of steps of each sample; None for T.

    Shape:
        - spikes: `[T, B, classes]`
        - target, lengths: `[B]`
        - output: a scalar

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch
        >>> from tfexplore import losses
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])     # rates 1 and 0.5
        >>> losses.rate_mse(spikes, torch.tensor([0]), correct=0.5, incorrect=0.0).item()
        0.25
    """
    return _mse(spikes, target, "mean", 1, correct, incorrect, lengths)


def count_mse(
    spikes: Tensor, target: Tensor, *, correct: float, incorrect: float = 0.0, lengths: Tensor | None = None
) -> Tensor:
    """Mean squared error of the spike counts, towards one count for the correct class and one for all others.

    With the count n = sum_t s[t] of each class's neuron, and the sample's class y::

        loss = mean_c (n_c - (correct if c = y else incorrect))^2

    As in SLAYER (Shrestha and Orchard, NeurIPS 2018), which takes its half, summed over the classes.

    Args:
        spikes: the output layer's spikes.
        target: each sample's class, an integer from 0 on.
        correct: the number of spikes wanted of the correct class.
        incorrect: the number wanted of all others.
        lengths: the number of steps of each sample; None for T.

    Shape:
        - spikes: `[T, B, classes]`
        - target, lengths: `[B]`
        - output: a scalar

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch
        >>> from tfexplore import losses
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])     # counts 2 and 1
        >>> losses.count_mse(spikes, torch.tensor([0]), correct=1).item()
        1.0
    """
    return _mse(spikes, target, "sum", math.inf, correct, incorrect, lengths)


def _mse(
    spikes: Tensor, target: Tensor, over: str, most: float, correct: float, incorrect: float, lengths: Tensor | None
) -> Tensor:
    check_classes("spikes", spikes, target)
    check_between("correct", correct, 0, most)
    check_between("incorrect", incorrect, 0, most)
    found = readout(spikes, over, lengths)
    wanted = torch.full_like(found, incorrect).scatter(1, target.long().unsqueeze(1), correct)
    return functional.mse_loss(found, wanted)


def van_rossum_distance(spikes: Tensor, target: Tensor, tau: float, *, lengths: Tensor | None = None) -> Tensor:
    """The van Rossum distance of two spike trains (Neural Computation, 2001), the mean over all pairs of trains.

    Each spike becomes an exponential exp(-t / tau); the squared difference of the traces f and g of both trains is integrated
    over all time, also beyond step T. In terms of d[t] = s[t] - target[t] that is, exactly::

        D^2 = 1/tau integral (f - g)^2 dt = 1/2 sum_i sum_j d[i] d[j] exp(-|i - j| / tau)

    A spike too many, or one missing, costs 1/2, a shifted one 1 - exp(-shift / tau). For small tau it counts the spikes that do
    not coincide (half each), for large tau it compares the counts. It is computed in O(T), by the kernel of `LI`.

    Args:
        spikes: the spikes.
        target: the spikes wanted, of the same shape and dtype.
        tau: the time constant of the exponential, in time steps; above 0.
        lengths: the number of steps of each sample; None for T.

    Shape:
        - spikes, target: `[T, B, *features]`
        - lengths: `[B]`
        - output: a scalar

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch
        >>> from tfexplore import losses
        >>> early, late = torch.eye(5)[[1]].view(5, 1, 1), torch.eye(5)[[3]].view(5, 1, 1)
        >>> round(losses.van_rossum_distance(early, late, tau=2.0).item(), 4)     # 1 - exp(-2 / 2)
        0.6321
    """
    check_steps("spikes", spikes)
    check_input(target, "target")
    if target.shape != spikes.shape:
        raise ValueError(f"target must have the shape of spikes, {tuple(spikes.shape)}, but got {tuple(target.shape)}.")
    check_between("tau", tau, 0, above=True)
    wide = state_dtype(torch.promote_types(spikes.dtype, target.dtype))
    difference = valid(spikes.to(wide) - target.to(wide), checked_lengths(lengths, spikes, least=1))
    traces = LI(tau=-1 / math.expm1(-1 / tau), decay_input=False)(difference)  # u[t] = exp(-1/tau) u[t-1] + d[t]
    leaving, staying = -math.expm1(-2 / tau), math.exp(-2 / tau)
    # between steps each trace decays exactly; after the last, to zero
    return 0.5 * (leaving * traces.square().sum(0) + staying * traces[-1].square()).mean()


def check_classes(name: str, out: Tensor, target: Tensor) -> None:
    """Raises TypeError or ValueError unless `out` is `[T, B, classes]` and `target` has a class for each sample."""
    check_steps(name, out)
    if out.ndim != 3:
        raise ValueError(f"{name} must be [T, B, classes], with time first, but got shape {tuple(out.shape)}.")
    check_integers("target", target, out.shape[1])
    # On a GPU, looking would wait for all kernels before it, and in torch.compile it would break the graph: PyTorch's own
    # assertion stops the program there.
    looks = target.device.type == "cpu" and not is_recorded()
    if looks and bool(((target < 0) | (target >= out.shape[2])).any()):
        raise ValueError(f"target must be from 0 to classes - 1 = {out.shape[2] - 1}, but got {target.tolist()}.")

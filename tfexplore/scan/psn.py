r"""Parallel spiking neurons: a learned matrix over time in the place of leak and reset (Fang et al., NeurIPS 2023).

Beside the LIF, with d = 1 - 1/tau, X the currents [T, N] and S the spikes::

    LIF           h[t] = d (h[t-1] - threshold s[t-1]) + x[t]          s[t] = 1 where h[t] >= threshold
    PSN           H = W X                 W [T, T], learned            S = 1 where H + bias >= 0       bias [T], learned
    MaskedPSN     H = (W * M_k) X         M_k: the last k steps only
    SlidingPSN    h[t] = sum_i w[i] x[t-k+1+i]   w [k], learned        the same k numbers at every step

No spike comes back, so all steps are one product. A LIF without reset is the PSN with W[t, j] = d^(t-j) for j <= t, 0 above, and
bias = -threshold; one with reset is none. The parameters' names and shapes are SpikingJelly's, whose state dict PSN can load.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tfexplore.neurons.parameters import check_between, checked_count
from tfexplore.neurons.surrogates import ATan, Surrogate
from tfexplore.nn.checks import State, check_state
from tfexplore.scan.relaxations import Relaxation, Spike, WorkDepth, at, depth_of_sum

BLOCK = 64
"""Steps of a sliding PSN that are one product."""


class PSN(Relaxation):
    r"""The parallel spiking neuron: at each step, all steps' currents weighted by a row of a learned matrix.

    .. math:: H = W X, \quad S = \Theta(H + b), \quad W \in \mathbb{R}^{T \times T}, b \in \mathbb{R}^T

    Beside it LIF: :math:`h_t = d (h_{t-1} - \vartheta s_{t-1}) + x_t`, :math:`s_t = \Theta(h_t - \vartheta)`. There is no reset,
    and the matrix is **not causal**: the output at t depends on later steps too. `MaskedPSN` and `SlidingPSN` are causal.

    Args:
        steps: T; input of another number of steps is refused, as W belongs to this one.
        surrogate: the derivative that stands in for that of the spike.

    Shape:
        - x: `[T, B, *features]`
        - weight: `[T, T]`, uniform within 1/sqrt(T) of 0 before training; bias: `[T, 1]`, -1
        - output: that of x, in x's dtype; W X is computed in float32 (float64 for float64 input), within autocast too

    Raises:
        ValueError: for another number of steps; within `carry`, `step_by_step`, or with `return_state`, as there is no state.

    Example:
        >>> import torch
        >>> from tfexplore.scan import PSN
        >>> layer = PSN(2)
        >>> layer.load_state_dict({"weight": torch.tensor([[1.0, 0.0], [0.5, 1.0]]), "bias": torch.tensor([[-1.0], [-1.0]])})
        <All keys matched successfully>
        >>> layer(torch.tensor([[0.8], [0.6]])).flatten().tolist()     # 0.8, then 0.5 * 0.8 + 0.6
        [0.0, 1.0]
    """

    why_no_state = (
        "its output needs all its steps at once; call it outside of carry, step_by_step and return_state, or take a SlidingPSN, "
        "which carries its last k - 1 inputs."
    )

    def __init__(self, steps: int, *, surrogate: Surrogate = ATan()) -> None:  # noqa: B008
        super().__init__()
        checked_count("steps", steps)
        self.steps, self.spike = steps, Spike(surrogate)
        self.weight = nn.Parameter(torch.empty(steps, steps).uniform_(-(steps**-0.5), steps**-0.5))
        self.bias = nn.Parameter(torch.full((steps, 1), -1.0))

    def effective(self) -> Tensor:
        """The matrix that multiplies X."""
        return self.weight

    def compute(self, x: Tensor, state: State | None, ends: Tensor | None) -> tuple[Tensor, dict[str, Tensor], State]:
        name, steps = type(self).__name__, self.steps
        if len(x) != steps:
            raise ValueError(
                f"x must have T = {steps} time steps, those of the {name}'s {steps} x {steps} matrix, but got T = {len(x)}; make "
                f"a {name}({len(x)}), or pad x and say lengths=."
            )
        h = self.effective().to(x.dtype) @ x.flatten(1)
        s = self.spike(h + self.bias.to(x.dtype))
        return s.view(x.shape), {"h": h.view(x.shape)}, ()

    def work(self, steps: int, neurons: int) -> WorkDepth:
        """T^2 N multiply-adds, in a depth that grows with log T.

        >>> PSN(8).work(8, 100)
        WorkDepth(work=6400, depth=4)
        """
        if steps != self.steps:
            raise ValueError(f"steps must be {self.steps}, those of the layer's matrix, but got {steps!r}.")
        return WorkDepth(steps * steps * neurons, depth_of_sum(steps))

    def extra_repr(self) -> str:
        return f"{self.steps}, surrogate={self.spike.surrogate}"


class MaskedPSN(PSN):
    r"""A PSN that sees the last k steps only, so that it is causal.

    .. math:: H = (W \odot M) X, \quad M = \lambda M_k + (1 - \lambda) J, \quad (M_k)_{tj} = 1 \text{ where } t-k < j \le t

    with J all ones. At `lambda_` = 1 no later step counts; below 1, for a mask that training brings in little by little (the
    published schedule), the layer is **not causal**. SpikingJelly begins at 0; this layer at 1.

    Args:
        steps: T; input of another number of steps is refused.
        k: how many steps count, from 1 to T.
        lambda_: from 0, no mask, to 1; may be set at any time, and is in the `state_dict`.
        surrogate: the derivative that stands in for that of the spike.

    Shape:
        - x, weight, bias, output: those of `PSN`

    Raises:
        ValueError: for a k above T, a `lambda_` outside of 0..1, and as `PSN`.

    Example:
        >>> import torch
        >>> from tfexplore.scan import MaskedPSN
        >>> layer = MaskedPSN(4, k=2)
        >>> layer.weight.data.fill_(1.0).shape, layer.effective().tolist()
        (torch.Size([4, 4]), [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    """

    mask: Tensor
    _lambda_: Tensor

    def __init__(self, steps: int, k: int, lambda_: float = 1.0, *, surrogate: Surrogate = ATan()) -> None:  # noqa: B008
        super().__init__(steps, surrogate=surrogate)
        checked_count("k", k, steps)
        self.k = k
        ones = torch.ones(steps, steps)
        self.register_buffer("mask", ones.tril() - ones.tril(-k), persistent=False)
        self.register_buffer("_lambda_", torch.ones(()))
        self.lambda_ = lambda_

    @property
    def lambda_(self) -> float:
        """How much of the mask is there: 0 none, 1 all."""
        return self._lambda_.item()

    @lambda_.setter
    def lambda_(self, value: float) -> None:
        check_between("lambda_", value, 0, 1)
        self._lambda_.fill_(value)

    def effective(self) -> Tensor:
        return (self._lambda_ * self.mask + (1 - self._lambda_)) * self.weight

    def extra_repr(self) -> str:
        return f"{self.steps}, k={self.k}, lambda_={self.lambda_:g}, surrogate={self.spike.surrogate}"


class SlidingPSN(Relaxation):
    r"""A PSN whose k weights are the same at every step: causal, for any number of steps, and with a state.

    .. math:: h_t = \sum_{i=0}^{k-1} w_i x_{t-k+1+i}, \quad s_t = \Theta(h_t + b)

    A convolution over time. A LIF without reset is its limit for large k, with :math:`w_i = d^{\,k-1-i}`: before training
    they are that, with tau = 2, cut off after k steps.

    Args:
        k: how many steps count, the present one included.
        exp_init: begin with the weights ..., 1/4, 1/2, 1; False: uniform within 1/sqrt(k) of 0.
        surrogate: the derivative that stands in for that of the spike.

    Shape:
        - x: `[T, B, *features]`, of any T
        - state: the last k - 1 inputs, the oldest first, each `[B, *features]`, in float32 (float64 for float64 input)
        - weight: `[k]`; bias: `[]`, -1 before training
        - output: that of x, in x's dtype

    Example:
        >>> import torch
        >>> from tfexplore.scan import SlidingPSN
        >>> layer, x = SlidingPSN(k=3), torch.tensor([[0.8], [0.6], [0.2]])
        >>> layer(x).flatten().tolist()                                # 0.8, 0.4 + 0.6, 0.2 + 0.3 + 0.2
        [0.0, 1.0, 0.0]
        >>> s, state = layer(x[:1], return_state=True)
        >>> layer(x[1:], state).flatten().tolist()
        [1.0, 0.0]
    """

    def __init__(self, k: int, *, exp_init: bool = True, surrogate: Surrogate = ATan()) -> None:  # noqa: B008
        super().__init__()
        checked_count("k", k)
        self.k, self.spike = k, Spike(surrogate)
        powers = torch.tensor([2.0**-i for i in reversed(range(k))])
        self.weight = nn.Parameter(powers if exp_init else powers.uniform_(-1 / math.sqrt(k), 1 / math.sqrt(k)))
        self.bias = nn.Parameter(torch.tensor(-1.0))

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"x_{ago}" for ago in reversed(range(1, self.k)))

    def compute(self, x: Tensor, state: State | None, ends: Tensor | None) -> tuple[Tensor, dict[str, Tensor], State]:
        before = self.k - 1
        if state:
            check_state(state, self.state_names, x, x.dtype)
            seen = torch.cat([torch.stack(state), x])
        else:
            seen = pad(x, (0, 0) * (x.ndim - 1) + (before, 0))
        h = sliding(self.weight.to(x.dtype), seen.flatten(1)).view(x.shape)
        s = self.spike(h + self.bias.to(x.dtype))
        return s, {"h": h}, at(seen, ends, before)

    def work(self, steps: int, neurons: int) -> WorkDepth:
        """k T N multiply-adds, in a depth that grows with log k; products with the zeros beside a band are not counted.

        >>> SlidingPSN(4).work(8, 100)
        WorkDepth(work=3200, depth=3)
        """
        return WorkDepth(self.k * steps * neurons, depth_of_sum(self.k))

    def extra_repr(self) -> str:
        return f"k={self.k}, surrogate={self.spike.surrogate}"


def sliding(weight: Tensor, seen: Tensor) -> Tensor:
    """h[t] = sum_i weight[i] seen[t+i], [T, N] of seen [T + k - 1, N]: products with a band, `BLOCK` steps at a time.

    k shifted copies are fewer operations, and took twice as long on a CPU; one T x T band, as in SpikingJelly, grows with T^2.

    >>> sliding(torch.tensor([0.5, 1.0]), torch.tensor([[0.0], [1.0], [2.0]])).flatten().tolist()
    [1.0, 2.5]
    """
    k, steps = len(weight), len(seen) - len(weight) + 1
    block = min(BLOCK, steps)
    i = torch.arange(block + k - 1, device=seen.device) - torch.arange(block, device=seen.device).unsqueeze(1)
    band = torch.where((i >= 0) & (i < k), weight[i.clamp(0, k - 1)], 0)
    if steps <= BLOCK:
        return band @ seen
    windows = pad(seen, (0, 0, 0, -steps % block)).unfold(0, block + k - 1, block)  # [blocks, N, block + k - 1]
    return (band @ windows.mT).flatten(0, 1)[:steps]

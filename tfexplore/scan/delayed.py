r"""A LIF whose reset comes late: D steps after the spike, so that D steps at a time need no spike of their own.

Beside the LIF, with d = 1 - 1/tau::

    LIF             h[t] = d h[t-1] + x[t] - d threshold s[t-1]          s[t] = 1 where h[t] >= threshold
    DelayedReset    h[t] = d h[t-1] + x[t] - d threshold s[t-D]          the same at D = 1

Within a block of D steps, all s[t-D] are known from the block before, and the rest is a scan. T/D rounds, exactly: no guess, and
no iteration. What is lost is the refractory effect: a neuron that stays above the threshold fires at each of the D steps before
the first reset takes effect, and is then set back by each of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tfexplore import neurons
from tfexplore.neurons.parameters import checked_count
from tfexplore.neurons.surrogates import ATan, Surrogate
from tfexplore.nn.checks import State, check_state
from tfexplore.scan.relaxations import Relaxation, Spike, WorkDepth, at, decays, depth_of_sum


class DelayedReset(Relaxation):
    r"""A LIF with soft reset that a spike resets D steps later: blocks of D steps run at once.

    .. math:: h_t = d\, v_{t-1} + x_t, \quad s_t = \Theta(h_t - \vartheta), \quad v_t = h_t - \vartheta s_{t+1-D}

    with :math:`d = 1 - 1/\tau`. At D = 1 this is LIF up to rounding: d v + x here, v + x - v / tau there; bit for bit where such
    sums are exact. For larger D it is another neuron, and a block sums in another order than a loop over its steps would. Causal.

    Args:
        delay: D, in time steps; 1 for LIF.
        tau: membrane time constant, in time steps; at least 1.
        v_threshold: the potential from which the neuron fires, and what a spike subtracts.
        detach_reset: no gradient flows through the spike in the reset.
        surrogate: the derivative that stands in for that of the spike.

    Shape:
        - x: `[T, B, *features]`, of any T
        - state: v, then the last D - 1 spikes, the oldest first, each `[B, *features]`, in float32 (float64 for float64 input)
        - output: that of x, in x's dtype

    Example:
        >>> import torch
        >>> from tfexplore.scan import DelayedReset
        >>> x = torch.full((6, 1), 0.75)
        >>> DelayedReset(1)(x).flatten().tolist(), DelayedReset(2)(x).flatten().tolist()
        ([0.0, 1.0, 0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    """

    def __init__(
        self,
        delay: int,
        tau: float = 2.0,
        *,
        v_threshold: float = 1.0,
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(),  # noqa: B008
    ) -> None:
        super().__init__()
        checked_count("delay", delay)
        self.neuron = neurons.LIF(tau=tau, v_threshold=v_threshold, detach_reset=detach_reset, surrogate=surrogate)
        self.delay, self.spike = delay, Spike(surrogate)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("v", *(f"s_{ago}" for ago in reversed(range(1, self.delay))))

    @property
    def trace_names(self) -> tuple[str, ...]:
        return "h", "v"

    def compute(self, x: Tensor, state: State | None, ends: Tensor | None) -> tuple[Tensor, dict[str, Tensor], State]:
        names, delay, threshold = self.state_names, self.delay, self.neuron.v_threshold
        if state is None:
            state = (x.new_zeros(x.shape[1:]),) * len(names)
        check_state(state, names, x, x.dtype)
        if len(x) == 0:
            return x.clone(), {"h": x, "v": x}, state
        decay = 1 - 1 / self.neuron.tau
        leak = decays(delay, decay, x)
        fading = decay * leak[:, :1]  # of v before the block, at each of its steps
        v, late = state[0].flatten(), torch.stack(state)[1:].flatten(1)
        potentials: list[Tensor] = []
        after: list[Tensor] = []
        spikes = [late]
        for block in x.flatten(1).split(delay):
            size = len(block)
            known = late.detach() if self.neuron.detach_reset else late  # s[t+1-D] at each of its steps but the last
            drive = torch.cat([block[:1], block[1:] - decay * threshold * known[: size - 1]])
            h = leak[:size, :size] @ drive + fading[:size] * v
            s = self.spike(h - threshold)
            own = s[:1].detach() if self.neuron.detach_reset else s[:1]  # at the last, the block's own first
            reset = h - threshold * torch.cat([known, own])[:size]
            v, late = reset[-1], s[1:]  # a short block is the last
            potentials.append(h)
            after.append(reset)
            spikes.append(s)
        every, trace = torch.cat(spikes).unflatten(1, x.shape[1:]), torch.cat(after).view(x.shape)
        left = at(torch.cat([state[0].unsqueeze(0), trace]), ends, 1) + at(every, ends, delay - 1)
        return every[delay - 1 :], {"h": torch.cat(potentials).view(x.shape), "v": trace}, left

    def work(self, steps: int, neurons: int) -> WorkDepth:
        """A product with a D x D matrix for each block, and two multiply-adds at each step; the blocks follow each other.

        >>> DelayedReset(4).work(8, 100)
        WorkDepth(work=4800, depth=12)
        """
        rounds = -(-steps // self.delay)
        return WorkDepth((self.delay + 2) * steps * neurons, rounds * (depth_of_sum(self.delay) + 3))

    def extra_repr(self) -> str:
        return f"{self.delay}, {repr(self.neuron)[4:-1]}"

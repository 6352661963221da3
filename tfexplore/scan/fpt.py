r"""Fixed-point parallel training (FPT; Feng et al., ICML 2025, arXiv 2506.12087), as its published code computes it.

A LIF with soft reset, d = 1 - 1/tau, written for all steps at once, with D[t, j] = d^(t-j) for j <= t, 0 above::

    LIF      H = D X - threshold (D - I) S                     S = 1 where H >= threshold, else 0
    FPT      H_1 = D X                                         P_1 = sigmoid(alpha_1 (H_1 - threshold))
             H_k = D X - threshold (D - I) P_(k-1)             P_k = sigmoid(alpha_k (H_k - threshold)),    k = 2 ... K
             S drawn at random, 1 with probability P_K (Bernoulli); backward, dS/dP = 1

S stands on both sides of LIF's equation. FPT puts a sigmoid in the place of the comparison and takes K rounds, in each of which
all steps run at once. What comes out are random numbers: two calls give two results, and neither is a LIF's (`fpt_error`).

Where the published abstract and the code differ. The abstract speaks of a fixed-point iteration of LIF neurons that adds no
assumption, changes no architecture, and takes K = 3 rounds, usually. The code (github.com/WanjinVon/FPT, commit 47bc819) adds a
sigmoid, its steepness per round, another slope in the backward pass, and the drawing, when it tests too. It has two variants in
two programs: a fixed steepness (imagenet_train.py: 2, 6, 12, the default there and here; main_seq_cifar100.py: 1, 3, 12), or a
learned one (from 4, at every round; or from 6, 18, 36). In main_seq_cifar100.py D itself is learned, with a bias, from the matrix
above on, and with a learned steepness nothing keeps it triangular, so causal. Only fixed D and fixed steepness are here. Of the
paper, abstract and introduction were read; its method, proofs and appendix were not opened.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tfexplore import neurons
from tfexplore.neurons.parameters import check_between
from tfexplore.nn.checks import State
from tfexplore.nn.library import LIF
from tfexplore.nn.memoryless import valid
from tfexplore.scan.relaxations import Relaxation, WorkDepth, decays, depth_of_sum


class Sigmoid(torch.autograd.Function):
    """sigmoid(alpha u) in the forward pass, the slope of a flatter one, max(1, alpha / 3), in the backward pass."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.alpha = alpha
        return torch.sigmoid(alpha * u)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        alpha = max(1.0, ctx.alpha / 3)
        p = torch.sigmoid(alpha * u)
        return grad_outputs[0] * (alpha * p * (1 - p)), None


class Drawn(torch.autograd.Function):
    """1 with probability p, else 0; the gradient passes as if it were p."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.bernoulli(p, generator=generator)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0], None


class FPT(Relaxation):
    r"""K rounds of a smooth LIF over all steps at once, whose spikes are then drawn at random.

    .. math:: P_k = \sigma(\alpha_k (D X - \vartheta (D - I) P_{k-1} - \vartheta)), \quad S \sim \mathrm{Bernoulli}(P_K)

    with :math:`D_{tj} = (1 - 1/\tau)^{t-j}` for :math:`j \le t`, and no :math:`P_0` in the first round. Beside it LIF:
    :math:`S = \Theta(D X - \vartheta (D - I) S - \vartheta)`, which needs s[t-1] for s[t]. Causal. See this module for what of
    it is in the paper, and what in its code only.

    Args:
        tau: membrane time constant, in time steps; at least 1.
        v_threshold: the potential at which the neuron fires half of the times.
        alphas: the sigmoid's steepness in each round; their number is K.
        generator: of the random numbers, on x's device; None for torch's own, which `torch.manual_seed` sets.

    Shape:
        - x: `[T, B, *features]`, of any T; the matrix takes T^2 numbers
        - output: that of x, in x's dtype

    Raises:
        ValueError: for alphas that are no finite numbers above 0; within `carry`, `step_by_step`, or with `return_state`.

    Example:
        >>> import torch
        >>> from tfexplore.scan import FPT
        >>> layer, x = FPT(), torch.full((3, 1), 0.8)
        >>> [round(p, 2) for p in layer.probabilities(x).flatten().tolist()]     # LIF: 0, 1, 0
        [0.08, 0.73, 0.75]
    """

    why_no_state = (
        "its rounds run over all steps from the first on; call it outside of carry, step_by_step and return_state."
    )

    def __init__(
        self,
        tau: float = 2.0,
        *,
        v_threshold: float = 1.0,
        alphas: Sequence[float] = (2.0, 6.0, 12.0),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        neurons.LIF(tau=tau, v_threshold=v_threshold)  # its checks
        if not isinstance(alphas, Sequence) or not alphas:
            raise ValueError(
                f"alphas must have one number for each round, such as (2.0, 6.0, 12.0), but got {alphas!r}."
            )
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator or None, but got {type(generator).__name__}.")
        for alpha in alphas:
            check_between("each of alphas", alpha, 0, above=True)
        self.tau, self.v_threshold, self.alphas, self.generator = tau, v_threshold, tuple(alphas), generator

    @property
    def trace_names(self) -> tuple[str, ...]:
        """h, the potential of the last round, and p, the probability of a spike."""
        return "h", "p"

    def rounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The potential and the probability of a spike, of the last round; x [T, N]."""
        leak = decays(len(x), 1 - 1 / self.tau, x)
        threshold, h = self.v_threshold, leak @ x
        driven, back = h, threshold * (leak - torch.eye(len(x), dtype=x.dtype, device=x.device))
        p: Tensor = Sigmoid.apply(h - threshold, self.alphas[0])
        for alpha in self.alphas[1:]:
            h = driven - back @ p
            p = Sigmoid.apply(h - threshold, alpha)
        return h, p

    def probabilities(self, x: Tensor) -> Tensor:
        """The probability of a spike at each step, `[T, B, *features]`: nothing is drawn."""
        _, p = self(x, trace="p")
        return p

    def compute(self, x: Tensor, state: State | None, ends: Tensor | None) -> tuple[Tensor, dict[str, Tensor], State]:
        h, p = (each.view(x.shape) for each in self.rounds(x.flatten(1)))
        return Drawn.apply(p, self.generator), {"h": h, "p": p}, ()

    def work(self, steps: int, neurons: int) -> WorkDepth:
        """K T^2 N multiply-adds, as the code multiplies with the whole matrix; a sigmoid is one more in the depth.

        >>> FPT().work(8, 100)
        WorkDepth(work=19200, depth=15)
        """
        rounds = len(self.alphas)
        return WorkDepth(rounds * steps * steps * neurons, rounds * (depth_of_sum(steps) + 1))

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, v_threshold={self.v_threshold:g}, alphas={self.alphas}"


class FPTError(NamedTuple):
    """The share of spikes, of all neurons at all steps, that are not those of the exact LIF.

    drawn: of FPT as its code is, the mean over seeds; spread: the standard deviation over them. rounded: had it compared its last
    potential with the threshold instead. lif_rate, fpt_rate: spikes per step, the latter the mean over seeds.
    """

    drawn: float
    spread: float
    rounded: float
    lif_rate: float
    fpt_rate: float


def fpt_error(layer: FPT, x: Tensor, seeds: Iterable[int] = range(5), lengths: Tensor | None = None) -> FPTError:
    """How far FPT's spikes are from those of the exact LIF (soft reset) with the same numbers and input.

    A share can be read only beside the rate: a layer that never fires differs in a share of lif_rate.

    Args:
        layer: its tau, v_threshold and rounds; its own generator is left as it is.
        x: the current, `[T, B, *features]`.
        seeds: of the spikes that are drawn.
        lengths: the number of steps of each sample, `[B]`; those behind are not counted. None for T each.

    Example:
        >>> import torch
        >>> from tfexplore.scan import FPT, fpt_error
        >>> x = torch.rand(32, 8, 16, generator=torch.Generator().manual_seed(0))
        >>> found = fpt_error(FPT(), x)
        >>> bool(0.1 < found.drawn < 0.4)
        True
    """
    seeds = tuple(seeds)
    if not isinstance(layer, FPT):
        raise TypeError(f"layer must be an FPT, but got {type(layer).__name__}.")
    if not seeds:
        raise ValueError("seeds must have one number or more, but got none.")
    exact = LIF(tau=layer.tau, v_threshold=layer.v_threshold, backend="torch")
    with torch.no_grad():
        lif = exact(x, lengths=lengths)
        if not x.numel():
            raise ValueError(f"x must have at least one neuron and one step, but got shape {tuple(x.shape)}.")
        _, h, p = layer(x, trace=("h", "p"), lengths=lengths)
        own = torch.ones_like(x, dtype=torch.bool) if lengths is None else valid(lengths, x).expand_as(x)

        def share(where: Tensor) -> float:
            return where[own].double().mean().item()

        draws = [torch.bernoulli(p, generator=torch.Generator(x.device).manual_seed(seed)) for seed in seeds]
        shares, rates = [share(drawn != lif) for drawn in draws], [share(drawn) for drawn in draws]
        rounded, rate = share((h >= layer.v_threshold) != lif.bool()), share(lif)
    spread = statistics.stdev(shares) if len(shares) > 1 else 0.0
    return FPTError(statistics.fmean(shares), spread, rounded, rate, statistics.fmean(rates))

"""`ReversibleTime`: levels of a network that step through time together, trained in memory that need not grow with T."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tfexplore.neurons.parameters import checked_count
from tfexplore.nn import constant
from tfexplore.nn.checks import State
from tfexplore.nn.routes import state_dtype
from tfexplore.nn.stateful import Stateful
from tfexplore.reversible import safety
from tfexplore.reversible.alpha import Alpha
from tfexplore.reversible.backward import run
from tfexplore.reversible.reading import turned_off, why_not_bits
from tfexplore.reversible.safety import Choice
from tfexplore.reversible.walk import Plan, shapes


class Level(nn.Module):
    """A level's F: what it takes from below and from above, added, then what it makes of it.

    Args:
        down: of the level below, `[1, B, ...]` -> `[1, B, C, ...]`.
        up: of the level above one step earlier, to the same shape; None for the top level.
        then: modules from there to the level's new contribution, such as a `FoldTime` of convolutions.

    Example:
        >>> level = Level(nn.Linear(4, 8), nn.Linear(2, 8), nn.ReLU())
        >>> level(torch.rand(1, 3, 4), torch.rand(1, 3, 2)).shape, level(torch.rand(1, 3, 4), None).shape
        (torch.Size([1, 3, 8]), torch.Size([1, 3, 8]))
    """

    def __init__(self, down: nn.Module, up: nn.Module | None = None, *then: nn.Module) -> None:
        super().__init__()
        self.down, self.up, self.then = down, up, nn.Sequential(*then)

    def forward(self, below: Tensor, above: Tensor | None) -> Tensor:
        made = self.down(below)
        if self.up is not None and above is not None:
            made = made + self.up(above)
        found: Tensor = self.then(made)
        return found


class ReversibleTime(Stateful):
    r"""Levels that step through time together, each with a leaky state that can be inverted in time (T-RevSNN).

    .. math:: c_l[t] = F_l(s_{l-1}[t],\, s_{l+1}[t-1]) + \alpha_l \, c_l[t-1], \qquad s_l = \mathrm{read}(c_l)

    The input is the level below the lowest; the top level has none above. Backpropagation through time keeps everything that
    every F computed at every step. Here each F is computed again in the backward pass, one at a time, and of every step no
    more is kept than that needs (`keep`):

    ======== ================================================== ============================== ===========================
    keep     of every step                                      gradients                      for
    ======== ================================================== ============================== ===========================
    graph    all that autograd saves (the usual way)            those of BPTT                  comparison
    levels   the levels' states, as numbers (the published way) equal to BPTT's, bit for bit   any F
    bits     a bit or two for each state                        equal, for every alpha, 0 too  levels read through spikes
    last     nothing; the levels behind the last step           equal until the inverse fails  T within its bound
    ======== ================================================== ============================== ===========================

    "auto" takes "bits" where they are exact, else "last", with anchors where it needs them; `choice(x)` says which, and why.

    Args:
        levels: F of each level, from the lowest up: a module of two arguments, what it sees of the level below `[1, B, ...]` and
            of the level above one step earlier `[1, B, ...]`, or None where there is nothing above: at the top, and at the first
            step from the initial state. It returns `[1, B, C, ...]`; `Level` is such a module. Neurons within it have no memory:
            `temporal="off"`. For weights of their own at every step: a sequence of such sequences, `[T][L]`.
        channels: C of each level.
        alpha: what is left of a state after a step, at first: a number, or for each level a number or a tensor `[C]` (`[T, C]`).
        least: a bound below for the magnitude of a learned alpha, which then keeps its sign; 0 for none.
        learn_alpha: whether alpha is trained. It is bounded by its parametrisation (see `Alpha`).
        read: how the levels see each other; None for spikes without memory (`turned_off`), `nn.Identity()` for the numbers.
        keep: `"graph"`, `"levels"`, `"bits"`, `"last"` or `"auto"`.
        anchors: with "last", the states are kept as numbers every so many steps too; with "auto", where it takes "last" and no
            more is safe.
        out: which steps of the top level are returned: `"all"`, `"last"`, `"mean"` (over time), or their indices. Memory that
            does not grow with T wants another than "all", and an input that is the same at every step,
            `image.expand(T, ...)`.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of the levels' states `[B, C, ...]`, in float32 (float64 for float64 input), also where F computes in
          half precision
        - output: `[T, B, C, ...]` of the top level, in the state's dtype; `[B, C, ...]` for "last" and "mean", else
          `[k, B, C, ...]`

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.
        ValueError: at the call, where "last" would not be safe: with the number of bits that are lost, and the way out.
        RuntimeError: for an F that changes something of its own when it is called (running statistics of a BatchNorm move once,
            and dropout draws the same again), or uses a tensor with a gradient that is none of its parameters.

    Source: Hu et al., High-Performance Temporal Reversible Spiking Neural Networks with O(L) Training Memory and O(1) Inference
    Cost, ICML 2024. "bits", anchors and alpha's gradient without numbers are of this library.

    Example:
        >>> from tfexplore.reversible import Level, ReversibleTime
        >>> net = ReversibleTime([Level(nn.Linear(4, 8), nn.Linear(6, 8)), Level(nn.Linear(8, 6))], channels=(8, 6), out="mean")
        >>> x = torch.rand(1, 3, 4).expand(64, 3, 4)               # 64 steps of the same input
        >>> net(x).shape, net.choice(x).name
        (torch.Size([3, 6]), 'bits')
    """

    feeds_back = True
    """No schedule may walk it layer by layer."""
    alike = False

    def __init__(
        self,
        levels: Sequence[nn.Module] | Sequence[Sequence[nn.Module]],
        channels: Sequence[int],
        *,
        alpha: float | Tensor | Sequence[float | Tensor] = 0.5,
        least: float = 0.0,
        learn_alpha: bool = True,
        read: nn.Module | None = None,
        keep: str = "auto",
        anchors: int | None = None,
        out: str | Sequence[int] = "all",
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.own = not isinstance(levels[0], nn.Module)
        rows: list[list[Any]] = [list(row) for row in levels] if self.own else [list(levels)]  # type: ignore[arg-type]
        for row in rows:
            if len(row) != len(self.channels):
                raise ValueError(f"channels must be one for each of the {len(row)} levels, but got {list(channels)}.")
        self.steps = nn.ModuleList(nn.ModuleList(row) for row in rows)
        single = isinstance(alpha, Real) or (isinstance(alpha, Tensor) and alpha.ndim == 0)
        starts: list[Any] = [alpha] * len(self.channels) if single else list(alpha)  # type: ignore[arg-type]
        if len(starts) != len(self.channels):
            raise ValueError(
                f"alpha must be a number, or one for each of the {len(self.channels)} levels, but got {alpha!r}."
            )
        steps = len(rows) if self.own else None
        decays = zip(self.channels, starts, strict=True)
        self.decays = nn.ModuleList(Alpha(c, a, least=least, learn=learn_alpha, steps=steps) for c, a in decays)
        self.read = turned_off() if read is None else read
        if any(True for _ in self.read.parameters()):
            raise ValueError("read must have no parameters, but got some; give the levels modules that have them.")
        self.keep, self.anchors, self.out = keep, anchors, out
        self.sizes: dict[torch.Size, int] = {}
        self._check()

    def _check(self) -> None:
        """The options, which may be set at any time."""
        if self.keep not in (allowed := ("auto", *safety.KEEP)):
            raise ValueError(f"keep must be one of {', '.join(map(repr, allowed))}, but got {self.keep!r}.")
        if self.anchors is not None:
            checked_count("anchors", self.anchors)
            if self.keep not in ("last", "auto"):
                raise ValueError(f"anchors={self.anchors} has no effect with keep={self.keep!r}; it belongs to 'last'.")
        indices = isinstance(self.out, Sequence) and not isinstance(self.out, str)
        if not indices and self.out not in ("all", "last", "mean"):
            raise ValueError(f"out must be 'all', 'last', 'mean' or indices of steps, but got {self.out!r}.")
        for where, module in (("F", self.steps), ("read", self.read)):
            for part in module.modules():
                if isinstance(part, Stateful) and part.state_names:
                    raise ValueError(
                        f"{where} must have no memory of its own, but has a {type(part).__name__} with a state; make it "
                        "memoryless: temporal='off'. Time is in the levels."
                    )

    def _rows(self) -> list[list[nn.Module]]:
        """The levels' modules, [T][L] or [1][L]."""
        rows: Any = self.steps
        return [list(row) for row in rows]

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"c{level}" for level in range(len(self.channels)))

    @property
    def trace_names(self) -> tuple[str, ...]:
        return ()

    @property
    def alphas(self) -> list[Tensor]:
        """Of each level, `[C]` or `[T, C]`, as they are now."""
        return [decay() for decay in self.decays]

    def choice(self, x: Tensor) -> Choice:
        """What is saved for the backward pass of x, and why."""
        self._check()
        return self._choice(x, self.alphas)

    def _choice(self, x: Tensor, alphas: Sequence[Tensor]) -> Choice:
        lazy = [
            type(part).__name__ for part in self.steps.modules() if any(map(is_lazy, part.parameters(recurse=False)))
        ]
        if lazy and self.keep != "graph":
            raise ValueError(
                f"F must know the shapes of its weights, but has a {lazy[0]} that was never called; call it once, or the network "
                "with keep='graph'."
            )
        reason = why_not_bits(self.read)
        # of alphas of their own at every step, each has a gradient that needs the states as numbers
        for_alpha = self.own and any(alpha.requires_grad for alpha in alphas)
        inverts = self.keep in ("auto", "last") and (self.keep == "last" or bool(reason) or for_alpha)
        least = min(float(alpha.detach().abs().min()) for alpha in alphas) if inverts or for_alpha else 1.0
        numbers = isinstance(self.read, nn.Identity) or (self.keep == "auto" and not reason)
        compared = self._compared(x) if inverts and not numbers else 0
        return safety.choose(self.keep, self.anchors, len(x), least, state_dtype(x.dtype), reason, compared, for_alpha)

    def _compared(self, x: Tensor) -> int:
        """How many neurons the levels have for this input: found by a step that leaves nothing, once for each shape."""
        key = x.shape[1:]
        if key not in self.sizes:
            found = shapes(self._rows()[0], self.read, self.channels, x[:1])
            self.sizes[key] = sum(shape.numel() for shape in found)
        return self.sizes[key]

    def run(
        self, x: Tensor, state: State | None, want_state: bool = True, *, lengths: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, State]:
        if lengths is not None:
            raise ValueError(
                "ReversibleTime takes sequences of one length, but got lengths; batch samples of equal length together."
            )
        self._check()
        alphas = self.alphas
        plan = self.plan(x, state, self._choice(x, alphas))
        out, *after = run(plan, constant.current(x), alphas, self._checked(state, x, plan.dtype))
        return out.squeeze(0) if self.out in ("last", "mean") else out, tuple(after)

    def plan(self, x: Tensor, state: State | None, choice: Choice) -> Plan:
        """The walk of x, checked; choice: what it keeps."""
        steps = len(x)
        if steps == 0:
            raise ValueError(f"x must have one time step at least, but got shape {list(x.shape)}.")
        if self.own and (state is not None or steps != len(self.steps)):
            came = f"x has {steps}" if state is None else "a state was given, which does not say which step is next"
            raise ValueError(
                f"each of the {len(self.steps)} time steps has weights of its own: x must have them all, but {came}."
            )
        rows = self._rows()
        return Plan(
            rows, self.channels, self.read, choice, self._steps_out(steps), steps, state_dtype(x.dtype), x.dtype
        )

    def _checked(self, state: State | None, x: Tensor, dtype: torch.dtype) -> State:
        for name, channels, z in zip(self.state_names, self.channels, state or (), strict=state is not None):
            if z.ndim < 2 or z.shape[:2] != (x.shape[1], channels) or z.dtype != dtype or z.device != x.device:
                raise ValueError(
                    f"state {name!r} must be [B, C, ...] = [{x.shape[1]}, {channels}, ...], {dtype} on {x.device}, but "
                    f"got {list(z.shape)}, {z.dtype} on {z.device}; begin anew with state=None (or a new "
                    "carry) for another batch."
                )
        return state or ()

    def _steps_out(self, steps: int) -> Sequence[int] | str:
        if self.out == "mean":
            return "mean"
        if self.out in ("all", "last"):
            return range(steps) if self.out == "all" else (steps - 1,)
        found = tuple(range(steps)[at] if -steps <= at < steps else -1 for at in self.out if isinstance(at, int))
        if not found or -1 in found or len(found) != len(self.out) or list(found) != sorted(set(found)):
            raise ValueError(f"out must be increasing indices of the {steps} steps, but got {self.out!r}.")
        return found

    def extra_repr(self) -> str:
        shown = {"keep": "auto", "anchors": None, "out": "all"}
        return ", ".join(f"{key}={getattr(self, key)!r}" for key, usual in shown.items() if getattr(self, key) != usual)

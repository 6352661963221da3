r"""The walk as one node of autograd's graph, whose backward pass makes the levels of each step again.

In step t from the top level down: a level's F is computed again from what it saw, now with a graph of its own, which gives the
gradients of what is below and above and of the weights, and is gone; then its state a step before is read or inverted,
:math:`c_l[t-1] = (c_l[t] - F_l) / \alpha_l`, since the level below saw it. One extra forward pass.

:math:`\alpha`'s gradient is :math:`\sum_t g_t c_{t-1}`. Where bits are kept, and no numbers, the same sum in another order does
without them: with :math:`e_{t-1} = g_t + \alpha e_t` it is :math:`\sum_t F_t e_t + c_0 e_0`, and F is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tfexplore.nn import ops
from tfexplore.nn.layers import Layer
from tfexplore.reversible.reading import InBits, Seen, seen
from tfexplore.reversible.recompute import (
    Autocast,
    Generators,
    Holder,
    check_leaves,
    check_unchanged,
    drawn,
    footprint,
    set_generators,
    undrawn,
)  # fmt: skip
from tfexplore.reversible.walk import Outputs, Plan, unrolled, walk

Place: TypeAlias = tuple[str, int, int]
"""Where something kept belongs: "numbers" or "bits", the step, the level."""


def run(plan: Plan, x: Tensor, alphas: Sequence[Tensor], state: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The output, then the levels behind the last step."""
    holder = plan.holder()
    tensors = holder.tensors()
    with_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *alphas, *state, *tensors.values()))
    if plan.choice.name == "graph" or not with_grad:
        return unrolled(plan, x, alphas, state)
    made: tuple[Tensor, ...] = Reversed.apply(plan, holder, tuple(tensors), x, *alphas, *state, *tensors.values())
    return made


class Reversed(torch.autograd.Function):
    """All that it depends on is an input: x, the alphas, the states before the first step, and the levels' own tensors."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, holder: Holder, names: tuple[str, ...], x: Tensor, *rest: Tensor
    ) -> tuple[Any, ...]:
        count = len(plan.channels)
        alphas, state = rest[:count], rest[count : len(rest) - len(names)]
        draws: dict[tuple[int, int], Generators | None] = {}

        def call(t: int, level: int, module: nn.Module, below: Tensor, above: Tensor | None) -> Tensor:
            before = footprint(module) if t < len(plan.levels) else None  # its first call in this pass
            given = [(z, z._version) for z in (below, above) if z is not None]
            made, draws[t, level] = drawn(lambda: module(below, above), x.device)
            if before is not None:
                check_unchanged(before, module, f"level {level}")
            if any(z._version != version for z, version in given):
                raise RuntimeError(f"level {level} must leave what it is given as it is, but changes it in place.")
            return made

        autocast, outputs = Autocast(x.device), Outputs(plan)
        c: list[Tensor] = []
        in_bits = InBits(plan.read) if plan.choice.name == "bits" and isinstance(plan.read, Layer) else None
        kept: dict[Place, list[Tensor]] = {}
        for t, c, s in walk(plan, x, alphas, state, call):
            outputs.add(t, c[-1])
            for k, z in enumerate(c):
                if plan.keeps_numbers(t):
                    kept["numbers", t, k] = [z]
                if in_bits is not None and plan.sees(k, t):
                    kept["bits", t, k] = bits = in_bits.kept(z)
                    if t == 0 and not torch.equal(in_bits.seen(bits, z.shape, plan.dtype, plan.data).values, s[k]):
                        raise RuntimeError(
                            "a hook changes what read gives, which bits do not hold; take it away, or use keep='levels'."
                        )
        autocast.forget()
        ctx.plan, ctx.holder, ctx.names, ctx.draws = plan, holder, names, draws
        ctx.autocast, ctx.in_bits, ctx.given = autocast, in_bits, len(state)
        ctx.places, ctx.shapes = {place: len(tensors) for place, tensors in kept.items()}, [z.shape for z in c]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *rest, *(tensor for tensors in kept.values() for tensor in tensors))
        return outputs.made(), *(z.squeeze(0) for z in c)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: raises where a second derivative is taken
            return None, None, None, *Gradients.apply(lambda: backward(ctx, *gradients), *gradients, *ctx.saved_tensors)
        return None, None, None, *backward(ctx, *gradients)


class Gradients(ops.Gradients):
    """The backward pass where it must be differentiable itself, which it is not."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        raise RuntimeError("a walk back through the levels has no second derivative; use keep='graph' for it.")


def backward(ctx: Any, g_out: Tensor | None, *g_states: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradients of x, the alphas, the states before the first step, and the levels' own tensors."""
    saved = iter(ctx.saved_tensors)
    x = next(saved)
    alphas, state, tensors = ([next(saved) for _ in range(n)] for n in (len(g_states), ctx.given, len(ctx.names)))
    kept = {place: [next(saved) for _ in range(n)] for place, n in ctx.places.items()}
    back = Backward(ctx, x, alphas, state, kept, ctx.needs_input_grad[3:])
    with undrawn(x):
        wanted = ctx.needs_input_grad[-len(tensors) :]
        named = zip(ctx.names, tensors, wanted, strict=True)
        leaves: dict[str, Tensor] = {name: nn.Parameter(t.detach(), w) for name, t, w in named}
        ctx.holder.again(leaves, lambda: back.run(g_out, g_states, leaves))
    return back.g_x, *back.g_alphas, *back.g_state, *map(back.g_weights.get, ctx.names)


def added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


class Known:
    """A level behind some step, in the backward pass.

    state: its number, where needed. g: the state's gradient. seen: what the other levels saw of it; g_seen: that one's gradient.
    """

    def __init__(self, state: Tensor | None, seen: Seen | None, g: Tensor | None = None) -> None:
        self.state, self.seen, self.g = state, seen, g
        self.g_seen: Tensor | None = None

    def arrive(self, g: Tensor | None) -> None:
        self.g = added(self.g, g)

    def gather(self) -> None:
        """The gradient of what was seen, added to the state's: no more of it will come."""
        if self.g_seen is not None and self.seen is not None:
            self.arrive(self.seen.back(self.g_seen))


class Backward:
    """One backward pass; `run` fills in the gradients."""

    def __init__(
        self, ctx: Any, x: Tensor, alphas: list[Tensor], state: list[Tensor], kept: dict[Place, list[Tensor]],
        wanted: Sequence[bool],
    ) -> None:  # fmt: skip
        self.plan: Plan = ctx.plan
        self.x, self.alphas, self.state, self.kept = x, alphas, state, kept
        self.draws, self.autocast, self.shapes = ctx.draws, ctx.autocast, ctx.shapes
        self.in_bits: InBits | None = ctx.in_bits
        self.top = len(alphas) - 1
        self.wants_x, self.wants_alpha = wanted[0], wanted[1 : 1 + len(alphas)]
        self.g_x: Tensor | None = None
        self.g_alphas: list[Tensor | None] = [None] * len(alphas)
        self.g_state: list[Tensor | None] = [None] * len(state)
        self.g_weights: dict[str, Tensor] = {}
        self.later: list[Tensor | None] = [None] * len(alphas)
        """e of alpha's gradient, where no numbers are kept."""

    def run(self, g_out: Tensor | None, g_states: Sequence[Tensor | None], leaves: dict[str, Tensor]) -> None:
        plan, outputs = self.plan, Outputs(self.plan)
        self.names = {id(leaf): name for name, leaf in leaves.items() if leaf.requires_grad}
        self.weights: dict[nn.Module, list[Tensor]] = {}
        now = [self.level(plan.steps - 1, k, self.number(plan.steps - 1, k)) for k in range(self.top + 1)]
        for level, g in zip(now, g_states, strict=True):
            level.arrive(None if g is None else g.unsqueeze(0))
        for t in reversed(range(plan.steps)):
            now[-1].arrive(outputs.gradient(g_out, t))
            before: list[Known] = []  # from the top down
            for k in reversed(range(self.top + 1)):
                now[k].gather()
                made = self.again(t, k, now, before[-1] if before else None)
                before.append(self.step_before(t, k, now[k], made))
                self.alpha_gradient(t, k, now[k].g, made, before[-1].state)
            now = before[::-1]
        for k in range(len(self.state)):
            now[k].gather()
            g = now[k].g
            self.g_state[k] = None if g is None else g.squeeze(0)

    def number(self, t: int, k: int) -> Tensor | None:
        """The level behind step t, where it was kept or given."""
        if t < 0:
            return self.state[k].unsqueeze(0) if self.state else None
        found = self.kept.get(("numbers", t, k))
        return None if found is None else found[0]

    def level(self, t: int, k: int, state: Tensor | None) -> Known:
        """The level behind step t, with what the others saw of it."""
        if t < 0:
            return Known(state, None if state is None or k == 0 else seen(self.plan.see, state))
        if not self.plan.sees(k, t):
            return Known(state, None)
        if self.in_bits is not None:
            return Known(
                state, self.in_bits.seen(self.kept["bits", t, k], self.shapes[k], self.plan.dtype, self.plan.data)
            )
        assert state is not None
        return Known(state, seen(self.plan.see, state))

    def again(self, t: int, k: int, now: list[Known], above: Known | None) -> Tensor:
        """What F gave; from the gradient of the state behind it, those of what it saw and of its weights."""
        module, g, lower = self.plan.at(t)[k], now[k].g, now[k - 1] if k else None
        if lower is None:
            under = self.plan.step_of(self.x, t).detach().requires_grad_(self.wants_x)
        else:
            assert lower.seen is not None
            under = lower.seen.values.detach().requires_grad_()
        over = None if above is None or above.seen is None else above.seen.values.detach().requires_grad_()
        if (before := self.draws[t, k]) is not None:
            set_generators(before, self.x.device)
        with torch.set_grad_enabled(g is not None), self.autocast.again():
            made: Tensor = module(under, over)
        if g is not None and made.requires_grad:
            inputs = [leaf for leaf in (under, over) if leaf is not None and leaf.requires_grad]
            if (weights := self.weights.get(module)) is None:
                weights = [z for z in (*module.parameters(), *module.buffers()) if id(z) in self.names]
                self.weights[module] = weights
                check_leaves(made, [*inputs, *weights], f"level {k}")
            found = torch.autograd.grad(made, [*inputs, *weights], g.to(made.dtype), allow_unused=True)
            gradients = dict(zip(map(id, (*inputs, *weights)), found, strict=True))
            if lower is None:
                self.input_gradient(t, gradients.get(id(under)))
            else:
                lower.g_seen = added(lower.g_seen, gradients[id(under)])
            if above is not None and over is not None:
                above.g_seen = added(above.g_seen, gradients[id(over)])
            for weight in weights:
                if (gradient := gradients[id(weight)]) is not None:
                    name = self.names[id(weight)]
                    self.g_weights[name] = self.g_weights[name] + gradient if name in self.g_weights else gradient
        return made.detach().to(self.plan.dtype)

    def step_before(self, t: int, k: int, now: Known, made: Tensor) -> Known:
        """The level behind the step before: its state as it was kept, or by the inverse, or unknown where bits are enough."""
        state, alpha = self.number(t - 1, k), self.plan.alpha(self.alphas, k, t, made)
        if state is None and t > 0 and now.state is not None:
            state = (now.state - made) / alpha
        before = self.level(t - 1, k, state)
        if now.g is not None and (t > 0 or self.state):
            before.g = alpha * now.g
        return before

    def alpha_gradient(self, t: int, k: int, g: Tensor | None, made: Tensor, before: Tensor | None) -> None:
        if not self.wants_alpha[k]:
            return
        alphas, axes = self.alphas[k], [axis for axis in range(made.ndim) if axis != 2]
        if self.in_bits is not None and alphas.ndim == 1:
            later, alpha = self.later[k], self.plan.alpha(self.alphas, k, t, made)
            part = None if later is None else (made * later).sum(axes)
            self.later[k] = later = added(g, None if later is None else alpha * later)
            if t == 0 and before is not None and later is not None:
                part = added(part, (before * later).sum(axes))
        else:
            part = None if g is None or before is None else (g * before).sum(axes)
        if part is None:
            return
        if alphas.ndim == 2:
            of_step, part = part, torch.zeros_like(alphas)
            part[t] = of_step
        self.g_alphas[k] = added(self.g_alphas[k], part.to(alphas.dtype))

    def input_gradient(self, t: int, g: Tensor | None) -> None:
        if g is None:
            return
        if len(self.x) == 1:
            self.g_x = added(self.g_x, g)
        else:
            if self.g_x is None:
                self.g_x = torch.zeros_like(self.x)
            self.g_x[t] = g[0]

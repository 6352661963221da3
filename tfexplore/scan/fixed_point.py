r"""Neurons with a reset by scans, exactly: guess all spikes, scan, compare, repeat.

*Given* the spikes, most neurons are affine (`why_not(step, given_spikes=True)`), so that one scan gives every state, and a map
over time the spikes F(s) that the neuron would fire after those that were given. The true spikes are the one fixed point,
s = F(s), since step 0 needs no spike, and two that agree before t agree at t::

    s[0] = a guess (no spikes);    s[k] = F(s[k-1]);    until all is proved

**What is final.** F(s) at step t depends on s before t only. If s[k] and s[k-1] agree before step c, the first that changed, then
s[k] is true at all steps up to and *including* c: from the left, each was made of steps that are true. That is a proof without
knowing the answer, `Solved.final`. Without a guess, c of round 1 is the first spike. What is true stays, so c grows by a step
or more in each round: round k proves k steps at least, and **T rounds are always enough**.

**Rounds and spikes.** Where a spike never raises a later u (F is antitone: more spikes before, fewer after), the iterates enclose
the answer: no spikes <= s[2] <= s[4] <= ... <= s <= ... <= s[3] <= s[1]. Then s[2j] only *misses* spikes, and the first one that
it misses, s[2j+2] has. Two rounds find at least one spike more: a neuron with n spikes is done after **2 n + 1 rounds**, and so
is the layer after its busiest one. That holds for soft resets with a threshold >= 0 (ALIF with beta >= 0 included), and for hard
ones whose potential never is below v_reset (neither at first, nor by negative currents). Elsewhere only T does: with a hard
reset, *one* spike and one strongly negative current can take all T rounds, since each false spike lifts the potential to v_reset,
and a round removes one.
The rounds are few where the neuron forgets (a short tau), and grow with T where it does not: they are no constant.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tfexplore.neurons.affine import affine_of
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import checked_count
from tfexplore.scan.pairs import Count
from tfexplore.scan.steps import Equations, Forward, States, check_how, check_spikes, run


@dataclass(frozen=True, eq=False)
class Solved:
    """The fixed point, and how it was found; R rounds, `[B, *features]` neurons.

    Args:
        forward: every value of the forward pass, as of `walk`.
        rounds: R, scans until all was proved.
        changed: in each round, how many element-steps differ from the round before it; `[R]`.
        final: after each round, how many first steps of each neuron are proved to be true; `[R, B, *features]`.
        wasted: in each round, the element-steps computed again though proved in a round before; `[R]`.
        history: the spikes after each round, `[R, T, B, *features]`, bool; None unless recorded.
    """

    forward: Forward
    rounds: int
    changed: tuple[int, ...]
    final: Tensor
    wasted: tuple[int, ...]
    history: Tensor | None = field(default=None, repr=False)

    @property
    def out(self) -> Tensor:
        """The spikes, as a layer returns them."""
        return self.forward.out

    @property
    def agree(self) -> Tensor:
        """After each round, how many steps of each neuron are those of the end result, proved or by luck; `[R, B, *features]`."""
        if self.history is None:
            raise ValueError("history was not recorded: solve(..., record=True) keeps the spikes of every round.")
        return (self.history == (self.out > 0)).sum(1)


def solve(
    neuron: Neuron,
    x: Tensor,
    state: States | None = None,
    how: str = "sequential",
    chunk: int = 32,
    *,
    guess: Tensor | None = None,
    most: int | None = None,
    record: bool = False,
    count: Count | None = None,
) -> Solved:
    """The spikes of a neuron whose step is affine once they are given: guess, scan, compare, repeat, until all are proved.

    No gradient flows through it: that is `gradient(neuron, x, g_out, forward=solved.forward)`, one scan more.

    Args:
        neuron: one for which `why_not(step, given_spikes=True)` is "".
        x: the input current, `[T, B, *features]`.
        state: the states before the first step.
        how: the scan inside, of `run`. With `"sequential"` the result is the layer's, bit for bit; the others add in another
            order: a spike may differ where u is within a rounding of 0 (`rounding.py` has the bound).
        chunk: time steps of a chunk, for `"chunked"`.
        guess: spikes to begin with, of x's shape; None for none.
        most: raise after this number of rounds.
        record: keep the spikes of every round, `Solved.history`.
        count: counts the combines of all rounds.

    Raises:
        ValueError: with the reason, where the step is not affine even so.
        RuntimeError: more than `most` rounds would be needed.

    Example:
        >>> from tfexplore import neurons
        >>> solved = solve(neurons.LIF(tau=2.0), torch.full((8, 1, 1), 0.8))
        >>> solved.out.flatten().tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
        >>> solved.rounds, solved.changed, solved.final.flatten().tolist()
        (7, (7, 6, 5, 4, 3, 2, 1), [2, 3, 4, 5, 6, 7, 8])
    """
    check_how(how)
    check_spikes(guess, x)
    if most is not None:
        checked_count("most", most)
    on = Equations(neuron, x)
    affine_of(on.step, given_spikes=True)  # raises where it is not
    with torch.no_grad():
        s = torch.zeros_like(on.x) if guess is None else guess.to(on.x.dtype)
        changed, wasted, history = list[int](), list[int](), list[Tensor]()
        final = [torch.zeros(x.shape[1:], dtype=torch.int64, device=x.device)]
        forward = run(neuron, x, state, "sequential", spikes=s) if not x.numel() else None
        while x.numel() and int(final[-1].min()) < len(x):
            if most is not None and len(changed) == most:
                raise RuntimeError(
                    f"after {most} rounds {int((len(x) - final[-1]).sum())} element-steps are not proved; allow more (most=), at "
                    f"most T = {len(x)} are needed."
                )
            forward = run(neuron, x, state, how, chunk, spikes=s, count=count)
            made = fired(forward, on)
            differs = made != s
            wasted.append(int(final[-1].sum()))
            changed.append(int(differs.sum()))
            final.append(proved(differs))
            history += [made.bool()] if record else []
            s = made
    assert forward is not None
    final = final[1:] or [final[0]]
    kept = torch.stack(history) if history else None
    return Solved(ended(forward, s, on), len(changed), tuple(changed), torch.stack(final), tuple(wasted), kept)


def ended(forward: Forward, s: Tensor, on: Equations) -> Forward:
    """With the spikes found: the last round may have changed that of the last step, which its state had not seen."""
    if not len(s):
        return forward._replace(spikes=s)
    last = on.reset(tuple(h[-1:] for h in forward.charged), s[-1:])
    states = tuple(torch.cat([z[:-1], end]) for z, end in zip(forward.states, last, strict=True))
    return forward._replace(spikes=s, states=states)


def fired(forward: Forward, on: Equations) -> Tensor:
    """F(s): the spikes after those that were given; a neuron that does not fire has none."""
    return forward.out if on.step.fire is not None else torch.zeros_like(forward.out)


def proved(differs: Tensor) -> Tensor:
    """How many first steps are true: up to and including the first that differs from the round before; all where none does.

    >>> proved(torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.bool).T)
    tensor([3, 2, 3])
    """
    steps = len(differs)
    first = torch.where(differs.any(0), differs.to(torch.uint8).argmax(0), steps)
    return (first + 1).clamp(max=steps)

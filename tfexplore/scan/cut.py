r"""A hard reset cuts the past, so a neuron that has one is a scan between its spikes: speculate, commit, restart.

Where a spike leaves a state that does not depend on what was before (`neurons.affine.cuts`), each stretch between two spikes is a
recurrence without reset. Where the stretches end is found on the way. Every neuron has a position of its own; in each round::

    1. scan the next K steps as if nothing fired            speculative; all neurons and steps side by side
    2. commit up to and including the first spike           what is behind it is thrown away: `wasted`
    3. go on behind it, from the state that the spike left

A round commits K steps or ends with a spike. With n spikes at the ends of stretches of l[1] ... l[n] steps, and l[n+1] steps
behind the last, a neuron takes *exactly* ceil(l[1] / K) + ... + ceil(l[n+1] / K) rounds: n at least, n + ceil((T - n) / K) at
most. A layer takes those of its slowest neuron, for which the others wait. Other than the fixed point's, this bound in spikes
always holds.

After "Bullet Trains" (Morrill, Pehle, Zador, arXiv 2603.13283), which does this with events in continuous time, chunks of 128
events, and a solver for the times of spikes. Known here from its abstract and from others' summaries; its code was not read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tfexplore.neurons.affine import affine_of, cuts
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import checked_count
from tfexplore.scan.pairs import Count, Pairs
from tfexplore.scan.steps import Equations, Forward, States, check_how, scanned


@dataclass(frozen=True, eq=False)
class Cut:
    """The spikes of a neuron with a hard reset, and how they were found; R rounds.

    Args:
        forward: every value of the forward pass, as of `walk`.
        rounds: R.
        committed: in each round, how many steps of each neuron became final; `[R, B, *features]`.
        wasted: in each round, the element-steps computed behind a spike, and thrown away; `[R]`.
        idle: in each round, the lanes without a step to compute: of neurons that are done, or behind the last step; `[R]`.
    """

    forward: Forward
    rounds: int
    committed: Tensor
    wasted: tuple[int, ...]
    idle: tuple[int, ...]

    @property
    def out(self) -> Tensor:
        """The spikes, as a layer returns them."""
        return self.forward.out

    @property
    def final(self) -> Tensor:
        """After each round, how many first steps of each neuron are final; `[R, B, *features]`."""
        return self.committed.cumsum(0)


def cut(
    neuron: Neuron,
    x: Tensor,
    state: States | None = None,
    how: str = "sequential",
    chunk: int = 32,
    *,
    count: Count | None = None,
) -> Cut:
    """The spikes of a neuron with a hard reset by reset-free scans, each up to the first spike.

    No gradient flows through it: that is `gradient(neuron, x, g_out, forward=found.forward)`, one scan more.

    Args:
        neuron: one whose spike cuts the past, and whose step is affine between spikes: IF and LIF with reset="hard", PaperLIF.
        x: the input current, `[T, B, *features]`.
        state: the states before the first step.
        how: the scan inside, of `run`. With `"sequential"` the result is the layer's, bit for bit.
        chunk: K, the steps scanned in a round (with `how="chunked"` in chunks of about the root of K).
        count: counts the combines of all rounds, idle lanes included.

    Raises:
        ValueError: with the reason, for another neuron.

    Example:
        A spike every second step: with K = 8, each round commits two steps and throws six away.

        >>> from tfexplore import neurons
        >>> found = cut(neurons.LIF(tau=2.0, reset="hard"), torch.full((8, 1, 1), 0.8), chunk=8)
        >>> found.out.flatten().tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
        >>> found.rounds, found.committed.flatten().tolist(), found.wasted
        (4, [2, 2, 2, 2], (6, 4, 2, 0))
    """
    check_how(how)
    checked_count("chunk", chunk)
    on = Equations(neuron, x)
    if not cuts(on.step):
        raise ValueError(
            f"A spike of {on.step.name} with reset={neuron.reset!r} does not cut the past: the states after it depend on those "
            "before it. Use reset='hard' where v is the only state, or solve(...)."
        )
    affine_of(on.step, given_spikes=True)  # raises where it is not
    with torch.no_grad():
        return _rounds(on, on.start(state), how, chunk, count)


def _rounds(on: Equations, z: States, how: str, chunk: int, count: Count | None) -> Cut:
    steps, shape = len(on.x), on.x.shape[1:]
    place = torch.zeros(shape, dtype=torch.int64, device=on.x.device)
    ahead = torch.arange(chunk, device=on.x.device).view(-1, *(1,) * len(shape))
    made = [on.x.new_zeros(steps + 1, *shape) for _ in range(2 + 3 * len(z))]  # one row more, for what is not kept
    committed, wasted, idle = list[Tensor](), list[int](), list[int]()
    while on.x.numel() and int(place.min()) < steps:
        where = place + ahead
        inside = where < steps
        charged, before = _speculative(on, z, where.clamp(max=steps - 1), how, count)
        u = on.fire(charged)
        fires = (on.spike(u) > 0) & inside
        first = torch.where(fires.any(0), fires.to(torch.uint8).argmax(0), chunk - 1)
        done = torch.minimum(first + 1, steps - place)
        keep = ahead < done
        s = (fires & keep).to(u.dtype)  # the first spike, if any
        after = on.reset(charged, s)
        for values, new in zip(made, (u, s, *after, *before, *charged), strict=True):
            values.scatter_(0, torch.where(keep, where, steps), new.expand(where.shape))
        last = (done - 1).clamp(min=0).unsqueeze(0)
        z = tuple(torch.where(done > 0, new.gather(0, last)[0], old) for new, old in zip(after, z, strict=True))
        place = place + done
        committed.append(done)
        wasted.append(int(inside.sum() - done.sum()))
        idle.append(int((~inside).sum()))
    u, s, *rest = (values[:steps] for values in made)
    after, before, charged = (tuple(rest[k * len(z) : (k + 1) * len(z)]) for k in range(3))
    forward = Forward(s, after, before, charged, u, s)
    each = torch.stack(committed) if committed else torch.zeros(0, *shape, dtype=torch.int64)
    return Cut(forward, len(committed), each, tuple(wasted), tuple(idle))


def _speculative(on: Equations, z: States, where: Tensor, how: str, count: Count | None) -> tuple[States, States]:
    """The charged states of K steps, and the states before each, as if nothing fired; where: the step of each, `[K, ...]`."""
    x = on.x.gather(0, where)
    if how == "sequential":  # the neuron's own operations
        quiet, each = torch.zeros_like(x[0]), []
        for x_t in x:
            charged = on.charge(z, x_t)
            each.append((charged, z))
            z = on.reset(charged, quiet)
        return tuple(_stack([c for c, _ in each])), tuple(_stack([b for _, b in each]))
    a, b = on.pairs(torch.zeros_like(on.x))
    there = where.unsqueeze(1).expand(-1, b.shape[1], *where.shape[1:])
    pairs = Pairs(a.expand(b.shape).gather(0, there), b.gather(0, there))  # one state: A is diagonal
    states = scanned(how, pairs, torch.stack(z), max(1, round(len(x) ** 0.5)), count)
    before = torch.cat([torch.stack(z)[None], states[:-1]]).unbind(1)
    return on.charge(before, x), before


def _stack(steps: list[States]) -> list[Tensor]:
    return [torch.stack(values) for values in zip(*steps, strict=True)]


def rounds_of(spikes: Tensor, chunk: int) -> int:
    """The rounds that `cut` takes for a layer with these spikes `[T, ...]`: the closed form.

    >>> rounds_of(torch.tensor([[0, 1, 0, 0, 0, 1, 0, 0, 0]]).T, chunk=2)     # stretches of 2, 4, 3: 1 + 2 + 2 rounds
    5
    """
    checked_count("chunk", chunk)
    steps = len(spikes)
    most = 0
    for fired in spikes.reshape(steps, math.prod(spikes.shape[1:])).T:
        ends = [-1, *fired.nonzero().flatten().tolist(), steps - 1]
        stretches = [end - begin for begin, end in pairwise(ends)]
        most = max(most, sum(-(-length // chunk) for length in stretches))
    return most

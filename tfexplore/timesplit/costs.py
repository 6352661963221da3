"""The measured input of a plan: seconds and bytes of each layer on this machine, and the link between two ranks."""

from __future__ import annotations

import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tfexplore.measure.timeline import leaves
from tfexplore.neurons.parameters import checked_count
from tfexplore.nn.checks import check_input
from tfexplore.nn.schedules import active_batch_norms
from tfexplore.nn.states import carry
from tfexplore.timesplit import batchnorm
from tfexplore.timesplit.events import rank_events
from tfexplore.timesplit.plan import Cost, Link
from tfexplore.timesplit.ranks import Ranks, ranks
from tfexplore.timesplit.split import TimeSplit

PING_TAG = 2**29
"""The tag of the first message that measures a link."""


def costs(net: nn.Module, x: Tensor, group: Ranks | None = None, *, runs: int = 7) -> list[Cost]:
    """Measures what each layer of `net` costs in this process.

    Forward and backward are timed at two numbers of time steps, which separates the seconds per step from those per call;
    the bytes of state, of what is saved for backward, and of weights are counted. It works on a copy: gradients and running
    statistics of `net` stay as they are.

    Args:
        net: the network.
        x: its input, of at least 2 time steps.
        group: the ranks of a group; they all measure at the same time, each for itself, as they will work. Required within a
            process group.
        runs: training steps of each length, of which the median counts; one more warms up.

    Shape:
        - x: `[T, B, *features]`

    Returns:
        A `Cost` for each layer, in the order of the network.

    Raises:
        TypeError: `x` is not a tensor.
        ValueError: `x` has fewer than 2 time steps, `runs` is less than 1, or `group` is missing within a process group.

    Example:
        >>> from tfexplore import LIF
        >>> net = nn.Sequential(nn.Linear(8, 5), LIF())
        >>> linear, lif = costs(net, torch.rand(12, 2, 8), runs=1)
        >>> lif.state == 2 * 5 * 4, linear.weights == (8 + 1) * 5 * 4, lif.kept > 0, lif.forward + lif.forward_call > 0
        (True, True, True, True)
    """
    check_input(x)
    if len(x) < 2:
        raise ValueError(f"x must have 2 time steps or more, as two lengths are compared, but got {len(x)}.")
    checked_count("runs", runs)
    if group is None and dist.is_available() and dist.is_initialized():
        raise ValueError(
            "group must be given within a group of processes, whose ranks measure at once: costs(net, x, group)."
        )
    net = copy.deepcopy(net)
    with ExitStack() as undo:
        undo.enter_context(torch.enable_grad())
        if group is None:
            alone = undo.enter_context(ranks())
        else:
            own = dist.new_group([dist.get_rank()], use_local_synchronization=True)
            undo.callback(dist.destroy_process_group, own)
            alone = Ranks(own)
        split = TimeSplit(net, ranks=alone)
        short = x[: max(1, len(x) // 4)]
        seconds: dict[int, dict[tuple[str, str], list[float]]] = {len(part): defaultdict(list) for part in (x, short)}
        for run in range(runs + 1):
            for part in (x, short):
                found = one_step(split, part)
                for place in found if run else ():  # the first is for warming up
                    seconds[len(part)][place].append(found[place])
        sizes = bytes_of(net, x, alone)
    long, brief = len(x), len(short)
    made = []
    for module, name in leaves(net).items():
        given: dict[str, float] = {}
        for kind in ("forward", "backward"):
            most, least = (statistics.median(seconds[steps].get((name, kind), [0.0])) for steps in (long, brief))
            per_step = max(0.0, (most - least) / (long - brief))
            given |= {kind: per_step, f"{kind}_call": max(0.0, most - per_step * long)}
        weights = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
        state, kept = sizes[name]
        made.append(
            Cost(
                name, **given, state=state, kept=kept / long, weights=weights, barrier=bool(active_batch_norms(module))
            )
        )
    return made


def mean_costs(of_ranks: list[list[Cost]]) -> list[Cost]:
    """The costs that several ranks measured, averaged: the mean seconds of each layer."""
    kinds = ("forward", "backward", "forward_call", "backward_call")
    return [
        replace(layer[0], **{kind: statistics.mean(getattr(cost, kind) for cost in layer) for kind in kinds})
        for layer in zip(*of_ranks, strict=True)
    ]


def one_step(split: TimeSplit, x: Tensor) -> dict[tuple[str, str], float]:
    """Seconds by (layer, kind) of one forward pass and, where anything is to be trained, one backward pass."""
    with rank_events(split) as events:
        loss = split(x).square().mean()
        if loss.requires_grad:
            loss.backward()
    split.zero_grad()
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if event.kind != "wait":
            spent[event.layer, event.kind] += event.end - event.begin
    return spent


def bytes_of(net: nn.Module, x: Tensor, alone: Ranks) -> dict[str, tuple[float, float]]:
    """Bytes of each layer's state, and of what autograd saves for its backward; memory that several layers save counts once."""
    kept: dict[str, float] = defaultdict(float)
    known = {p.untyped_storage().data_ptr() for p in (*net.parameters(), *net.buffers())}
    alive: list[Tensor] = []  # so that no address is used twice
    at = [""]

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in known:
            known.add(address)
            alive.append(tensor)
            kept[at[0]] += tensor.untyped_storage().nbytes()
        return tensor

    def enters(name: str) -> Callable[..., None]:
        return lambda *_: at.__setitem__(0, name)

    with ExitStack() as undo:
        for module, name in leaves(net).items():
            undo.callback(module.register_forward_pre_hook(enters(name)).remove)
        states = undo.enter_context(carry(net))
        undo.enter_context(batchnorm.synchronised(net, alone))  # which saves other tensors than torch's own
        undo.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        net(x.clone())  # not a view of something larger
    held: dict[str, float] = defaultdict(float)
    for (name, _), state in states.items():
        held[name] += sum(z.numel() * z.element_size() for z in state)
    return {name: (held[name], kept[name]) for name in leaves(net).values()}


def link(group: Ranks, *, runs: int = 30) -> Link:
    """Measures latency and bandwidth between ranks 0 and 1, from round trips of messages of 1 number and of 2^18.

    Args:
        group: the ranks, all of which must call it.
        runs: round trips of each size, of which the median counts.

    Returns:
        The same `Link` on every rank.

    Raises:
        ValueError: the group has one rank only.
    """
    if group.size < 2:
        raise ValueError("a link needs two ranks or more, but the group has 1.")
    seconds = []
    for size in (1, 2**18):
        taken = []
        for run in range(runs):
            begin = time.perf_counter()
            round_trip(group, torch.zeros(size, device=group.device), PING_TAG + run)
            taken.append((time.perf_counter() - begin) / 2)
        seconds.append(statistics.median(taken))
    few, many = group.all_gather_object(seconds)[0]
    return Link(latency=few, bandwidth=4 * (2**18 - 1) / max(many - few, 1e-9))


def round_trip(group: Ranks, message: Tensor, tag: int) -> None:
    if group.rank > 1:
        return
    other = 1 - group.rank
    receive = group.irecv(other, tag, message.shape, message.dtype, message.device)
    if group.rank == 0:
        group.isend(message, other, tag)
    receive.wait("an echo")
    if group.rank == 1:
        group.isend(message, other, tag)
    group.wait_sent()

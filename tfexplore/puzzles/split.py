# mypy: allow-untyped-defs
"""Puzzles of notebook 06, time over devices: the state across the cut, the best number of devices, and deadlocks.

What is right comes from the library's own layers over all time steps at once, from trying every number of devices, and, for
deadlocks, from a hand-written list.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from tfexplore.neurons.library import LIF
from tfexplore.puzzles.puzzle import Array, Case, Complaint, Function, Memory, Puzzle

Run: TypeAlias = Callable[..., tuple[Array, Array]]
Sent: TypeAlias = defaultdict[tuple[int, int], list[tuple[int, Any]]]
"""Messages by (from, to), in their order, each with the slot in which it was sent."""


def split_forward(rank, ranks, x, layers, send, receive):
    """The spikes of the last layer for this rank's segment x of the currents; the state comes from the rank before."""
    ### BEGIN SOLUTION
    for layer in layers:
        state = receive(rank - 1) if rank > 0 else None
        x, state = layer(x, state)
        if rank + 1 < ranks:
            send(rank + 1, state)
    return x
    ### END SOLUTION


def best_ranks(serial, communication, most):
    """The number of devices, 1 to most, with the least time: serial / P + (P - 1) * communication seconds."""
    ### BEGIN SOLUTION
    below = int(np.sqrt(serial / communication))
    near = [min(max(ranks, 1), most) for ranks in (below, below + 1)]
    return min(near, key=lambda ranks: serial / ranks + (ranks - 1) * communication)
    ### END SOLUTION


def stuck_ranks(programs):
    """For every rank, whether it waits for ever (True) or comes to the end of its program (False)."""
    ### BEGIN SOLUTION
    left, moved = [list(steps) for steps in programs], True
    while moved:
        moved = False
        for rank, steps in enumerate(left):
            what, to = steps[0] if steps else ("end", rank)
            if what == "send" and left[to][:1] == [("receive", rank)]:  # both stand there: the message goes over
                del steps[0], left[to][0]
                moved = True
    return [len(steps) > 0 for steps in left]
    ### END SOLUTION


def weights(widths: tuple[int, ...]) -> list[Array]:
    """Of each layer but the first, which takes currents."""
    rng = np.random.default_rng(9)
    return [rng.uniform(-0.3, 1.0, pair) for pair in pairwise(widths)]


def network(widths: tuple[int, ...]) -> list[Run]:
    """Layers of the library's LIF neurons, `widths` in each; they take and return NumPy's arrays."""
    from torch import from_numpy, tensor

    from tfexplore.nn.layers import Layer

    neurons = Layer(LIF(tau=4.0), backend="torch")

    def run(x: Any, state: Any, weight: Array) -> tuple[Array, Array]:
        given = None if state is None else (tensor(np.asarray(state, float))[None],)
        spikes, (v,) = neurons(from_numpy(np.asarray(x, float) @ weight)[:, None], given, return_state=True)
        return spikes[:, 0].numpy(), v[0].numpy()

    return [lambda x, state, w=w: run(x, state, w) for w in (np.eye(widths[0]), *weights(widths))]


class Suspended(BaseException):
    """Leaves an answer that has to wait for a message. No Exception, so that `except Exception` lets it pass."""


class Rank:
    """One simulated rank: the time on its clock, in slots, and the rank that it waits for.

    When it has to wait, its run is abandoned, and started again once the message is there. The result is the same, since what a
    rank does follows from what it receives; so answers need no threads of their own, and are stopped and quoted like all others.
    """

    def __init__(self, rank: int, segments: list[Array], widths: tuple[int, ...], sent: Sent, slots: Array) -> None:
        self.rank, self.segments, self.widths, self.sent, self.slots = rank, segments, widths, sent, slots
        self.given: Counter[int] = Counter()
        self.taken: Counter[int] = Counter()
        self.clock, self.waits_for, self.answer = 0, -1, None
        slots[rank] = np.nan

    def run(self, function: Function) -> Rank:
        runs = enumerate(network(self.widths))
        layers = [lambda x, state=None, k=k, run=run: self.layer(k, run, x, state) for k, run in runs]
        with suppress(Suspended):
            self.answer = function(
                self.rank, len(self.segments), self.segments[self.rank], layers, self.send, self.receive
            )
        return self

    def can_go_on(self) -> bool:
        return self.waits_for >= 0 and self.taken[self.waits_for] < len(self.sent[self.waits_for, self.rank])

    def check(self, does: str, other: Any) -> None:
        if self.waits_for >= 0:  # a bare `except:` caught `Suspended`
            raise Suspended
        if not isinstance(other, int | np.integer):
            raise Complaint(f"rank {self.rank} {does} {type(other).__name__!r}; give the number of a rank first.")
        if other == self.rank:
            raise Complaint(f"rank {self.rank} {does} itself; the state goes from each rank to the next.")
        if other not in range(len(self.segments)):
            raise Complaint(f"rank {self.rank} {does} rank {other}, but ranks run from 0 to {len(self.segments) - 1}.")

    def send(self, to: Any, value: Any) -> None:
        self.check("sends to", to)
        self.given[to] += 1
        if self.given[to] > 100:
            raise Complaint(f"rank {self.rank} sends rank {to} more than 100 messages; one per layer is enough.")
        if self.given[to] > len(self.sent[self.rank, to]):  # not again in a run that was started again
            self.sent[self.rank, to].append((self.clock, deepcopy(value)))

    def receive(self, source: Any) -> Any:
        self.check("receives from", source)
        queue = self.sent[source, self.rank]
        if self.taken[source] == len(queue):
            self.waits_for = int(source)
            raise Suspended
        there, value = queue[self.taken[source]]
        self.taken[source] += 1
        self.clock = max(self.clock, there)
        return deepcopy(value)

    def layer(self, k: int, run: Run, x: Any, state: Any) -> tuple[Array, Array]:
        if self.waits_for >= 0:
            raise Suspended
        where, wanted = f"layer {k} on rank {self.rank}", (len(self.segments[self.rank]), self.widths[max(k - 1, 0)])
        if not np.isnan(self.slots[self.rank, k]):
            raise Complaint(f"{where} was run twice; once, over the whole segment, is enough.")
        if np.shape(x) != wanted:
            raise Complaint(f"{where} was given an x of shape {np.shape(x)}; it takes {wanted}, the whole segment.")
        if self.rank and state is None:
            raise Complaint(f"{where} began at rest; it must begin in the state in which rank {self.rank - 1} left it.")
        if state is not None and np.shape(state) != (own := (self.widths[k],)):
            raise Complaint(f"{where} was given a state of shape {np.shape(state)}; its own has shape {own}.")
        self.slots[self.rank, k] = self.clock
        self.clock += 1
        return run(x, state)


def wavefront(
    function: Function, memory: Memory, x: Array, lengths: tuple[int, ...], widths: tuple[int, ...], spikes: Array
) -> Array | None:
    """The slot in which each rank ran each layer, if the spikes are right."""
    ends = np.cumsum(lengths)[:-1]
    segments, sent = np.split(x, ends), Sent(list)
    slots = memory.drawn = np.full((len(lengths), len(widths)), np.nan)
    ranks: dict[int, Rank] = {}
    while ready := [k for k in range(len(lengths)) if k not in ranks or ranks[k].can_go_on()]:
        for k in ready:
            ranks[k] = Rank(k, segments, widths, sent, slots).run(function)
    unread = [f"rank {a} to rank {b}" for (a, b), queue in sent.items() if len(queue) > ranks[b].taken[a]]
    lost = f"never received: messages from {', '.join(unread)}." if unread else ""
    if waiting := {k: rank.waits_for for k, rank in ranks.items() if rank.waits_for >= 0}:
        which = {k: "" if on in waiting else ", which has ended" for k, on in waiting.items()}
        what = [f"rank {k} waits for rank {on}{which[k]}" for k, on in waiting.items()]
        raise Complaint(f"deadlock, nobody can go on: {', and '.join(what)}. {lost.capitalize()}".strip())
    if any(rank.answer is None for rank in ranks.values()):
        return None
    for k, expected in enumerate(np.split(spikes, ends)):
        compare(k, ranks[k].answer, expected)
    if lost:
        raise Complaint(lost)
    return slots


def compare(rank: int, answer: Any, expected: Array) -> None:
    """Complaint if the spikes are wrong."""
    came = np.empty(0)
    with suppress(TypeError, ValueError):
        came = np.asarray(answer, float)
    if came.shape != expected.shape:
        kind = f"an array of shape {came.shape}" if came.size else f"a {type(answer).__name__}"
        raise Complaint(f"rank {rank} should return spikes of shape {expected.shape}, but returned {kind}.")
    if len(places := np.argwhere(~np.isclose(came, expected))):
        t, i = places[0]
        raise Complaint(
            f"{len(places)} of {came.size} spikes of rank {rank} are not those of a run in one piece, the first at its t = {t}, "
            f"i = {i}. Does every layer take the spikes of the layer before, and its own state, as the rank before left it?"
        )


def wavefront_cases() -> list[Case]:
    cases = []
    for name, lengths, widths in (
        ("1 rank and 2 layers", (8,), (6, 4)),
        ("2 ranks and 1 layer", (8, 8), (6,)),
        ("3 ranks of 9, 5 and 10 time steps, and 4 layers", (9, 5, 10), (6, 5, 4, 3)),
    ):
        x = np.random.default_rng(10).uniform(-0.2, 0.9, (sum(lengths), widths[0]))
        spikes = x
        for run in network(widths):
            spikes, _ = run(spikes, None)
        given = {"x": x, "lengths": lengths, "widths": widths, "spikes": spikes}
        earliest = np.add.outer(np.arange(len(lengths)), np.arange(len(widths)))  # after the ranks and layers before
        cases.append(Case(name, given, earliest, ("rank", "layer"), run=wavefront))
    return cases


def serial_ranks(rank, ranks, x, layers, send, receive):
    states = []
    for layer in layers:
        x, state = layer(x, receive(rank - 1) if rank else None)
        states.append(state)
    for state in states[: len(states) * (rank + 1 < ranks)]:
        send(rank + 1, state)
    return x


def at_each(function: Function, memory: Memory, serial: float, communication: Array, most: int) -> list[Any]:
    return [function(serial=serial, communication=float(seconds), most=most) for seconds in communication]


def best_cases() -> list[Case]:
    """By trying every number of devices; no two need the same time."""
    cases = []
    for name, serial, most, ratios in (
        ("60 seconds on one device, up to 100 devices", 60.0, 100, (900, 101, 31, 20.2, 15.5, 12.2, 8, 6.2, 3.6, 2.1)),
        ("2 seconds on one device, up to 8 devices", 2.0, 8, (5000, 400, 75, 45, 12.2, 5, 1.2, 0.3)),
    ):
        communication, ranks = serial / np.array(ratios), np.arange(1, most + 1)
        best = ranks[np.argmin(serial / ranks + (ranks - 1) * communication[:, None], axis=1)]
        given = {"serial": serial, "communication": communication, "most": most}
        cases.append(Case(name, given, best, ("communication",), communication, at_each))
    return cases


def rounded(rule: Function) -> Function:
    return lambda serial, communication, most: min(max(rule(np.sqrt(serial / communication)), 1), most)


def stuck_cases() -> list[Case]:
    """In "> 1 < 0", a rank sends to rank 1, then receives from rank 0. Which ranks are stuck is hand-written."""
    cases = []
    for name, text, stuck in (
        ("a chain of three ranks, one layer", "> 1 | < 0 > 2 | < 1", (0, 0, 0)),
        ("a chain of three ranks, two layers", "> 1 > 1 | < 0 > 2 < 0 > 2 | < 1 < 1", (0, 0, 0)),
        ("two ranks that both receive first", "< 1 > 1 | < 0 > 0", (1, 1)),
        ("two ranks that both send first", "> 1 < 1 | > 0 < 0", (1, 1)),
        ("a ring of three, and a pair", "> 1 < 2 | > 2 < 0 | > 0 < 1 | > 4 < 4 | < 3 > 3", (1, 1, 1, 0, 0)),
        ("a ring of four in which rank 0 receives first", "< 3 > 1 | > 2 < 0 | > 3 < 1 | > 0 < 2", (0, 0, 0, 0)),
        ("a state that is never sent", "> 1 | < 0 > 2 < 0 > 2 | < 1 > 3 < 1 > 3 | < 2 | ", (0, 1, 1, 0, 0)),
    ):
        ranks = [rank.replace(">", "send").replace("<", "receive").split() for rank in text.split("|")]
        programs = [[(what, int(other)) for what, other in zip(r[::2], r[1::2], strict=True)] for r in ranks]
        cases.append(Case(name, {"programs": programs}, np.array(stuck, float), ("rank",)))
    return cases


def left_over(programs: Any, sweeps: int = 99, buffered: bool = False) -> list[list[tuple[str, int]]]:
    """The steps that remain after a number of sweeps over the ranks; with buffers, a send does not wait."""
    left, under_way = [list(steps) for steps in programs], Counter[tuple[int, int]]()
    for _ in range(sweeps):
        for rank, steps in enumerate(left):
            what, other = steps[0] if steps else ("end", rank)
            if what == "send" and (buffered or left[other][:1] == [("receive", rank)]):
                under_way[rank, other] += 1
                del steps[0]
            elif what == "receive" and under_way[other, rank]:
                under_way[other, rank] -= 1
                del steps[0]
    return left


def stuck(**rules: Any) -> Function:
    return lambda programs: [bool(steps) for steps in left_over(programs, **rules)]


def by_counting(programs):
    """Whether each message has a receive, at any time."""
    sent = Counter((k, other) for k, steps in enumerate(programs) for what, other in steps if what == "send")
    taken = Counter((other, k) for k, steps in enumerate(programs) for what, other in steps if what == "receive")
    return [any(k in way and sent[way] != taken[way] for way in sent | taken) for k in range(len(programs))]


def in_pairs(programs):
    left = left_over(programs)
    return [bool(steps) and left[steps[0][1]][:1] in ([("send", k)], [("receive", k)]) for k, steps in enumerate(left)]


PUZZLES = (
    Puzzle(
        split_forward,
        "06_split_time",
        "pass the state over the cut",
        r"""
Time is cut into segments, one for each of `ranks` devices. All of them run your function at once: each with its own number
`rank`, from 0 to ranks − 1, and its own segment `x` of the currents, [time steps, neurons]. Each of the `layers` is called as
`layer(x, state)`. It runs over the whole segment and returns two things: the spikes, which are the next layer's `x`, and the
state in which it leaves its neurons. The state `None` is a layer at rest. So rank 0 begins; every other rank begins where the
rank before it ended.

Call `send` as `send(to, value)`: it puts a message on its way to another rank, and waits for nobody. Call `receive` as
`receive(source)`: it waits for the next message from that rank, and returns it. Return the spikes of the last layer.

To run a layer over a segment takes one *time slot*, whatever the length of the segment; a message takes none. Be done with $P$
ranks and $L$ layers after $L + P - 1$ slots. The picture shows in which slot, counted from 0, each rank ran each layer.
""",
        (
            "It is a loop over the layers. What does a layer need before it can start, and who needs what it leaves?",
            "Rank 0 has nobody before it, and begins with `None`; the last rank has nobody after it: two `if`s.",
            "Send each state as soon as you have it, and receive each only when its layer is next: both inside the loop.",
            "`state = receive(rank - 1) if rank > 0 else None`, `x, state = layer(x, state)`; `send` if `rank + 1 < ranks`.",
        ),
        wavefront_cases,
        "time slot",
        {
            "The spikes are right, but each rank waits until the one before has run all its layers: L × P slots, where L + P − 1 "
            "are enough. Send a state as soon as its layer is done, and receive it when its layer is next.": serial_ranks,
        },
    ),
    Puzzle(
        stuck_ranks,
        "06_split_time",
        "spot the deadlock",
        """
Often a `send` waits too: its message goes over only when the other rank stands at the `receive` for it; then both go on.
(Large messages are sent so: there is no place to put them meanwhile.) Ranks that wait for each other in a circle then wait for
ever, and so does a rank that waits for one that has ended, or for one that waits for ever itself.

`programs` is a list of lists: `programs[rank]` is what this rank does, step after step, each `("send", to)` or
`("receive", source)`. (A program may be empty: its rank has ended.) Find out how far each rank comes. Return one truth value
per rank: `True` if it waits for ever, `False` if it comes to its end.
""",
        (
            "Play it, with a finger on the next step of every rank. Which two fingers can move on, both at once?",
            'A rank that stands at `("send", to)` goes on when rank `to` stands at `("receive", rank)`: move both fingers.',
            "Do so for all ranks, again and again, `while moved`. In which order you look at them does not matter.",
            'Keep the steps left in lists: where `left[to][:1] == [("receive", rank)]`, `del left[rank][0], left[to][0]`.',
        ),
        stuck_cases,
        "stuck",
        {
            "Not only two ranks can wait for each other: in a ring, each waits for the next.": in_pairs,
            "Here a send waits too, until the other rank stands at the receive for it.": stuck(buffered=True),
            "Every message has its receiver, but does that ever get there? Follow the steps in their order.": by_counting,
            "Some are stuck, but not all: look at each.": lambda programs: [any(left_over(programs))] * len(programs),
            "It stops too early: go over the ranks again, until none of them can move.": stuck(sweeps=1),
            "Turned round: True is for a rank that waits for ever.": lambda programs: [
                not r for r in left_over(programs)
            ],
        },
    ),
    Puzzle(
        best_ranks,
        "06_split_time",
        "the best number of devices",
        r"""
One device needs `serial` seconds, $T_s$. $P$ devices share the work, but each one after the first adds `communication`
seconds of messages, $T_c$:

$$T(P) = \frac{T_s}{P} + (P - 1)\, T_c$$

More devices are not always faster. Return the whole number of devices, from 1 to `most`, that needs the least time.
""",
        (
            "The first term falls with P, the second grows. Where the slope of their sum is 0, the time is least.",
            "The slope is $-T_s/P^2 + T_c$. It is 0 at the root of `serial / communication`.",
            "The root is seldom whole. Compare the times of the whole numbers below and above it: the nearer may be the slower.",
            "Bring both into the range first: `min(max(ranks, 1), most)`. (Trying every number is right too, only slower.)",
        ),
        best_cases,
        "number of devices",
        {
            "The root is rounded down; the whole number above it may need less time.": rounded(np.floor),
            "The root is rounded up; the whole number below it may need less time.": rounded(np.ceil),
            "The nearest whole number may be the slower one: compare the times of both.": rounded(np.round),
            "That is the root itself. How many whole devices is it?": rounded(float),
            "There are only `most` devices.": lambda serial, communication, most: best_ranks(serial, communication, 99),
            "That is the least time, in seconds. How many devices need it?": lambda serial, communication, most: min(
                serial / ranks + (ranks - 1) * communication for ranks in range(1, most + 1)
            ),
        },
    ),
)

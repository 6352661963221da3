"""The events of every rank in a real run, of the one record type (`measure.timeline.Event`): its Gantt chart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.measure.timeline import Event, leaves
from tfexplore.timesplit.split import TimeSplit


@contextmanager
def rank_events(split: TimeSplit) -> Iterator[list[Event]]:
    """Records the work and the waits of all ranks within a `with` block; after it, every rank has the events of all.

    An event's `device` is "rank 0", ...; its `kind` is "forward" or "backward" for a layer's work, or "wait" for a message or a
    collective, with what was waited for in `layer`. Its steps are counted over all of T, its `part` is the micro-batch. Seconds
    are those of the clocks of the ranks' machines, from the first event on. (What is no layer, an addition of two branches,
    counts to the layer before it in the forward pass, and to the one after it in the backward pass.)

    Args:
        split: the split network. All ranks must enter and leave the block.

    Returns:
        A context manager that gives a list, which is filled when the block ends, sorted by the events' beginnings.

    Example:
        >>> from tfexplore import LIF, timesplit
        >>> with timesplit.ranks():
        ...     split = timesplit.TimeSplit(nn.Sequential(nn.Linear(8, 5), LIF()))
        ...     with timesplit.rank_events(split) as events:
        ...         out = split(torch.rand(12, 2, 8))
        >>> [(event.device, event.layer, event.last) for event in events if event.kind == "forward"]
        [('rank 0', '0', 12), ('rank 0', '1', 12)]
    """
    recorder = Recorder(split)
    with ExitStack() as undo:
        for module, name in leaves(split.net).items():
            undo.callback(module.register_forward_pre_hook(recorder.begins(name)).remove)
            undo.callback(module.register_forward_hook(recorder.ended(name)).remove)
        undo.callback(split.register_forward_hook(recorder.passed).remove)
        undo.callback(setattr, split.ranks, "recorder", None)
        split.ranks.recorder = recorder
        events: list[Event] = []
        yield events
        recorder.switch(None, "")
    every = [event for own in split.ranks.all_gather_object(recorder.finished()) for event in own]
    begin = min((event.begin for event in every), default=0.0)
    events.extend(sorted((event.moved(-begin) for event in every), key=lambda event: event.begin))


class Recorder:
    """One rank's clock: at every moment it is at one activity, or at none."""

    def __init__(self, split: TimeSplit) -> None:
        self.split, self.part = split, 0
        self._now: tuple[str | None, str, int] = (None, "", 0)
        self._since = time.time()  # the one clock that all processes of a machine share
        self._spans: list[tuple[str, str, int, float, float]] = []

    def switch(self, kind: str | None, layer: str, part: int | None = None) -> tuple[str | None, str, int]:
        """Ends the current activity and begins another; returns the one that ended."""
        if self.split.ranks.device.type == "cuda":
            torch.cuda.synchronize()
        before, now = self._now, time.time()
        if before[0] is not None and now > self._since:
            self._spans.append((before[0], before[1], before[2], self._since, now))
        self._now, self._since = (kind, layer, self.part if part is None else part), now
        return before

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        kind, layer, part = self.switch("wait", what, self._now[2])
        try:
            yield
        finally:
            self.switch(kind, layer, part)

    def begins(self, name: str) -> Any:
        return lambda *_: self.switch("forward", name) and None

    def ended(self, name: str) -> Any:
        """In the backward pass, the layer's work begins when the gradient of its output is there."""

        def note(module: nn.Module, given: Any, out: Any) -> None:
            part = self.part
            if isinstance(out, Tensor) and out.grad_fn is not None:
                out.grad_fn.register_prehook(lambda _: self.switch("backward", name, part) and None)

        return note

    def passed(self, *_: Any) -> None:
        self.switch(None, "")

    def finished(self) -> list[Event]:
        steps, rank = self.split.steps, self.split.ranks.rank
        first = sum(steps[:rank])
        last = first + (steps[rank] if steps else 0)
        return [
            Event(layer, first, last, f"rank {rank}", begin, end, kind, 0, 0, 0, part=part)
            for kind, layer, part, begin, end in self._spans
        ]

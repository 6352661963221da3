"""A step as one CUDA graph: watched for what would wait for the GPU, recorded on a stream of its own, replayed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import map_aggregate

from tfexplore.nn.tape import Line, users


@contextmanager
def beside(stream: torch.cuda.Stream) -> Iterator[None]:
    """Within this block, work goes to `stream`, behind what was queued, and what is queued afterwards comes behind it."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)


@contextmanager
def without_waiting() -> Iterator[None]:
    """Within this block, what waits for the GPU raises an error that names the line."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        with explained():
            yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def explained() -> Iterator[None]:
    """An error of CUDA's within this block is raised as one sentence, with the line of the program."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in ("synchronizing", "captur")) or "step cannot" in str(error):
            raise
        first = str(error).splitlines()[0]
        raise RuntimeError(
            f"step cannot be captured: it waits for the GPU, or copies from another device, in {users(behind(error))} "
            f"({first}); print, synchronise and read numbers outside, from what the step returns."
        ) from error


def behind(error: BaseException) -> list[Line]:
    """The lines that the error came through, the innermost first; those of its cause, where ending a capture raised another."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append(Line(trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found[::-1]


class Graph:
    """The kernels of a step, recorded: nothing of it runs here but Python.

    Args:
        step: of tensors.
        buffers: what it is given; each replay reads what is in them then.
        leaves: whose gradients it makes anew.
        stream: on which it has been warmed up.
    """

    def __init__(
        self, step: Callable[..., Any], buffers: Sequence[Tensor], leaves: Sequence[Tensor], stream: torch.cuda.Stream
    ) -> None:
        self.graph = torch.cuda.CUDAGraph()
        # thread_local: what a data loader's threads do meanwhile is no part of the step
        with explained(), torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.results = step(*buffers)
        self.gradients = [(leaf, leaf.grad) for leaf in leaves]

    def __call__(self) -> Any:
        """The results, copied out of the graph's memory, which the next replay overwrites."""
        self.graph.replay()
        for leaf, gradient in self.gradients:
            leaf.grad = gradient
        return map_aggregate(self.results, lambda value: value.clone() if isinstance(value, Tensor) else value)

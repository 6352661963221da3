"""A captured step on a GPU, without one: the CUDA graph is played by a recorder with a graph's own behaviour.

Like a CUDA graph it runs nothing while it records, holds the addresses of all tensors, and on replay writes into the memory that
the recorded results have; so what would be stale on a GPU is stale here. What a real GPU does is in test_capture_on_gpu.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tfexplore
from tests.nn.steps_to_capture import WARM, batches, network, plain, train
from tfexplore.nn import capturing, cuda_graph
from tfexplore.nn.capturing import Captured, capture, optimisers_within


def storages(values: Any) -> set[int]:
    return {value.untyped_storage().data_ptr() for value in tree_leaves(values) if isinstance(value, Tensor)}


class FakeGraph:
    """In place of torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, out in self.done:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.numel() and not storages(old) & storages((args, kwargs)):
                        old.copy_(new)


class FakeCapture(TorchDispatchMode):
    """In place of torch.cuda.graph: what runs within is undone at the end."""

    def __init__(self, graph: FakeGraph, stream: Any, capture_error_mode: str) -> None:
        super().__init__()
        assert capture_error_mode == "thread_local"
        self.graph, self.made, self.before = graph, set(), []

    def __enter__(self) -> Any:
        self.numbers = torch.get_rng_state()
        return super().__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":
            return func(*args, **kwargs)
        outside = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and not storages(t) <= self.made]
        self.before += [(t, t.detach().clone()) for t in outside]  # native_batch_norm does not say what it changes
        out = func(*args, **kwargs)
        self.made |= storages(out) - storages((args, kwargs))
        self.graph.done.append((func, args, kwargs, out))
        return out

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_rng_state(self.numbers)
        with torch.no_grad():
            for tensor, value in reversed(self.before):
                tensor.detach().copy_(value)


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_on(self: Captured, device: torch.device) -> None:
        self.device, self.stream = device, SimpleNamespace()

    monkeypatch.setattr(Captured, "run_on", run_on)
    monkeypatch.setattr(capturing, "beside", lambda stream: nullcontext())
    monkeypatch.setattr(capturing, "without_waiting", nullcontext)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", FakeCapture)


def test_the_recorder_is_stale_where_a_graph_is() -> None:
    """The control: what Python does within a step, a replay does not do again."""
    count = [0]

    def step(x: Tensor) -> Tensor:
        count[0] += 1
        return x * max(count[0] - WARM, 0)

    captured = capture(step)
    found = [captured(torch.ones(1)).item() for _ in range(WARM + 3)]
    assert found == [*[0] * WARM, 1, 1, 1]


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_replays_train_as_the_step_does(clip: float) -> None:
    data = [*batches(WARM + 3), *batches(WARM + 3, batch=3), *batches(2, batch=3), *batches(2)]
    net = network(nn.Dropout(0.3), tfexplore.FoldTime(nn.BatchNorm1d(16)))
    other = copy.deepcopy(net)
    captured = capture(plain(other, clip=clip))
    expected, found = train(plain(net, clip=clip), data), train(captured, data)
    for a, b in zip(expected, found, strict=True):  # each result kept until now
        assert torch.equal(a, b)
    for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for p, q in zip(net.parameters(), other.parameters(), strict=True):  # those of the shape that ran last
        assert torch.equal(p.grad, q.grad)
    assert captured.program() == ""
    assert [times.captured is not None for times in captured.report()] == [True, True]


def test_gradients_are_added_up_over_calls() -> None:
    net = network()
    other = copy.deepcopy(net)

    def adding(net: nn.Module) -> Any:
        def step(x: Tensor, y: Tensor) -> Tensor:
            loss = nn.functional.cross_entropy(net(x).mean(0), y)
            loss.backward()
            return loss

        return step

    expected, found = train(adding(net), batches()), train(capture(adding(other)), batches())
    assert all(map(torch.equal, found, expected))
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(net.parameters(), other.parameters(), strict=True))


def test_an_optimiser_that_counts_on_the_cpu_is_named() -> None:
    net = network()
    net(batches(1)[0][0]).sum().backward()
    for kind, said in ((torch.optim.Adam, "fused=True, capturable=True"), (torch.optim.NAdam, "capturable=True")):
        with (
            optimisers_within(torch.device("cuda")),
            pytest.raises(RuntimeError, match=rf"{kind.__name__} counts its steps on the CPU; make it .*{said}"),
        ):
            kind(net.parameters()).step()
    with optimisers_within(torch.device("cuda")) as found:
        torch.optim.SGD(net.parameters(), lr=0.1).step()
        torch.optim.Adam(net.parameters(), fused=True, capturable=True).step()
    assert [type(each).__name__ for each in found] == ["SGD", "Adam"]


def waits() -> None:
    raise RuntimeError("called a synchronizing CUDA operation")


def fails_while_capturing() -> None:
    try:
        raise RuntimeError("operation not permitted when stream is capturing")
    finally:
        raise RuntimeError("the capture has failed")


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (waits, "raise RuntimeError.*called a synchronizing CUDA operation"),
        (fails_while_capturing, "raise RuntimeError.*operation not permitted"),
    ],
)
def test_what_waits_for_the_gpu_is_named_with_its_line(work: Callable[[], None], line: str) -> None:
    words = rf"it waits for the GPU.* in test_capture_graph.py, line \d+, `{line}"
    with pytest.raises(RuntimeError, match=words), cuda_graph.explained():
        work()


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"), cuda_graph.explained():
        raise RuntimeError("shapes do not fit")

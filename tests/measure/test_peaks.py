"""The counted memory of a piece of work, against manual counts and against PyTorch's allocator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tfexplore.measure import peak
from tfexplore.nn import networks


def test_what_is_gone_before_something_else_comes_is_not_counted_with_it() -> None:
    def work() -> object:
        a = torch.empty(1000, 1000)
        kept = [torch.ones(1000, 100) for _ in range(3)]
        del a
        return kept, torch.zeros(1000, 50)

    assert peak(work).held == 4 * (1_000_000 + 300_000)


def test_views_and_changes_in_place_hold_nothing_more() -> None:
    def work() -> object:
        x = torch.ones(100, 10)
        return x.t(), x[3:].add_(1), x.view(-1).expand(5, -1), x.detach()

    assert peak(work).held == 4000


def test_what_was_there_before_is_not_counted() -> None:
    x = torch.rand(1000, requires_grad=True)
    assert peak(lambda: x * 2, [x]).held == 4000
    assert peak(lambda: x * x, [x]) == (4000, 0), "saved for backward, but there anyway"


def test_saved_for_backward_until_the_backward_pass_has_used_it() -> None:
    x = torch.rand(1000, requires_grad=True)

    def chain() -> torch.Tensor:
        return x.exp().sin().exp()

    assert peak(chain, [x]) == (3 * 4000, 2 * 4000), "the outputs of exp; the first is also the input of sin"
    twice = peak(lambda: [torch.autograd.grad(chain().sum(), x) for _ in range(2)], [x])
    assert twice.saved == 2 * 4000, "one after the other"


def test_memory_that_numpy_made_counts_where_it_is_saved() -> None:
    class Packed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(torch.from_numpy(np.packbits((x > 0.5).numpy())))
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return g

    x = torch.rand(8000, requires_grad=True)
    assert peak(lambda: Packed.apply(x), [x]) == (32_000 + 1000, 1000)


def test_what_the_allocator_says() -> None:
    net, x = networks.mlp(), torch.rand(64, 16, 64)
    for layer in (net.lif1, net.lif2):
        layer.backend = "torch"  # the memory of a CPU kernel's output is NumPy's, or recycled

    def step() -> None:
        net(x).square().mean().backward()

    counted = peak(step, [x, *net.parameters()])
    net.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    total = [0]
    todo = list(seen.profiler.kineto_results.experimental_event_tree())  # type: ignore[union-attr]
    while todo:
        event = todo.pop()
        todo += event.children
        if event.tag.name == "Allocation":
            total.append(event.extra_fields.total_allocated)
    assert counted.held == pytest.approx(max(total), rel=0.02)


def test_the_same_every_time() -> None:
    net, x = networks.conv(), torch.rand(4, 2, 1, 8, 8)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        net(x).square().mean().backward()

    step()
    net.zero_grad(set_to_none=True)
    found = []
    for _ in range(3):
        found.append(peak(step, [x, *net.parameters()]))
        net.zero_grad(set_to_none=True)
    assert len(set(found)) == 1


@pytest.mark.gpu
def test_a_gpus_peak_is_its_allocators() -> None:
    x = torch.rand(1 << 20, device="cuda", requires_grad=True)
    found = peak(lambda: (x * 2).exp().sum().backward(), [x])
    assert found.saved == 4 << 20
    assert found.held == pytest.approx(8 << 20, rel=0.01)

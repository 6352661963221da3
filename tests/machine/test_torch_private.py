"""PyTorch's private names do what machine/torch_private.py says of them; a release that changes one fails here first."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tfexplore.machine import torch_private


def backward_with_hook(hook, **options: bool) -> None:
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(hook)
    y.sum().backward(**options)


def test_a_backward_pass_has_a_number_of_its_own() -> None:
    assert torch_private.backward_pass() is None
    seen: list[int | None] = []
    for _ in range(2):
        backward_with_hook(lambda _: seen.append(torch_private.backward_pass()))
    assert None not in seen
    assert seen[0] != seen[1]
    assert torch_private.backward_pass() is None


@pytest.mark.parametrize("retain", [False, True])
def test_a_backward_pass_frees_its_graph_unless_it_retains_it(retain: bool) -> None:
    seen: list[bool] = []
    backward_with_hook(lambda _: seen.append(torch_private.backward_frees_graph()), retain_graph=retain)
    assert seen == [not retain]


def test_what_is_queued_runs_after_the_last_gradient() -> None:
    order: list[str] = []
    x = torch.ones(2, requires_grad=True)
    x.register_hook(lambda _: order.append("first leaf"))
    y = x * 2
    y.register_hook(lambda _: torch_private.after_backward(lambda: order.append("end")))
    y.sum().backward()
    assert order == ["first leaf", "end"]


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Own(Tensor):
    pass


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace. is deprecated:DeprecationWarning")
def test_modes_transforms_tracers_profilers_and_subclasses_observe() -> None:
    observed = torch_private.operators_are_observed
    x = torch.ones(3)
    assert not observed(x, None, torch.nn.Parameter(x))
    with Mode():
        assert observed(x)
    seen: list[bool] = []
    torch.func.vmap(lambda row: seen.append(observed(row)) or row)(x)
    torch.jit.trace(lambda t: seen.append(observed(t)) or t + 1, x, check_trace=False)
    assert seen == [True, True]
    with torch.autograd.profiler.profile():
        assert observed(x)
    assert observed(x.as_subclass(Own))
    assert not observed(x)


def test_a_constant_function_is_called_once_and_not_traced() -> None:
    calls: list[int] = []

    @torch_private.constant_when_compiled
    def constant(value: int) -> str | None:
        calls.append(value)
        return None if value else "zero"

    def function(x: Tensor) -> Tensor:
        return x + 1 if constant(1) is None else x - 1

    compiled = torch.compile(function, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(2)).tolist() == [1.0, 1.0]
    assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]
    assert calls == [1]
    torch.compiler.reset()


def test_dynamo_is_loaded_by_its_first_use(python: str) -> None:
    text = (
        "import torch; from tfexplore.machine.torch_private import dynamo_is_loaded as loaded; before = loaded(); "
        "torch.compile(lambda x: x, backend='eager')(torch.zeros(1)); print(before, loaded())"
    )
    done = subprocess.run([python, "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_hooks_are_seen() -> None:
    def hook(*_: object) -> None: ...

    linear = torch.nn.Linear(2, 2)
    ways = [
        linear.register_forward_hook, linear.register_forward_pre_hook, linear.register_full_backward_hook,
        linear.register_full_backward_pre_hook, torch.nn.modules.module.register_module_forward_hook,
        torch.nn.modules.module.register_module_forward_pre_hook,
        torch.nn.modules.module.register_module_full_backward_hook,
        torch.nn.modules.module.register_module_full_backward_pre_hook,
    ]  # fmt: skip
    for register in ways:
        assert not torch_private.has_hooks(linear)
        handle = register(hook)
        assert torch_private.has_hooks(linear)
        handle.remove()


def test_tensors_are_replaced_wherever_a_network_has_them() -> None:
    shared = nn.Linear(2, 2)
    net = nn.ModuleList([shared, nn.Sequential(shared), nn.BatchNorm1d(2)])
    weight, mean = shared.weight, net[2].running_mean
    with torch_private.replaced(net, {weight: nn.Parameter(torch.zeros(2, 2)), mean: torch.ones(2)}):
        assert not shared.weight.any()
        assert net[1][0].weight is shared.weight
        assert net[2].running_mean.all()
    assert shared.weight is weight
    assert net[2].running_mean is mean


class Replaying(Mode):
    replays = True


def test_what_is_recorded_to_be_replayed_knows_it() -> None:
    assert not torch_private.is_recorded()
    with Mode():
        assert not torch_private.is_recorded()
    with Replaying():
        assert torch_private.is_recorded()

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(x: Tensor) -> Tensor:
        return x + 1 if torch_private.is_recorded() else x - 1

    assert compiled(torch.zeros(1)).item() == 1


def test_what_is_handed_to_numpy_is_told_also_in_a_backward_pass() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
            return torch.from_numpy(g.numpy() * 2)

    told: list[int] = []
    x = torch.ones(2, requires_grad=True)
    with torch_private.handed_to_numpy(lambda: told.append(1)):
        assert x.detach().tolist() == [1, 1]
        assert np.asarray(x.detach()).sum() == 2
        Doubled.apply(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2]
    assert len(told) == 3

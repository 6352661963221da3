"""What this library needs of PyTorch that has no public name: each in one place, with what it does and what could stand in.

tests/machine/test_torch_private.py holds each to its sentence, so that a release of PyTorch that renames one fails there first.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _python_dispatch

PLAIN = (Tensor, torch.nn.Parameter, type(None))

F = TypeVar("F", bound=Callable[..., Any])


def backward_pass() -> int | None:
    """The number of the backward pass that runs in this thread, or None outside of one.

    `torch._C._current_graph_task_id`, since PyTorch 2.1; torch.utils.checkpoint uses it. In its stead: a counter that hooks of
    the graph's first and last node change.
    """
    number: int = torch._C._current_graph_task_id()
    return None if number == -1 else number


def backward_frees_graph() -> bool:
    """Whether the running backward pass frees the graph behind it: retain_graph=False.

    `torch._C._autograd._get_current_graph_task_keep_graph`, since PyTorch 2.1. In its stead: nothing; without it, the message
    about a freed graph is PyTorch's own.
    """
    return not torch._C._autograd._get_current_graph_task_keep_graph()


def after_backward(callback: Callable[[], None]) -> None:
    """Calls this at the end of the backward pass that runs, whichever gradient that ends with.

    `Variable._execution_engine.queue_callback`, since PyTorch 1.0; DistributedDataParallel uses it. In its stead: hooks of all
    leaves.
    """
    torch.autograd.Variable._execution_engine.queue_callback(callback)


@contextmanager
def replaced(net: nn.Module, by: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """Within this block, the modules of `net` have other tensors for these parameters and buffers, wherever they have them.

    `nn.Module._parameters` and `_buffers`, since PyTorch 0.1; `torch.func.functional_call` writes them. In their stead: that one,
    which leaves its own tensors in a module that the network has under two names.
    """
    new = {id(old): tensor for old, tensor in by.items()}
    tables: list[Any] = [table for m in net.modules() for table in (m._parameters, m._buffers)]
    before = [(table, key, old) for table in tables for key, old in table.items() if old is not None and id(old) in new]
    try:
        for table, key, old in before:
            table[key] = new[id(old)]
        yield
    finally:
        for table, key, old in before:
            table[key] = old


def operators_are_observed(*tensors: Tensor | None) -> bool:
    """Whether something observes the operators that these tensors pass through: a mode, a transform, a tracer, a profiler, or
    a tensor of a type of its own.

    `torch._C._len_torch_dispatch_stack` (since PyTorch 1.13), `torch._C._functorch.peek_interpreter_stack` (2.0) and
    `torch.autograd._profiler_enabled` (1.10). In their stead: True, which is slower for small layers and always right.
    """
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.jit.is_tracing()
        or torch.autograd._profiler_enabled()
        or any(type(tensor) not in PLAIN for tensor in tensors)
    )


def convolved(module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a linear module or a convolution computes, with another weight and bias.

    `torch.nn.modules.conv._ConvNd._conv_forward`, since PyTorch 1.8; torch.ao.nn.qat uses it. In its stead: torch.nn.functional,
    with one case for each padding mode.
    """
    if isinstance(module, nn.Linear):
        return nn.functional.linear(x, weight, bias)
    made: Tensor = module._conv_forward(x, weight, bias)  # type: ignore[operator]
    return made


def has_hooks(module: nn.Module) -> bool:
    """Whether calling the module does more than its `forward`: hooks of its own, or of all modules.

    The dictionaries of hooks that `Module.__call__` looks at, since PyTorch 2.0. In their stead: True, which is slower.
    """
    every = nn.modules.module
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        or every._global_forward_hooks or every._global_forward_pre_hooks
        or every._global_backward_hooks or every._global_backward_pre_hooks
    )  # fmt: skip


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is at work.

    `torch._C._functorch.peek_interpreter_stack`, since PyTorch 2.0. In its stead: nothing; without it, transforms do not work.
    """
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_recorded() -> bool:
    """Whether what runs is written down to be replayed without Python: by torch.compile, a CUDA graph, or a mode of ours that
    says so (`replays`).

    `torch.utils._python_dispatch._get_current_dispatch_mode`, since PyTorch 2.0. In its stead: a list of open modes of our own.
    """
    return (
        torch.compiler.is_compiling()
        or (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())
        or getattr(_python_dispatch._get_current_dispatch_mode(), "replays", False)
    )


@contextmanager
def handed_to_numpy(told: Callable[[], None]) -> Iterator[None]:
    """Within this block, calls this before a tensor is handed to NumPy or becomes Python's numbers, in this thread.

    `Tensor.numpy` and `Tensor.tolist` pass no dispatcher, so that no mode sees them below autograd; methods of their own cover
    both meanwhile, which `Tensor.__array__` calls too. In their stead: TorchFunctionMode, which a backward pass leaves.
    """
    thread = threading.get_ident()

    def covered(plain: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(plain)
        def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == thread:
                told()
            return plain(self, *args, **kwargs)

        return call

    before = {name: vars(Tensor).get(name) for name in ("numpy", "tolist")}
    for name in before:
        setattr(Tensor, name, covered(getattr(Tensor, name)))
    try:
        yield
    finally:
        for name, own in before.items():
            delattr(Tensor, name) if own is None else setattr(Tensor, name, own)


def constant_when_compiled(function: F) -> F:
    """torch.compile calls the function once, and holds its result constant; arguments and result must be literals.

    What `torch.compiler.assume_constant_result` does, without loading Dynamo (half a second) at import. In its stead: that.
    """
    setattr(function, "_dynamo_marked_constant", True)  # noqa: B010  (mypy knows no such field)
    return function


def dynamo_is_loaded() -> bool:
    """Whether torch.compile may be at work: its front end, Dynamo, is a module that is imported when it is first used."""
    return "torch._dynamo" in sys.modules

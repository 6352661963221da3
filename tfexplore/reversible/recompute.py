"""Calling a module a second time as it was called first: what its result depends on besides its arguments, and what it leaves.

The generators of random numbers, autocast, the running statistics of a BatchNorm; a module that changes anything else of its
own would compute something else, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from tfexplore.machine.torch_private import replaced
from tfexplore.nn.stateful import Stateful
from tfexplore.nn.states import attached

Result = TypeVar("Result")
Generators = tuple[Tensor, ...]
"""The states of the random generators of the CPU and of a GPU."""


def generators(device: torch.device) -> Generators:
    return (torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else []))


def set_generators(states: Generators, device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


def undrawn(x: Tensor) -> AbstractContextManager[None]:
    """Within this context, random numbers may be drawn where x is, and then they have not been."""
    return torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else [])


def drawn(call: Callable[[], Result], device: torch.device) -> tuple[Result, Generators | None]:
    """What the call gives, and the generators before it if it drew random numbers."""
    before = generators(device)
    made = call()
    drew = any(not torch.equal(*pair) for pair in zip(before, generators(device), strict=True))
    return made, before if drew else None


class Autocast:
    """As it is now, to be entered again in the backward pass."""

    def __init__(self, device: torch.device) -> None:
        kinds = {"cpu", device.type}
        self.settings = [(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in kinds]

    @contextmanager
    def again(self) -> Iterator[None]:
        with ExitStack() as stack:
            for kind, dtype, enabled in self.settings:
                stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled))
            yield

    def forget(self) -> None:
        """The weights that were cast without a gradient; autocast would hand them to what comes next."""
        if any(enabled for _, _, enabled in self.settings):
            torch.clear_autocast_cache()


class Holder(nn.Module):
    """Modules under one roof, so that their tensors have one list of names; `modes` has which of them are in training now."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.held = nn.ModuleList(dict.fromkeys(modules))
        self.modes = [(module, module.training) for module in self.modules()]

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, each once: all but the running statistics that move."""
        moving = {id(b) for m in self.modules() if keeps_statistics(m) for b in m.buffers(recurse=False)}
        return {name: t for name, t in (*self.named_parameters(), *self.named_buffers()) if id(t) not in moving}

    def again(self, leaves: dict[str, Tensor], work: Callable[[], Result]) -> Result:
        """What `work` gives with these tensors in place of the modules', in the modes of then; nothing of it stays.

        So a hook of a parameter runs once, where its gradient arrives in the whole graph, and running statistics move once.
        """
        inner = [module for module in self.modules() if isinstance(module, Stateful)]
        with ExitStack() as stack:
            for module, training in self.modes:
                stack.callback(setattr, module, "training", module.training)
                module.training = training
            own = self.tensors()
            statistics = {b: b.clone() for m in self.modules() if keeps_statistics(m) for b in m.buffers(recurse=False)}
            for role in ("provider", "sink", "padding"):
                stack.enter_context(attached(self, role, None, inner, []))
            stack.enter_context(replaced(self, {own[name]: leaf for name, leaf in leaves.items()} | statistics))
            return work()


def keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.training and module.running_mean is not None


def footprint(module: nn.Module) -> dict[str, Any]:
    """What a call might leave in a module, by name."""
    found: dict[str, Any] = {}
    for name, part in module.named_modules():
        if isinstance(part, Stateful) or type(part).__module__.startswith("torch._dynamo"):
            continue
        if not keeps_statistics(part):
            found |= {f"{name}.{key}": (id(b), b._version) for key, b in part.named_buffers(recurse=False)}
        found |= {f"{name}.{key}": (id(p), p._version) for key, p in part.named_parameters(recurse=False)}
        own = {key: value for key, value in vars(part).items() if not key.startswith("_")}
        found |= {f"{name}.{key}": (id(v), inside(v)) for key, v in own.items()}
    return found


def inside(value: Any) -> int:
    """A number that changes with much of what may change in a value."""
    if isinstance(value, Tensor):
        return value._version
    return len(value) if isinstance(value, list | dict | set) else 0


def check_unchanged(before: dict[str, Any], module: nn.Module, where: str) -> None:
    """Raises RuntimeError where the call of a module has changed something of its own."""
    for name, value in footprint(module).items():
        if before.get(name) != value:
            raise RuntimeError(
                f"{where} changes its own {name.lstrip('.')!r} when it is called; the backward pass calls it again, and then it "
                "must give the same: take the change out of its forward, or use keep='graph'."
            )


def check_leaves(made: Tensor, known: Iterable[Tensor], where: str) -> None:
    """Raises RuntimeError where the result depends on a tensor with a gradient that is neither argument nor parameter."""
    allowed, todo, met = {id(t) for t in known}, [made.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in met:
            continue
        met.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in allowed:
            raise RuntimeError(
                f"{where} uses a tensor of shape {list(variable.shape)} that requires a gradient and is none of its parameters, "
                "so the gradient would be lost; register it as a parameter, detach it, or use keep='graph'."
            )
        todo += [child for child, _ in node.next_functions]

"""What a step asks of the device, as a list of operators: written down while it runs, looked through, and run again.

A `Tape` sits below autograd. It sees each operator of the forward pass, the backward pass and the optimiser, as a CUDA graph sees
kernels, and it refuses what a CUDA graph cannot hold either, with the line of the program that asked for it. `Program` runs the
list again on a CPU: the same kernels in the same order, so the same bits, without modules, autograd and optimiser in between.
"""

from __future__ import annotations

import linecache
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tfexplore.nn import ops

DIRECT = {torch.ops.tfexplore.forward.default: ops.run_forward, torch.ops.tfexplore.backward.default: ops.run_backward}
"""What an operator of ours calls, for a program that needs no operator around it."""
LIBRARIES = tuple(str(Path(file).parent) for file in (torch.__file__, ops.__file__))


class Line(NamedTuple):
    """A line of the user's program."""

    file: str
    number: int

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.number).strip()
        return f"{Path(self.file).name}, line {self.number}" + (f", `{text}`" if text else "")


def frames() -> list[FrameType]:
    """Those of this thread, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def users(lines: Sequence[Line]) -> Line:
    """The innermost of these that is neither torch's nor ours, nor generated."""
    return next((line for line in lines if not line.file.startswith((*LIBRARIES, "<"))), lines[-1])


def here() -> Line:
    """The line of the user's that runs."""
    return users([Line(frame.f_code.co_filename, frame.f_lineno) for frame in frames()])


def optimiser_of(found: Sequence[FrameType]) -> torch.optim.Optimizer | None:
    """The optimiser whose step is one of these, or is about to be taken by a GradScaler."""
    steps = [frame.f_locals for frame in found if frame.f_code.co_name in ("step", "_maybe_opt_step")]
    near = (local.get(name) for local in steps for name in ("self", "optimizer"))
    return next((each for each in near if isinstance(each, torch.optim.Optimizer)), None)


class Outside(NamedTuple):
    """A tensor that the step reads and has not made, and the line that first read it. own: nobody else can change it."""

    tensor: Tensor
    line: Line
    own: bool


class Tape(TorchDispatchMode):
    """Within this block every operator runs, and is written down in `graph`.

    Args:
        device: where all of them must run.
        inputs: what the step is given; each with a storage of its own.

    Raises:
        RuntimeError: at an operator that cannot be replayed; the message names the line.
    """

    replays = True
    """What `torch_private.is_recorded` asks for."""

    def __init__(self, device: torch.device, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.device = device
        self.graph = fx.Graph()
        self.outside: list[Outside] = []
        # by storage and place in it, since autograd unpacks what it has saved as another tensor of the same memory; a weak
        # reference keeps a storage's address from being given to another, and no gradient from being freed
        self.nodes: dict[StorageWeakRef, dict[tuple[Any, ...], fx.Node]] = {}
        for k, x in enumerate(inputs):
            self.know(x, self.graph.placeholder(f"x{k}"))

    def know(self, tensor: Tensor, node: fx.Node) -> fx.Node:
        self.nodes.setdefault(StorageWeakRef(tensor.untyped_storage()), {})[place(tensor)] = node
        return node

    def made(self, tensor: Tensor) -> bool:
        """Whether the step has made this, or was given it."""
        places = self.nodes.get(StorageWeakRef(tensor.untyped_storage()))
        return places is not None and not next(iter(places.values())).name.startswith("outside")

    def node(self, tensor: Tensor, own: bool = False) -> fx.Node:
        """What stands for a tensor."""
        places = self.nodes.get(StorageWeakRef(tensor.untyped_storage()))
        if places is None:
            with self.graph.inserting_before(next(iter(self.graph.nodes), None)):
                node = self.graph.placeholder(f"outside{len(self.outside)}")
            self.outside.append(Outside(tensor, here(), own))
            return self.know(tensor, node)
        if place(tensor) not in places:
            given = (next(iter(places.values())), tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
            return self.know(tensor, self.graph.call_function(torch.as_strided, given))
        return places[place(tensor)]

    def standing(self, values: Any) -> Any:
        """The same, with nodes in place of tensors."""
        return map_aggregate(values, lambda value: self.node(value) if isinstance(value, Tensor) else value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":  # its marks
            return func(*args, **kwargs)
        if (
            func is torch.ops.aten.lift_fresh.default
        ):  # torch.tensor(...): the same numbers each time, in a tensor that may change
            numbers = self.node(args[0].clone(), own=True)
            out = func(*args)
            self.know(out, self.graph.call_function(torch.clone, (numbers,)))
            return out
        self.check(func, args, kwargs)
        given = self.standing((args, kwargs))
        out = func(*args, **kwargs)
        if any(t.device != self.device for t in tensors(out)) and any(t.device == self.device for t in tensors(args)):
            self.refuse(f"moves a tensor to {next(t.device for t in tensors(out))}")
        self.bind(out, self.graph.call_function(DIRECT.get(func, func), *given))
        return out

    def bind(self, out: Any, node: fx.Node) -> None:
        """Remembers what an operator returned. One that works in place returns what it was given."""
        if isinstance(out, Tensor):
            if place(out) not in self.nodes.get(StorageWeakRef(out.untyped_storage()), {}):
                self.know(out, node)
        elif isinstance(out, (list, tuple)):
            for k, value in enumerate(out):
                if isinstance(value, Tensor):
                    self.bind(value, self.graph.call_function(operator.getitem, (node, k)))

    def check(self, func: Any, args: Any, kwargs: Any) -> None:
        given = tensors((args, kwargs))
        if torch.Tag.data_dependent_output in func.tags:
            self.refuse("reads a number from a tensor (.item(), float(), bool(), `if`)")
        if torch.Tag.dynamic_output_shape in func.tags:
            by_mask = any(t.dtype in (torch.bool, torch.uint8) for t in tensors(args[1:]))
            if func is not torch.ops.aten.index.Tensor or by_mask:
                self.refuse(
                    f"makes a tensor whose shape depends on values ({func._schema.name.removeprefix('aten::')})"
                )
        for t in given:
            if t.device != self.device and (t.ndim or not self.made(t)):
                self.refuse(f"uses a tensor on {t.device}, {list(t.shape)}, where the step runs on {self.device}")

    def refuse(self, what: str) -> None:
        if (optimiser := optimiser_of(frames())) is not None:
            raise RuntimeError(
                f"step cannot be captured: {type(optimiser).__name__}'s step {what}; {cure(optimiser, self.device)}."
            )
        raise RuntimeError(
            f"step cannot be captured: it {what} in {here()}; what is captured is replayed without Python, on one device "
            "and in the same shapes: do this outside, with what the step returns."
        )

    def finish(self, results: Any) -> tuple[list[Tensor], Program]:
        """The leaves whose gradients the step has made anew, and the program that returns these results."""
        read = [outside.tensor for outside in self.outside]
        leaves = [t for t in read if t.is_leaf and t.requires_grad and t.grad is not None and self.made(t.grad)]
        self.graph.output((self.standing(results), [self.node(t.grad) for t in leaves if t.grad is not None]))
        return leaves, Program(self.graph, read, leaves)


class Program:
    """The operators of a step, run again.

    Args:
        graph: of a tape.
        outside: the tensors that it reads besides its inputs, as `graph` has them.
        leaves: where the gradients go.
    """

    def __init__(self, graph: fx.Graph, outside: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
        graph.lint()
        self.module = fx.GraphModule(torch.nn.Module(), graph)
        self.run: Callable[..., Any] = self.module.forward
        self.outside, self.leaves = tuple(reversed(outside)), tuple(leaves)  # each was put before all others

    @property
    def text(self) -> str:
        """As Python, an operator a line."""
        return str(self.module.code).strip()

    def __call__(self, *inputs: Tensor) -> Any:
        with torch.no_grad():
            results, gradients = self.run(*self.outside, *inputs)
        for leaf, gradient in zip(self.leaves, gradients, strict=True):
            leaf.grad = gradient
        return results


def place(tensor: Tensor) -> tuple[Any, ...]:
    """Of a tensor in its storage."""
    return tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def cure(optimiser: torch.optim.Optimizer, device: torch.device) -> str:
    """What to do for an optimiser that cannot be captured as it is."""
    name, known = type(optimiser).__name__, optimiser.defaults
    if "fused" in known:
        return f"make it {name}(..., fused=True{', capturable=True' if 'capturable' in known else ''})"
    if "capturable" in known:
        return f"make it {name}(..., capturable=True)" + ("" if device.type == "cuda" else ", which needs a GPU")
    return "take another optimiser, such as SGD(..., fused=True) or Adam(..., fused=True, capturable=True)"

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

from tfexplore.machine.paths import PACKAGE
from tfexplore.nn import ops

aten = torch.ops.aten
FITS = "fits"
"""Of an addition: whether its result has the shape and dtype of what is added to."""
DIRECT = {torch.ops.tfexplore.forward.default: ops.run_forward, torch.ops.tfexplore.backward.default: ops.run_backward}
"""What an operator of ours calls, for a program that needs no operator around it."""
LIBRARIES = (str(Path(torch.__file__).parent), str(PACKAGE))

LONG = 120
"""Characters of an operator in a message."""


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
    memory: StorageWeakRef
    """Where it was then."""

    @property
    def moved(self) -> bool:
        """Whether it has been given other memory since, as by `p.data = ...`."""
        return memory(self.tensor) != self.memory


class Tape(TorchDispatchMode):
    """Within this block every operator runs, and is written down in `graph`.

    Args:
        device: where all of them must run.
        inputs: what the step is given; each with a storage of its own.
        before: that of the call before, which must have asked for the same.

    Raises:
        RuntimeError: at an operator that cannot be replayed; the message names the line.
    """

    replays = True
    """What `torch_private.is_recorded` asks for."""

    def __init__(self, device: torch.device, inputs: Sequence[Tensor], before: Tape | None = None) -> None:
        super().__init__()
        self.device = device
        self.graph = fx.Graph()
        self.outside: list[Outside] = []
        self.within = False  # an operator, which may read what it is given
        self.before = before.asked if before else None
        self.asked: list[str] = []
        self.other = ""  # the first that `before` has not asked for
        drawn = list(before.states) if before else [default_generator(device)]
        self.states: dict[torch.Generator, Tensor] = {generator: generator.get_state() for generator in drawn}
        # by storage and place in it, since autograd unpacks what it has saved as another tensor of the same memory; a weak
        # reference keeps a storage's address from being given to another, and no gradient from being freed
        self.nodes: dict[StorageWeakRef, dict[tuple[Any, ...], fx.Node]] = {}
        for k, x in enumerate(inputs):
            self.know(x, self.graph.placeholder(f"x{k}"))

    def know(self, tensor: Tensor, node: fx.Node) -> fx.Node:
        self.nodes.setdefault(memory(tensor), {})[place(tensor)] = node
        return node

    def ask(self, target: Any, args: Any, kwargs: Any = None, of: str = "") -> fx.Node:
        """Writes down an operator. of: what else of it must be the same at each call."""
        node = self.graph.call_function(target, args, kwargs)
        named = ", ".join(map(str, (*args, *(f"{key}={value}" for key, value in (kwargs or {}).items()))))
        number, text = len(self.asked), f"{target.__name__}({named}){of}"
        self.asked.append(text)
        if self.before is not None and not self.other and text not in self.before[number : number + 1]:
            was = self.before[number] if number < len(self.before) else "nothing more"
            self.other = f"in {here()} it asks for {text[:LONG]}, and the call before for {was[:LONG]}"
        return node

    def made(self, tensor: Tensor) -> bool:
        """Whether the step has made this, or was given it."""
        places = self.nodes.get(memory(tensor))
        return places is not None and not next(iter(places.values())).name.startswith("outside")

    def node(self, tensor: Tensor, own: bool = False) -> fx.Node:
        """What stands for a tensor."""
        places = self.nodes.get(memory(tensor))
        alike = next((node for at, node in (places or {}).items() if at[-1] == tensor.dtype), None)
        if alike is None:
            if self.made(tensor):
                self.refuse(f"reads the memory of another tensor as {tensor.dtype}")
            with self.graph.inserting_before(next(iter(self.graph.nodes), None)):
                node = self.graph.placeholder(f"outside{len(self.outside)}")
            self.outside.append(Outside(tensor, here(), own, memory(tensor)))
            return self.know(tensor, node)
        assert places is not None
        if place(tensor) not in places:
            given = (alike, tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
            return self.know(tensor, self.ask(torch.as_strided, given))
        return places[place(tensor)]

    def standing(self, values: Any) -> Any:
        """The same, with nodes in place of tensors and generators."""

        def one(value: Any) -> Any:
            if isinstance(value, torch.Generator):
                return self.graph.get_attr(f"generator{list(self.states).index(value)}")
            return self.node(value) if isinstance(value, Tensor) else value

        return map_aggregate(values, one)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":  # its marks
            return func(*args, **kwargs)
        if func is torch.ops.aten.lift_fresh.default:
            # torch.tensor(...): the same numbers each time, in a tensor that may change
            self.within = True
            of, out = numbers_of(args[0]), func(*args)
            self.within = False
            numbers = self.node(args[0].clone(), own=True)
            self.know(out, self.ask(torch.clone, (numbers,), of=f" of {of}"))
            return out
        self.check(func, args, kwargs)
        draws = torch.Tag.nondeterministic_seeded in func.tags
        generators = [g for g in tree_leaves((args, kwargs)) if isinstance(g, torch.Generator)]
        for generator in generators or [default_generator(self.device)] * draws:
            self.states.setdefault(generator, generator.get_state())
            self.same_random_numbers(generator)
        given = self.standing((args, kwargs))
        self.within = True
        try:
            out = func(*args, **kwargs)
        finally:
            self.within = False
        for generator in generators or [default_generator(self.device)] * draws:
            self.states[generator] = generator.get_state()
        if any(t.device != self.device for t in tensors(out)) and any(t.device == self.device for t in tensors(args)):
            self.refuse(f"moves a tensor to {next(t.device for t in tensors(out))}")
        node = self.ask(DIRECT.get(func, func), *given)
        if func is aten.add.Tensor and isinstance(args[0], Tensor):
            node.meta[FITS] = args[0].shape == out.shape and args[0].dtype == out.dtype
        self.bind(out, node)
        return out

    def bind(self, out: Any, node: fx.Node) -> None:
        """Remembers what an operator returned. One that works in place returns what it was given."""
        if isinstance(out, Tensor):
            if place(out) not in self.nodes.get(memory(out), {}):
                self.know(out, node)
        elif isinstance(out, (list, tuple)):
            for k, value in enumerate(out):
                if isinstance(value, Tensor):
                    self.bind(value, self.ask(operator.getitem, (node, k)))

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

    def same_random_numbers(self, generator: torch.Generator) -> None:
        """Refuses a state that no operator has made: a replay goes on from where it is."""
        if not torch.equal(self.states[generator], generator.get_state()):
            self.refuse(
                "sets the state of random numbers (manual_seed, fork_rng, a checkpointed module that draws some)"
            )

    def read(self) -> None:
        """Refuses what reads or writes a tensor past the operators."""
        if not self.within:
            self.refuse("hands a tensor to Python or NumPy (.numpy(), .tolist(), np.asarray())")

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
        for outside in self.outside:
            if outside.moved:
                raise RuntimeError(
                    f"step cannot be captured: a tensor, {list(outside.tensor.shape)}, that it reads in {outside.line} is then "
                    "given other memory (`p.data = ...`); change it in place, such as by p.data.copy_(...)."
                )
        for generator in self.states:
            self.same_random_numbers(generator)
        if rest := (self.before or [])[len(self.asked) :]:
            self.other = self.other or f"it ends where the call before asked for {rest[0][:LONG]}"
        if self.other:
            raise RuntimeError(
                f"step cannot be captured: {self.other}; a replay does the same each time: pass what changes as an argument, or "
                "keep it in a tensor that is changed in place (a scheduler steps outside)."
            )
        read = [outside.tensor for outside in self.outside]
        leaves = [t for t in read if t.is_leaf and t.requires_grad and t.grad is not None and self.made(t.grad)]
        self.graph.output((self.standing(results), [self.node(t.grad) for t in leaves if t.grad is not None]))
        return leaves, Program(self.graph, read, leaves, list(self.states))


class Program:
    """The operators of a step, run again.

    Args:
        graph: of a tape.
        outside: the tensors that it reads besides its inputs, as `graph` has them.
        leaves: where the gradients go.
        generators: generator0, generator1, ... of the graph.
    """

    def __init__(
        self,
        graph: fx.Graph,
        outside: Sequence[Tensor],
        leaves: Sequence[Tensor],
        generators: Sequence[torch.Generator],
    ) -> None:
        root = torch.nn.Module()
        for number, generator in enumerate(generators):
            setattr(root, f"generator{number}", generator)
        add_in_place(graph)
        self.module = fx.GraphModule(root, graph)
        graph.lint()
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


def numbers_of(tensor: Tensor) -> str:
    """Those of a small tensor, or something that differs where they do; on a GPU neither, since to read them would wait."""
    if tensor.device.type != "cpu":
        return "numbers there"
    return str(tensor.tolist()) if tensor.numel() <= 8 else f"numbers with the hash {hash(str(tensor.tolist()))}"


def memory(tensor: Tensor) -> StorageWeakRef:
    """The storage of a tensor."""
    return StorageWeakRef(tensor.untyped_storage())


def default_generator(device: torch.device) -> torch.Generator:
    """The one that draws where none is named."""
    if device.type != "cuda":
        return torch.default_generator
    return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]


def add_in_place(graph: fx.Graph) -> None:
    """Adds the bias of an `nn.Linear` into its product again, as torch does where no mode looks: less fresh memory to clear.

    Only where nothing else reads the product. The sums have the same bits.
    """
    for node in graph.nodes:
        view = node.args[0] if node.target is aten.add.Tensor and node.meta.get(FITS) else None
        if isinstance(view, fx.Node) and view.target is aten._unsafe_view.default and len(view.users) == 1:
            product = view.args[0]
            if isinstance(product, fx.Node) and product.target is aten.mm.default and len(product.users) == 1:
                node.target = aten.add_.Tensor


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

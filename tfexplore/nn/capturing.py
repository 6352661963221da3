"""`capture`: a whole training step, optimiser included, as one program: a CUDA graph, or a list of operators on a CPU.

The first calls of a shape are the step itself, as it stands: they train, compile kernels and fill the optimiser's state, so
nothing has to be put back, and the losses are eager training's from the first call on. Of them,

    1        is looked through: what cannot be captured is named
    2 to 4   are timed
    5, 6     are looked through again: the step must ask for the same, of the same tensors, in both
    7, ...   run without Python: the list of operators of call 6, or a CUDA graph recorded now
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import map_aggregate
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tfexplore.machine.stopwatch import seconds
from tfexplore.machine.torch_private import handed_to_numpy
from tfexplore.nn.cuda_graph import Graph, beside, without_waiting
from tfexplore.nn.guards import described, gradient_stays, numbers_stay, place_stays, same_tensors
from tfexplore.nn.tape import Program, Tape, cure, memory

LOOKED_THROUGH = (1, 5, 6)
REPLAYS = 5
"""Replays that are timed; later ones are not waited for."""


@dataclass(frozen=True)
class Times:
    """What capturing one kind of input cost, and what it gains.

    Args:
        inputs: dtypes and shapes, in words.
        calls: so far.
        first: seconds of the first call, which compiles kernels, as it would without capturing.
        capturing: seconds that looking through and recording took, beyond the steps that they trained.
        eager, captured: median seconds of a step; None before there are any.
    """

    inputs: str
    calls: int
    first: float
    capturing: float
    eager: float | None
    captured: float | None

    @property
    def pays_after(self) -> int | None:
        """How many captured steps make up for capturing; None where they never do, or are not timed yet.

        >>> Times("float32 [8, 4]", 20, first=1.0, capturing=0.1, eager=0.003, captured=0.001).pays_after
        50
        """
        if self.eager is None or self.captured is None or self.captured >= self.eager:
            return None
        return math.ceil(round(self.capturing / (self.eager - self.captured), 6))

    def __str__(self) -> str:
        said = f"{self.inputs}: {self.calls} calls, the first {self.first:.2f} s"
        if self.eager is not None:
            said += f"; eager {1e3 * self.eager:.2f} ms a step"
        if self.captured is None or self.eager is None:
            return f"{said}; not captured yet"
        after = "never pays" if self.pays_after is None else f"pays after {self.pays_after:,} steps"
        return f"{said}, captured {1e3 * self.captured:.2f} ms; capturing took {self.capturing:.2f} s and {after}"


@dataclass
class Kind:
    """One kind of input: its buffers, and how far its capture has come."""

    buffers: list[Tensor]
    calls: int = 0
    first: list[float] = field(default_factory=list)
    eager: list[float] = field(default_factory=list)
    looking: list[float] = field(default_factory=list)
    captured: list[float] = field(default_factory=list)
    tape: Tape | None = None
    leaves: list[Tensor] = field(default_factory=list)
    replay: Callable[[], Any] | None = None
    program: Program | None = None
    guards: list[Callable[[], None]] = field(default_factory=list)

    @property
    def times(self) -> Times:
        eager, captured = (statistics.median(taken) if taken else None for taken in (self.eager, self.captured))
        capturing = max(0.0, sum(self.looking) - len(LOOKED_THROUGH[1:]) * (eager or 0.0))
        return Times(described(self.buffers), self.calls, sum(self.first), capturing, eager, captured)


class Captured:
    """What `capture` makes of a step: call it as you would the step. `print` says what capturing cost, and what it gains."""

    def __init__(self, step: Callable[..., Any], device: torch.device | str | None, shapes: int) -> None:
        self.step, self.shapes = step, shapes
        self.moves = device is not None
        self.kinds: dict[tuple[Any, ...], Kind] = {}
        self.device: torch.device | None = None
        self.stream: torch.cuda.Stream | None = None
        if device is not None:
            self.run_on(torch.empty(0, device=device).device)

    def run_on(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def report(self) -> list[Times]:
        """What each kind of input cost and gains, in the order in which they came."""
        return [kind.times for kind in self.kinds.values()]

    def program(self) -> str:
        """The operators of the kind of input that came first, as Python; "" on a GPU, or before they are recorded."""
        return next((kind.program.text for kind in self.kinds.values() if kind.program), "")

    def forget(self) -> None:
        """Drops what is captured: the next calls capture anew, what was changed in the step included."""
        self.kinds.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy, which captures anew: what is recorded reads and writes these tensors here."""
        return self.__dict__ | {"kinds": {}, "stream": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.device is not None:
            self.run_on(self.device)

    def __repr__(self) -> str:
        return "\n".join([f"a captured step on {self.device or 'no device yet'}", *map(str, self.report())])

    def __call__(self, *inputs: Tensor) -> Any:
        kind = self.kind_of(inputs)
        for buffer, x in zip(kind.buffers, inputs, strict=True):
            once(buffer).copy_(once(x), non_blocking=True)
        if kind.calls < LOOKED_THROUGH[-1]:
            return self.warmed_up(kind)
        for guard in kind.guards:
            guard()
        return self.replayed(kind)

    def kind_of(self, inputs: Sequence[Tensor]) -> Kind:
        """The kind of these inputs, with its buffers."""
        for k, x in enumerate(inputs):
            if not isinstance(x, Tensor):
                raise TypeError(
                    f"a captured step takes tensors, but argument {k} is of type {type(x).__name__}: what is no tensor is a "
                    "constant of the step, so put it there (functools.partial)."
                )
            if x.requires_grad:
                raise ValueError(
                    f"argument {k} of a captured step requires a gradient, but is copied into a buffer; call requires_grad_() "
                    "within the step."
                )
        if self.device is None:
            if not inputs:
                raise ValueError("a step without arguments does not show its device: capture(step, device=...).")
            self.run_on(inputs[0].device)
        assert self.device is not None
        for k, x in enumerate(inputs):
            if x.device != self.device and not self.moves:
                raise ValueError(
                    f"argument {k} of a captured step is on {x.device}, the step on {self.device}; move it, or have the step "
                    f"copy it at each call: capture(step, device={str(self.device)!r})."
                )
        if torch.is_autocast_enabled(self.device.type):
            raise RuntimeError(
                "autocast is on around a captured step, which would keep old weights: put it within the step."
            )
        key = tuple((x.shape, x.stride(), x.dtype) for x in inputs)
        if key not in self.kinds:
            if len(self.kinds) == self.shapes:
                raise ValueError(
                    f"a captured step has been given {self.shapes} kinds of input, and {described(inputs)} would be one more; "
                    "each has memory of its own: pad or drop batches that differ (drop_last=True), or capture(step, shapes=...)."
                )
            self.kinds[key] = Kind(
                [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=self.device) for x in inputs]
            )
        return self.kinds[key]

    def warmed_up(self, kind: Kind) -> Any:
        """The step itself, timed or looked through."""
        assert self.device is not None
        number, found = kind.calls + 1, []
        look = number in LOOKED_THROUGH
        with beside(self.stream) if self.stream else nullcontext():
            taken = seconds(
                lambda: found.append(self.looked_through(kind, number) if look else self.eager(kind)), self.device
            )
        kind.calls = number
        (kind.first if number == 1 else kind.looking if look else kind.eager).append(taken)
        return found[0]

    def eager(self, kind: Kind) -> Any:
        buffers = {memory(buffer) for buffer in kind.buffers}
        return map_aggregate(self.step(*kind.buffers), lambda value: result(value, buffers))

    def looked_through(self, kind: Kind, number: int) -> Any:
        """Runs the step under a tape. The last tape becomes the program."""
        assert self.device is not None
        last = number == LOOKED_THROUGH[-1]
        tape, before = (
            Tape(self.device, kind.buffers, kind.tape if last else None),
            kind.tape.outside if kind.tape else [],
        )
        gradients = [(o.tensor, o.tensor.grad) for o in before if o.tensor.is_leaf and o.tensor.requires_grad]
        with ExitStack() as stack:
            optimisers = stack.enter_context(optimisers_within(self.device))
            if self.stream and number > 1:  # the first call may wait: it compiles
                stack.enter_context(without_waiting())
            with handed_to_numpy(tape.read), tape:
                results = self.eager(kind)
        kind.tape = tape
        if last:
            same_tensors(before, tape.outside)
            kind.leaves, program = tape.finish(results)
            read = {id(o.tensor) for o in tape.outside}
            kind.guards = [numbers_stay(optimiser) for optimiser in optimisers]
            kind.guards += [place_stays(outside) for outside in tape.outside]
            kind.guards += [gradient_stays(leaf, g) for leaf, g in gradients if g is None or id(g) in read]
            if self.stream is None:
                kind.program, kind.replay = program, lambda: program(*kind.buffers)
        return results

    def replayed(self, kind: Kind) -> Any:
        assert self.device is not None
        if kind.replay is None:
            assert self.stream is not None
            stream = self.stream

            def record() -> None:
                kind.replay = Graph(lambda *_: self.eager(kind), kind.buffers, kind.leaves, stream)

            kind.looking.append(seconds(record, self.device))
        replay, found = kind.replay, []
        assert replay is not None
        kind.calls += 1
        if len(kind.captured) == REPLAYS:
            return replay()
        kind.captured.append(seconds(lambda: found.append(replay()), self.device))
        return found[0]


def capture(step: Callable[..., Any], *, device: torch.device | str | None = None, shapes: int = 8) -> Captured:
    """A training step, optimiser included, as one program: one CUDA graph on a GPU, a list of operators on a CPU.

    Python, modules, autograd and the optimiser run in the first six calls only; then the kernels they asked for are run again, in
    the same order, on the batch of each call. Losses, weights and random numbers are those of the step as it stands, from the
    first call on: on a CPU bit for bit, unless `fuse` has put a BatchNorm into a kernel (then to rounding). A new shape, dtype or
    layout of the input is captured anew, with six calls of its own, and kept.

    What Python decides is decided when it is captured: `net.train()`, a learning rate that is a number, an `if`. Give Adam and
    its like `fused=True, capturable=True`, and a rate that a scheduler changes as a tensor, `lr=torch.tensor(1e-3, device=...)`.
    Autocast, GradScaler (whose optimiser needs `fused=True`), `clip_grad_norm_`, dropout and `carry` work within the step.

    Args:
        step: takes tensors (the batch), trains, and returns tensors, alone or in tuples, lists and dicts, without a gradient's
            graph. What else changes at each call must be a tensor that is changed in place.
        device: where the step runs; arguments on other devices are then copied there. By default all are on one, which is it.
        shapes: how many kinds of input are kept at most, each with memory of its own.

    Returns:
        A function that is called like the step. `print` of it, or its `report()`, says what capturing took and after how many
        steps that is paid; `program()` is what runs on a CPU; `forget()` captures anew.

    Raises:
        RuntimeError: at a call, for what cannot be captured, with the line that asks for it: reading a number (`.item()`),
            or handing a tensor to NumPy, printing on a GPU, shapes that depend on values, tensors on another device or that are
            others at each call, numbers or branches that Python changes at each call (a scheduler within the step), a random
            state that the step sets (checkpointed dropout), an optimiser whose numbers Python keeps; and, until `forget()`, for
            parameters that were frozen or moved since, and an optimiser whose state was loaded.
        TypeError: for an argument that is no tensor, or such a result.
        ValueError: for one kind of input too many, or an argument on another device.

    Example:
        >>> import torch, tfexplore
        >>> from tfexplore.nn import capture
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), tfexplore.LIF(), torch.nn.Linear(8, 2))
        >>> optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> def step(x, y):
        ...     optimiser.zero_grad()
        ...     loss = torch.nn.functional.cross_entropy(net(x).mean(0), y)
        ...     loss.backward()
        ...     optimiser.step()
        ...     return loss
        >>> captured, (x, y) = capture(step), (torch.rand(10, 16, 4), torch.arange(16) % 2)
        >>> losses = [captured(x, y).item() for _ in range(20)]
        >>> losses[-1] < losses[0], captured.report()[0].calls
        (True, 20)
    """
    return Captured(step, device, shapes)


def result(value: Any, buffers: set[StorageWeakRef]) -> Any:
    """One of what a step returns, without the graph behind it; a copy of what lies in a buffer, which the next call fills."""
    if value is None:
        return None
    if not isinstance(value, Tensor):
        raise TypeError(
            f"step returns a value of type {type(value).__name__}, which would be the same at each replay: return tensors."
        )
    return value.detach().clone() if memory(value) in buffers else value.detach()


def once(x: Tensor) -> Tensor:
    """Without the repetitions of an expanded axis, which are one place in memory."""
    for axis, stride in enumerate(x.stride()):
        x = x if stride or not x.shape[axis] else x.narrow(axis, 0, 1)
    return x


@contextmanager
def optimisers_within(device: torch.device) -> Iterator[list[torch.optim.Optimizer]]:
    """Yields a list of the optimisers that take a step within this block; on a GPU their numbers must be there too."""
    found: list[torch.optim.Optimizer] = []

    def before(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        if device.type == "cuda" and any(not group.get("capturable", True) for group in optimiser.param_groups):
            raise RuntimeError(
                f"step cannot be captured: {type(optimiser).__name__} counts its steps on the CPU; {cure(optimiser, device)}."
            )
        found.append(optimiser)

    handle = register_optimizer_step_pre_hook(before)
    try:
        yield found
    finally:
        handle.remove()

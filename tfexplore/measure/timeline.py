"""The record of an execution: every unit of work is one event, in the order in which they ended.

A unit of work is a layer and the time steps that it covers: all of them for a fused kernel, one for each turn of an eager loop.
Its launches, words, bytes and dependencies are counted from the operations that PyTorch really dispatched, not predicted.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tfexplore.backends import torch_reference
from tfexplore.nn.layers import Layer
from tfexplore.nn.recurrent import Recurrent
from tfexplore.nn.states import stateful
from tfexplore.nn.wrappers import FoldTime

OVERWRITE = ("copy_", "fill_", "zero_")  # these write their first argument in place, and do not read it


@dataclass(frozen=True)
class Event:
    """One executed unit of work: a layer over the time steps first <= t < last. (A module that launches nothing, such as
    `nn.Flatten`, does no work.)

    Attributes:
        layer: the name of the layer.
        first: its first time step.
        last: the time step after its last one.
        device: where it ran.
        begin: seconds from the start of the record.
        end: the same.
        kind: "forward", or "gather": the steps of an eager loop put together again (`torch.stack`). Time splitting has more.
        launches: dispatched operations that did work (not views, not empty memory). A few of them, like a convolution, may
            start more than one kernel on a GPU.
        words: tensor elements that these operations read and wrote. A broadcast element counts once; an operation that looks
            up a few rows of a table counts all of it.
        nbytes: the same in bytes: a word of float32 has four, a bool one.
        needs: the earlier events (by their index in the record) that wrote what this one read.
        part: the micro-batch, where the batch is cut (time splitting).
    """

    layer: str
    first: int
    last: int
    device: str
    begin: float
    end: float
    kind: str
    launches: int
    words: int
    nbytes: int
    needs: tuple[int, ...] = ()
    part: int = 0

    def moved(self, seconds: float) -> Event:
        """The same event, `seconds` later."""
        return replace(self, begin=self.begin + seconds, end=self.end + seconds)


class Events(list[Event]):
    """The events of a record, as a list.

    Attributes:
        outside: the work within the block that no layer did, as one event (an addition of branches, the steps that
            `step_by_step` puts together).
    """

    def __init__(self) -> None:
        super().__init__()
        self.outside = Event("", 0, 0, "", 0.0, 0.0, "outside", 0, 0, 0)

    @property
    def launches(self) -> int:
        """All launches, in the layers and outside."""
        return sum(event.launches for event in (*self, self.outside))

    @property
    def words(self) -> int:
        """All words read and written, in the layers and outside."""
        return sum(event.words for event in (*self, self.outside))

    @property
    def nbytes(self) -> int:
        """All bytes read and written, in the layers and outside."""
        return sum(event.nbytes for event in (*self, self.outside))


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one row of the (layer, time) grid, whatever it consists of."""
    return isinstance(module, Layer | Recurrent | FoldTime) or not any(True for _ in module.children())


def leaves(net: nn.Module) -> dict[nn.Module, str]:
    """The rows of the (layer, time) grid, with their names; the modules inside a layer are no layers."""
    found, inner = dict[nn.Module, str](), set[nn.Module]()
    for name, module in net.named_modules():
        if is_leaf(module) and module not in inner:
            found[module] = name
            inner.update(module.modules())
    return found


@contextmanager
def what_ran(net: nn.Module, *, count: bool = True) -> Iterator[Events]:
    """Records everything that the layers of a network execute within a `with` block.

    A layer is a `Layer`, a `Recurrent`, a `FoldTime` or a module without modules inside, called with time first. Time steps are
    counted on as long as the hidden state is carried: from call to call under `carry` and in `step_by_step`; otherwise every
    pass of the network begins at step 0. A module called several times in one pass is "name", "name, call 2", ...

    Args:
        net: the network.
        count: counting costs some microseconds for every operation; without it, launches, words, nbytes and needs stay empty,
            and the times are closer to those of a run without a record. On a GPU, every unit of work is synchronised.

    Returns:
        A context manager that gives the `Events`, which grow as the network runs.

    Raises:
        ValueError: a layer was called with more time steps than the network has left.

    Example:
        >>> from tfexplore.nn import LIF
        >>> net, x = nn.Sequential(nn.Linear(8, 6), LIF()), torch.rand(4, 2, 8)
        >>> with torch.no_grad(), what_ran(net) as events:
        ...     _ = net(x)
        >>> [(event.layer, event.first, event.last) for event in events]     # the fused kernel takes all steps at once
        [('0', 0, 4), ('1', 0, 4)]
        >>> events[0].words == x.numel() + 8 * 6 + 6 + 4 * 2 * 6             # current, weights, biases, result
        True
    """
    recorder = _Recorder(net, count)
    with ExitStack() as undo:
        undo.callback(net.register_forward_pre_hook(recorder.begin_pass, with_kwargs=True).remove)
        for module in recorder.names:
            undo.callback(module.register_forward_pre_hook(recorder.begin, with_kwargs=True).remove)
            undo.callback(module.register_forward_hook(recorder.end, always_call=True).remove)
        undo.callback(net.register_forward_hook(recorder.end_pass, always_call=True).remove)
        torch_reference.LISTENERS.append(recorder.walk)
        undo.callback(torch_reference.LISTENERS.remove, recorder.walk)
        if count:
            undo.enter_context(_CountingEvents(recorder))
        yield recorder.events


class _Recorder:
    """Turns the beginning and end of calls, and of steps within them, into events."""

    def __init__(self, net: nn.Module, counts: bool) -> None:
        self.net, self.counts = net, counts
        self.names = {module: name or type(module).__name__ for module, name in leaves(net).items()}
        self.events = Events()
        self.open: Event | None = None  # the unit of work under way
        self.module: nn.Module | None = None  # which does it
        self.start = time.perf_counter()
        self.thread = threading.get_ident()
        self.provider: Any = None  # of the state, in the last pass; counting goes on while it stays the same
        self.pass_steps = 0  # 0 outside of a pass
        self.base = 0  # the first step of this pass
        self.done: Counter[nn.Module] = Counter()  # steps that a layer has done in this pass
        self.alone: Counter[nn.Module] = Counter()  # steps that it has done when called by itself

    def now(self, device: str) -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter() - self.start

    def goes_on(self) -> bool:
        """Whether the state of the last call is carried on. A network without any state counts on, too."""
        layers = stateful(self.net)
        before, self.provider = self.provider, next((layer.provider for layer in layers), None)
        return not layers or (self.provider is not None and self.provider is before)

    def begin_pass(self, net: nn.Module, args: Any, kwargs: Any) -> None:
        x = _first_tensor(args, kwargs)
        if not self.goes_on():
            self.base = 0
        self.pass_steps, self.done = (0 if x is None else len(x)), Counter()

    def end_pass(self, *_: Any) -> None:
        self.base += self.pass_steps
        self.pass_steps = 0

    def place(self, module: nn.Module, steps: int) -> tuple[str, int, int]:
        """The layer's name, with the number of the call, and the time steps of this call."""
        if not self.pass_steps:  # the layer is called by itself
            first = self.alone[module] if self.goes_on() else 0
            self.alone[module] = first + steps
            return self.names[module], first, first + steps
        call, within = divmod(self.done[module], self.pass_steps)
        if within == 0 and steps > self.pass_steps and steps % self.pass_steps == 0:
            steps = self.pass_steps  # time and batch folded into one axis
        if within + steps > self.pass_steps:
            raise ValueError(
                f"the layer {self.names[module]!r} got {steps} time steps after {within}, but the network was given only "
                f"{self.pass_steps}: keep time first in every layer, [T, B, ...] (FoldTime folds it away and back)."
            )
        self.done[module] += steps
        name = self.names[module] + (f", call {call + 1}" if call else "")
        return name, self.base + within, self.base + within + steps

    def begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        x = _first_tensor(args, kwargs)
        if x is None or len(x) == 0 or self.open is not None:
            return
        layer, first, last = self.place(module, len(x))
        device = str(x.device)
        self.module = module
        self.open = Event(layer, first, last, device, self.now(device), 0.0, "forward", 0, 0, 0)

    def end(self, module: nn.Module, *_: Any) -> None:
        if self.open is not None and module is self.module:
            self.close()

    def close(self) -> float:
        """Records the unit of work, if it was any: a module may only reshape its input. Returns when it ended."""
        event, self.open = self.open, None
        assert event is not None
        end = self.now(event.device)
        if event.launches or (not self.counts and event.kind == "forward"):
            self.events.append(replace(event, end=end))
        return end

    def walk(self, steps: Iterable[Tensor], count: int) -> Iterable[Tensor]:
        """Wraps an eager loop: every turn is an event. A loop of one turn, as inside a `Recurrent`, is left as it is."""
        watched = self.open is not None and threading.get_ident() == self.thread and count > 1
        return self._cut(steps) if watched else steps

    def _cut(self, steps: Iterable[Tensor]) -> Iterator[Tensor]:
        call = self.open
        assert call is not None
        fresh = replace(call, launches=0, words=0, nbytes=0, needs=())
        for t, x_t in enumerate(steps):
            begin = self.close() if t > 0 else call.begin
            first = call.first + t
            # what was done before the loop, the initial state, belongs to the first step
            self.open = replace(fresh if t > 0 else call, first=first, last=first + 1, begin=begin)
            yield x_t
        self.open = replace(fresh, kind="gather", begin=self.close())


def _first_tensor(args: Any, kwargs: Any) -> Tensor | None:
    return next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.ndim > 0), None)


class Counting(TorchDispatchMode):
    """Intercepts every dispatched operation, below autograd, and calls `note` with what it read and wrote.

    A fused kernel is one operation: one launch. A copy or a fill does not read what it overwrites.
    """

    def note(
        self, words: int, nbytes: int, read: set[StorageWeakRef], fresh: list[Tensor], changed: list[Tensor]
    ) -> None:
        raise NotImplementedError

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given, changed = _tensors((args, kwargs)), _changed(func, args, kwargs)
        old = {_storage(t) for t in given}
        fresh = [t for t in _tensors(out) if _storage(t) not in old]
        words, nbytes = 0, 0
        if _does_work(func) and (fresh or changed):
            blind = (
                func._schema.name.removeprefix("aten::") in OVERWRITE or torch.Tag.nondeterministic_seeded in func.tags
            )
            read = [t for t in given if not (blind and any(t is c for c in changed))]
            words, nbytes = map(sum, zip(_distinct(read), _distinct([*fresh, *changed]), strict=True))
        self.note(words, nbytes, old if words else set(), fresh, changed)
        return out


class _CountingEvents(Counting):
    """Adds the cost of every operation to the unit of work under way, and finds the events that it needs."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        # which events wrote what a storage holds; a weak reference keeps its address from being given to another
        self.writers: dict[StorageWeakRef, frozenset[int]] = {}

    def note(
        self, words: int, nbytes: int, read: set[StorageWeakRef], fresh: list[Tensor], changed: list[Tensor]
    ) -> None:
        recorder = self.recorder
        came = frozenset().union(*(self.writers.get(storage, ()) for storage in read))
        here = recorder.open or recorder.events.outside
        here = replace(here, words=here.words + words, nbytes=here.nbytes + nbytes)
        here = replace(here, launches=here.launches + bool(words))
        if recorder.open is None:
            recorder.events.outside, mark = here, came
        else:
            index = len(recorder.events)
            recorder.open = replace(here, needs=tuple(sorted({*here.needs, *came} - {index})))
            mark = frozenset({index}) if words else frozenset()
        for t in fresh:
            self.writers[_storage(t)] = mark
        for t in changed:
            self.writers[_storage(t)] = self.writers.get(_storage(t), frozenset()) | mark


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _changed(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors that an operation changes in place, by its schema."""
    if torch.Tag.inplace_view in func.tags:
        return []
    schema = enumerate(func._schema.arguments)
    written = [(k, a.name) for k, a in schema if a.alias_info is not None and a.alias_info.is_write]
    return _tensors([args[k] if k < len(args) else kwargs.get(name) for k, name in written])


def _does_work(func: Any) -> bool:
    """False for memory without values, and for a new shape of old memory. (Views have no fresh tensor: they share storage.)"""
    return "empty" not in func.__name__ and torch.Tag.inplace_view not in func.tags


def _distinct(tensors: list[Tensor]) -> tuple[int, int]:
    """Elements in memory, and their bytes: an expanded axis counts once, and so does a tensor that occurs twice."""
    words, nbytes = 0, 0
    for t in {(t.data_ptr(), t.shape, t.stride()): t for t in tensors if t.numel()}.values():
        there = math.prod(n for n, step in zip(t.shape, t.stride(), strict=True) if step)
        words, nbytes = words + there, nbytes + there * t.element_size()
    return words, nbytes

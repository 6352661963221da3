"""Another library's network, walked: its neurons become layers of ours, everything else stays.

Which neurons a library has, and their equations, is in its own file. Here is what all share: a copy of the network in which the
tensors are the same (or copies), and each module of neurons is replaced wherever it is mentioned.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfexplore.exchange.layers import Found, layer_of
from tfexplore.nn.wrappers import FoldTime

ANY_AXES = (nn.Linear, nn.Identity, nn.Dropout)
"""Modules that take `[T, B, features]` as they are."""
LISTS = (nn.ModuleList, nn.ModuleDict)
TORCHS = vars(nn.Module()).keys()
"""Attributes in which torch keeps what is registered."""
EACH_CALL = (
    "Neurons that it calls more than once begin each call from the initial state; they do not go on from the last."
)


@dataclass(frozen=True)
class Library:
    """What the walker must know of a library; classes go by name, so that nothing of it is imported.

    Args:
        package: its name, and that of its Python package.
        neurons: by class, what stands in for such a module.
        stepwise: whether a network with this module of neurons sees one time step at a time (or all, folded into the batch):
            its stateless modules then have no time axis to deal with, and are folded.
        containers: by class, whether their children see single steps; None, as what is around them does.
        stateless: by class, what stands in for modules without neurons that must not be folded; it takes `[T, B, ...]`.
        own_forward: what a user must change in a `forward` of his own.
        norm_per_step: a BatchNorm in training mode sees one time step at a time there.
        turns: by class, modules in a sequence from which on single steps are seen, or no longer.
        folds: classes of containers that fold time into the batch, and so normalise over all time steps themselves.
        kept: classes that are kept, although they are no modules of torch, since they have neither neurons nor a state.
    """

    package: str
    neurons: Mapping[str, Callable[[Any], Found]]
    stepwise: Callable[[nn.Module], bool]
    containers: Mapping[str, bool | None]
    stateless: Mapping[str, Callable[[Any], nn.Module]]
    own_forward: str
    norm_per_step: bool = True
    turns: Mapping[str, bool] = field(default_factory=dict)
    folds: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def of(self, module: nn.Module) -> str:
        """The class of the module by name, if it is one of this library, else ""."""
        cls = type(module)
        return cls.__name__ if cls.__module__.split(".")[0] == self.package else ""


@dataclass
class Conversion:
    """What was done: `print` it. It is the attribute `conversion` of a converted network.

    Args:
        package: the library that the network came from.
        shared: whether it has the tensors of the original, or copies.
        replaced: for each module of neurons its name, its class, and what stands in for it.
        notes: what a user must know.
    """

    package: str
    shared: bool
    replaced: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        count, weights = len(self.replaced), "shared" if self.shared else "copied"
        lines = [f"{self.package}: {count} module{'s' * (count != 1)} of neurons replaced, weights {weights}"]
        lines += [f"  {path or 'the network'}: {before} -> {after}" for path, before, after in self.replaced]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def converted(net: nn.Module, library: Library, share: bool) -> nn.Module:
    """A copy of the network with layers of ours in place of the library's neurons; the original stays as it was.

    Args:
        net: the user's network.
        library: that of its neurons.
        share: the copy has the parameters and buffers of the original themselves, so that training one trains the other.

    Raises:
        TypeError, ValueError: for what is no module, has no such neurons, or some that have no counterpart; by its name.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, but got {type(net).__name__}.")
    if not isinstance(share, bool):
        raise TypeError(f"share must be True or False, but got {share!r}.")
    walk = Walk(library, share, net)
    walk.check_attributes(net)
    if not walk.has_neurons(net):
        for path, module in net.named_modules():
            if library.of(module) not in {*library.containers, *library.stateless, *library.turns}:
                walk.check(module, path, library.of(module))
        raise ValueError(f"net has no neurons of {library.package}, so there is nothing to convert.")
    made = walk.module(net, "", walk.stepwise(net))
    setattr(made, "conversion", walk.conversion)  # noqa: B010  (mypy knows no such field)
    return made


def with_hooks(tensor: Tensor) -> Tensor:
    """A copy with the hooks on its gradient, with which Norse's recurrent weights stay 0 on the diagonal."""
    made = copy.deepcopy(tensor) if tensor.is_leaf else tensor.detach().clone()
    for hook in (tensor._backward_hooks or {}).values():
        made.register_hook(hook)
    return made


def attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module holds beside its registered tensors and modules, by name; lists and dictionaries are looked into."""
    waiting = [(name, value) for name, value in vars(module).items() if name not in TORCHS]
    seen: set[int] = set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, list | tuple | dict):
            if id(value) not in seen:
                seen.add(id(value))
                waiting += [(name, each) for each in (value.values() if isinstance(value, dict) else value)]
        else:
            yield name, value


class Walk:
    """One walk through one network. What stands in for a module is in `memo`, so that a copy finds it there."""

    def __init__(self, library: Library, share: bool, net: nn.Module) -> None:
        self.library, self.conversion = library, Conversion(library.package, share)
        self.memo: dict[int, Any] = {}
        for tensor in (*net.parameters(), *net.buffers()):
            self.memo[id(tensor)] = tensor if share else with_hooks(tensor)
        for module in net.modules():
            for _, value in attributes(module):  # a pruned weight, or a state that was kept: torch copies no history
                if isinstance(value, Tensor) and not value.is_leaf:
                    self.memo[id(value)] = value.detach().clone()

    def copied(self, original: Any) -> Any:
        """A copy in which what was replaced is replaced."""
        return copy.deepcopy(original, self.memo)

    def note(self, text: str) -> None:
        if text not in self.conversion.notes:
            self.conversion.notes.append(text)

    def has_neurons(self, module: nn.Module) -> bool:
        return any(self.library.of(each) in self.library.neurons for each in module.modules())

    def check_attributes(self, net: nn.Module) -> None:
        """Raises ValueError for neurons that torch does not know of, since they are in a plain list."""
        registered = {id(each) for each in net.modules()}
        for path, module in net.named_modules():
            for name, value in attributes(module):
                if isinstance(value, nn.Module) and id(value) not in registered and self.has_neurons(value):
                    raise ValueError(
                        f"{f'{path}.{name}' if path else name!r} holds neurons in a list or dictionary of Python's, which torch "
                        "does not look into; make it an nn.ModuleList or an nn.ModuleDict."
                    )

    def has_time(self, module: nn.Module) -> bool:
        """Whether what stands in for it takes all time steps, and so is not folded."""
        known = {*self.library.neurons, *self.library.stateless}
        return any(self.library.of(each) in known for each in module.modules())

    def stepwise(self, module: nn.Module) -> bool:
        """Whether these modules see single steps; containers that loop over time themselves are not looked into."""
        found: dict[bool, str] = {}
        waiting = [(type(module).__name__, module)]
        while waiting:
            name, each = waiting.pop()
            kind = self.library.of(each)
            if kind in self.library.neurons:
                found[self.library.stepwise(each)] = name
            elif self.library.containers.get(kind) is None:
                waiting += each.named_children()
        if len(found) == 2:
            raise ValueError(
                f"net mixes neurons that take single time steps ({found[True]!r}) and neurons that take all of them "
                f"({found[False]!r}); bring them to one form first."
            )
        return found.get(True) is not None

    def module(self, module: nn.Module, path: str, stepwise: bool) -> nn.Module:
        """What stands in for this module."""
        if id(module) not in self.memo:
            self.memo[id(module)] = self._new(module, path, stepwise)
        made: nn.Module = self.memo[id(module)]
        return made

    def _new(self, module: nn.Module, path: str, stepwise: bool) -> nn.Module:
        library, kind = self.library, self.library.of(module)
        if kind in library.neurons:
            return self._neurons(module, path, kind)
        if kind in library.containers:
            inside = library.containers[kind]
            return self._sequence(module, path, stepwise if inside is None else inside)
        if kind in library.stateless:
            return library.stateless[kind](module).train(module.training)
        self.check(module, path, kind)
        if type(module).forward is nn.Sequential.forward and self.has_time(module):
            return self._sequence(module, path, stepwise)
        for name, child in module.named_children():
            self.module(child, f"{path}.{name}" if path else name, stepwise)
        if self.has_time(module) and not isinstance(module, LISTS):
            self.note(f"{path or 'the network'} ({type(module).__name__}) {library.own_forward} {EACH_CALL}")
        made: nn.Module = self.copied(module)
        return made

    def _neurons(self, module: nn.Module, path: str, kind: str) -> nn.Module:
        try:
            given = self.library.neurons[kind](module)
        except ValueError as error:
            raise ValueError(f"{path or 'net'!r}, a {kind} of {self.library.package}: {error}") from error
        for note in given.notes:
            self.note(f"{path or 'the network'}: {note}")
        self.conversion.replaced.append((path, kind, repr(given.neuron)))
        self._lost(module, path)
        return layer_of(given, module, self.copied)

    def check(self, module: nn.Module, path: str, kind: str) -> None:
        """Raises ValueError for a module of the library, or one made from its, that is not known here."""
        if kind in self.library.kept:
            return
        ancestors = type(module).__mro__
        ours = [cls for cls in ancestors if cls.__module__.split(".")[0] == self.library.package]
        torchs = [cls for cls in ancestors if cls.__module__.startswith("torch.nn.modules.") and cls is not nn.Module]
        if ours and (not torchs or ours[0].__name__ in self.library.neurons or nn.Sequential in torchs):
            what = f"a {kind} of" if kind else f"a {type(module).__name__}, made from {ours[0].__name__} of"
            raise ValueError(
                f"{path or 'net'!r} is {what} {self.library.package}, which has no counterpart here; known are "
                f"{', '.join(self.library.neurons)}. Write its equations as a neuron and put a Layer in its place."
            )

    def _sequence(self, module: nn.Module, path: str, stepwise: bool) -> nn.Module:
        """The children one after the other; those without time, in a row, as one `FoldTime`."""
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        row: OrderedDict[str, nn.Module] = OrderedDict()

        def close() -> None:
            if row:
                alone = len(row) == 1 and isinstance(next(iter(row.values())), ANY_AXES)
                folded = next(iter(row.values())) if alone else FoldTime(OrderedDict(row))  # type: ignore[arg-type]
                folded.training = module.training
                parts[next(iter(row))] = folded
                row.clear()

        for name, child in module._modules.items():  # named_children would leave out one that comes again
            assert child is not None
            child_path = f"{path}.{name}" if path else name
            if id(child) in self.memo and self.has_neurons(child):
                raise ValueError(
                    f"{child_path!r} comes a second time in this sequence; each place needs neurons of its own."
                )
            if (kind := self.library.of(child)) in self.library.turns:
                stepwise = self.library.turns[kind]
                continue
            made = self.module(child, child_path, stepwise)
            if stepwise and not self.has_time(child):
                if self.library.of(module) not in self.library.folds:
                    self._norms(child, child_path)
                row[name] = made
            else:
                close()
                parts[name] = made
        close()
        self._lost(module, path)
        made_of = nn.Sequential(parts)
        made_of.training = module.training
        return made_of

    def _lost(self, module: nn.Module, path: str) -> None:
        """Notes what a module that another stands in for had beside its children."""
        if module._forward_hooks or module._forward_pre_hooks:
            self.note(
                f"{path or 'the network'}: its forward hooks are left out; tfexplore.record(net, 's') has the spikes."
            )
        if type(module).forward is nn.Sequential.forward and type(module) is not nn.Sequential:
            self.note(
                f"{path or 'the network'}: is an nn.Sequential now, without the methods and attributes of "
                f"{type(module).__name__}."
            )
        if getattr(module, "return_hidden", False):
            self.note(
                f"{path or 'the network'}: returns its output alone, without hidden states, which return_hidden asked for."
            )

    def _norms(self, child: nn.Module, path: str) -> None:
        if self.library.norm_per_step and any(isinstance(each, _BatchNorm) for each in child.modules()):
            self.note(
                f"{path}: in training mode BatchNorm takes its statistics over all time steps here, over one there; in eval "
                "mode they are the same."
            )

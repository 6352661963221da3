"""The memory of a piece of work, counted: the bytes that its tensors hold at once, at most, and those that autograd saves.

Counted are the storages of all tensors that operators make, from the operator that makes one until the last that holds it is
gone: the same in every run, whatever an allocator keeps for later, and also the memory that a CPU kernel's output has from NumPy,
of which PyTorch's allocator knows nothing. What an operator needs only within itself is not seen, nor is what was there before.
On a GPU, PyTorch's allocator counts all of that, so its peak is taken.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(NamedTuple):
    """Bytes in use at once, at most, above those before.

    held: by all tensors.   saved: by tensors that autograd saves for backward (those of `torch.utils.checkpoint` it does not
    see).
    """

    held: int
    saved: int


def peak(work: Callable[[], object], before: Iterable[Tensor] = ()) -> Peak:
    """Runs `work` and counts the bytes in use within it.

    Args:
        work: called without arguments; what it returns is part of it.
        before: tensors that are there anyway, such as parameters and input; the first says which device is looked at.

    Example:
        >>> x = torch.ones(1000, requires_grad=True)
        >>> peak(lambda: (x * 2).exp().sum().backward(), [x])        # the output of exp, and its gradient
        Peak(held=8008, saved=4000)
    """
    there = list(before)
    device = there[0].device if there else torch.device("cpu")
    count = _Count(there)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        begin = torch.cuda.memory_allocated(device)
    with count, saved_tensors_hooks(count.pack, lambda saved: saved.tensor):
        _made = work()  # alive until here
    if device.type != "cuda":
        return Peak(count.most["held"], count.most["saved"])
    torch.cuda.synchronize(device)
    return Peak(torch.cuda.max_memory_allocated(device) - begin, count.most["saved"])


class _Saved:
    """A tensor saved for backward; it lives as long as autograd needs it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class _Count(TorchDispatchMode):
    """The bytes of living storages, `held` and `saved`, and the most of each so far."""

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self.now: Counter[str] = Counter(held=0, saved=0)
        self.most: Counter[str] = Counter(held=0, saved=0)
        self.alive: dict[int, tuple[weakref.ref[Any], int]] = {}
        self.packs: Counter[int] = Counter()  # of each storage, how many saved tensors hold it
        for tensor in before:
            self.see(tensor, size=0)

    def see(self, tensor: Tensor, size: int | None = None) -> int:
        """The key of its storage, which counts from now on until it is gone."""
        storage = tensor.untyped_storage()
        key: int = storage._cdata
        if key not in self.alive:
            size = storage.nbytes() if size is None else size
            self.alive[key] = weakref.ref(storage, lambda _: self.add("held", -self.alive.pop(key)[1])), size
            self.add("held", size)
        return key

    def add(self, what: str, size: int) -> None:
        self.now[what] += size
        self.most[what] = max(self.most[what], self.now[what])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        old = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for made in tree_leaves(out):
            if isinstance(made, Tensor) and made.untyped_storage()._cdata not in old:
                self.see(made)
        return out

    def pack(self, tensor: Tensor) -> _Saved:
        key = self.see(tensor)  # also memory that no operator made, such as bits packed by NumPy
        saved = _Saved(tensor.detach())  # an output with its grad_fn would keep itself alive forever
        size = self.alive[key][1]
        if self.packs[key] == 0:
            self.add("saved", size)
        self.packs[key] += 1
        weakref.finalize(saved, self.unpacked, key, size).atexit = False
        return saved

    def unpacked(self, key: int, size: int) -> None:
        self.packs[key] -= 1
        if self.packs[key] == 0:
            self.add("saved", -size)

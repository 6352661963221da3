"""What must be at each replay of a captured step as it was when it was captured, and is refused where it is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tfexplore.nn.tape import Outside


def described(inputs: Sequence[Tensor]) -> str:
    """
    >>> described([torch.zeros(10, 2), torch.arange(2)])
    'float32 [10, 2], int64 [2]'
    """
    return ", ".join(f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}" for x in inputs)


def same_tensors(before: Sequence[Outside], now: Sequence[Outside]) -> None:
    """What the step reads besides its arguments must not be another tensor at each call: a replay reads the old one."""
    for old, (tensor, line, own, _) in itertools.zip_longest(before[: len(now)], now):
        if not own and (old is None or tensor is not old.tensor):
            raise RuntimeError(
                f"step cannot be captured: in {line} it reads a tensor, {described([tensor])}, that is another one at each "
                "call; pass it as an argument, or change it in place (`carry` belongs into the step)."
            )


def numbers_stay(optimiser: torch.optim.Optimizer) -> Callable[[], None]:
    """Raises if a number of the optimiser, which is a constant of the program, is another one than now."""
    groups, state, kind = optimiser.param_groups, optimiser.state, type(optimiser).__name__
    kept = [{k: v for k, v in g.items() if isinstance(v, (int, float, tuple))} for g in groups]

    def check() -> None:
        if optimiser.param_groups is not groups or optimiser.state is not state or len(groups) != len(kept):
            raise RuntimeError(
                f"{kind} has other parameter groups or another state than when the step was captured (load_state_dict, "
                "add_param_group); call forget() on the captured step."
            )
        for group, numbers in zip(groups, kept, strict=True):
            for name, value in numbers.items():
                if group[name] != value:
                    device = str(group["params"][0].device)
                    raise RuntimeError(
                        f"{kind}'s {name} was {value} when the step was captured, as a constant, and is {group[name]} now; "
                        f"a scheduler needs a tensor, {kind}(..., {name}=torch.tensor({value}, device={device!r}), fused=True), "
                        "or call forget() on the captured step."
                    )

    return check


def place_stays(outside: Outside) -> Callable[[], None]:
    """Raises if a tensor that the step reads has other memory than when it was captured, or is trained no more, or only now."""
    tensor, trained = outside.tensor, outside.tensor.requires_grad

    def check() -> None:
        if outside.moved or tensor.requires_grad != trained:
            what = (
                f"requires_grad={trained}"
                if tensor.requires_grad != trained
                else "other memory (`p.data = ...`, `net.to(...)`)"
            )
            raise RuntimeError(
                f"a tensor, {described([tensor])}, that the captured step reads in {outside.line}, had {what} when it was "
                "captured; call forget() on the captured step."
            )

    return check


def gradient_stays(leaf: Tensor, gradient: Tensor | None) -> Callable[[], None]:
    """Raises if a gradient that the step adds to is another tensor than when the step was captured, or is now None."""

    def check() -> None:
        if leaf.grad is not gradient:
            was, now = ("None" if g is None else "a tensor" for g in (gradient, leaf.grad))
            raise RuntimeError(
                f"a gradient was {was} before the step that was captured, and is {now if was != now else 'another'} before this "
                "one: call zero_grad() within the step, or zero_grad(set_to_none=False)."
            )

    return check

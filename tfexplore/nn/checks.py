"""What modules, losses and readouts accept: one clear error at the call, which names the argument."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from tfexplore.machine.torch_private import is_recorded

State: TypeAlias = tuple[Tensor, ...]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_input(x: Any, name: str = "x") -> None:
    """Raises TypeError or ValueError unless x is a dense tensor `[T, B, *features]` of an allowed dtype."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor [T, B, *features], but got {type(x).__name__}.")
    if x.dtype not in DTYPES:
        allowed = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
        came = str(x.dtype).removeprefix("torch.")
        raise TypeError(f"{name} must be one of {allowed}, but got {came}; convert it with {name}.float().")
    if x.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, but got layout {x.layout}; convert it with {name}.to_dense().")
    if x.ndim < 2:
        raise ValueError(f"{name} must be [T, B, *features], with time first, but got shape {tuple(x.shape)}.")


def check_state(state: State, names: tuple[str, ...], x: Tensor, dtype: torch.dtype) -> None:
    """Raises ValueError unless each state has x's shape without time, x's device, and this dtype."""
    for name, z in zip(names, state, strict=True):
        if z.shape != x.shape[1:]:
            raise ValueError(
                f"state {name!r} must have x's shape without time, {tuple(x.shape[1:])}, but got {tuple(z.shape)}; "
                "begin anew with state=None (or a new carry) when the batch changes."
            )
        if z.dtype != dtype or z.device != x.device:
            raise ValueError(f"state {name!r} must be {dtype} on {x.device}, but got {z.dtype} on {z.device}.")


def check_integers(name: str, tensor: Tensor, batch: int) -> None:
    """Raises TypeError or ValueError unless this is a tensor of integers, one for each sample."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor of integers, but got {type(tensor).__name__}.")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, but got {str(tensor.dtype).removeprefix('torch.')}.")
    if tensor.shape != (batch,):
        raise ValueError(
            f"{name} must be [B], one for each of the {batch} samples, but got shape {tuple(tensor.shape)}."
        )


def checked_lengths(lengths: Tensor | None, x: Tensor, least: int = 0) -> Tensor | None:
    """The lengths, int64 on x's device; raises TypeError or ValueError unless there is one for each sample, from `least` to T."""
    if lengths is None:
        return None
    check_integers("lengths", lengths, x.shape[1])
    if not is_recorded() and bool(((lengths < least) | (lengths > len(x))).any()):
        raise ValueError(f"lengths must be from {least} to T = {len(x)}, but got {lengths.tolist()}.")
    return lengths.to(x.device, torch.int64)

"""`warm`: the kernels that a network needs, compiled before the training that would wait for them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tfexplore.backends.compiling import Compiled, compiled
from tfexplore.machine.stopwatch import seconds

HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Warmed:
    """One pass of a network, run ahead.

    Args:
        passes: "training" (forward and backward) or "evaluation" (without gradient).
        kernels: what was compiled for it; none where all were on the disk already.
        seconds: of the pass, compiling included.
    """

    passes: str
    kernels: tuple[Compiled, ...]
    seconds: float

    def __str__(self) -> str:
        """
        >>> print(Warmed("training", (Compiled("forward", 1.0), Compiled("backward", 2.5)), 3.6))
        training: 2 kernels compiled (forward 1.0 s, backward 2.5 s), 3.6 s
        """
        names = ", ".join(f"{kernel.name} {kernel.seconds:.1f} s" for kernel in self.kernels)
        count = f"{len(self.kernels)} kernel{'s' * (len(self.kernels) != 1)} compiled"
        return f"{self.passes}: {count}{f' ({names})' if names else ''}, {self.seconds:.1f} s"


def warm(net: nn.Module, x: Tensor) -> list[Warmed]:
    """Compiles what a network needs for inputs like x, forward and backward, in training and in evaluation.

    A copy of the network is run once in each mode, so that parameters, gradients, running statistics and the random numbers that
    come next stay as they are. Kernels stay on the disk for later processes; numbers such as tau, and other shapes, compile
    nothing more. For bfloat16 or float16 the network runs under autocast, as it is usually trained.

    Args:
        net: any module.
        x: its input `[T, B, *features]`, with the dtype, the device and the shape of the data; its values do not matter.

    Returns:
        What was compiled for each pass, and how long that took.

    Example:
        >>> import torch, tfexplore
        >>> from tfexplore.nn import warm
        >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), tfexplore.LIF(), torch.nn.Linear(5, 2))
        >>> [done.passes for done in warm(net, torch.zeros(10, 8, 6))]
        ['training', 'evaluation']
        >>> warm(net, torch.zeros(10, 8, 6))[0].kernels
        ()
    """
    return list(warming(net, x))


def warming(net: nn.Module, x: Tensor) -> Iterator[Warmed]:
    """As `warm`, one pass after the other."""
    mixed = torch.autocast(x.device.type, x.dtype) if x.dtype in HALF else nullcontext()
    with torch.inference_mode(False):  # whose tensors no backward pass may have, should it be on around this call
        mine, x = copy.deepcopy(net), x.detach().clone()

    def train() -> None:
        with mixed, torch.inference_mode(False), torch.enable_grad():
            made = tree_leaves(mine.train()(x))
        outs = [out for out in made if isinstance(out, Tensor) and out.requires_grad]
        if outs:
            torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])

    def evaluate() -> None:
        with mixed, torch.no_grad():
            mine.eval()(x)

    for name, work in {"training": train, "evaluation": evaluate}.items():
        with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), compiled() as kernels:
            taken = seconds(work, x.device)
        yield Warmed(name, tuple(kernels), taken)

"""The roofline's points: what a pass computes and moves per element-step, how it is run and checked; and the roofs above."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import sympy
import torch
from torch import Tensor

from tfexplore.codegen.functions import functions_of
from tfexplore.codegen.traffic import nbytes, traffic_of
from tfexplore.codegen.variant import Variant
from tfexplore.explore.roofline.alone import alone
from tfexplore.measure.timeline import what_ran
from tfexplore.neurons.library import BY_NAME as NEURONS
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import step_of
from tfexplore.nn.layers import Layer

NOTHING = "nothing"
CHARGE = ("charge", "fire", "spike", "reset")  # the generated functions of one forward step


def operations(neuron: Neuron, keep: str = "nothing") -> int:
    """Arithmetic operations per element-step, counted by SymPy in the expressions that the kernels are generated from.

    keep: "nothing" (forward alone), or "potential" or "input" (forward and backward; "input" goes forward again).
    Every + - * /, comparison and function is one operation, though a division takes a machine longer than a sum.

    >>> from tfexplore.neurons.library import IF
    >>> operations(IF())                # h = v + x;  u = h - threshold;  s = step(u);  v = h - s * threshold
    5
    """
    counts = {
        function.name: sum(int(sympy.count_ops(value)) for _, value in function.body)
        for function in functions_of(Variant(step_of(neuron), keep=keep))
    }
    once = sum(counts[name] for name in (CHARGE if neuron.spiking else ("charge", "reset")))
    return once * (2 if keep == "input" else 1) + counts.get("adjoint", 0)


@dataclass(frozen=True)
class Point:
    """A neuron's pass, what it computes and moves per element-step (`counted`), and (`seconds`) how long it took.

    keep: "nothing" is a forward pass without a gradient, the others are a forward and a backward pass.
    name: of the neuron, unique among those measured.
    layer: the whole layer, which allocates its result, and not the kernel alone.
    """

    neuron: Neuron
    name: str
    keep: str
    backend: str
    layer: bool = False
    flops: float = float("nan")
    bytes: float = float("nan")
    element_steps: int = 0
    seconds: float = float("nan")

    @property
    def passes(self) -> str:
        return "forward pass" if self.keep == NOTHING else "forward and backward pass"

    @property
    def label(self) -> str:
        passes = "forward" if self.keep == NOTHING else f"forward + backward, keep={self.keep}"
        what = ", eager" if self.backend == "torch" else ", the whole layer" if self.layer else ""
        return f"{self.name} {passes}{what}"

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes

    @property
    def flops_per_second(self) -> float:
        return self.flops * self.element_steps / self.seconds

    @property
    def bytes_per_second(self) -> float:
        return self.bytes * self.element_steps / self.seconds


@dataclass
class Roofs:
    """This machine's roofs, in bytes and operations per second, and the points measured below them; none before a run.

    Args:
        machine: where it was measured.
        backend: of the fused kernels.
        dtype: of x, of the spikes and of the state.
        steps: time steps `T`.
        neurons: in one layer.
        bandwidth: of a large copy between tensors that are there.
        fresh: of a copy that allocates its result, as torch's operators do.
        peak: of the fastest of some matrix products.
        kernels: the points, each with its `seconds`.
    """

    machine: str
    backend: str
    dtype: str
    steps: int
    neurons: int
    bandwidth: float = float("nan")
    fresh: float = float("nan")
    peak: float = float("nan")
    kernels: list[Point] = field(default_factory=list)

    def share(self, kernel: Point) -> float:
        """The part of the copy bandwidth that a kernel reaches."""
        return kernel.bytes_per_second / self.bandwidth

    def sentence(self) -> str:
        """How near the first fused kernel comes to the memory's roof."""
        fused = [kernel for kernel in self.kernels if kernel.backend != "torch"]
        if not self.kernels:
            return (
                f"Press Start: this machine's memory, and {self.steps} time steps of {self.neurons:,} neurons in {self.dtype}, "
                "are measured in turn."
            )
        if not fused:
            return f"This machine copies {self.bandwidth / 1e9:.1f} GB/s; no fused backend runs here ({self.machine})."
        first = fused[0]
        return (
            f"The fused {first.passes} of {first.name} reaches {self.share(first):.0%} of this machine's copy bandwidth: "
            f"{first.bytes_per_second / 1e9:.1f} of {self.bandwidth / 1e9:.1f} GB/s ({self.machine})."
        )


def eager_bytes(neuron: Neuron, dtype: str) -> float:
    """Bytes per element-step of the eager loop's forward pass, counted while it runs (see `timeline`)."""
    x = torch.zeros(8, 1, 4096, dtype=getattr(torch, dtype))
    layer = Layer(neuron, backend="torch")
    with torch.no_grad(), what_ran(layer) as events:
        layer(x)
    return events.nbytes / x.numel()


def planned(given: Sequence[Neuron], backend: str) -> list[Point]:
    """What is measured: each neuron forward alone and with keep="input"; the first also with "potential", as a layer, eager."""
    kinds, first = [type(neuron).__name__ for neuron in given], given[0]
    names = {n: kind if kinds.count(kind) == 1 else repr(n) for n, kind in zip(given, kinds, strict=True)}
    eager = Point(first, names[first], NOTHING, "torch", layer=True)
    if backend == "torch":
        return [eager]
    keeps = [(n, keep) for k, n in enumerate(given) for keep in (NOTHING, "input", "potential")[: 3 if k == 0 else 2]]
    alone = [Point(n, names[n], keep, backend) for n, keep in keeps]
    return [*alone, replace(eager, backend=backend), eager]


def counted(point: Point, dtype: str, element_steps: int) -> Point:
    """The point with what its pass computes and moves."""
    neuron, keep = point.neuron, point.keep
    if point.backend == "torch":
        moves = eager_bytes(neuron, dtype)
    else:
        moved = traffic_of(neuron, keep) if keep != NOTHING else traffic_of(neuron, gradient=False)
        moves = float(nbytes(moved, dtype))
    return replace(point, flops=operations(neuron, keep), bytes=moves, element_steps=element_steps)


def run_of(kernel: Point, x: Tensor, gradient: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """One pass over x [T, N]: returns the spikes, and the gradient of x where there is a backward pass."""
    if not kernel.layer:
        return alone(kernel.neuron, kernel.keep, kernel.backend, x, gradient)
    layer = Layer(kernel.neuron, backend=kernel.backend)

    def run() -> tuple[Tensor, ...]:
        if kernel.keep == NOTHING:
            with torch.no_grad():
                return (layer(x),)
        given = x.detach().requires_grad_()
        out = layer(given)
        return out.detach(), *torch.autograd.grad(out, given, gradient)

    return run


def check(kernel: Point, dtype: torch.dtype, device: str) -> None:
    """Correct before fast: a small pass must agree with the eager loop. Raises RuntimeError, naming the kernel."""
    make = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(40, 300, generator=make).to(device, dtype) for _ in range(2))
    reference = run_of(replace(kernel, backend="torch", layer=True), x, gradient)()
    for what, a, b in zip(("result", "gradient"), run_of(kernel, x, gradient)(), reference, strict=False):
        # a function such as exp may round differently, and so flip one spike in many
        wrong = float(((a - b).abs() > 1e-4 * b.abs().max()).float().mean())
        if not wrong <= 1e-3:
            raise RuntimeError(
                f"{kernel.label}: {wrong:.1%} of its {what} are not the eager loop's, so it is not timed."
            )


def named(neuron: Neuron | str) -> Neuron:
    """A neuron of yours, or the library's of this name."""
    if isinstance(neuron, Neuron):
        return neuron
    if neuron not in NEURONS:
        known = ", ".join(NEURONS)
        raise ValueError(f"which must name neurons of {known}, or be values like LIF(tau=3.0), but got {neuron!r}.")
    return NEURONS[neuron]()

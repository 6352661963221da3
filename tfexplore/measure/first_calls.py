"""What the first calls of a fused layer cost in this process, and how many kernels they compile.

As a program, `python -m tfexplore.measure.first_calls`, it answers requests (see `server_process`); its client gives it a cache
of its own.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
from pathlib import Path
from typing import Any

import torch

from tfexplore.machine.paths import cache_dir
from tfexplore.measure import clock
from tfexplore.neurons.library import BY_NAME as NEURONS
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import parameters_of
from tfexplore.nn.layers import Layer

SIZE, OTHER_SIZE = (32, 1000), (24, 1200)  # small: a call is hardly more than its overhead, and torch starts no threads


def changed(neuron: Neuron) -> tuple[str, Neuron]:
    """The name of the neuron's first parameter that admits another value, and the neuron with that value.

    Example:
        >>> from tfexplore import neurons
        >>> changed(neurons.LIF(tau=2.0))[0]
        'tau'
    """
    for name in parameters_of(type(neuron)):
        try:
            other = dataclasses.replace(neuron, **{name: 1.1 * getattr(neuron, name)})
        except ValueError:
            continue
        if other != neuron:
            return name, other
    raise ValueError(f"{type(neuron).__name__} has no parameter that could change.")


def compiled() -> int:
    """The number of compiled functions in this process's caches: Numba's data files, CuPy's cubins."""
    folders = {cache_dir(), Path(os.environ.get("CUPY_CACHE_DIR", cache_dir()))}
    return len({path for folder in folders for kind in ("*.nbc", "*.cubin") for path in folder.rglob(kind)})


def call(
    neuron: str, case: str = "same", dtype: str = "float32", device: str = "cpu", count: int = 1
) -> dict[str, Any]:
    """Seconds (the median of `count` calls) of one forward and backward pass, and how many kernels were compiled for it.

    Args:
        neuron: the class in `neurons.ALL`, by name.
        case: "same", "number" (another value of a parameter), "size" (other T and N), or "nothing", which only warms up torch.
        dtype: of the input.
        device: where the layer runs.
        count: calls, of which the median counts.
    """
    cell = NEURONS[neuron]()
    if case == "number":
        cell = changed(cell)[1]
    steps, size = OTHER_SIZE if case == "size" else SIZE
    x = torch.rand(steps, 1, size, dtype=getattr(torch, dtype), device=device, requires_grad=True)
    if case == "nothing":
        seconds = clock.seconds((2 * x).sum().backward, device)  # torch's own first backward pass costs something too
        return {"seconds": seconds, "compiled": 0}
    layer, before = Layer(cell), compiled()
    taken = [clock.seconds(lambda: layer(x).sum().backward(), device) for _ in range(count)]
    return {"seconds": statistics.median(taken), "compiled": compiled() - before}


if __name__ == "__main__":
    import numba  # noqa: F401  (importing it takes time that is not spent on compiling)

    from tfexplore.measure.server_process import serve

    serve(lambda request: call(**request))

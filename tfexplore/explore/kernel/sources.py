"""A neuron's code side by side: the equations, what is generated from them for CUDA and for Numba, and the loops around it."""

from __future__ import annotations

from tfexplore.codegen.cuda_source import cuda_functions
from tfexplore.codegen.latex import latex_of
from tfexplore.codegen.numba_source import numba_functions
from tfexplore.codegen.variant import Variant
from tfexplore.explore.kernel.panels import code_panel
from tfexplore.explore.kernel.stepping import check
from tfexplore.machine.paths import kernels_dir
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import step_of


class Sources:
    """The code of one neuron's kernel, shown side by side by a notebook, and as text in its attributes.

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`, or of a class of your own.
        kernel: "forward" or "backward".
        keep: what is saved for backward: "potential", "input", or for the forward kernel "nothing".

    Attributes:
        latex: the equations.
        cuda: what is generated from them for a GPU.
        numba: what is generated from them for a CPU.
        cuda_loop: the hand-written loop around it, `kernels/forward.cu` or `kernels/backward.cu`.
        numba_loop: its twin in Python.

    Raises:
        TypeError: if neuron is no neuron.
        ValueError: if kernel or keep is none of those allowed.

    Example:
        >>> from tfexplore import explore, neurons
        >>> code = explore.sources(neurons.LIF())
        >>> code
        Sources(LIF(tau=2.0, v_threshold=1.0, v_reset=0.0, decay_input=False), kernel='forward', keep='input')
        >>> print(code.numba.split("def ")[1].strip())
        charge(z, x, p):
            v = z[0]
            tau = p[0]
            v_reset = p[2]
            h_v = v + x - (v - v_reset)/tau
            return (h_v,)
    """

    def __init__(self, neuron: Neuron, kernel: str = "forward", keep: str = "input") -> None:
        check(neuron, kernel, keep, 1, 1)
        self.neuron, self.kernel, self.keep = neuron, kernel, keep
        variant = Variant(step_of(neuron), keep=keep)
        cuda, numba = cuda_functions(variant), numba_functions(variant)
        last = "output" if kernel == "forward" else "adjoint"
        shown = [name for name in ("charge", "fire", "spike", "reset", last) if name in numba]
        self.latex = latex_of(neuron)
        self.cuda = "\n".join(cuda[name] for name in ("derive", *shown))
        self.numba = "\n\n".join(numba[name] for name in shown) + "\n"
        self.cuda_loop, self.numba_loop = (
            (kernels_dir() / f"{kernel}.{ending}").read_text(encoding="utf-8") for ending in ("cu", "py")
        )

    def __repr__(self) -> str:
        return f"Sources({self.neuron!r}, kernel={self.kernel!r}, keep={self.keep!r})"

    def _repr_html_(self) -> str:
        math = self.latex.strip("$")
        loop = self.kernel
        at_cuda, cuda = from_line(self.cuda_loop, 'extern "C"')
        at_numba, numba = from_line(self.numba_loop, "@njit")
        rows = (
            (
                code_panel("CUDA: neuron.cuh (its equations)", self.cuda, "cuda", 260),
                code_panel("Numba: generated_neuron.py (its equations)", self.numba, "python", 260),
            ),
            (
                code_panel(f"CUDA: kernels/{loop}.cu, from line {at_cuda}", cuda, "cuda", 430),
                code_panel(f"Numba: kernels/{loop}.py, from line {at_numba}", numba, "python", 430),
            ),
        )
        heads = ("generated from the equations", "hand-written, the same for every neuron")
        body = "".join(
            f'<div style="margin-top:8px"><i>{head}</i>'
            f'<div style="display:flex;flex-wrap:wrap;gap:8px 12px">{"".join(row)}</div></div>'
            for head, row in zip(heads, rows, strict=True)
        )
        return f'<div><div class="math notranslate nohighlight">\\[{math}\\]</div>{body}</div>'


def from_line(source: str, start: str) -> tuple[int, str]:
    """The source without what stands above the line with this start, and the number of that line."""
    lines = source.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith(start))
    return first + 1, "\n".join(lines[first:])

"""Writes tfexplore/nn/library.pyi: signature and docstring of each layer, for what reads a file without running it.

    python tools/layer_stubs.py

The layers put theirs together when they are defined (tfexplore/nn/library.py); mypy and editors need them in a file.
"""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

from tfexplore import nn
from tfexplore.nn import library

STUB = Path(library.__file__).with_suffix(".pyi")
HEAD = '''"""Signatures and docstrings of the layers in library.py; written by tools/layer_stubs.py."""

from typing import ClassVar

from torch import Tensor
from torch.distributions import Distribution

from tfexplore import neurons
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.surrogates import ATan, Rectangle, Surrogate
from tfexplore.nn.layers import Layer

class NeuronLayer(Layer):
    """A layer that makes its own neuron: it takes the neuron's parameters and the options of `Layer` together."""

    kind: ClassVar[type[Neuron]]
    options: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, kind: type[Neuron]) -> None: ...
    def __init__(self, **given: object) -> None: ...
'''


def stub() -> str:
    """The text of the stub, as `ruff format` leaves it."""
    return "\n".join([HEAD, *map(class_stub, library.NeuronLayer.__subclasses__())])


def class_stub(layer: type[library.NeuronLayer]) -> str:
    documented = textwrap.indent(inspect.getdoc(layer) or "", "    ", lambda line: bool(line.strip())).strip()
    arguments = "".join(
        f"        {argument(parameter)},\n" for parameter in inspect.signature(layer).parameters.values()
    )
    return (
        f'class {layer.__name__}(NeuronLayer, kind=neurons.{layer.kind.__name__}):\n    """{documented}\n    """\n\n'
        f"    def __init__(\n        self,\n        *,\n{arguments}    ) -> None: ...\n"
    )


def argument(parameter: inspect.Parameter) -> str:
    kind = parameter.annotation if isinstance(parameter.annotation, str) else parameter.annotation.__name__
    # a number's annotation names its bounds, one name may stand alone in learn
    kind = {"learn": "str | tuple[str, ...]"}.get(
        parameter.name, "float | Tensor | Distribution" if isinstance(parameter.default, float) else kind
    )
    default = repr(parameter.default).replace("'", '"')
    return f"{parameter.name}: {kind} = {default}"


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
    print(f"wrote {STUB.relative_to(Path.cwd())}: {len(nn.NeuronLayer.__subclasses__())} layers")

"""What the reference takes from the package itself: a neuron's equations, a surrogate's formula and plot, lists of what there is.

A Sphinx extension. Nothing of this is typed in: a new neuron, surrogate, explorer or puzzle stands in the reference as
soon as the package lists it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Annotated, Any, get_origin

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import signature, stringify_signature

from tfexplore import Layer, neurons
from tfexplore.neurons import Neuron, Surrogate


def equations(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Below the docstring of a neuron, of its layer, or of a surrogate: its equations, as a notebook shows them."""
    if not inspect.isclass(obj) or not issubclass(obj, Neuron | Layer | Surrogate) or obj in (Neuron, Layer, Surrogate):
        return
    shown = getattr(neurons, obj.__name__, None) if issubclass(obj, Layer) else obj
    if shown is None or (issubclass(shown, Neuron) and shown.charge is Neuron.charge):  # a base of neurons
        return
    value = shown()
    lines += ["", ".. math::", "", f"   {value._repr_latex_().strip('$')}", ""]
    if isinstance(value, Surrogate):
        lines += [".. raw:: html", "", f"   {plot(value)}", ""]


SENTENCES: dict[str, list[str]] = {}


def sentence(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Before and after napoleon: a property's docstring stays as it is.

    Napoleon would take what stands before its first colon for a type.
    """
    if what in ("attribute", "data", "property"):
        lines[:] = SENTENCES.pop(name, None) or SENTENCES.setdefault(name, list(lines))


def where_it_stands(app: Sphinx, module: str, name: str) -> str | None:
    """For viewcode: a constant's source is in the module that names it, not in `builtins`, of which its type is."""
    with suppress(ImportError, AttributeError):
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
        return module if getattr(found, "__module__", "builtins") == "builtins" else None
    return None


def plot(surrogate: Surrogate) -> str:
    """The derivative (line) and its primitive (dashed) over u, as SVG in the colours of the page."""
    width, height, span = 420, 130, 1.5
    us = [span * (k - 60) / 60 for k in range(121)]

    def line(values: list[float]) -> str:
        return " ".join(
            f"{(u + span) / (2 * span) * width:.1f},{height - 20 - v / top * (height - 30):.1f}"
            for u, v in zip(us, values, strict=True)
        )

    slopes, steps = ([float(method(u)) for u in us] for method in (surrogate.derivative, surrogate.primitive))
    top = max(1.0, *slopes)
    marks = "".join(
        f'<text x="{(u + span) / (2 * span) * width:.0f}" y="{height - 4}">{u:g}</text>' for u in (-1, -0.5, 0, 0.5, 1)
    )
    words = f"The surrogate {surrogate!r} over u from {-span} to {span}: at most {max(slopes):.3g}, at u = 0"
    return (
        f'<svg class="surrogate" viewBox="0 0 {width} {height}" role="img" aria-label="{words}">'
        f'<path class="axis" d="M0 {height - 20}H{width}M{width / 2} 8V{height - 20}"/>{marks}'
        f'<polyline class="step" points="{line(steps)}"/><polyline class="slope" points="{line(slopes)}"/></svg>'
    )


RESULT = re.compile(r"`(tfexplore\.explore\.\w+\.\w+\.[A-Z]\w+)`")
"""A class of results in the docstring of an explorer."""


def explorers() -> Iterator[str]:
    """Every explorer under the name by which it is made, and its result."""
    from tfexplore import explore

    for name in explore.__all__:
        made = getattr(explore, name)
        text = str(GoogleDocstring(inspect.getdoc(made) or "", what="function", obj=made))
        arguments = stringify_signature(signature(made), show_return_annotation=not inspect.isclass(made))
        yield from (f".. py:function:: {name}{arguments}", "")
        yield from (f"   {line}" for line in RESULT.sub(r":py:class:`~\1`", text).splitlines())
        yield ""
        for result in RESULT.findall(text):
            # without its arguments: nobody makes one
            yield from (f".. autoclass:: {result}()", "   :members:", "")


def puzzles() -> Iterator[str]:
    """Every puzzle, in the order of the notebooks."""
    from tfexplore.puzzles import ALL

    yield from (".. list-table::", "   :header-rows: 1", "", "   * - puzzle", "     - notebook", "     - write")
    for puzzle in ALL.values():
        yield from (
            f"   * - ``{puzzle.name}``",
            f"     - :doc:`/notebooks/{puzzle.notebook}`",
            f"     - {puzzle.title}",
        )


def parameters() -> Iterator[str]:
    """The kinds of numbers that a neuron's fields may be, with their bounds."""
    for name in neurons.__all__:
        if get_origin(kind := getattr(neurons, name)) is Annotated:
            bound = kind.__metadata__[0]
            yield from (
                f".. py:type:: {name}",
                "",
                f"   A field with this annotation takes {bound}.",
                "",
            )


def classes(kinds: Iterable[type]) -> Iterator[str]:
    """Neurons, their layers or surrogates, under `currentmodule`."""
    for kind in kinds:
        yield from (f".. autoclass:: {kind.__name__}", "")


LISTS: dict[str, Callable[[], Iterator[str]]] = {
    "neurons": lambda: classes(neurons.ALL),
    "surrogates": lambda: classes(neurons.surrogates.ALL),
    "parameters": parameters,
    "explorers": explorers,
    "puzzles": puzzles,
}


class Generated(SphinxDirective):
    """`.. generated:: puzzles` stands for the lines of that function."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(LISTS[self.arguments[0]]()), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", equations, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", sentence, priority=400)
    app.connect("autodoc-process-docstring", sentence, priority=600)
    app.connect("viewcode-follow-imported", where_it_stands)
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": False}

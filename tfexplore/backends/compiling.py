"""Which kernels are compiled within a block, and how long that takes: as Numba's events and our CUDA loader tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

LISTENERS: list[Callable[[str, float], None]] = []
"""Called with the name and the seconds of each CUDA kernel that is loaded: compiled, or read from CuPy's cache."""


class Compiled(NamedTuple):
    """name: of the loop: "forward", "backward", "moments" ... seconds: that its compiler took."""

    name: str
    seconds: float


@contextmanager
def told(name: str) -> Iterator[None]:
    """Tells the listeners how long this block took."""
    begin = time.perf_counter()
    yield
    for listener in LISTENERS:
        listener(name, time.perf_counter() - begin)


@contextmanager
def compiled() -> Iterator[list[Compiled]]:
    """Yields a list, filled with what is compiled within this block. What Numba reads from the disk is not."""
    found: list[Compiled] = []

    def listen(name: str, seconds: float) -> None:
        found.append(Compiled(name, seconds))

    LISTENERS.append(listen)
    try:
        if find_spec("numba") is None:
            yield found
            return
        from numba.core import event

        class Listener(event.Listener):
            def on_start(self, happened: Any) -> None:
                self.begin = time.perf_counter()

            def on_end(self, happened: Any) -> None:
                function = happened.data["dispatcher"].py_func
                if function.__module__.startswith("tfexplore_") and function.__module__.endswith(
                    f"_{function.__name__}"
                ):
                    listen(function.__name__, time.perf_counter() - self.begin)  # a loop, not what it calls

        with event.install_listener("numba:compile", Listener()):
            yield found
    finally:
        LISTENERS.remove(listen)

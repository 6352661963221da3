"""A process that measures points for `benchmarks.gpu`, one after the other: a crash or a hang is confined to it."""

from __future__ import annotations

import gc
import importlib
from typing import Any

from benchmarks import work
from tfexplore.measure.server_process import Request, serve


def answer(request: Request) -> dict[str, Any]:
    module = importlib.import_module(request.pop("module"))
    try:
        row: dict[str, Any] = module.measure(**request)
        return row
    finally:
        gc.collect()
        work.forget()


if __name__ == "__main__":
    serve(answer)

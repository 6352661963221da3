"""A mend for ipykernel 7.4.0, which does not tell the browser that a widget's message is done if it came under a running cell.

The browser sends a slider's next value only when the kernel has said so of the value before (by its idle status). Without,
a slider that was moved while a cell awaits a run is dead from then on. Other versions say it, and are left alone.
"""

from __future__ import annotations

import functools
from typing import Any


def mend() -> None:
    """In a notebook's kernel of that version; more than once does no harm."""
    import ipykernel
    from IPython.core.getipython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None or ipykernel.__version__ != "7.4.0" or "dispatch_shell" in vars(kernel):
        return
    dispatch = kernel.dispatch_shell

    @functools.wraps(dispatch)
    async def told(msg: Any, /, subshell_id: str | None = None, *, concurrent: bool = False) -> None:
        cell = kernel.get_parent("shell")
        await dispatch(msg, subshell_id, concurrent=concurrent)
        if concurrent:
            kernel._publish_status("idle", "shell")  # of this message, the parent by now
            kernel._publish_status("busy", "shell", cell)  # the cell runs on, and the page goes on saying so

    kernel.dispatch_shell = told

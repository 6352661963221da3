"""A stand-in for a GPU's stream on a machine without one: what is launched runs in another thread, one after the other.

A GPU takes an order and returns at once; the work is done later. A clock that does not wait for it measures how long the orders
took. Here the other thread is a real one, and so is the work: only the device is missing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType


class Stream:
    """A queue of work and the thread that does it, in the order in which it was launched.

    Attributes:
        launched: pieces of work that were handed over.
        done: those that have run.

    Example:
        >>> with Stream() as stream:
        ...     with stream.held():                    # as if earlier work were still on the device
        ...         stream.launch(lambda: sum(range(1000)))
        ...         early = stream.done
        ...     stream.synchronise()
        ...     early, stream.done
        (0, 1)
    """

    def __init__(self) -> None:
        self.launched = self.done = 0
        self._queue: queue.SimpleQueue[Callable[[], object] | threading.Event | None] = queue.SimpleQueue()
        self._free, self._error = threading.Event(), list[Exception]()
        self._free.set()
        self._thread = threading.Thread(target=self._serve, name="tfexplore-stream", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            if isinstance(work, threading.Event):  # somebody waits for what was launched before
                work.set()
                continue
            self._free.wait()
            try:
                work()
            except Exception as error:  # noqa: BLE001 - raised where somebody waits for it, as a GPU's errors are
                self._error.append(error)
            self.done += 1

    def launch(self, work: Callable[[], object]) -> None:
        """Hands work over and returns at once; raises RuntimeError after the stream's block."""
        self._hand_over(work)
        self.launched += 1

    def synchronise(self) -> None:
        """Waits until everything that was launched has run; raises the first error of it.

        Raises:
            RuntimeError: within `held`, or after the stream's block, where it would wait for ever.
        """
        if not self._free.is_set():
            raise RuntimeError(
                "nothing begins within held(), so synchronise() would wait for ever: call it after the block."
            )
        arrived = threading.Event()
        self._hand_over(arrived)
        arrived.wait()
        if self._error:
            error, self._error = self._error[0], []
            raise error

    def _hand_over(self, work: Callable[[], object] | threading.Event) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("the stream has ended with its block: make another Stream().")
        self._queue.put(work)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, the thread begins nothing new: it is as if earlier work were still under way."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def seconds(self, work: Callable[[], object]) -> tuple[float, float]:
        """The seconds of a piece of work by two clocks: one stops when it is launched, the other when it has run.

        Earlier work keeps the device busy until the first clock stops, so that this clock sees none of the work itself.
        """
        self.synchronise()
        with self.held():
            begin = time.perf_counter()
            self.launch(work)
            launched = time.perf_counter() - begin
        self.synchronise()
        return launched, time.perf_counter() - begin

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()

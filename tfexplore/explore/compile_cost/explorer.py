"""The compile-cost explorer: two subprocesses with an empty cache, which measure the first calls of a neuron."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from tfexplore.backends import choose
from tfexplore.explore.base.controls import Choice
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.compile_cost import figure
from tfexplore.explore.compile_cost.costs import NEW_PROCESS, REQUESTS, CompileCosts
from tfexplore.measure import clock, first_calls
from tfexplore.measure.server_process import ServerProcess
from tfexplore.neurons.library import BY_NAME as NEURONS


class CompileCost(Runner):
    """What a forward and backward pass costs the first time ever, the first time in a process, and afterwards.

    Kernels are compiled just in time, once for each neuron and dtype, and kept on disk. Measured in two subprocesses with an
    empty cache that is thrown away: yours stays as it is.

    Args:
        neuron: one of the library's, by name; its kernels are compiled anew.
        device: "cpu", "cuda" or another of PyTorch's; by default the GPU, if there is one.

    Controls: neuron, start, stop.

    Result: `tfexplore.explore.compile_cost.costs.CompileCosts`, with `seconds` and the number of kernels `compiled`, by case.

    Raises:
        ValueError: if neuron is none of the library's.

    Example:
        >>> from tfexplore import explore
        >>> cost = explore.compile_cost("LIF")
        >>> cost.result.seconds                 # before Start, or `await cost.run()`
        {}
    """

    caption = (
        "Time of one forward and backward pass of a small layer, on a logarithmic axis, and how many kernels were compiled for "
        "it. Compiling is paid once for each neuron and dtype; then the kernels are kept on disk."
    )

    neuron = Choice("neuron", list(NEURONS), help="its kernels are compiled anew")

    def __init__(self, neuron: str = "LIF", device: str | None = None) -> None:
        self.device = clock.or_gpu(device)
        self._processes: list[ServerProcess] = []
        super().__init__(neuron=neuron)

    def look(self) -> CompileCosts:
        number, _ = first_calls.changed(NEURONS[self.neuron]())
        return CompileCosts(self.neuron, number, clock.machine(self.device), choose("auto", self.device).name)

    def stop(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Ends the two processes as well, so it need not wait for a compiler."""
        super().abandon()
        for process in self._processes:
            process.end()

    async def run(self, resume: bool = False) -> Any:
        result = await super().run(resume)
        if self._stopping and result is self.result:
            self.say(f"Stopped. {result.sentence()}")
        return result

    def work(self, result: CompileCosts) -> Iterator[object]:
        if result.backend == "torch":
            self.say(f"Nothing is compiled here: {choose('auto', self.device).reason}", alarm=True)
            return
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tfexplore-", ignore_cleanup_errors=True))
            env = {"TFEXPLORE_CACHE": folder, "CUPY_CACHE_DIR": os.path.join(folder, "cupy")}
            # both at once: the second one imports while the first compiles
            first, second = self._processes = [
                stack.enter_context(ServerProcess("tfexplore.measure.first_calls", env)) for _ in range(2)
            ]
            self.say("Starting two processes with an empty cache.")
            for process in self._processes:
                yield self.in_background(partial(self.measure, process, {}, case="nothing"))
            for case, request in REQUESTS.items():
                self.say(f"Measuring: {result.name(case)}.")
                answer: dict[str, Any] = {}
                process = second if case == NEW_PROCESS else first
                yield self.in_background(partial(self.measure, process, answer, **request))
                result.seconds[case], result.compiled[case] = answer["seconds"], answer["compiled"]
                self.draw()
            self.say(result.sentence())

    def measure(self, process: ServerProcess, answer: dict[str, Any], **request: Any) -> None:
        """Fills `answer`, unless Stop ends the process meanwhile."""
        try:
            answer.update(process.request(neuron=self.result.neuron, device=self.device, **request))
        except RuntimeError:
            if not self._stopping:
                raise

    def sheet(self) -> Sheet:
        return figure.sheet(self.result)

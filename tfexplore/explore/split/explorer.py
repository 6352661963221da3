"""The explorers of time splitting: a plan for any number of devices, and real processes on this machine."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from tfexplore.explore.base.controls import Choice, Scale, Slider
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.split import figure, gantt
from tfexplore.explore.split.prediction import MEASURED_BATCH, Prediction, blocks, recorded
from tfexplore.explore.split.runs import BATCH, NETWORKS, PASSES, WAITING, Runs, alone, one_pass, prepared
from tfexplore.measure import clock
from tfexplore.timesplit.crew import Crew
from tfexplore.timesplit.plan import Cost, Link, plan

NONE, BATCH_NORM = "none", "BatchNorm, a barrier"
MOST_DEVICES, MOST_PARTS = 64, 16


class SplitPlan(Explorer):
    r"""How long a training step takes when its T time steps are split over P devices, and what the devices do when.

    Rank k has the k-th segment of the time steps, and begins a layer when rank k-1 has sent it the layer's hidden state: a
    wavefront over layers and ranks. A device more costs about T_c seconds of messages and of waiting, so about
    :math:`\sqrt{T_s / T_c}` devices are fastest, where one alone takes T_s seconds.

    Args:
        devices: P, from 1 to 64, at most one for each time step.
        steps: time steps `T`, a power of two from 8 to 16384.
        layers: blocks of layers.
        batch: samples of the batch.
        micro_batches: parts into which each rank cuts the batch, which then follow each other.
        norm: "none", or "BatchNorm, a barrier": all ranks wait for each other in every block.
        bandwidth: bytes per second of the link between two devices.
        latency: seconds that every message takes, however short it is.
        costs: of one block of layers, as `timesplit.costs.costs` measures them; by default those recorded of a linear layer
            and 256 LIF neurons.
        measured_batch: the batch for which costs were measured.
        machine: where they were measured.

    Controls: devices, steps, layers, batch, micro_batches, norm, bandwidth, latency.

    Result: `tfexplore.explore.split.prediction.Prediction`, with the plan, the fastest one, and those of data parallelism.

    Raises:
        ValueError: if steps, bandwidth or latency is none of those allowed.
        FileNotFoundError: if no costs are given and none are recorded.

    Example:
        >>> from tfexplore import explore
        >>> made = explore.split_plan(devices=4, steps=64)
        >>> made.result.plan.ranks, len(made.result.plan.segments)
        (4, 4)
    """

    caption = (
        f"Left: what every device does, and when, in one planned training step, split in time. {gantt.LEGEND} devices. Right: "
        "how many times as fast as one device, over the number of devices, on logarithmic axes."
    )

    devices = Slider("devices P", 1, MOST_DEVICES, live=True, help="each takes a segment of the time steps")
    steps = Scale("time steps T", {2**k: f"{2**k:,}" for k in range(3, 15)})
    layers = Slider("blocks of layers", 1, 24, live=True, help="a linear layer and its LIF neurons")
    batch = Slider("batch", 1, 64, live=True)
    micro_batches = Slider("micro-batches", 1, MOST_PARTS, live=True, help="parts into which the batch is cut")
    norm = Choice("normalisation", (NONE, BATCH_NORM), help="BatchNorm needs the mean over all time steps")
    bandwidth = Scale(
        "link, bytes per second", {b: f"{b / 1e9:g} GB/s" for b in (1e7, 1e8, 1e9, 3e9, 1e10, 3e10, 1e11, 4.5e11)}
    )
    latency = Scale("link, latency", {s: f"{1e6 * s:,.0f} µs" for s in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)})

    def __init__(
        self, devices: int = 4, steps: int = 256, layers: int = 4, batch: int = 16, *, micro_batches: int = 1,
        norm: str = NONE, bandwidth: float = 1e10, latency: float = 1e-5,
        costs: list[Cost] | None = None, measured_batch: int = MEASURED_BATCH, machine: str = "this machine",
    ) -> None:  # fmt: skip
        self.costs, self.machine = recorded() if costs is None else (costs, machine)
        self.measured_batch = measured_batch
        super().__init__(
            devices=devices, steps=steps, layers=layers, batch=batch, micro_batches=micro_batches, norm=norm,
            bandwidth=bandwidth, latency=latency,
        )  # fmt: skip

    def update(self) -> None:
        """No more devices than time steps, no more micro-batches than samples, and none with BatchNorm."""
        parts = self.controls["micro_batches"]
        with self.quietly():
            self.controls["devices"].max = min(MOST_DEVICES, self.steps)
            parts.max = max(2, min(MOST_PARTS, self.batch))
            parts.disabled = self.norm == BATCH_NORM or self.batch == 1
            if parts.disabled:
                parts.value = 1
        super().update()

    def look(self) -> Prediction:
        costs = blocks(self.costs, self.layers, self.batch, self.measured_batch, self.norm == BATCH_NORM)
        link = Link(self.latency, self.bandwidth)
        return Prediction(plan(costs, self.steps, self.batch, link, self.devices, self.micro_batches), self.machine)

    def sheet(self) -> Sheet:
        return figure.predicted(self.result)


class SplitRun(Runner):
    """Trains a network on real processes with its time steps split, and draws what each of them did when.

    The processes stay for the next Start; they end with this explorer, with the kernel, or by `close()`.

    Args:
        processes: P, from 1 to 4 by slider; each is one rank.
        network: "layers that only wait" (each process is like a device of its own, whatever the cores of this machine) or
            "linear and LIF layers" (which compute, and share the cores).
        steps: time steps `T`.
        layers: layers that wait, or pairs of a linear and a LIF layer.
        micro_batches: parts into which each rank cuts the batch of 8.

    Controls: processes, network, steps, layers, micro_batches, start, stop.

    Result: `tfexplore.explore.split.runs.Runs`: seconds and events of each training step, the plan, and one process alone.

    Raises:
        ValueError: if network is none of those allowed.
        RankError: from `run`, if a process fails; the next Start begins new ones.

    Example:
        >>> from tfexplore import explore
        >>> made = explore.split_run(processes=2)
        >>> made.result.ranks, made.result.seconds  # until `await made.run()`, or Start
        (2, [])
    """

    caption = (
        "Above: what every process did in one training step, by this machine's clock. Below: the plan of the same step. "
        f"{gantt.LEGEND} processes (measured, it is a wait as well); a sliver of colour before a wait is a layer that has "
        "begun and has to wait."
    )

    processes = Slider("processes P", 1, 4, help="each takes a segment of the time steps")
    network = Choice("network", NETWORKS, help="waiting needs no cores: each process is like a device")
    steps = Slider("time steps T", 8, 128, step=4)
    layers = Slider("layers", 1, 8)
    micro_batches = Slider("micro-batches", 1, BATCH, help=f"parts into which the batch of {BATCH} is cut")

    def __init__(
        self, processes: int = 3, network: str = WAITING, *, steps: int = 48, layers: int = 4, micro_batches: int = 1
    ) -> None:
        self.crew: Crew | None = None
        super().__init__(processes=processes, network=network, steps=steps, layers=layers, micro_batches=micro_batches)

    def look(self) -> Runs:
        return Runs(self.processes, self.network, clock.machine())

    def work(self, result: Runs) -> Iterator[object]:
        steps, parts = self.steps, self.micro_batches
        crew, job, found = self.crew_of(result.ranks), (self.network, self.layers, steps), dict[str, Any]()
        if not crew.pids:
            several = "es" * (result.ranks > 1)
            self.say(f"Starting {result.ranks} process{several}: some seconds, in which torch is imported.")
            yield self.in_background(crew.start)
        self.say("Measuring what the layers cost.")
        yield self.in_background(lambda: found.update(all=crew.run(prepared, *job)[0]))
        costs, link = found["all"]
        result.plan = plan(costs, steps, BATCH, link, result.ranks, parts)
        for _ in range(PASSES):
            yield self.in_background(lambda: found.update(run=crew.run(one_pass, *job, parts)[0]))
            seconds, events = found["run"]
            result.seconds.append(seconds)
            result.runs.append(events)
            self.draw()
            self.say(result.sentence())
            if result.ranks > 1:
                yield self.in_background(lambda: found.update(alone=crew.run(alone, *job)[0]))
                result.alone.append(found["alone"])
        self.draw()
        self.say(result.sentence())

    def crew_of(self, ranks: int) -> Crew:
        """The processes of the last run, or other ones if their number has changed."""
        if self.crew is None or self.crew.size != ranks:
            self.close()
            self.crew = Crew(ranks, threads=1)
            weakref.finalize(self, self.crew.end)
        return self.crew

    def close(self) -> None:
        """Ends the processes; the next Start begins new ones."""
        if self.crew is not None:
            self.crew.end()
            self.crew = None

    def sheet(self) -> Sheet:
        return figure.measured(self.result)

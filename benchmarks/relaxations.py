"""Do relaxations learn as well as a LIF, and is a training step faster? The same networks, with another layer in LIF's place.

Two networks of the course train from several seeds, with the same weights and batches for every layer: the utterances of
`nn.speech`, one hidden layer, and scikit-learn's digits through `nn.networks.mlp`, two. The contestants take turns batch by
batch, so a busy machine slows all of them alike; a row has the medians, and their ratios to LIF's.

How a layer of fixed T takes utterances of 7 to 29 steps: all are padded to 29, for every contestant, and each layer gets the
lengths (`padded`). What lies behind an utterance's end counts as no current, and no spike comes from there: an unmasked PSN sees
all of its utterance, later steps too, and nothing of the padding.

"as LIF": the trained weights with LIF put in the layer's place for the test, where the layer has no weights of its own. Of FPT,
also the share of spikes that are not LIF's, at what reaches the trained network's first layer of neurons (`scan.fpt_error`).
"""

from __future__ import annotations

import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from benchmarks.harness import DEFAULT, FULL, QUICK, Row, Stage, load, rounded
from tfexplore.data import Sequences, Split, currents, digits, japanese_vowels
from tfexplore.nn import LIF, networks, padded, speech
from tfexplore.scan import FPT, PSN, DelayedReset, MaskedPSN, Relaxation, SlidingPSN, fpt_error

WHAT = (
    "Networks with LIF, and relaxations in its place: test accuracy over seeds, time of a training step; Adam, float32."
)
SERIAL, APPROXIMATE = "LIF, serial", "FPT"
K = 8
"""Steps that the masked and the sliding PSN see."""


def contestants(steps: int, seed: int, device: str) -> dict[str, Callable[[], nn.Module]]:
    """What makes each layer, for so many steps."""
    draws = torch.Generator(device).manual_seed(seed)  # FPT's, of a network's layers one after the other
    return {
        SERIAL: LIF,
        "PSN": lambda: PSN(steps),
        f"MaskedPSN, k={K}": lambda: MaskedPSN(steps, min(K, steps)),
        f"SlidingPSN, k={K}": lambda: SlidingPSN(K),
        APPROXIMATE: lambda: FPT(generator=draws),
        "delayed reset, D=2": lambda: DelayedReset(2),
        "delayed reset, D=8": lambda: DelayedReset(8),
    }


def with_layers(net: nn.Sequential, make: Callable[[], nn.Module], seed: int = 0) -> nn.Sequential:
    """A copy of the network with other layers of neurons; what they draw at first is of this seed."""
    net = copy.deepcopy(net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in net.named_children():
            if isinstance(module, LIF | Relaxation):
                setattr(net, name, make())
    return net


@dataclass(frozen=True)
class Effort:
    seeds: int
    epochs: int
    hidden: int


@dataclass(frozen=True)
class Speech:
    """The utterances: their data, network and training."""

    data: Sequences
    steps: int = 29
    batch: int = speech.BATCH
    name: str = "vowels"

    def network(self, hidden: int, seed: int) -> nn.Sequential:
        return speech.network(hidden, seed=seed)

    def fit(self, net: nn.Module, epochs: int, seed: int) -> Iterator[float]:
        return speech.fit(net, self.data, epochs, seed=seed)

    def accuracy(self, net: nn.Module) -> float:
        return speech.accuracy(net, self.data)

    def test(self) -> tuple[Tensor, Tensor | None]:
        return self.data.test_x, self.data.test_lengths


@dataclass(frozen=True)
class Digits:
    """The digits, each the same current at every step."""

    data: Split
    steps: int
    batch: int = networks.BATCH
    name: str = "digits"

    def network(self, hidden: int, seed: int) -> nn.Sequential:
        return networks.mlp(hidden, seed)

    def fit(self, net: nn.Module, epochs: int, seed: int) -> Iterator[float]:
        batches = epochs * -(-len(self.data.train_labels) // self.batch)
        losses = networks.fit(net, self.data, lambda net, x: net(x), self.steps, networks.RATES["mlp"], seed)
        return (loss for _, loss in zip(range(batches), losses, strict=False))

    def accuracy(self, net: nn.Module) -> float:
        with torch.no_grad():
            found = net(self.test()[0]).mean(0).argmax(1)
        return (found == self.data.test_labels).float().mean().item()

    def test(self) -> tuple[Tensor, Tensor | None]:
        return currents(self.data.test_images, self.steps), None


Task = Speech | Digits
EFFORTS = {
    QUICK: {"vowels": Effort(2, 3, 64), "digits": Effort(2, 1, 64)},
    DEFAULT: {"vowels": Effort(3, 60, 512), "digits": Effort(3, 10, 128)},
    FULL: {"vowels": Effort(5, 60, 512), "digits": Effort(5, 10, 128)},
}
STEPS = {QUICK: (8,), DEFAULT: (16,), FULL: (16, 64)}
"""Of the digits."""


def tasks(size: str, device: str) -> Iterator[Task]:
    try:
        found = Sequences(*(part.to(device) for part in japanese_vowels()))
    except ImportError as error:
        print(f"  {error} Left out.")
    else:
        behind = Speech.steps - len(found.train_x)
        yield Speech(found._replace(train_x=pad(found.train_x, (0, 0, 0, 0, 0, behind))))
    images = Split(*(part.to(device) for part in digits()))
    for steps in STEPS[size]:
        yield Digits(images, steps)


def run(stage: Stage, size: str) -> Iterator[Row]:
    for task in tasks(size, stage.device):
        yield measured(task, EFFORTS[size][task.name], stage.device)


def measured(task: Task, effort: Effort, device: str) -> Row:
    """The row of one network: [mean, standard deviation, lowest, highest] over seeds of each contestant's accuracy, and times."""
    began = load()
    right, as_lif, taken = (defaultdict[str, list[float]](list) for _ in range(3))
    errors = []
    for seed in range(effort.seeds):
        plain = task.network(effort.hidden, seed)
        makers = contestants(task.steps, seed, device)
        nets = {name: with_layers(plain, make, seed).to(device) for name, make in makers.items()}
        for name, ms in in_turn({name: task.fit(net, effort.epochs, seed) for name, net in nets.items()}):
            taken[name].append(ms)
        for name, net in nets.items():
            right[name].append(task.accuracy(net))
            if name != SERIAL and not any(True for layer in neurons_of(net) for _ in layer.parameters()):
                as_lif[name].append(task.accuracy(with_layers(net, LIF)))
        errors.append(approximation(nets[APPROXIMATE], task))
    median = {name: statistics.median(ms) for name, ms in taken.items()}
    layers = {name: make() for name, make in makers.items()}
    count = task.batch * effort.hidden
    return {
        "network": task.name, "T": task.steps, "B": task.batch, "hidden": effort.hidden, "seeds": effort.seeds,
        "epochs": effort.epochs, "load": began,
        "accuracy": {name: summary(found) for name, found in right.items()},
        "as_lif": {name: summary(found) for name, found in as_lif.items()},
        "fpt_error": {key: rounded(statistics.fmean(each[key] for each in errors)) for key in errors[0]},
        "median_ms": {name: rounded(ms) for name, ms in median.items()},
        "ratio": {name: rounded(ms / median[SERIAL]) for name, ms in median.items()},
        "work": {n: list(a.work(task.steps, count)) for n, a in layers.items() if isinstance(a, Relaxation)},
    }  # fmt: skip


def in_turn(losses: dict[str, Iterator[float]]) -> Iterator[tuple[str, float]]:
    """Each contestant's next training step, one after the other, in milliseconds; not the first of each, which may compile."""
    first = True
    while True:
        for name, each in losses.items():
            began = time.perf_counter()
            if next(each, None) is None:
                return
            if not first:
                yield name, (time.perf_counter() - began) * 1e3
        first = False


def neurons_of(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.children() if isinstance(module, LIF | Relaxation)]


def approximation(net: nn.Module, task: Task) -> dict[str, float]:
    """How far the first layer of FPT is from LIF, at what reaches it in the test."""
    layer = neurons_of(net)[0]
    assert isinstance(layer, FPT)
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x, lengths = task.test()
    with hook, torch.no_grad(), nullcontext() if lengths is None else padded(net, lengths):
        net(x)
    return fpt_error(layer, seen[0], lengths=lengths)._asdict()


def summary(found: list[float]) -> list[float]:
    """The mean, the standard deviation, the lowest and the highest."""
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    return [rounded(value) for value in (statistics.fmean(found), spread, min(found), max(found))]


def lines(row: Row) -> Iterator[str]:
    """A row as text: a line for each contestant, and what FPT's spikes are."""
    yield (
        f"{row['network']}, T={row['T']}, B={row['B']}, {row['hidden']} hidden neurons, {row['epochs']} epochs, {row['seeds']} "
        f"seeds, load={row['load']}"
    )
    yield f"  {'':<22}{'accuracy':>17}{'lowest':>9}{'as LIF':>17}{'ms a step':>11}{'x LIF':>8}{'operations':>13}{'depth':>7}"
    for name, (mean, spread, low, _) in row["accuracy"].items():
        swapped = row["as_lif"].get(name)
        other = "" if swapped is None else f"{swapped[0]:.1%} ± {swapped[1]:.1%}"
        operations, depth = row["work"].get(name, ("", ""))
        yield (
            f"  {name:<22}{f'{mean:.1%} ± {spread:.1%}':>17}{low:>9.1%}{other:>17}{row['median_ms'][name]:>11.2f}"
            f"{row['ratio'][name]:>8.2f}{operations:>13}{depth:>7}"
        )
    error = row["fpt_error"]
    yield (
        f"  FPT's spikes that are not LIF's: {error['drawn']:.1%} of all element-steps as drawn, {error['rounded']:.1%} had it "
        f"compared; LIF fires at {error['lif_rate']:.1%}, FPT at {error['fpt_rate']:.1%}"
    )

"""What a replay would silently do otherwise than the step is refused, or does the same: each of these once went unseen.

The oracle is the same step, uncaptured, on a second network with the same weights.
"""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import tfexplore
from tfexplore.nn import capturing
from tfexplore.nn.capturing import Captured, capture

CALLS = capturing.LOOKED_THROUGH[-1] + 3
DATA = [(torch.rand(3, 4, 5), torch.arange(4) % 2) for _ in range(CALLS)]


class Net(nn.Sequential):
    """With an optimiser, and what else a step keeps."""

    def __init__(self, *more: nn.Module) -> None:
        super().__init__(nn.Linear(5, 6), tfexplore.LIF(), *more, nn.Linear(6, 2))
        self.optimiser = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        self.numbers = iter(range(1, 100))
        self.generator = torch.Generator().manual_seed(0)


def make(change: Callable[[Net, Tensor], Any] | None = None, *more: nn.Module) -> tuple[Net, Callable[..., Tensor]]:
    """A network and its step. change: is multiplied with the loss where it returns something, and called after the update."""
    torch.manual_seed(0)
    net = Net(*more)

    def step(x: Tensor, y: Tensor) -> Tensor:
        net.optimiser.zero_grad()
        loss = cross_entropy(net(x).mean(0), y)
        factor = change(net, x) if change else None
        if factor is not None:
            loss = loss * factor
        loss.backward()
        net.optimiser.step()
        return loss

    return net, step


def train(step: Callable[..., Tensor]) -> list[Tensor]:
    torch.manual_seed(1)
    return [step(*batch).detach() for batch in DATA]


def captured() -> tuple[Net, Captured]:
    net, step = make()
    made = capture(step)
    train(made)
    return net, made


class Checkpointed(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return checkpoint(super().forward, input, use_reentrant=False)


class InNumPy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        out = torch.empty_like(g)
        np.multiply(g.numpy(), 2, out=out.numpy())
        return out


def other_memory(net: Net, x: Tensor) -> None:
    net[0].bias.data = net[0].bias.data.clamp(-0.2, 0.2)


def decays(net: Net, x: Tensor) -> None:
    """As a scheduler does."""
    net.optimiser.param_groups[0]["lr"] *= 0.9


def branches(net: Net, x: Tensor) -> Tensor | None:
    return net[0].weight.norm() if next(net.numbers) % 2 else None


CHANGES: dict[str, tuple[Callable[[Net, Tensor], Any], str]] = {
    "a counter": (lambda net, x: 1 / next(net.numbers), "asks for mul"),
    "a counter in a tensor": (lambda net, x: torch.tensor(1.0 / next(net.numbers)), "0.1666"),
    "Python's random numbers": (lambda net, x: random.random(), "the call before for mul"),
    "a learning rate": (decays, "alpha=-0.0"),
    "a branch": (branches, "asks for"),
    "NumPy's array": (lambda net, x: float(x.numpy().mean()), r"NumPy.*lambda net, x"),
    "a list": (lambda net, x: x.mean().tolist(), r"NumPy.*lambda net, x"),
    "an array by protocol": (lambda net, x: float(np.asarray(x).mean()), r"NumPy.*lambda net, x"),
    "NumPy in the backward pass": (lambda net, x: InNumPy.apply(net[0].weight.mean()), r"NumPy.*g\.numpy"),
    "other memory": (other_memory, r"other memory.*p\.data\.copy_"),
    "a seed": (lambda net, x: (torch.manual_seed(3), torch.rand(()))[1], "random numbers"),
    "a seed at the end": (lambda net, x: (torch.rand(()), torch.manual_seed(3))[0], "random numbers"),
    "a new generator": (lambda net, x: torch.rand((), generator=torch.Generator().manual_seed(1)), "generator"),
    "a generator that is seeded": (
        lambda net, x: torch.rand((), generator=net.generator.manual_seed(1)), "random numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_python_changes_at_each_call_is_refused(name: str) -> None:
    change, words = CHANGES[name]
    made = capture(make(change)[1])
    with pytest.raises(RuntimeError, match=f"(?s)step cannot be captured.*{words}"):
        train(made)


def test_tensors_that_change_places_are_refused() -> None:
    """Both are read at each call, but not as the same."""
    kept = [torch.zeros(3), torch.zeros(3)]

    def step(x: Tensor) -> Tensor:
        kept.reverse()
        kept[0].copy_(x)
        return kept[0] - kept[1]

    made = capture(step)
    with pytest.raises(RuntimeError, match="another one at each call"):
        [made(torch.full((3,), float(k))) for k in range(CALLS)]


def test_transforms_without_operators_are_refused() -> None:
    """Under `torch.func` a layer's kernel is no operator that a replay could run again."""

    def work(net: Net, x: Tensor) -> Tensor:
        def loss(parameters: dict[str, Tensor]) -> Tensor:
            made: Tensor = torch.func.functional_call(net, parameters, (x,)).mean()
            return made

        return torch.func.grad(loss)(dict(net.named_parameters()))["2.weight"].sum()

    with pytest.raises(RuntimeError, match="NumPy"):
        capture(make(work)[1])(*DATA[0])


def test_random_numbers_drawn_again_by_a_checkpoint_are_refused() -> None:
    with pytest.raises(RuntimeError, match="random numbers"):
        capture(make(None, Checkpointed(0.5))[1])(*DATA[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda net, x: torch.rand((), generator=net.generator),
        lambda net, x: net[0].bias.data.clamp_(-0.2, 0.2).mean(),
        lambda net, x: checkpoint(torch.exp, net[0].weight.mean(), use_reentrant=False),
    ],
    ids=["a generator", "in place", "a checkpoint without random numbers"],
)
def test_what_a_replay_can_do_it_does(change: Callable[[Net, Tensor], Any]) -> None:
    found = []
    for wrap in (lambda step: step, capture):
        net, step = make(change)
        found.append([*train(wrap(step)), *net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_numpy_is_free_again_and_in_other_threads() -> None:
    own, stop, failed = set(vars(Tensor)), threading.Event(), []

    def meanwhile() -> None:
        while not stop.is_set():
            try:
                torch.ones(2).numpy(), torch.ones(2).tolist()
            except RuntimeError as error:
                failed.append(error)

    thread = threading.Thread(target=meanwhile)
    thread.start()
    try:
        captured()
    finally:
        stop.set()
        thread.join()
    with pytest.raises(RuntimeError, match="NumPy"):
        capture(lambda x: x.numpy())(torch.ones(2))
    assert not failed
    assert set(vars(Tensor)) == own


def test_an_argument_that_is_returned_is_no_buffer() -> None:
    made = capture(lambda x: (x, x[1:], x + 1))
    given = [torch.full((3,), float(k)) for k in range(CALLS)]
    for x, (whole, part, more) in [(x, made(x)) for x in given]:
        assert torch.equal(whole, x)
        assert torch.equal(part, x[1:])
        assert torch.equal(more, x + 1)


def test_a_tensor_known_under_two_dtypes() -> None:
    real = torch.ones(4)
    whole = real.view(torch.int32)
    made = capture(lambda x: (real + x, whole + 1))
    for _ in range(CALLS):
        assert torch.equal(made(torch.ones(4))[1], whole + 1)


def test_a_copy_captures_anew() -> None:
    _, made = captured()
    other = copy.deepcopy(made)
    assert other.report() == []
    assert len(made.report()) == 1
    train(other)
    assert other.report()[0].calls == CALLS


def frozen(net: Net) -> None:
    net[0].weight.requires_grad_(False)


def moved(net: Net) -> None:
    net[0].weight.data = net[0].weight.data.clone()


def resumed(net: Net) -> None:
    net.optimiser.load_state_dict(net.optimiser.state_dict())


def extended(net: Net) -> None:
    net.optimiser.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})


@pytest.mark.parametrize("change", [frozen, moved, resumed, extended])
def test_what_changes_after_capturing_is_refused_until_it_is_forgotten(change: Callable[[Net], None]) -> None:
    net, made = captured()
    change(net)
    with pytest.raises(RuntimeError, match=r"forget\(\)"):
        made(*DATA[0])
    made.forget()
    train(made)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    random.seed(0)
    with torch.random.fork_rng(devices=[]):
        yield

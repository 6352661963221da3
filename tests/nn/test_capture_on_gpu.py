"""Captured steps on a real GPU, one CUDA graph each: `pytest -m gpu`. The oracle is the same step, uncaptured."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tfexplore
from tests.nn.steps_to_capture import WARM, batches, network, plain, train
from tfexplore.backends import cuda
from tfexplore.nn.capturing import Captured, capture
from tfexplore.nn.networks import conv
from tfexplore.nn.warming import warm

pytestmark = pytest.mark.gpu
with warnings.catch_warnings():  # CuPy warns at its import of what it may not need
    warnings.simplefilter("ignore")
    if problem := cuda.why_not():
        pytest.skip(f"needs an NVIDIA GPU, a CUDA build of torch, and CuPy: {problem}", allow_module_level=True)

DEVICE = torch.device("cuda", 0)
Make = Callable[[nn.Module], Callable[..., Any]]


def there(data: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    return [tuple(x.to(DEVICE) for x in batch) for batch in data]


def same(net: nn.Module, make: Make, data: list[tuple[Tensor, ...]]) -> Captured:
    net = net.to(DEVICE)
    other = copy.deepcopy(net)
    captured = capture(make(other))
    expected, found = train(make(net), there(data)), train(captured, there(data))
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=0, atol=0)
    for (name, a), b in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    assert all(kind.replay is not None for kind in captured.kinds.values())
    return captured


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2, capturable=True),
    "fused AdamW": lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-2, device=DEVICE), fused=True, capturable=True),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_losses_weights_and_gradients_are_those_of_the_step(name: str) -> None:
    same(network(), lambda net: plain(net, OPTIMISERS[name](net.parameters()), clip=0.5), batches(WARM + 10))


@pytest.mark.parametrize(
    "more", [nn.Dropout(0.3), tfexplore.ALIF(learn="tau", channels=16)], ids=["dropout", "learned"]
)
def test_networks_train_the_same(more: nn.Module) -> None:
    data = [*batches(WARM + 3), *batches(WARM + 3, batch=3), *batches(2, batch=3), *batches(2)]
    assert len(same(network(more), plain, data).report()) == 2


def test_a_batch_norm_in_the_kernel() -> None:
    net = tfexplore.fuse(conv(batch_norm=True)).to(DEVICE)
    other, x, y = copy.deepcopy(net), torch.rand(4, 8, 1, 8, 8), torch.arange(8)
    expected, found = train(plain(net), there([(x, y)] * 12)), train(capture(plain(other)), there([(x, y)] * 12))
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-3, atol=1e-4)


def test_mixed_precision_with_a_scaler() -> None:
    def make(net: nn.Module) -> Callable[..., Tensor]:
        optimiser, scaler = torch.optim.SGD(net.parameters(), lr=0.1, fused=True), torch.amp.GradScaler("cuda", 1e5)

        def step(x: Tensor, y: Tensor) -> Tensor:
            optimiser.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = cross_entropy(net(x).mean(0).float(), y)
            scaler.scale(loss).backward()
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimiser)
            scaler.update()
            return loss

        return step

    same(network(), make, batches(WARM + 10))


def test_a_scheduler_moves_a_rate_that_is_a_tensor() -> None:
    net = network().to(DEVICE)
    other = copy.deepcopy(net)
    runs = []
    for each, way in ((net, lambda step: step), (other, capture)):
        rate = torch.tensor(0.1, device=DEVICE)
        optimiser = torch.optim.SGD(each.parameters(), lr=rate, fused=True)
        scheduler = torch.optim.lr_scheduler.StepLR(optimiser, 1, gamma=0.9)
        step, found = way(plain(each, optimiser)), []
        for batch in there(batches(WARM + 10)):
            found.append(step(*batch).detach())
            scheduler.step()
        runs.append(torch.stack(found))
    assert torch.equal(*runs)


def test_batches_come_from_the_cpu_where_that_is_asked_for() -> None:
    net = network().to(DEVICE)
    captured, (x, y) = capture(plain(net), device="cuda"), batches(1)[0]
    found = [captured(x.pin_memory(), y.pin_memory()) for _ in range(WARM + 5)]
    assert found[-1] < found[0]
    with pytest.raises(ValueError, match="argument 1 of a captured step is on cpu, the step on cuda:0"):
        capture(plain(net))(x.to(DEVICE), y)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda x, y: x * x.sum().item(), "reads a number from a tensor"),
        (lambda x, y: x[x > 0.5], "shape depends on values"),
        (lambda x, y: x.cpu().sum(), "moves a tensor to cpu"),
        (lambda x, y: x * torch.rand(12).to(x.device), "uses a tensor on cpu"),
        (lambda x, y: (print(x), x)[1], "it waits for the GPU"),
        (lambda x, y: (torch.cuda.synchronize(), x)[1], "cannot be captured"),
    ],
    ids=["item", "mask", "cpu", "from the cpu", "print", "synchronize"],
)
def test_what_a_graph_cannot_hold_is_named(work: Callable[..., Any], words: str) -> None:
    with pytest.raises(RuntimeError, match=words) as info:
        train(capture(work), there(batches(WARM + 1)))
    assert "test_capture_on_gpu.py, line" in str(info.value)
    torch.cuda.synchronize()  # the device works on
    assert (torch.ones(3, device=DEVICE) + 1).sum().item() == 6


def test_after_warming_the_first_step_loads_nothing() -> None:
    net, x = network().to(DEVICE), torch.zeros(6, 8, 12, device=DEVICE)
    cuda.load.cache_clear()
    cuda.prepared.cache_clear()
    assert warm(net, x)[0].kernels
    before = cuda.load.cache_info().misses
    train(plain(net), there(batches(2)))
    assert cuda.load.cache_info().misses == before

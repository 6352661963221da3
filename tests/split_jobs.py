"""What the processes of the time-splitting tests run, and the networks: in a module, so that every process finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tfexplore
from tfexplore import LI, LIF, FoldTime, timesplit
from tfexplore.timesplit import TimeSplit


class Residual(nn.Module):
    """A skip connection, and one layer that is called twice in every pass."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(12, 12), LIF(v_threshold=0.2, backend=backend))
        self.shared = tfexplore.ALIF(tau=3.0, v_threshold=0.3, beta=0.4, backend=backend)

    def forward(self, x: Tensor) -> Tensor:
        once = self.shared(x)
        return self.shared(x + self.inner(once))


def mlp(backend: str = "numba") -> nn.Module:
    lifs = [LIF(v_threshold=threshold, backend=backend) for threshold in (0.2, 0.15)]
    return nn.Sequential(nn.Linear(12, 16), lifs[0], nn.Linear(16, 14), lifs[1], nn.Linear(14, 5), LI(backend=backend))


def residual(backend: str = "numba") -> nn.Module:
    return nn.Sequential(nn.Linear(12, 12), Residual(backend), Residual(backend), nn.Linear(12, 5))


def learned(backend: str = "numba") -> nn.Module:
    middle = tfexplore.ParametricLIF(v_threshold=0.3, channels=14, backend=backend)
    return nn.Sequential(
        nn.Linear(12, 14), middle, nn.Linear(14, 5), tfexplore.ParametricLIF(v_threshold=0.2, backend=backend)
    )


def recurrent(backend: str = "numba") -> nn.Module:
    fed_back = tfexplore.Recurrent(LIF(v_threshold=0.3, backend=backend), nn.Linear(12, 12))
    return nn.Sequential(nn.Linear(12, 12), fed_back, nn.Linear(12, 5), LIF(v_threshold=0.1, backend=backend))


def memoryless(backend: str = "numba") -> nn.Module:
    """Layers whose state or gradient ends at every step, among others: what crosses the cuts is less."""
    off, cut = {"temporal": "off", "backend": backend}, {"temporal_gradient": False, "backend": backend}
    fed_back = tfexplore.Recurrent(LIF(v_threshold=0.3, **off), nn.Linear(12, 12))
    return nn.Sequential(
        nn.Linear(12, 12), LIF(v_threshold=0.3, **off), fed_back, nn.Linear(12, 12),
        tfexplore.ALIF(v_threshold=0.2, **cut), nn.Linear(12, 5), LIF(v_threshold=0.1, **off),
    )  # fmt: skip


def conv(backend: str = "numba", norm: nn.Module | None = None) -> nn.Module:
    # a bias before a BatchNorm has no gradient but rounding
    convolution = nn.Conv2d(1, 4, 3, padding=1, bias=norm is None)
    first = [nn.Unflatten(1, (1, 3, 4)), convolution, *([] if norm is None else [norm])]
    second = FoldTime(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(4, 6, 2))
    last = FoldTime(nn.Flatten(), nn.Linear(6, 5))
    lifs = [LIF(v_threshold=threshold, backend=backend) for threshold in (0.2, 0.1)]
    return nn.Sequential(FoldTime(*first), lifs[0], second, lifs[1], last)


def normed(backend: str = "numba", momentum: float | None = 0.1) -> nn.Module:
    return conv(backend, nn.BatchNorm2d(4, momentum=momentum))


def cumulative(backend: str = "numba") -> nn.Module:
    return normed(backend, momentum=None)


def without_statistics(backend: str = "numba") -> nn.Module:
    return conv(backend, nn.BatchNorm2d(4, affine=False, track_running_stats=False))


def only_neurons(case: Any, backend: str = "numba") -> nn.Module:
    return nn.Sequential(tfexplore.Layer(case(), backend=backend), nn.Linear(12, 5))


def seeded(make: Callable[..., nn.Module], *given: Any, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return make(*given).to(dtype)


def data(steps: int, batch: int = 6, dtype: torch.dtype = torch.float64, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, batch, 12, dtype=torch.float64, generator=generator) + 0.3
    return x.to(dtype), torch.randint(5, (batch,), generator=generator)


def rate(out: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(out.mean(0), y)


def last_step(out: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(out[-1], y)


def every_step(out: Tensor, y: Tensor) -> Tensor:
    """Weights that differ over time, so that a step at the wrong place is seen."""
    weights = torch.linspace(0.5, 2.0, len(out), dtype=out.dtype, device=out.device)
    return sum((w * cross_entropy(o, y) for w, o in zip(weights, out, strict=True)), out.new_zeros(())) / len(out)


def split_loss(split: TimeSplit, out: Tensor, y: Tensor, loss: str) -> Tensor:
    """The same losses, the way that is shortest with a split network."""
    if loss == "rate":
        return cross_entropy(split.mean(out), y)
    if loss == "last_step":
        return cross_entropy(split.last(out), y)
    if loss == "whole":
        return every_step(split.whole(out), y)
    before, steps = sum(split.steps[: split.ranks.rank]), sum(split.steps)
    weights = torch.linspace(0.5, 2.0, steps, dtype=out.dtype, device=out.device)[before:]
    own = sum((w * cross_entropy(o, y) for w, o in zip(weights, out, strict=False)), out.new_zeros(()))
    return split.total(own / steps)


LOSSES = {"rate": rate, "last_step": last_step, "every_step": every_step, "whole": every_step}


def apart(found: Tensor | None, expected: Tensor | None) -> float:
    """The greatest difference, relative to the greatest value."""
    if found is None or expected is None:
        return 0.0 if found is expected else float("inf")
    found, expected = found.detach(), expected.detach()
    scale = float(expected.abs().max()) or 1.0
    return float((found - expected).abs().max()) / scale


def compare(
    ranks: Any, make: Any, steps: int = 13, loss: str = "rate", micro_batches: int = 1, dtype: str = "float64",
    given: tuple[Any, ...] = (), passes: int = 2, device: str = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """The split network against the whole one in this process: outputs, loss, gradients, buffers."""
    kind = getattr(torch, dtype)
    x, y = (part.to(device) for part in data(steps, dtype=kind))
    if make is only_neurons:
        x = given[0].input(steps, (6, 12), dtype=kind)  # strong enough for this neuron
    one, many = (seeded(make, *given, dtype=kind).to(device) for _ in range(2))
    split = TimeSplit(many, micro_batches=micro_batches, ranks=ranks)
    for _ in range(passes):  # the second one knows what will come
        one.zero_grad()
        many.zero_grad()
        whole, own = x.clone().requires_grad_(), split.segment(x).clone().requires_grad_()
        expected = one(whole)
        expected_loss = LOSSES[loss](expected, y)
        expected_loss.backward()
        out = split(own)
        found_loss = split_loss(split, out, y, loss)
        found_loss.backward()
    pairs = zip(many.named_parameters(), one.parameters(), strict=True)
    gradients = {name: apart(p.grad, q.grad) for (name, p), q in pairs}
    return {
        "loss": abs(found_loss.item() - expected_loss.item()),
        "out": apart(split.whole(out), expected),
        "gradients": max(gradients.values()),
        "input": apart(own.grad, split.segment(whole.grad)) if whole.grad is not None else float("inf"),
        "buffers": max(
            [apart(b.double(), c.double()) for b, c in zip(many.buffers(), one.buffers(), strict=True)], default=0.0
        ),
        "live": min(
            float(g.abs().max()) for g in ([whole.grad] if make is only_neurons else [p.grad for p in one.parameters()])
        ),
        "spikes": float(expected.detach().abs().sum()),
    }


# Other ways to use it. Each returns what differs, or what was found.


def forward_only(ranks: Any) -> list[float]:
    """Kinds of input in turn, with and without gradients: each is another kind of pass."""
    net = seeded(mlp)
    split = TimeSplit(seeded(mlp), ranks=ranks)
    found = []
    for steps, batch, grad in ((13, 6, False), (13, 6, True), (9, 2, False), (13, 6, False), (20, 6, True)):
        x, _ = data(steps, batch)
        with torch.set_grad_enabled(grad):
            found.append(apart(split.whole(split(split.segment(x))), net(x)))
    return found


def accumulated(ranks: Any) -> float:
    """Two forward passes, then their backward passes, then a third; gradients add up, and weight decay counts once."""
    one, many = seeded(residual), seeded(residual)
    split = TimeSplit(many, ranks=ranks)
    batches = [data(13, seed=seed) for seed in (1, 2, 3)]

    def cost(net: nn.Module, outs: list[tuple[Tensor, Tensor]]) -> Tensor:
        decay = sum((p.square().sum() for p in net.parameters()), torch.zeros((), dtype=torch.float64))
        return sum((cross_entropy(mean, y) for mean, y in outs), 0.01 * decay)

    for net, run in ((one, lambda x: one(x).mean(0)), (many, lambda x: split.mean(split(split.segment(x))))):
        cost(net, [(run(x), y) for x, y in batches[:2]]).backward()
        cost(net, [(run(x), y) for x, y in batches[2:]]).backward()
    return max(apart(p.grad, q.grad) for p, q in zip(many.parameters(), one.parameters(), strict=True))


class TwoHeads(nn.Module):
    """Two outputs side by side, each behind neurons of its own; a third module that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 10), LIF(v_threshold=0.2))
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(10, 5), LIF(v_threshold=0.1)) for _ in range(2))
        self.spare = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        body = self.body(x)
        return torch.cat([head(body) for head in self.heads], -1)


def unused_head(ranks: Any) -> tuple[float, list[bool]]:
    """The loss looks at one head only, in turn: parameters without a gradient have none with time splitting either."""
    one, many = seeded(TwoHeads), seeded(TwoHeads)
    split = TimeSplit(many, ranks=ranks)
    x, y = data(13)
    worst, none = 0.0, []
    for head in (0, 1, 0):
        one.zero_grad()
        many.zero_grad()
        part = slice(5 * head, 5 * head + 5)
        cross_entropy(one(x)[..., part].mean(0), y).backward()
        cross_entropy(split.mean(split(split.segment(x))[..., part].contiguous()), y).backward()
        worst = max(worst, *(apart(p.grad, q.grad) for p, q in zip(many.parameters(), one.parameters(), strict=True)))
        none.append(many.spare.weight.grad is None)
    return worst, none


def asked_for(ranks: Any) -> float:
    """torch.autograd.grad, for some of the weights."""
    one, many = seeded(mlp), seeded(mlp)
    split = TimeSplit(many, ranks=ranks)
    x, y = data(13)
    expected = torch.autograd.grad(rate(one(x), y), one[2].weight)[0]
    found = torch.autograd.grad(cross_entropy(split.mean(split(split.segment(x))), y), many[2].weight)[0]
    return apart(found, expected)


def given_mesh(ranks: Any, replicas: int) -> float:
    """Data x time: each replica has a part of the batch, each of its ranks some of the time steps; the mean of all gradients."""
    mesh = dist.init_device_mesh("cpu", (replicas, ranks.size // replicas), mesh_dim_names=("data", "time"))
    one, many = seeded(mlp), seeded(mlp)
    split = TimeSplit(many, ranks=mesh["time"])
    both = nn.parallel.DistributedDataParallel(split, process_group=mesh["data"].get_group())
    x, y = data(13, batch=4 * replicas)
    worst = 0.0
    for _ in range(2):
        one.zero_grad()
        both.zero_grad()
        rate(one(x), y).backward()
        place = mesh["data"].get_local_rank()
        xs, ys = x.tensor_split(replicas, 1)[place], y.tensor_split(replicas)[place]
        cross_entropy(split.mean(both(split.segment(xs))), ys).backward()
        worst = max(worst, *(apart(p.grad, q.grad) for p, q in zip(many.parameters(), one.parameters(), strict=True)))
    return worst


def trained(ranks: Any, batches: int, saved: str | None, start: str | None, make: Any = mlp) -> list[float]:
    """Some steps of Adam from a checkpoint, then a checkpoint: weights and the optimiser's memory."""
    net = seeded(make)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    split = TimeSplit(net, ranks=ranks)
    if start is not None:
        kept = torch.load(start, weights_only=True)
        net.load_state_dict(kept["net"])
        optimiser.load_state_dict(kept["optimiser"])
    losses = []
    for k in range(batches):
        x, y = data(13, seed=k)
        optimiser.zero_grad()
        loss = cross_entropy(split.mean(split(split.segment(x))), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    if saved is not None and ranks.first:
        torch.save({"net": net.state_dict(), "optimiser": optimiser.state_dict()}, saved)
    return losses


def recorded(ranks: Any, micro_batches: int) -> list[Any]:
    split = TimeSplit(seeded(mlp), micro_batches=micro_batches, ranks=ranks)
    x, y = data(13)
    for _ in range(2):
        with timesplit.rank_events(split) as events:
            cross_entropy(split.mean(split(split.segment(x))), y).backward()
    return list(events)


def traced(ranks: Any) -> float:
    """`record` within a time split has the traces of this rank's time steps."""
    net = seeded(mlp)
    x, _ = data(13)
    with tfexplore.record(net, "v", "s") as expected:
        net(x)
    split = TimeSplit(net, ranks=ranks)
    with tfexplore.record(net, "v", "s") as traces:
        split(split.segment(x))
    return max(apart(traces["1"][name], split.segment(expected["1"][name])) for name in ("v", "s"))


def soak(ranks: Any, passes: int) -> list[tuple[float, float]]:
    """Random sizes, kinds and losses; (difference from one process, memory in MB) of each step."""
    import resource

    random = torch.Generator().manual_seed(5)  # the same on all ranks

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    nets = [(seeded(make), seeded(make)) for make in (mlp, residual, conv)]
    splits = [[TimeSplit(many, micro_batches=m, ranks=ranks) for m in (1, 2)] for _, many in nets]
    found = []
    for _ in range(passes):
        k = draw(0, len(nets) - 1)
        (one, many), split = nets[k], splits[k][draw(0, 1)]
        x, y = data(draw(ranks.size, 40), draw(2, 12), seed=draw(0, 1000))
        one.zero_grad()
        many.zero_grad()
        if draw(0, 4) == 0:
            with torch.no_grad():
                difference = apart(split.whole(split(split.segment(x))), one(x))
        else:
            rate(one(x), y).backward()
            cross_entropy(split.mean(split(split.segment(x))), y).backward()
            difference = max(apart(p.grad, q.grad) for p, q in zip(many.parameters(), one.parameters(), strict=True))
        found.append((difference, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    return found

"""What all relaxations share: torch.compile, transforms, and LIF's place in a network."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tfexplore import surrogates
from tfexplore.scan import FPT, PSN, DelayedReset, MaskedPSN, Relaxation, SlidingPSN
from tfexplore.scan.relaxations import Spike, decays, depth_of_sum

T, B, N = 6, 2, 3
MAKERS = [lambda: PSN(T), lambda: MaskedPSN(T, 2), lambda: SlidingPSN(2), FPT, lambda: DelayedReset(2)]


@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'>:DeprecationWarning")  # Dynamo's own
@pytest.mark.parametrize("make", MAKERS)
def test_no_graph_break(make: Callable[[], Relaxation]) -> None:
    layer, x = make(), torch.rand(T, B, N) * 2
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.manual_seed(0)
    expected = layer(x)
    torch.manual_seed(0)
    assert torch.equal(compiled(x), expected)
    torch._dynamo.reset()


@pytest.mark.parametrize("make", [make for make in MAKERS if make is not FPT])
def test_transforms(make: Callable[[], Relaxation]) -> None:
    layer, x = make(), torch.rand(4, T, B, N, dtype=torch.float64) * 2
    layer.double()
    assert torch.equal(torch.func.vmap(layer)(x), torch.stack([layer(each) for each in x]))
    g = torch.func.grad(lambda x: layer(x).sum())(x[0])
    first = x[0].requires_grad_()
    (expected,) = torch.autograd.grad(layer(first).sum(), first)
    torch.testing.assert_close(g, expected)


@pytest.mark.parametrize("make", MAKERS)
def test_in_the_place_of_lif(make: Callable[[], Relaxation]) -> None:
    net = nn.Sequential(nn.Linear(4, N), make(), nn.Linear(N, 2), make())
    x = torch.rand(T, B, 4)
    net(x).mean(0).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    torch.manual_seed(1)
    expected = net(x)
    torch.manual_seed(1)
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), expected)


@pytest.mark.parametrize("surrogate", [cls() for cls in surrogates.ALL])
def test_the_slope_is_the_surrogates(surrogate: surrogates.Surrogate) -> None:
    u = torch.tensor([-1.3, -0.4, -0.1, 0.0, 0.2, 0.9], dtype=torch.float64, requires_grad=True)
    s = Spike(surrogate)(u)
    assert s.tolist() == [0, 0, 0, 1, 1, 1]
    (g,) = torch.autograd.grad(s.sum(), u)
    assert g.tolist() == pytest.approx([float(surrogate.derivative(value)) for value in u.tolist()], rel=1e-12)


def test_decays_and_depth_by_hand() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    wanted = [[0.75 ** (t - j) if j <= t else 0.0 for j in range(5)] for t in range(5)]
    assert decays(5, 0.75, like).tolist() == [pytest.approx(row, rel=1e-14) for row in wanted]
    assert decays(2, 0.0, like).tolist() == [[1, 0], [0, 1]]
    assert [depth_of_sum(terms) for terms in (0, 1, 2, 3, 4, 5, 8, 9)] == [1, 1, 2, 3, 3, 4, 4, 5]

"""What is kept, why, how much it is, and how exactly the inverse holds."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tests.reversible.networks_of_levels import dense, images, net_of, projected, rows_of
from tests.reversible.plain import recurrence
from tfexplore.reversible import ReversibleTime, error, lost, most_steps


def kept_bytes(net: ReversibleTime, x: Tensor) -> int:
    """What autograd saves for backward of a pass, each storage once, weights and x apart."""
    own = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers(), x)}
    found: dict[int, int] = {}

    def saves(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(saves, lambda tensor: tensor):
        out = net(x)
        del out
    return sum(found.values())


def constant(steps: int, batch: int = 8) -> Tensor:
    return images(1, batch).expand(steps, batch, 3, 8, 8)


def test_bits_are_a_sixteenth_of_the_levels_and_last_is_flat() -> None:
    grown = {}
    for keep in ("graph", "levels", "bits"):
        net = net_of(keep=keep, out="mean", alpha=0.9)
        few, many = (kept_bytes(net, constant(steps)) for steps in (8, 72))
        grown[keep] = (many - few) / 64
    neurons = 8 * (4 * 64 + 6 * 16 + 8 * 4)
    assert grown["levels"] == 4 * neurons
    assert grown["bits"] <= grown["levels"] / 16
    assert grown["graph"] > 5 * grown["levels"]
    net = net_of(keep="last", out="mean", alpha=0.9)
    assert kept_bytes(net, constant(4)) == kept_bytes(net, constant(12))


def test_last_is_refused_outside_of_its_bound_with_a_way_out() -> None:
    net, x = net_of(keep="last", alpha=0.5), images(64)
    says = re.escape(
        "keep='last' would give wrong gradients: the inverse of 64 steps loses 65 of 24 bits, some T log2(1/min|alpha|), where "
        "15 are wanted among 768 neurons that are compared with a threshold; use keep='bits', which is exact, or keep the states "
        "every 8 steps with anchors=8."
    )
    with pytest.raises(ValueError, match=says):
        net(x)
    net.anchors = 8
    projected(net(x)).backward()
    made = [p.grad for p in net.parameters()]
    net.zero_grad()
    walked, _ = recurrence(rows_of(net), [decay() for decay in net.decays], x)
    projected(torch.cat([levels[-1] for levels in walked])).backward()
    for a, p in zip(made, net.parameters(), strict=True):
        assert a is not None
        assert p.grad is not None
        assert (a - p.grad).norm() <= 1e-4 * p.grad.norm()


def test_choices_and_their_reasons() -> None:
    spiking, numbers = net_of(), dense(nn.Identity())
    choice = spiking.choice(images(300))
    assert (choice.name, choice.anchors) == ("bits", None)
    assert "exact for every alpha" in choice.reason
    choice = numbers.choice(torch.zeros(64, 2, 5))
    assert (choice.name, choice.anchors) == ("last", 4)
    assert "the states are kept every 4 steps" in choice.reason
    assert numbers.choice(torch.zeros(4, 2, 5)).anchors is None
    none_left = dense(nn.Identity(), alpha=0.0).choice(torch.zeros(64, 2, 5))
    assert none_left.name == "levels"
    assert dense(nn.Identity(), alpha=0.0).double().choice(torch.zeros(1, 2, 5)).name == "levels"
    with pytest.raises(ValueError, match="see each other through Identity, which is no layer of neurons"):
        dense(nn.Identity(), keep="bits")(torch.zeros(4, 2, 5))
    with pytest.raises(ValueError, match="the levels are read by LIF: its backward pass needs the value of u"):
        dense(tfexplore.LIF(temporal="off"), keep="bits")(torch.zeros(4, 2, 5))


def test_many_neurons_that_spike_want_more_bits_also_where_the_choice_is_free() -> None:
    net, x = net_of(read=tfexplore.LIF(temporal="off"), alpha=0.9), images(16, batch=256)
    free = net.choice(x)
    net.keep, net.anchors = "last", free.anchors
    assert net.choice(x).anchors == free.anchors  # what is free takes nothing that is refused


def test_asking_for_the_choice_leaves_nothing_behind() -> None:
    net, x = net_of(keep="last"), images(3)
    before, drawn = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    net.choice(x)
    error(net, x)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_lost_bits_are_those_of_the_sum(alpha: float, steps: int) -> None:
    assert lost(steps, alpha) == pytest.approx(math.log2(sum((1 / alpha) ** j for j in range(1, steps + 1))))
    most = most_steps(alpha, torch.float32, 18)
    assert lost(most, alpha) <= 6 < lost(most + 1, alpha)


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_rounding_alone_stays_within_the_bound(alpha: float) -> None:
    """A level of its own, whose F sees no level: its inverse is off by rounding errors only."""
    torch.manual_seed(0)
    net = ReversibleTime([tfexplore.reversible.Level(nn.Linear(5, 64))], (64,), alpha=alpha)
    found = error(net, torch.randn(24, 16, 5))
    assert (found.states.max(0) <= 2 * found.bound + 1e-12).all()
    assert found.states[0, 0] >= 1e-3 * found.bound[0]  # and the bound is no wild guess
    assert found.states[0, -1] == 0


def test_the_cliff_behind_the_first_flip() -> None:
    net = net_of(alpha=0.5)
    near, far_back = error(net, images(4)), error(net, images(32))
    assert not near.flips.any()
    assert near.gradient < 1e-5
    assert near.cosine > 0.99999
    flips = far_back.flips.sum(0)
    first = np.flatnonzero(flips)[-1]
    assert (far_back.states[:, first + 1 :].max(0) <= 4 * far_back.bound[first + 1 :] + 1e-12).all()
    assert far_back.states[:, first - 4 :].max() > 100 * far_back.bound[first - 4 :].min()
    assert far_back.cosine < 0.9
    assert "the first comparisons flip" in str(far_back)
    assert "the first comparisons flip" not in str(near)


def test_the_inverse_finds_what_the_plain_loop_had() -> None:
    from tfexplore.reversible.exactness import walks

    net, x = net_of(norm=False, alpha=0.9), images(6)
    walked, _ = recurrence(rows_of(net), [decay() for decay in net.decays], x)
    for expected, a, b in zip(walked, *walks(net, x), strict=True):
        assert all(map(torch.equal, a, expected))
        assert all((p - q).abs().max() < 1e-4 for p, q in zip(b, expected, strict=True))

"""A captured step trains as the step itself does: the same losses, weights, gradients and random numbers, bit for bit.

The oracle is the same step, uncaptured, on a second network with the same weights.
"""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tfexplore
from tests.nn.steps_to_capture import BATCH, STEPS, WARM, batches, loss_of, network, plain, train
from tfexplore.nn import capturing, losses
from tfexplore.nn.capturing import Times, capture
from tfexplore.nn.networks import conv

Make = Callable[[nn.Module], Callable[..., Any]]


def same(net: nn.Module, make: Make, data: list[tuple[Tensor, ...]]) -> capturing.Captured:
    """Trains the network and a copy of it, one captured, and compares."""
    other = copy.deepcopy(net)
    captured = capture(make(other))
    expected, found = train(make(net), data), train(captured, data)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=0)
    for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.equal(p.grad, q.grad)
    assert all(kind.replay is not None for kind in captured.kinds.values())
    return captured


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum and dampening": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=1e-3),
    "fused SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
    "AdamW, capturable": lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-2), fused=True, capturable=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_trains_as_uncaptured(name: str) -> None:
    captured = same(network(), lambda net: plain(net, OPTIMISERS[name](net.parameters()), clip=0.5), batches())
    assert captured.report()[0].calls == WARM + 5


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: network(nn.Dropout(0.3)),
    "learned parameters": lambda: network(tfexplore.ParametricLIF(), tfexplore.ALIF(learn="tau", channels=16)),
    "batch norm": lambda: network(tfexplore.FoldTime(nn.BatchNorm1d(16))),
    "eager backend": lambda: network(tfexplore.LIF(backend="torch")),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_as_uncaptured(name: str) -> None:
    net = NETWORKS[name]()
    each_loss = [each.item() for each in train(plain(copy.deepcopy(net)), batches())]
    assert len(set(each_loss)) == len(each_loss)
    same(net, plain, batches())


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (tfexplore.fuse(conv(batch_norm=True)), (1, 8, 8)),
        (network(tfexplore.Recurrent(tfexplore.LIF(), nn.Linear(16, 16))), (12,)),
    ],
    ids=["batch norm in the kernel", "recurrent"],
)
def test_what_a_tape_sees_as_other_operators_trains_the_same_to_rounding(
    net: nn.Module, shape: tuple[int, ...]
) -> None:
    """As under every mode of torch's, a BatchNorm stands apart, and feedback is a product at each step."""
    other = copy.deepcopy(net)
    data = [(torch.rand(3, 4, *shape), torch.arange(4)) for _ in range(WARM + 3)]
    expected, found = train(plain(net), data), train(capture(plain(other)), data)
    assert torch.allclose(torch.stack(found), torch.stack(expected), rtol=1e-4)


def test_each_shape_is_captured_and_kept() -> None:
    data = [*batches(WARM + 2), *batches(WARM + 2, batch=3), *batches(3), *batches(3, batch=3)]
    captured = same(network(nn.Dropout(0.3)), plain, data)
    assert [times.inputs for times in captured.report()] == [
        f"float32 [{STEPS}, {b}, 12], int64 [{b}]" for b in (BATCH, 3)
    ]


def test_a_constant_image_stays_one() -> None:
    data = [(x[:1].expand(STEPS, BATCH, 12), y) for x, y in batches()]
    captured = same(network(), plain, data)
    (kind,) = captured.kinds.values()
    assert kind.buffers[0].stride(0) == 0


def test_mixed_precision() -> None:
    def make(net: nn.Module) -> Callable[..., Tensor]:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)

        def step(x: Tensor, y: Tensor) -> Tensor:
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(net, x, y)
            loss.backward()
            optimiser.step()
            return loss

        return step

    same(network(), make, batches())
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="autocast is on around"):
        capture(make(network()))(*batches(1)[0])


@pytest.mark.parametrize("start", [4.0, 1e38])  # the second overflows: the first steps are skipped, and the scale falls
def test_a_gradient_scaler(start: float) -> None:
    def make(net: nn.Module) -> Callable[..., Any]:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=3)

        def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            optimiser.zero_grad()
            loss = loss_of(net, x, y)
            scaler.scale(loss).backward()
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimiser)
            scaler.update()
            return loss, scaler._scale.clone()

        return step

    same(network(), make, [*batches(20)])


def test_states_go_on_within_a_step() -> None:
    def make(net: nn.Module) -> Callable[..., Tensor]:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)

        def step(x: Tensor, y: Tensor) -> Tensor:
            total = torch.tensor(0.0)
            with tfexplore.carry(net) as states:
                for part in x.split(2):  # truncated backpropagation: two steps each
                    optimiser.zero_grad()
                    loss = loss_of(net, part, y)
                    loss.backward()
                    optimiser.step()
                    states.detach()
                    total += loss.detach()
            return total

        return step

    same(network(), make, batches())


def test_lengths_and_our_losses() -> None:
    def make(net: nn.Module) -> Callable[..., Tensor]:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)

        def step(x: Tensor, y: Tensor, lengths: Tensor) -> Tensor:
            optimiser.zero_grad()
            with tfexplore.padded(net, lengths):
                loss = losses.rate_cross_entropy(net(x), y, lengths=lengths)
            loss.backward()
            optimiser.step()
            return loss

        return step

    data = [(x, y, torch.randint(1, STEPS + 1, (BATCH,))) for x, y in batches()]
    same(network(), make, data)


def test_gradients_are_added_up_over_calls() -> None:
    def make(net: nn.Module) -> Callable[..., Tensor]:
        def step(x: Tensor, y: Tensor) -> Tensor:
            loss = loss_of(net, x, y)
            loss.backward()
            return loss

        return step

    same(network(), make, batches())


def test_gradients_that_go_missing_are_named() -> None:
    net = network()

    def step(x: Tensor, y: Tensor) -> None:
        loss_of(net, x, y).backward()

    captured, (data, *_) = capture(step), batches()
    for _ in range(WARM + 1):
        captured(*data)
    net.zero_grad()
    with pytest.raises(RuntimeError, match=r"is None before this one: call zero_grad\(\) within the step"):
        captured(*data)


def test_a_scheduler_changes_a_rate_that_is_a_tensor_and_no_other() -> None:
    def make(net: nn.Module, rate: Any) -> tuple[Callable[..., Tensor], Any]:
        optimiser = torch.optim.SGD(net.parameters(), lr=rate, fused=True)
        return plain(net, optimiser), torch.optim.lr_scheduler.StepLR(optimiser, 1, gamma=0.9)

    net, data = network(), batches()
    other, fixed = copy.deepcopy(net), copy.deepcopy(net)
    eager, scheduler = make(net, torch.tensor(0.1))
    step, other_scheduler = make(other, torch.tensor(0.1))
    captured = capture(step)
    for batch in data:
        assert torch.equal(captured(*batch), eager(*batch))
        scheduler.step()
        other_scheduler.step()
    step, scheduler = make(fixed, 0.1)
    captured = capture(step)
    for batch in data[: WARM + 1]:
        captured(*batch)
    scheduler.step()
    with pytest.raises(
        RuntimeError, match=r"SGD's lr was 0.1 when .* SGD\(..., lr=torch.tensor\(0.1, device='cpu'\), fused=True"
    ):
        captured(*data[0])
    captured.forget()
    captured(*data[0])


def test_outputs_may_be_kept_and_nested() -> None:
    net = network()

    def step(x: Tensor, y: Tensor) -> dict[str, Any]:
        out = net(x)
        return {"loss": cross_entropy(out.mean(0), y), "parts": (out, [None])}

    captured, data = capture(step), batches()
    kept = [captured(*batch) for batch in data]
    for (x, y), found in zip(data, kept, strict=True):
        assert torch.equal(found["loss"], loss_of(net, x, y))
        assert torch.equal(found["parts"][0], net(x))
        assert found["parts"][1] == [None]
        assert not found["loss"].requires_grad


# -- what cannot be captured -----------------------------------------------------------------------------------------


def refused(work: Callable[[Tensor, Tensor], Any], calls: int = WARM) -> str:
    with pytest.raises(RuntimeError, match="step cannot be captured") as info:
        train(capture(work), batches(calls))
    return str(info.value)


def test_reading_a_number_is_named_with_its_line() -> None:
    net = network()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(net, x, y)
        if loss.item() > 100:
            loss = loss * 2
        return loss

    said = refused(step, calls=1)
    assert "reads a number from a tensor" in said
    assert "test_capture.py, line" in said
    assert "`if loss.item() > 100:`" in said


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda x, y: x if bool((x > 0).all()) else -x, "reads a number"),
        (lambda x, y: x if torch.equal(x, -x) else -x, "reads a number"),
        (lambda x, y: x[x > 0.5], "shape depends on values (index)"),
        (lambda x, y: x.nonzero(), "shape depends on values (nonzero)"),
        (lambda x, y: x.to("meta"), "moves a tensor to meta"),
        (lambda x, y: (x, torch.ones(3, device="meta") * 2), "uses a tensor on meta"),
    ],
)
def test_what_no_replay_can_do_is_named_at_the_first_call(work: Callable[..., Any], words: str) -> None:
    assert words in refused(work, calls=1)


def test_indices_are_no_masks() -> None:
    captured = capture(lambda x, y: x[:, y % 3])
    for x, y in batches():
        assert torch.equal(captured(x, y), x[:, y % 3])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (torch.optim.Adam, r"Adam's step reads a number .*; make it Adam\(..., fused=True, capturable=True\)"),
        (torch.optim.NAdam, r"NAdam's step .*; make it NAdam\(..., capturable=True\), which needs a GPU"),
    ],
)
def test_an_optimiser_that_reads_numbers_is_named_with_its_argument(kind: type, words: str) -> None:
    net = network()
    with pytest.raises(RuntimeError, match=words):
        capture(plain(net, kind(net.parameters())))(*batches(1)[0])


def test_a_scaler_names_the_optimiser_that_is_not_fused() -> None:
    net, scaler = network(), torch.amp.GradScaler("cpu")
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(x: Tensor, y: Tensor) -> None:
        scaler.scale(loss_of(net, x, y)).backward()
        scaler.step(optimiser)
        scaler.update()

    assert "make it SGD(..., fused=True)" in refused(step, calls=1)


def test_a_state_carried_from_call_to_call_is_named() -> None:
    net = network()
    with tfexplore.carry(net):
        said = refused(lambda x, y: net(x).detach())
    assert "that is another one at each call" in said
    assert "`carry` belongs into the step" in said


def test_a_batch_from_outside_is_named() -> None:
    net, held = network(), {}

    def step(x: Tensor, y: Tensor) -> Tensor:
        return loss_of(net, held["x"], y)

    captured = capture(step)

    def call(x: Tensor, y: Tensor) -> Tensor:
        held["x"] = x.clone()
        return captured(x, y)

    words = rf"reads a tensor, float32 \[{STEPS}, {BATCH}, 12\].*pass it as an argument"
    with pytest.raises(RuntimeError, match=words):
        train(call, batches())


def test_arguments_are_checked_before_anything_is_changed() -> None:
    captured, (x, y) = capture(lambda x, y: x + y.sum()), batches(1)[0]
    with pytest.raises(TypeError, match="argument 1 is of type int"):
        captured(x, 3)
    with pytest.raises(ValueError, match="argument 0 of a captured step requires a gradient"):
        captured(x.requires_grad_(), y)
    x.requires_grad_(False)
    captured(x, y)
    with pytest.raises(ValueError, match="argument 1 of a captured step is on meta, the step on cpu"):
        captured(x, y.to("meta"))
    with pytest.raises(TypeError, match="step returns a value of type float"):
        capture(lambda x: 1.0)(x)
    with pytest.raises(ValueError, match="a step without arguments does not show its device"):
        capture(x.sum)()
    assert torch.equal(capture(x.sum, device="cpu")(), x.sum())


def test_the_number_of_shapes_is_bounded() -> None:
    captured = capture(lambda x: x + 1, shapes=2)
    captured(torch.ones(1))
    captured(torch.ones(2))
    with pytest.raises(ValueError, match=r"given 2 kinds of input, and float32 \[3\] would be one more"):
        captured(torch.ones(3))
    captured(torch.ones(2))


# -- what it says of itself ------------------------------------------------------------------------------------------


def test_times_say_after_how_many_steps_capturing_is_paid() -> None:
    made = Times("float32 [2]", 30, first=1.0, capturing=0.5, eager=0.004, captured=0.003)
    assert made.pays_after == 500
    assert str(made) == (
        "float32 [2]: 30 calls, the first 1.00 s; eager 4.00 ms a step, captured 3.00 ms; capturing took 0.50 s and pays after "
        "500 steps"
    )
    slower = Times("float32 [2]", 30, first=1.0, capturing=0.5, eager=0.003, captured=0.004)
    assert slower.pays_after is None
    assert str(slower).endswith("never pays")
    assert (
        str(Times("float32 [2]", 1, 1.0, 0.0, None, None)) == "float32 [2]: 1 calls, the first 1.00 s; not captured yet"
    )


def test_a_bias_is_added_in_place_as_without_a_tape() -> None:
    """Of x that is no contiguous matrix, torch adds the bias into the product, but beside it where a mode looks."""

    def losses(captured: bool) -> tuple[list[float], str]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
        optimiser = torch.optim.SGD(net.parameters(), lr=0.2)

        def step(x: Tensor) -> Tensor:
            optimiser.zero_grad()
            loss = (net(x) - 1).square().mean()
            loss.backward()
            optimiser.step()
            return loss

        run: Any = capture(step) if captured else step
        found = [run(torch.full((1, 3, 6), 0.1 * k).expand(4, 3, 6)).item() for k in range(12)]
        return found, run.program() if captured else ""

    found, text = losses(True)
    assert found == losses(False)[0]
    assert "aten.mm" in text
    assert "aten.add.Tensor" not in text


def test_a_captured_step_reports_and_shows_its_program() -> None:
    captured, data = capture(plain(network())), batches()
    assert captured.program() == ""
    for batch in data:
        captured(*batch)
    (times,) = captured.report()
    assert times.calls == len(data)
    assert times.first > 0
    assert times.eager > 0
    assert times.captured > 0
    text = captured.program()
    assert text.startswith("def forward(")
    assert all(name in text for name in ("run_forward", "run_backward", "addmm", "nll_loss"))
    assert str(times) in str(captured)


def test_nothing_of_a_step_outlives_it() -> None:
    """The activations of the recorded step are not kept alive by the tape."""
    seen: list[weakref.ref[Tensor]] = []

    def step(x: Tensor, y: Tensor) -> Tensor:
        hidden = torch.exp(x)
        seen.append(weakref.ref(hidden))
        return hidden.sum()

    captured = capture(step)
    for batch in batches(WARM + 1):
        captured(*batch)
    gc.collect()
    assert [ref() for ref in seen] == [None] * WARM

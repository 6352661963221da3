"""T-RevSNN: forward and every gradient against a plain loop of torch's functions, its published parameters, its merged form."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reversible.plain_trevsnn import plain
from tfexplore import data
from tfexplore.reversible import StandardisedConv2d, TRevSNN, merged, operations, trevsnn, turned_off, weighted_loss

CHANNELS = (8, 12, 16, 20)
SMALL: dict[str, Any] = {"channels": CHANNELS, "classes": 5, "kernel_size": 3}


def lively(net: nn.Module, seed: int = 0) -> Any:
    """Weights under which every layer of it fires."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith(("gain", "gamma", "raw")) or p.ndim == 1:
                p.add_(0.4 * torch.randn_like(p))
            else:
                p.normal_(std=1.5 / math.sqrt(p[0].numel()))
    return net


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def gradients(outputs: list[Tensor], parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    loss = weighted_loss(outputs, torch.arange(len(outputs[0])) % 5)
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def distance(a: Tensor, b: Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).detach())


CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "own": (SMALL, (3, 3, 32, 32)),
    "own, 8 steps": (SMALL | {"steps": 8}, (3, 3, 32, 32)),
    "own, split": (SMALL | {"stem": "split"}, (3, 3, 32, 32)),
    "own, events": (SMALL | {"in_channels": 2, "stem_stride": 1}, (4, 3, 2, 8, 8)),
    "shared": (SMALL | {"own_weights": False, "steps": 8}, (3, 3, 32, 32)),
    "shared, events": (SMALL | {"own_weights": False, "in_channels": 2, "stem_stride": 1}, (12, 3, 2, 8, 8)),
    "two levels": (SMALL | {"channels": (8, 12), "stem_stride": 1, "in_channels": 1}, (3, 1, 4, 6)),
}


@pytest.mark.parametrize(
    ("keep", "dtype"),
    [("graph", torch.float64), ("levels", torch.float64), ("auto", torch.float32), ("auto", torch.float64)],
)
@pytest.mark.parametrize("case", CASES)
def test_a_plain_loop_gives_the_same_outputs_and_gradients(case: str, dtype: torch.dtype, keep: str) -> None:
    options, shape = CASES[case]
    net = lively(TRevSNN(**options, keep=keep)).to(dtype)
    x = images(*shape, dtype=dtype).requires_grad_()
    named = dict(net.named_parameters()) | {"x": x}
    copies = {name: p.detach().clone().requires_grad_() for name, p in named.items()}
    how = {"own": net.own_weights, "steps": net.steps, "split": net.groups > 1}
    expected = plain(copies, copies["x"], levels=len(options["channels"]), **how)
    found = net(x)
    bound = 1e-5 if dtype == torch.float32 else 1e-10
    assert len(found) == 4
    assert max(map(distance, found, expected)) < bound
    ours, by_hand = gradients(found, named), gradients(expected, copies)
    assert all(float(g.abs().max()) > 0 for g in by_hand.values())
    far = {name: d for name in ours if (d := distance(ours[name], by_hand[name])) > bound}
    assert not far


@pytest.mark.parametrize("own", [True, False])
def test_bits_and_levels_give_the_same_bits(own: bool) -> None:
    net = lively(TRevSNN(**SMALL, own_weights=own))
    x, named = images(3, 3, 32, 32), dict(net.named_parameters())
    found = {}
    for keep in ("levels", "bits", "auto"):
        net.time.keep = keep
        outputs = net(x)
        found[keep] = [torch.stack(outputs), gradients(outputs, named)]
    for keep in ("bits", "auto"):
        assert torch.equal(found[keep][0], found["levels"][0])
        for name, g in found[keep][1].items():
            # alpha's is a sum in another order, or of states that were inverted
            same = (
                distance(g, found["levels"][1][name]) < 1e-5
                if name.endswith("raw")
                else torch.equal(g, found["levels"][1][name])
            )
            assert same, name


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("size", "code", "paper"), [("tiny", 17_376_912, 15.2), ("small", 32_331_312, 29.8)])
def test_parameters_are_those_of_code_and_paper(size: str, code: int, paper: float) -> None:
    net = trevsnn(size)
    assert count(net) == code
    for_training = sum(map(count, net.heads[:3])) + count(net.heads[3].classify[1])
    assert round((code - for_training) / 1e6, 1) == paper


def test_the_parameters_of_mini_counted_by_hand() -> None:
    def convolution(come: int, leave: int, size: int) -> int:
        return leave * (come * size**2 + 2)  # a bias and a gain

    total, channels = convolution(1, 16, 3), (16, 32, 48)
    for k, c in enumerate(channels):
        depth, wide, back = c * 26, convolution(c, 4 * c, 1), convolution(4 * c, c, 1)
        down = c * (channels[k - 1] * (1 if k == 2 else 9) + 2) if k else 0
        up = c * (channels[k + 1] + 2) if k < 2 else 0
        total += 4 * (c + down + 3 * depth + 2 * wide + back + c) + 3 * up + back + depth
    assert total + 4 * convolution(48, 10, 1) + convolution(10, 10, 1) == count(trevsnn("mini")) == 260_632


def test_a_standardised_convolution_is_its_formula() -> None:
    conv = StandardisedConv2d(3, 4, 5, 2)
    nn.init.normal_(conv.gain)
    x, weight = images(2, 3, 9, 9).double(), conv.weight.detach().double()
    made = []
    for kernel, gain in zip(weight, conv.gain.flatten().tolist(), strict=True):
        mean = sum(kernel.flatten().tolist()) / 75
        variance = sum((w - mean) ** 2 for w in kernel.flatten().tolist()) / 75
        made.append((kernel - mean) / math.sqrt(variance + 1e-6) * gain / math.sqrt(75))
    expected = functional.conv2d(x, torch.stack(made), conv.bias.detach().double(), 2, 2)
    torch.testing.assert_close(conv.double()(x), expected, rtol=1e-7, atol=1e-7)


def test_the_same_image_goes_through_the_stem_once() -> None:
    net, seen = trevsnn("mini", channels=(8, 12), own_weights=False, steps=16), []
    net.stem[0].register_forward_hook(lambda module, args, out: seen.append(args[0].shape))
    x = images(2, 1, 8, 8)
    found = net(x)
    assert net.currents(x).stride(0) == 0
    assert seen == [(2, 1, 8, 8)] * 2
    shown = net.eval()(x.expand(16, *x.shape))  # as time steps, which happen to be the same
    assert seen[2:] == [(2, 1, 8, 8)]
    assert torch.equal(torch.stack(shown), torch.stack(net(x)))
    assert len(found) == 4


def test_shared_weights_take_any_number_of_steps_and_normalise_once_in_each() -> None:
    net = lively(trevsnn("mini", channels=(8, 12, 16), own_weights=False))
    for steps in (4, 7, 16):
        net.steps = steps
        before = int(net.time.steps[0][1].down[1].num_batches_tracked)
        weighted_loss(net(images(2, 1, 8, 8)), torch.tensor([0, 1])).backward()
        assert int(net.time.steps[0][1].down[1].num_batches_tracked) - before == steps
        assert int(net.time.steps[0][1].up[1].num_batches_tracked) <= before + steps - 1


def hand_count(channels: tuple[int, ...], side: int, steps: int, kernel: int, width: int, classes: int) -> int:
    """Multiply-adds of the levels and the last head."""
    top = len(channels) - 1
    sides = [side // 2 ** min(k, top - 1) for k in range(top + 1)]
    total = 0
    for t in range(steps):
        for k, (c, n) in enumerate(zip(channels, sides, strict=True)):
            total += n * n * 2 * (2 * c * kernel**2 + 2 * c * width * c)
            total += n * n * c * channels[k - 1] * (1 if k == top else 9) if k else 0
            total += sides[k + 1] ** 2 * c * channels[k + 1] if k < top and t else 0
    return total + channels[-1] * classes


def test_operations_are_those_counted_by_hand() -> None:
    x = torch.empty(2, 3, 32, 32)
    net = TRevSNN(CHANNELS, 5, steps=4, kernel_size=3, logits="last")
    stem = 16 * 16 * 147 * 8 + 8 * 8 * 9 * 8 * 8
    assert operations(net, x) == 2 * (stem + hand_count(CHANNELS, 8, 4, 3, 4, 5))
    net = TRevSNN(CHANNELS, 5, steps=4, kernel_size=3, logits="last", stem="split")
    assert operations(net, x) == 2 * (stem + 3 * 8 * 8 * 9 * 8 * 8 + hand_count(CHANNELS, 8, 4, 3, 4, 5))


def test_only_a_split_stem_costs_the_same_for_any_number_of_steps() -> None:
    """64 features in total: every step gets them, or its own part of them."""
    x, whole = torch.empty(1, 1, 8, 8), (64, 128, 192)
    usual = {"in_channels": 1, "stem_stride": 1, "kernel_size": 3, "logits": "last", "heads": 1}
    every = [operations(TRevSNN(whole, 10, steps=steps, **usual), x) for steps in (1, 2, 4, 8)]
    own = [
        operations(TRevSNN([c // steps for c in whole], 10, steps=steps, stem="split", **usual), x)
        for steps in (1, 2, 4, 8)
    ]
    assert every == sorted(every)
    assert every[3] > 7.9 * every[0]
    assert own == sorted(own, reverse=True)
    assert own[0] == every[0]


def trained(net: TRevSNN) -> TRevSNN:
    """With running statistics as after training."""
    torch.manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merged_gives_what_evaluation_gives(case: str, dtype: torch.dtype) -> None:
    options, shape = CASES[case]
    net = trained(lively(TRevSNN(**options))).to(dtype)
    x = images(*shape, dtype=dtype)
    kept = copy.deepcopy(net.state_dict())
    plain_form = merged(net)
    bound = 1e-5 if dtype == torch.float32 else 1e-10
    assert max(map(distance, plain_form(x), net(x))) < bound
    kinds = {type(module) for module in plain_form.modules()}
    assert not kinds & {nn.BatchNorm2d, StandardisedConv2d}
    assert not any(p.requires_grad for p in plain_form.parameters())
    assert all(torch.equal(v, kept[name]) for name, v in net.state_dict().items())
    state: tuple[Tensor, ...] = ()
    for t, current in enumerate(plain_form.currents(x)):
        state = plain_form.step(t, current, state)
    assert [z.shape for z in state] == [z.shape for z in plain_form.step(0, current)]
    assert torch.equal(plain_form.heads[-1](state[-1]), plain_form(x)[-1])


def test_merged_is_made_of_the_halves_that_sub_networks_share_once() -> None:
    net = trevsnn("mini", steps=16)
    weights = 48 * 4 * 48
    assert count(merged(net)) < count(net)
    assert sum(p.numel() == weights for p in merged(net).parameters()) == 16 + 16 + 16 + 1


@pytest.mark.parametrize("own", [True, False])
def test_merged_is_exported_saved_and_loaded(own: bool) -> None:
    net = lively(trevsnn("mini", channels=(8, 12), own_weights=own)).eval()
    form, x = merged(net), images(2, 1, 8, 8)
    program = torch.export.export(form, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=2)}})
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for batch in (2, 5):
        y = images(batch, 1, 8, 8)
        assert all(torch.equal(a, b) for a, b in zip(loaded(y), form(y), strict=True))


def test_training_and_evaluation_agree_at_a_half() -> None:
    x = torch.tensor([[[0.5 - 2**-25, 0.5]]])
    spikes = turned_off()
    assert spikes.train()(x).tolist() == spikes.eval()(x).tolist() == [[[0.0, 1.0]]]
    # a level whose state is what the stem gives, for one sample exactly 0.5
    net = TRevSNN((4,), 5, steps=1, heads=1, in_channels=1, stem_stride=1, kernel_size=3)
    with torch.no_grad():
        net.stem[0].weight.zero_()
        net.stem[0].bias.fill_(0.5)
        for block in net.time.steps[0][0].then:
            block.second[1].weight.zero_()
    (training,) = net.train()(images(1, 1, 4, 4))
    (evaluated,) = net.eval()(images(1, 1, 4, 4))
    weight1, weight2 = (conv.standardised.flatten(1) for conv in net.heads[0].classify)
    torch.testing.assert_close(training, (weight2 @ weight1.sum(1)).unsqueeze(0))
    assert torch.equal(training, evaluated)
    torch.testing.assert_close(merged(net)(images(1, 1, 4, 4))[0], evaluated)


def test_heads_and_their_loss() -> None:
    logits = [torch.randn(6, 5) for _ in range(4)]
    labels = torch.arange(6) % 5
    for smoothing in (0.0, 0.1):
        target = functional.one_hot(labels, 5) * (1 - smoothing) + smoothing / 5
        each = [-(target * z.log_softmax(1)).sum(1).mean() for z in logits]
        expected = each[0] / 4 + each[1] / 2 + each[2] * 3 / 4 + 2 * each[3]
        torch.testing.assert_close(weighted_loss(logits, labels, label_smoothing=smoothing), expected)


def test_logits_of_all_heads_of_the_last_or_their_mean() -> None:
    net, x = lively(trevsnn("mini", channels=(8, 12))).eval(), images(2, 1, 8, 8)
    each = net(x)
    for logits, expected in (("last", each[-1]), ("mean", sum(each) / 4)):
        net.logits = logits
        torch.testing.assert_close(net(x), expected)
        torch.testing.assert_close(merged(net)(x), expected, rtol=1e-5, atol=1e-5)


def test_it_learns_the_digits() -> None:
    torch.manual_seed(0)
    digits = data.digits()
    x, labels = (digits.train_images[:32].view(-1, 1, 8, 8) - 0.3) / 0.4, digits.train_labels[:32]
    net = trevsnn("mini", channels=(8, 16))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(16):
        optimiser.zero_grad()
        loss = weighted_loss(net(x), labels, label_smoothing=0.1)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_copies_keep_what_is_shared() -> None:
    net = lively(TRevSNN(**SMALL))
    x = images(2, 3, 32, 32)
    other = TRevSNN(**SMALL)
    other.load_state_dict(net.state_dict())
    for made in (copy.deepcopy(net), copy.deepcopy(net).double().float(), other):
        assert count(made) == count(net)
        assert torch.equal(made(x)[-1], net(x)[-1])
    before = {name: id(p) for name, p in net.named_parameters()}
    weighted_loss(net(x), torch.tensor([0, 1])).backward()
    assert {name: id(p) for name, p in net.named_parameters()} == before
    assert all(p.grad is not None for p in net.parameters())


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "size": (lambda: trevsnn("large"), "size must be one of 'tiny', 'small', 'mini', but got 'large'"),
    "stem": (lambda: trevsnn("mini", stem="copy"), "stem must be 'repeat' or 'split', but got 'copy'"),
    "stem_stride": (lambda: trevsnn("mini", stem_stride=2), "stem_stride must be 1 .* or 4 .*, but got 2"),
    "kernel_size": (lambda: trevsnn("mini", kernel_size=4), "kernel_size must be odd, .* but got 4"),
    "steps": (lambda: trevsnn("mini", steps=3), "steps must be at least as many as heads, 4, but got 3"),
    "classes": (lambda: trevsnn("mini", classes=0), "classes must be"),
    "channels": (lambda: trevsnn("mini", channels=(8, 0)), "channels must be"),
    "logits": (
        lambda: trevsnn("mini", logits="sum")(images(1, 1, 8, 8)),
        "logits must be 'all', 'last' or 'mean', but got 'sum'",
    ),
    "x": (lambda: trevsnn("mini")(images(1, 8, 8)), r"x must be images .* but got shape \[1, 8, 8\]"),
    "sides": (lambda: trevsnn("mini")(images(1, 1, 7, 8)), "sides that are multiples of 2, but is 7 x 8"),
    "split": (
        lambda: trevsnn("mini", stem="split")(images(4, 1, 1, 8, 8)),
        "stem='split' makes time steps .* of its own",
    ),
    "steps of x": (
        lambda: merged(trevsnn("mini", channels=(4, 4), logits="last"))(images(3, 1, 1, 8, 8)),
        "each of the 4 time steps has weights of its own: x must have them all, but has 3",
    ),
    "merged": (lambda: merged(nn.Linear(2, 2)), "net must be a TRevSNN, but got Linear"),
    "read": (lambda: trevsnn("mini", read=nn.Identity()), "multiple values for keyword argument 'read'"),
    "outputs": (lambda: weighted_loss(images(4, 5), torch.zeros(4)), "outputs must be the logits of every head"),
    "smoothing": (lambda: weighted_loss([images(4, 5)], torch.zeros(4), label_smoothing=2), "label_smoothing must be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_errors_are_one_clear_sentence(case: str) -> None:
    call, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        call()

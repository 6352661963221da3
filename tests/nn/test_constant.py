"""A current that is the same at every step: `image.expand(T, ...)` through stateless modules and layers, once.

The oracle: the same input, materialised.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tests.cases import distance, noise, same_bits
from tfexplore import FoldTime, Layer, neurons
from tfexplore.nn.constant import once, repeated

T, B = 35, 2


def image() -> Tensor:
    return noise(1, B, 1, 8, 8, seed=0) + 0.5


def net(*middle: nn.Module, **options: str) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        FoldTime(nn.Conv2d(1, 3, 3), *middle, nn.AvgPool2d(2)), tfexplore.LIF(v_threshold=0.3, **options),
        FoldTime(nn.Flatten(), nn.Linear(27, 4)), tfexplore.LI(**options),
    )  # fmt: skip


def results(module: nn.Module, x: Tensor, *inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(1)
    out = module(x)
    wanted = [*inputs, *module.parameters()]
    return out.detach(), list(torch.autograd.grad(out, wanted, noise(*out.shape, seed=2)))


def calls(module: nn.Module) -> list[int]:
    """The batch of every call of the module, as it comes."""
    seen: list[int] = []
    module.register_forward_hook(lambda _, given, out: seen.append(len(given[0])))
    return seen


@pytest.mark.parametrize("keep", ["input", "potential"])
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_the_same_spikes_and_gradients_with_one_convolution(backend, keep):
    module, x = net(backend=backend, keep=keep), image()
    batches = calls(module[0][0])
    out, found = results(module, x.expand(T, B, 1, 8, 8))
    assert batches == [B]
    expected, wanted = results(module, x.repeat(T, 1, 1, 1, 1))
    assert batches == [B, T * B]
    assert module[1](module[0](x.repeat(T, 1, 1, 1, 1))).mean() > 0.05
    assert same_bits(out, expected)
    assert all(distance(mine, theirs) <= 2e-6 for mine, theirs in zip(found, wanted, strict=True))


def test_in_float64_the_gradients_are_equal():
    module, x = net(backend="numba").double(), image().double()
    (out, found), (expected, wanted) = (
        results(module, given) for given in (x.expand(T, B, 1, 8, 8), x.repeat(T, 1, 1, 1, 1))
    )
    assert same_bits(out, expected)
    assert all(distance(mine, theirs) <= 1e-12 for mine, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("learn", [(), ("tau",)], ids=["", "learned"])
@pytest.mark.parametrize("keep", ["input", "potential", "bits"])
@pytest.mark.parametrize("backend", ["numba", "cuda"])
def test_a_layer_reads_one_step_and_sums_its_gradient(fake_cupy, backend, keep, learn):
    """Also for another layout, an odd number of neurons, traces, and a given state."""
    surrogate = tfexplore.surrogates.Rectangle() if keep == "bits" else tfexplore.surrogates.ATan()
    neuron = neurons.LIF(tau=3.0, surrogate=surrogate, learn=learn)
    if keep == "bits" and learn:
        neuron = neurons.LIF(tau=3.0, surrogate=surrogate, learn="v_threshold")
    fused, eager = Layer(neuron, backend=backend, keep=keep), Layer(neuron, backend="torch")
    for shape, last in (((5,), False), ((3, 8), True), ((512,), False)):
        single = (noise(1, B, *shape, seed=0) + 0.6).requires_grad_()
        lying = single.movedim(2, -1).contiguous().movedim(-1, 2) if last else single
        start = noise(B, *shape, seed=1).requires_grad_()
        g, g_v = noise(T, B, *shape, seed=2), noise(T, B, *shape, seed=3)
        made = []
        for layer, x in ((fused, repeated(lying, T)), (eager, lying.repeat(T, *(1,) * (single.ndim - 1)))):
            out, (last_v,), v = layer(x, (start,), return_state=True, trace="v")
            learned = list(layer.raw.values())
            made.append((out, v, *torch.autograd.grad((out, last_v, v), (single, start, *learned), (g, g[0], g_v))))
        (out, v, *found), (expected, v_expected, *wanted) = made
        assert 0.05 < out.mean() < 0.95
        assert same_bits(out, expected)
        assert same_bits(v, v_expected)
        assert all(distance(mine, theirs) <= 1e-5 for mine, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_in_half_precision_the_sum_over_time_is_rounded_once(dtype):
    single = (noise(1, B, 5, seed=0) + 0.6).to(dtype).requires_grad_()
    out = tfexplore.LIF(backend="numba")(repeated(single, T))
    (found,) = torch.autograd.grad(out, single, noise(T, B, 5, seed=2).to(dtype))
    exact = single.detach().float().requires_grad_()
    expected = tfexplore.LIF(backend="numba")(exact.repeat(T, 1, 1))
    (wanted,) = torch.autograd.grad(expected, exact, noise(T, B, 5, seed=2).to(dtype).float())
    assert torch.equal(out.float(), expected)
    assert distance(found.float(), wanted) <= torch.finfo(dtype).eps


def test_an_input_with_a_gradient_may_be_expanded_by_whoever_gives_it():
    """autograd sums over time there; the layer then sees T steps."""
    module, x = net(backend="numba"), image().requires_grad_()
    batches = calls(module[0][0])
    out, found = results(module, x.expand(T, B, 1, 8, 8), x)
    expected, wanted = results(module, x.repeat(T, 1, 1, 1, 1), x)
    assert same_bits(out, expected)
    assert all(distance(mine, theirs) <= 2e-6 for mine, theirs in zip(found, wanted, strict=True))
    assert batches == [T * B] * 2
    with torch.no_grad():  # without a gradient, once
        assert same_bits(module(x.expand(T, B, 1, 8, 8)), out)
    assert batches[2:] == [B]


def test_dropout_draws_a_mask_for_every_step():
    module = net(nn.Dropout(0.5), backend="numba")
    conv, pool = calls(module[0][0]), calls(module[0][2])
    out, found = results(module, image().expand(T, B, 1, 8, 8))
    assert (conv, pool) == ([B], [T * B])
    expected, wanted = results(module, image().repeat(T, 1, 1, 1, 1))
    assert same_bits(out, expected)
    assert all(distance(mine, theirs) <= 2e-6 for mine, theirs in zip(found, wanted, strict=True))
    masked = module[0][:2](torch.ones(1, B, 1, 8, 8).expand(T, B, 1, 8, 8))
    assert len({tuple((step == 0).flatten().tolist()) for step in masked}) == T


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_in_training_counts_every_step(momentum):
    one, other = net(nn.BatchNorm2d(3, momentum=momentum)), net(nn.BatchNorm2d(3, momentum=momentum))
    conv = calls(one[0][0])
    (out, found), (expected, wanted) = (
        results(module, x)
        for module, x in ((one, image().expand(T, B, 1, 8, 8)), (other, image().repeat(T, 1, 1, 1, 1)))
    )
    assert conv == [B]
    assert torch.equal(out, expected)
    for (name, mine), theirs in zip(one.named_buffers(), other.buffers(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-6), name
    small = max(each.abs().max() for each in wanted) * 1e-6  # the bias before it has no gradient but rounding
    assert all((mine - theirs).abs().max() <= 2 * small for mine, theirs in zip(found, wanted, strict=True))
    one.eval()
    one(image().expand(T, B, 1, 8, 8))
    assert conv == [B, B]


def test_in_evaluation_batch_norm_and_dropout_give_what_they_gave():
    module = net(nn.BatchNorm2d(3), nn.Dropout(0.5)).eval()
    with torch.no_grad():
        assert same_bits(module(image().expand(T, B, 1, 8, 8)), module(image().repeat(T, 1, 1, 1, 1)))


class Mine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Known(Mine):
    deterministic = True


class Subclass(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


@pytest.mark.parametrize(
    ("make", "batch"),
    [(Mine, T * B), (Known, B), (Subclass, T * B), (lambda: nn.Sequential(nn.ReLU(), Mine()), T * B),
     (lambda: nn.Sequential(nn.ReLU(), Known()), B), (nn.RReLU, T * B), (nn.GELU, B),
     (lambda: nn.Softmax(0), T * B)],
    ids=["of one's own", "says so", "subclass", "within", "says so within", "random", "torch's", "mixes samples"],
)  # fmt: skip
def test_only_what_is_known_to_be_a_function_runs_once(make: Callable[[], nn.Module], batch: int):
    module = make()
    seen, x = calls(module), image()
    FoldTime(nn.Conv2d(1, 3, 3), module)(x.expand(T, B, 1, 8, 8))
    assert seen == [batch]


@pytest.mark.parametrize("keep", ["input", "potential"])
def test_of_the_current_one_step_is_saved(keep):
    layer, x = tfexplore.LIF(backend="numba", keep=keep), (noise(1, B, 512, seed=0)).requires_grad_()
    sizes = {}
    for name, given in (("once", repeated(x, 64)), ("always", x.repeat(64, 1, 1))):
        spikes = layer(given)
        saved = [t for t in spikes.grad_fn.saved_tensors if t is not None]
        sizes[name] = [t.untyped_storage().nbytes() for t in saved]
    if keep == "input":
        assert sizes["always"][0] == 64 * sizes["once"][0] == 64 * x.nbytes
    assert sizes["always"][1:] == sizes["once"][1:] if keep == "input" else sizes["always"] == sizes["once"]


def test_compiled_in_one_graph():
    torch.compiler.reset()
    module, x = net(backend="numba"), image().expand(T, B, 1, 8, 8)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    out = compiled(x)
    found = torch.autograd.grad(out, list(module.parameters()), noise(*out.shape, seed=2))
    expected, wanted = results(module, x)
    assert torch.allclose(out, expected, atol=1e-6)
    assert all(distance(mine, theirs) <= 5e-6 for mine, theirs in zip(found, wanted, strict=True))
    torch.compiler.reset()


def test_in_pieces_and_step_by_step():
    module, x = net(backend="numba"), image().expand(T, B, 1, 8, 8)
    out, wanted = results(module, x)
    with tfexplore.carry(module):
        pieces = torch.cat([module(piece) for piece in x.split([16, 1, 0, 18])])
    for made in (pieces, tfexplore.step_by_step(module, x)):
        assert torch.allclose(made, out, atol=1e-6)
        found = torch.autograd.grad(made, list(module.parameters()), noise(*out.shape, seed=2))
        assert all(distance(mine, theirs) <= 5e-6 for mine, theirs in zip(found, wanted, strict=True))


def test_what_is_constant_and_what_is_not():
    x = torch.rand(1, 2, 3)
    assert once(x.expand(5, 2, 3)).shape == (1, 2, 3)
    assert once(x) is None  # a single step is that
    assert once(x.expand(0, 2, 3)) is None
    assert once(torch.rand(5, 2, 3)) is None
    assert once(torch.rand(5, 1, 3).expand(5, 2, 3)) is None
    given = x.clone().requires_grad_()
    assert once(given.expand(5, 2, 3)) is None
    assert once(repeated(given, 5)) is given

"""Layers that save spikes as bits: the gradients of the plain layer, to the bit, and a thirty-second of its memory."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tfexplore import FoldTime
from tfexplore.data import pack, unpack
from tfexplore.nn import BitSaving


def spikes(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.3).to(dtype)


def saved_bytes(run: Callable[[], Any], *apart: Tensor) -> int:
    """Bytes of all tensors' storages that a call leaves alive, besides these and what it returns."""
    gc.collect()

    def storages() -> dict[int, int]:
        # by type: the collector also shows what other tests left, proxies and tensors without memory
        found = [
            each for each in gc.get_objects() if type(each) in (Tensor, nn.Parameter) and each.device.type == "cpu"
        ]
        return {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in found}

    before = storages()
    out = run()
    gc.collect()
    after = storages()
    own = {each.untyped_storage().data_ptr() for each in (out, *apart)}
    return sum(size for place, size in after.items() if place not in before and place not in own)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(37, 5), (6, 3, 37)),
    "linear without bias": (lambda: nn.Linear(37, 5, bias=False), (6, 37)),
    "linear of one sample": (lambda: nn.Linear(37, 5), (37,)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, padding=1), (5, 3, 19)),
    "conv1d without a batch": (lambda: nn.Conv1d(3, 4, 3), (3, 19)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, stride=2), (5, 3, 9, 11)),
    "grouped conv2d": (lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1), (2, 4, 9, 9)),
    "pointwise conv2d": (lambda: nn.Conv2d(4, 6, 1), (2, 4, 8, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 3), (2, 2, 5, 6, 7)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3), (2, 3, 5, 5)),
    "folded": (lambda: FoldTime(nn.Conv2d(2, 4, 3)), (4, 3, 2, 8, 8)),
    "folded pair": (lambda: FoldTime(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU()), (4, 3, 2, 8, 8)),
    "same size out": (lambda: nn.Sequential(nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8)), (4, 3, 8)),
}


def gradients(module: nn.Module, x: Any, *, wrt: Tensor | None = None, autocast: bool = False) -> list[Tensor]:
    """Output and gradients, for a random gradient of the output."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = module(x)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    wanted = [p for p in module.parameters() if p.requires_grad] + ([] if wrt is None else [wrt])
    return [out.detach(), *torch.autograd.grad(out, wanted, g)]


def pair(make: Callable[[], nn.Module]) -> tuple[nn.Module, BitSaving]:
    torch.manual_seed(0)
    plain = make()
    return plain, BitSaving(copy.deepcopy(plain))


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_gradients_are_the_same_bits(name: str, dtype: torch.dtype) -> None:
    make, shape = CASES[name]
    plain, saving = pair(lambda: make().to(dtype))
    x = spikes(*shape, dtype=dtype)
    for given in (x, x.clone().requires_grad_()):
        leaf = given if given.requires_grad else None
        assert same(gradients(saving, given, wrt=leaf), gradients(plain, given, wrt=leaf))
    assert any(g.any() for g in gradients(saving, x)[1:])
    assert same(gradients(saving, pack(x)), gradients(plain, x))
    if dtype == torch.float32:
        assert same(gradients(saving, pack(x.bool())), gradients(plain, x))
    if dtype == torch.float32:
        assert same(gradients(saving, x, autocast=True), gradients(plain, x, autocast=True))


@pytest.mark.parametrize("weight", ["contiguous", "channels_last"])
def test_channels_last_stays_channels_last(weight: str) -> None:
    plain, saving = pair(lambda: nn.Conv2d(8, 4, 3))
    if weight == "channels_last":
        for each in (plain, saving):
            each.to(memory_format=torch.channels_last)
    x = spikes(3, 8, 9, 9)
    for given in (
        x,
        x.to(memory_format=torch.channels_last),
        x.transpose(2, 3),
        x[:, :, 1:7, ::2],
        x[:1].expand(3, 8, 9, 9),
    ):
        found, wanted = gradients(saving, given), gradients(plain, given)
        assert same(found, wanted)
        assert [g.stride() for g in found] == [g.stride() for g in wanted]


def test_it_gives_back_the_same_tensor() -> None:
    """Dtype and strides of what the backward pass is given."""
    seen: list[Tensor] = []

    class Keeps(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sum() * weight

        @staticmethod
        def backward(ctx: Any, *g: Tensor) -> tuple[None, Tensor]:
            seen.extend(ctx.saved_tensors)
            return None, g[0]

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return Keeps.apply(x, self.weight)

    x = spikes(4, 6, 5, 7)
    for given in (
        x, x.half(), x.double(), x.to(memory_format=torch.channels_last), x.permute(3, 1, 0, 2), x[:, 1:4], x[..., ::3],
        x[:, :1].expand(4, 6, 5, 7), x[1:, :, :1].expand(3, 6, 8, 7)[..., 2:], x[:0], x[0, 0, 0, 0],
    ):  # fmt: skip
        seen.clear()
        BitSaving(Module())(given).backward()
        (found,) = seen
        assert (found.dtype, found.shape) == (given.dtype, given.shape)
        assert found.stride() == given.stride() or found.numel() < 2
        assert torch.equal(found, given)
        assert found.data_ptr() != given.data_ptr() or not found.numel()


@pytest.mark.parametrize(
    ("name", "shape"), [("linear", (64, 8, 64)), ("conv2d", (16, 8, 32, 32)), ("folded", (8, 4, 8, 32, 32))]
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_thirty_second_is_saved(name: str, shape: tuple[int, ...], packed: bool) -> None:
    make = {
        "linear": lambda: nn.Linear(64, 5), "conv2d": lambda: nn.Conv2d(8, 4, 3), "folded": lambda: FoldTime(nn.Conv2d(8, 4, 3)),
    }[name]  # fmt: skip
    plain, saving = pair(make)
    x = spikes(*shape)

    def run(layer: nn.Module) -> Callable[[], Any]:
        return lambda: layer(pack(x) if packed and layer is saving else x.clone())

    for layer in (plain, saving):
        run(layer)()
    assert saved_bytes(run(plain)) == x.nbytes
    assert saved_bytes(run(saving)) == x.nbytes // 32


def test_the_same_image_at_every_step() -> None:
    """FoldTime runs its module on the one step behind the view."""
    plain, layer = pair(lambda: FoldTime(nn.Conv2d(8, 4, 3)))
    image = spikes(1, 8, 32, 32)
    constant = image.expand(5, 1, 8, 32, 32)
    assert same(gradients(layer, constant), gradients(plain, constant))
    assert saved_bytes(lambda: layer(image.clone().expand(5, 1, 8, 32, 32))) == image.nbytes // 32


def test_frozen_weights_and_no_grad_save_nothing_and_take_any_input() -> None:
    layer, x = BitSaving(nn.Linear(64, 8)), torch.randn(32, 64)
    with torch.no_grad():
        assert saved_bytes(lambda: layer(x)) == 0
    layer.requires_grad_(False)
    x.requires_grad_()
    assert saved_bytes(lambda: layer(x)) == 0
    layer(x).sum().backward()
    assert torch.equal(x.grad, layer.module.weight.sum(0).expand(32, 64))  # type: ignore[arg-type, union-attr, operator]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["linear", "conv2d", "folded"])
def test_input_that_is_not_binary_is_refused(name: str, autocast: bool) -> None:
    make, shape = CASES[name]
    layer, x = BitSaving(make()), spikes(*shape)
    x.view(-1)[3] = 3.0
    says = rf"^BitSaving saves its input as bits: x must have only 0 and 1, but 1 of {x.numel():,} values are others, .* 3; leave"
    with pytest.raises(ValueError, match=says), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        layer(x)
    with pytest.raises(ValueError, match=r"BitSaving takes stateless modules, but '1' is a LIF with a state\."):
        BitSaving(nn.Sequential(nn.Linear(4, 4), tfexplore.LIF()))


def test_counts_come_packed() -> None:
    plain, layer = pair(lambda: nn.Linear(40, 3))
    x = spikes(6, 40) * 3
    assert same(gradients(layer, pack(x, 1, bits=2)), gradients(plain, x))
    with pytest.raises(ValueError, match="the largest 3"):
        layer(x)


def test_a_second_derivative() -> None:
    plain, layer = pair(lambda: nn.Conv2d(2, 3, 3))
    found = []
    for module in (plain, layer):
        x = spikes(2, 2, 6, 6).requires_grad_()
        weight = next(module.parameters())
        (g_x, g_w) = torch.autograd.grad(module(x).square().sum(), (x, weight), create_graph=True)
        found.append([g_x, g_w, *torch.autograd.grad(g_x.square().sum() + g_w.pow(3).sum(), (x, weight))])
    assert same(*found)
    assert all(g.any() for g in found[0])


def test_several_backward_passes_and_a_changed_input() -> None:
    plain, layer = pair(lambda: nn.Linear(9, 3))
    x = spikes(4, 9)
    (wanted,) = torch.autograd.grad(plain(x).sum(), plain.weight)  # type: ignore[arg-type]
    out = layer(x).sum()
    x.zero_()  # the bits are those of the call
    for retain in (True, False):
        (found,) = torch.autograd.grad(out, layer.module.weight, retain_graph=retain)  # type: ignore[arg-type]
        assert torch.equal(found, wanted)


def test_a_weight_that_is_changed_before_the_backward_pass_is_refused() -> None:
    layer, x = BitSaving(nn.Linear(9, 3)), spikes(4, 9).requires_grad_()
    out = layer(x).sum()
    with torch.no_grad():
        layer.module.weight.zero_()  # type: ignore[union-attr, operator]
    with pytest.raises(RuntimeError, match="was changed in place since: version 2 instead of 1"):
        out.backward()


def test_nothing_stays_alive() -> None:
    layer, x = BitSaving(nn.Sequential(nn.Linear(8, 8), nn.Sigmoid())), spikes(4, 8)
    gc.disable()
    try:
        out = layer(x)
        alive = weakref.ref(out)
        del out
        assert alive() is None
    finally:
        gc.enable()


# -- as a module -----------------------------------------------------------------------------------------------------


def network(wrap: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        wrap(FoldTime(nn.Conv2d(2, 4, 3))), tfexplore.LIF(v_threshold=0.1), nn.Flatten(2), wrap(nn.Linear(144, 5)),
        tfexplore.LIF(v_threshold=0.1),
    )  # fmt: skip


def test_names_of_the_state_stay_those_of_the_module() -> None:
    plain, saving = network(lambda module: module), network(BitSaving)
    assert list(saving.state_dict()) == list(plain.state_dict())
    torch.manual_seed(1)
    other = network(BitSaving)
    for p in other.parameters():
        p.data.normal_()
    other.load_state_dict(plain.state_dict())
    plain.load_state_dict(saving.state_dict())
    assert all(map(torch.equal, other.parameters(), plain.parameters()))
    nested = BitSaving(BitSaving(nn.Linear(3, 2)))
    nested.load_state_dict(nn.Linear(3, 2).state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        nested.load_state_dict({})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        nested.load_state_dict(nn.Linear(3, 2).state_dict() | {"more": torch.zeros(1)})


def test_in_a_network_trained_step_by_step_carried_and_copied() -> None:
    plain, saving = network(lambda module: module), network(BitSaving)
    saving = copy.deepcopy(saving)
    x = spikes(6, 3, 2, 8, 8)
    found = []
    for net in (plain, saving):
        out = net(x)
        walked = tfexplore.step_by_step(net, x)
        with tfexplore.carry(net):
            chunks = torch.cat([net(chunk) for chunk in x.split(2)])
        (out.sum() + walked.sum() + chunks.sum()).backward()
        found.append([out.detach(), walked.detach(), chunks.detach(), *(p.grad for p in net.parameters())])
    assert same(*found)
    assert found[0][0].any()


def test_a_graph_break_when_compiled() -> None:
    plain, layer = pair(lambda: nn.Linear(64, 8))
    x = spikes(32, 64)
    compiled = torch.compile(layer, backend="aot_eager")
    compiled(x)
    assert same(gradients(compiled, x), gradients(plain, x))
    assert saved_bytes(lambda: compiled(x.clone())) == x.nbytes // 32
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    both = torch.compile(lambda x: unpack(pack(x * 1)) + 1, backend="aot_eager")
    assert torch.equal(both(x), x + 1)


def test_within_a_captured_step() -> None:
    """The same losses as of the plain layer, step by step; input that is not binary is refused while it can be looked at."""
    from tfexplore import capture

    def losses(wrap: Callable[[nn.Module], nn.Module], captured: bool) -> list[float]:
        torch.manual_seed(0)
        layer = wrap(nn.Linear(40, 8))
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.3)

        def step(x: Tensor) -> Tensor:
            optimiser.zero_grad()
            loss = layer(x).square().mean()
            loss.backward()
            optimiser.step()
            return loss

        run: Any = capture(step) if captured else step
        return [run(spikes(16, 4, 40, seed=k)).item() for k in range(12)]

    expected = losses(lambda layer: layer, False)
    assert losses(BitSaving, True) == expected
    assert expected[-1] < expected[0] / 2
    counted = capture(lambda x: BitSaving(nn.Linear(3, 1))(x).sum())
    counted(torch.ones(2, 3))
    with pytest.raises(ValueError, match="must have only 0 and 1"):
        counted(torch.full((2, 3), 2.0))


def test_under_transforms_it_is_the_module_as_it_stands() -> None:
    layer, x = nn.Linear(6, 3), spikes(5, 6)
    saving = BitSaving(layer)
    assert torch.equal(torch.vmap(saving)(x.unsqueeze(1)), torch.vmap(layer)(x.unsqueeze(1)))

    def loss(weight: Tensor) -> Tensor:
        return torch.func.functional_call(saving, {"module.weight": weight}, (x,)).square().sum()

    weight = layer.weight.detach()
    expected = 2 * (x @ weight.t() + layer.bias.detach()).t() @ x
    torch.testing.assert_close(torch.func.grad(loss)(weight), expected)

"""BatchNorm in the kernel of the layer behind it: `fuse(net)` and `layer(x, batch_norm=...)`.

The oracle: the two modules one after the other, with torch's own BatchNorm, in float64.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tests.cases import distance, noise
from tfexplore import FoldTime, Layer, fuse, neurons
from tfexplore.backends import numba_cpu, streaming
from tfexplore.nn import normalise
from tfexplore.nn.fusion import FusedSequential

T, B, C, H, W = 6, 4, 3, 4, 5


def lying(x: Tensor, last: bool) -> Tensor:
    return x.movedim(2, -1).contiguous().movedim(-1, 2) if last else x


def norm(dtype: torch.dtype = torch.float64, **options: Any) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(C, **options).to(dtype)
    with torch.no_grad():
        for k, tensor in enumerate((*made.parameters(), *(b for b in made.buffers() if b.ndim))):
            tensor.copy_(0.6 + noise(C, seed=k).abs() / 2)
    return made


def apart(layer: Layer, x: Tensor, batch_norm: nn.Module, **options: Any) -> Any:
    return layer(batch_norm(x.flatten(0, 1)).unflatten(0, x.shape[:2]), **options)


def together(layer: Layer, x: Tensor, batch_norm: nn.Module, **options: Any) -> Any:
    return layer(x, batch_norm=batch_norm, **options)


def results(run: Any, layer: Layer, batch_norm: nn.Module, x: Tensor, start: Tensor | None = None) -> dict[str, Tensor]:
    """Spikes, last state, trace, running statistics, and the gradients of all that has one."""
    x = x.detach().requires_grad_()
    start = None if start is None else start.detach().requires_grad_()
    state = None if start is None else tuple(start)
    out, after, v = run(layer, x, batch_norm, state=state, return_state=True, trace="v")
    wanted = {"x": x, **dict(layer.named_parameters()), **dict(batch_norm.named_parameters())}
    if start is not None:
        wanted["start"] = start
    real = v.dtype
    g = (
        noise(*out.shape, seed=10, dtype=out.dtype),
        noise(*out.shape[1:], seed=11, dtype=real),
        noise(*v.shape, seed=12, dtype=real),
    )
    found = torch.autograd.grad((out, after[0], v), list(wanted.values()), g)
    made = {"out": out.detach(), "state": torch.stack(after).detach(), "v": v.detach()}
    made |= {f"running {name}": buffer.clone() for name, buffer in batch_norm.named_buffers()}
    return made | {f"gradient of {name}": g for name, g in zip(wanted, found, strict=True)}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor], close: float) -> None:
    assert found.keys() == wanted.keys()
    for name, theirs in wanted.items():
        mine = found[name]
        assert mine.dtype == theirs.dtype, name
        assert distance(mine.double(), theirs.double()) <= close, (name, distance(mine.double(), theirs.double()))


KINDS: dict[str, dict[str, Any]] = {
    "usual": {}, "momentum": {"momentum": 0.5}, "cumulative": {"momentum": None}, "not affine": {"affine": False},
    "no statistics": {"track_running_stats": False}, "eps": {"eps": 0.3},
}  # fmt: skip


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_two_modules_one_after_the_other(kind, backend):
    """In training, twice, and then in evaluation; whichever way the channels lie."""
    layer = tfexplore.ParametricLIF(v_threshold=0.4, backend=backend).double()
    one, other = norm(**KINDS[kind]), norm(**KINDS[kind])
    for seed, last in ((0, False), (1, True)):
        x = 2 * noise(T, B, C, H, W, seed=seed, dtype=torch.float64) + 0.7
        start = noise(1, B, C, H, W, seed=5, dtype=torch.float64)
        found = results(together, layer, one, lying(x, last), start)
        same(found, results(apart, layer, other, x, start), 1e-10)
        assert 0.05 < found["out"].mean() < 0.95
    one.eval()
    other.eval()
    same(results(together, layer, one, x), results(apart, layer, other, x), 1e-10)


@pytest.mark.parametrize("case", [(neurons.LIF, {"reset": reset, "detach_reset": detach}) for reset in ("soft", "hard", "none")
                                  for detach in (True, False)] + [(neurons.ALIF, {"learn": "beta"}), (neurons.LI, {})],
                         ids=lambda case: f"{case[0].__name__}-{'-'.join(map(str, case[1].values()))}")  # fmt: skip
def test_every_reset_and_other_neurons(case):
    cls, options = case
    x = 2 * noise(T, B, C, H, W, seed=0, dtype=torch.float64) + 0.7
    layer = Layer(cls(**options), backend="numba").double()
    same(results(together, layer, norm(), x), results(apart, layer, norm(), x), 1e-10)


def plainly(run: Any, layer: Layer, batch_norm: nn.BatchNorm2d, x: Tensor) -> dict[str, Tensor]:
    """Spikes, running statistics and gradients of a call that asks for nothing else, which is one node of autograd's graph."""
    x = x.detach().requires_grad_()
    out = run(layer, x, batch_norm)
    wanted = {"x": x, **{name: p for name, p in batch_norm.named_parameters() if p.requires_grad}}
    found = torch.autograd.grad(out, list(wanted.values()), noise(*out.shape, seed=10, dtype=out.dtype))
    made = {"out": out.detach(), **{f"running {name}": buffer.clone() for name, buffer in batch_norm.named_buffers()}}
    return made | {f"gradient of {name}": g for name, g in zip(wanted, found, strict=True)}


def names_behind(tensor: Tensor) -> list[str]:
    """The nodes of autograd's graph, from the last one on."""
    names, node = [], tensor.grad_fn
    while node is not None:
        names.append(type(node).__name__)
        node = node.next_functions[0][0] if node.next_functions else None
    return names


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_call_is_one_node(kind):
    layer = tfexplore.LIF(v_threshold=0.4, backend="numba").double()
    one, other = norm(**KINDS[kind]), norm(**KINDS[kind])
    for seed, last in ((0, False), (1, True)):
        x = 2 * noise(T, B, C, H, W, seed=seed, dtype=torch.float64) + 0.7
        same(plainly(together, layer, one, lying(x, last)), plainly(apart, layer, other, x), 1e-10)
    found = names_behind(together(layer, (2 * x).requires_grad_(), one))
    assert found == ["TogetherBackward", "AccumulateGrad"]


@pytest.mark.parametrize("case", [(neurons.LIF, {"reset": reset, "detach_reset": detach}, keep) for reset in ("soft", "hard")
                                  for detach in (True, False) for keep in ("input", "potential")]
                                 + [(neurons.ALIF, {}, "auto"), (neurons.LI, {}, "auto")],
                         ids=lambda case: "-".join(map(str, (case[0].__name__, *case[1].values(), case[2]))))  # fmt: skip
def test_one_node_of_every_kernel(case):
    """Over more steps than a chunk has; x is a part of a larger tensor; one of the parameters does not learn."""
    cls, options, keep = case
    layer = Layer(cls(**options), backend="numba", keep=keep).double()
    one, other = norm(), norm()
    for each in (one, other):
        each.weight.requires_grad_(False)
    x = (2 * noise(40, 2 * B, C, H, W, seed=0, dtype=torch.float64) + 0.7)[:, ::2]
    same(plainly(together, layer, one, x), plainly(apart, layer, other, x), 1e-10)


def test_one_node_where_the_input_does_not_learn_and_in_half_precision():
    layer, x = tfexplore.LIF(backend="numba"), (2 * noise(T, B, C, H, W, seed=0) + 0.7).bfloat16()
    one, other = norm(torch.float32), norm(torch.float32)
    out = together(layer, x, one)
    assert out.dtype == x.dtype
    g = noise(*out.shape, seed=10)
    mine = torch.autograd.grad(out, list(one.parameters()), g.bfloat16())
    theirs = torch.autograd.grad(apart(layer, x.float(), other), list(other.parameters()), g.bfloat16().float())
    assert max(distance(*pair) for pair in zip(mine, theirs, strict=True)) <= 1e-4 * g.numel() ** 0.5
    with torch.no_grad():
        assert together(layer, x, one).grad_fn is None


@pytest.mark.parametrize("keep", ["input", "potential", "bits"])
def test_whatever_is_saved_for_backward(keep):
    """In float32, in which no threshold is crossed by rounding here; together with parameters that have a shape."""
    surrogate = tfexplore.surrogates.Rectangle() if keep == "bits" else tfexplore.surrogates.ATan()
    x = 2 * noise(40, B, C, H, W, seed=0) + 0.7
    shaped = {} if keep == "bits" else {"tau": 2 + noise(C, 1, W, seed=3).abs()}
    layer = Layer(neurons.LIF(surrogate=surrogate, **shaped), backend="numba", keep="auto" if keep == "bits" else keep)
    found = results(together, layer, norm(torch.float32), lying(x, True))
    same(found, results(apart, layer, norm(torch.float32), x), 1e-5)


def test_an_exact_choice_that_normalisation_takes_away_says_so():
    """The gradient of the scale needs x itself."""
    layer = tfexplore.LIF(surrogate=tfexplore.surrogates.Rectangle(), keep="bits")
    x = noise(T, B, C, H, W, seed=0).requires_grad_()
    with pytest.raises(
        ValueError, match=r"^keep='bits' is not exact for this LIF: its backward pass needs the value of x"
    ):
        layer(x, batch_norm=norm(torch.float32))


def test_a_large_mean_takes_no_digits_from_a_small_variance():
    """Mean 1e4, standard deviation 1: as near to float64 as torch's own BatchNorm, whose mean is rounded to 5e-4 as well."""
    x = (1e4 + noise(30, B, C, H, W, seed=0)).float()
    layer = tfexplore.LI(tau=1.5, backend="numba")
    exact = results(apart, layer.double(), norm(), x.double())
    layer.float()
    for last in (False, True):
        found, theirs = (results(run, layer, norm(torch.float32), lying(x, last)) for run in (together, apart))
        for name, value in exact.items():
            allowed = max(2 * distance(theirs[name].double(), value), 2e-6)
            assert distance(found[name].double(), value) <= allowed, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_in_half_precision_it_rounds_less_than_the_modules_apart(dtype):
    """Nothing is rounded between them: x -> normalised -> potential, in float32."""
    x, layer = (2 * noise(T, B, C, H, W, seed=0) + 0.7).to(dtype), tfexplore.LI(tau=3.0, backend="numba")
    exact = results(apart, tfexplore.LI(tau=3.0, backend="numba"), norm(torch.float32), x.float())
    found = results(together, layer, norm(torch.float32), x)
    for name, value in exact.items():
        small = torch.finfo(dtype).eps if name in ("out", "gradient of x") else 4 * torch.finfo(dtype).eps
        assert distance(found[name].double(), value.double()) <= small, name
    assert found["out"].dtype == found["gradient of x"].dtype == dtype
    assert found["v"].dtype == torch.float32
    spikes = tfexplore.LIF(backend="numba")(x, batch_norm=norm(dtype))  # its parameters in half precision too
    assert spikes.dtype == dtype


def test_gradcheck_of_all_that_is_learned():
    layer = Layer(neurons.LIF(learn="tau", detach_reset=False), backend="numba", smooth=True).double()
    x = noise(4, 3, C, 2, seed=0, dtype=torch.float64).requires_grad_()
    start = noise(3, C, 2, seed=1, dtype=torch.float64).requires_grad_()
    batch_norm = nn.BatchNorm1d(C).double()
    weight, bias = (0.5 + noise(C, seed=k, dtype=torch.float64).abs() for k in (2, 3))

    def run(x, start, weight, bias, tau):
        for name, value in (("weight", weight), ("bias", bias)):
            del batch_norm._parameters[name]
            batch_norm._parameters[name] = value
        layer.raw._parameters["tau"] = tau
        out, (v,) = layer(x, (start,), return_state=True, batch_norm=batch_norm)
        return out, v

    inputs = (x, start, weight.requires_grad_(), bias.requires_grad_(), layer.raw["tau"])
    assert torch.autograd.gradcheck(run, inputs)


def test_a_second_derivative_goes_through_the_statistics():
    """With the eager backend; the fused ones refuse it."""
    made = []
    for run in (together, apart):
        layer, x = tfexplore.LI(backend="torch"), noise(T, B, C, H, W, seed=0, dtype=torch.float64).requires_grad_()
        (g,) = torch.autograd.grad(run(layer, x, norm()).pow(3).sum(), x, create_graph=True)
        made.append(torch.autograd.grad(g.square().sum(), x)[0])
    assert distance(*made) <= 1e-10
    layer = tfexplore.LI(backend="numba")
    (g,) = torch.autograd.grad(layer(x, batch_norm=norm()).pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        g.square().sum().backward()


def test_statistics_that_are_not_tracked_any_more_stay():
    one, other = norm(), norm()
    one.track_running_stats = other.track_running_stats = False  # as torch has it: they are used in evaluation only
    x = noise(T, B, C, H, W, seed=0, dtype=torch.float64)
    same(results(together, tfexplore.LI(), one, x), results(apart, tfexplore.LI(), other, x), 1e-10)


def test_an_empty_input_and_two_axes():
    layer = tfexplore.LIF()
    assert layer(torch.zeros(T, 0, C, H, W), batch_norm=norm(torch.float32).eval()).shape == (T, 0, C, H, W)
    x, batch_norm = noise(T, B, C, seed=0), nn.BatchNorm1d(C)
    found = layer(x, batch_norm=batch_norm)
    assert torch.equal(found, apart(layer, x, nn.BatchNorm1d(C)))


@pytest.mark.parametrize("keep", ["input", "potential"])
def test_the_cuda_text_normalises(fake_cupy, keep):
    """Scale, shift and centre are groups of neurons to it; learned parameters with a shape besides, and lengths."""
    lengths = torch.tensor([20, 3, 0, 17])
    for shape, last in (((C, 5), False), ((C, 8), False), ((8, 3), True)):
        neuron = neurons.LIF(tau=2 + noise(*shape, seed=3).abs(), learn="tau")
        x = lying(2 * noise(20, B, *shape, seed=0) + 0.7, last)
        made = []
        for backend in ("cuda", "torch"):
            layer, batch_norm = Layer(neuron, backend=backend, keep=keep), nn.BatchNorm1d(shape[0])
            given = x.detach().requires_grad_()
            out, v = layer(given, batch_norm=batch_norm, lengths=lengths, trace="v")
            wanted = [given, *batch_norm.parameters(), layer.raw["tau"]]
            made.append(
                (out, v, *torch.autograd.grad((out, v), wanted, (noise(*x.shape, seed=1), noise(*x.shape, seed=2))))
            )
        (found, v, *gradients), (expected, v_expected, *theirs) = made
        assert torch.equal(found, expected)
        assert torch.equal(v, v_expected)
        assert 0.05 < found.mean() < 0.95
        assert all(distance(g, h) <= 1e-5 for g, h in zip(gradients, theirs, strict=True))
    assert {loop for loop, _ in fake_cupy.launches} == {"forward", "backward"}


class AsOnGpu(Tensor):
    """A CPU tensor that says it is on a GPU; operators give plain ones."""

    @property
    def is_cuda(self) -> bool:
        return True

    __torch_function__ = torch._C._disabled_torch_function_impl


def test_the_statistics_of_a_gpu_by_torchs_own_kernels(monkeypatch):
    """`batch_norm_stats` and `batch_norm_backward_elemt`, by what their CUDA sources say (they run on GPUs only)."""

    def stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        axes = [k for k in range(x.ndim) if k != 1]
        variance, mean = torch.var_mean(x.double(), axes, correction=0)
        inverse = torch.where((variance == 0) & (eps == 0), 0, (variance + eps).rsqrt())  # torch: struct InvStd
        return mean.to(x.dtype), inverse.to(x.dtype)

    def elemt(g, x, mean, inverse, weight, sum_g, sum_gx, count):
        assert count.dtype == torch.int32
        assert g.is_contiguous()
        spread = [each.view(1, -1, *(1,) * (x.ndim - 2)) for each in (mean, inverse, weight, sum_g, sum_gx)]
        mean, inverse, weight, sum_g, sum_gx = spread
        n = count.sum()
        return (g - sum_g / n - (x - mean) * inverse.square() * sum_gx / n) * inverse * weight

    monkeypatch.setattr(torch, "batch_norm_stats", stats)
    monkeypatch.setattr(torch, "batch_norm_backward_elemt", elemt)
    for last in (False, True):
        x = lying(noise(T, B, C, H, W, seed=0, dtype=torch.float64) * 3 + 50, last)
        x[:, :, 1] = 7.0  # a channel that is the same everywhere has no variance
        mean, variance = normalise.moments(x.as_subclass(AsOnGpu), 2)
        theirs = torch.var_mean(x, (0, 1, 3, 4), correction=0)
        assert torch.allclose(variance, theirs[0])
        assert torch.allclose(mean, theirs[1])
        assert variance[1] == 0
        g, slope, offset = noise(T, B, C, H, W, seed=1, dtype=torch.float64), *noise(2, C, seed=2, dtype=torch.float64)
        with torch.no_grad():
            found = normalise.added(g, x.as_subclass(AsOnGpu), mean, slope, offset, 2)
            plain = normalise.added(g, x, mean, slope, offset, 2)
        wide = [each.view(-1, 1, 1) for each in (mean, slope, offset)]
        expected = g + (x - wide[0]) * wide[1] + wide[2]
        assert distance(found, expected) <= 1e-13
        assert distance(plain, expected) <= 1e-13


def test_a_channel_without_variance_leaves_its_statistics_finite():
    one, other = norm(), norm()
    x = noise(T, B, C, H, W, seed=0, dtype=torch.float64)
    x[:, :, 1] = 0.0
    same(results(together, tfexplore.LI(), one, x), results(apart, tfexplore.LI(), other, x), 1e-10)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])
def test_many_neurons_in_several_parts(monkeypatch, dtype, near):
    """Threads share them; each adds up sums of its own, and stores go past the cache."""
    monkeypatch.setattr(numba_cpu, "SMALL", 1)
    monkeypatch.setattr(streaming, "CACHE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    x = 2 * noise(T, 3, C, 31, 33, seed=0, dtype=dtype) + 0.7
    layer = tfexplore.ParametricLIF(backend="numba")
    for last in (False, True):
        found = results(together, layer, norm(dtype), lying(x, last))
        same(found, results(apart, layer, norm(dtype), x), near)


# -- fuse ------------------------------------------------------------------------------------------------------------


def conv_net(**options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        FoldTime(nn.Conv2d(2, C, 3, bias=False), nn.BatchNorm2d(C)), tfexplore.LIF(v_threshold=0.4, **options),
        nn.Sequential(
            FoldTime(nn.Flatten(), nn.Linear(C * 4, 5, bias=False), nn.BatchNorm1d(5)),
            tfexplore.ParametricLIF(channels=5, **options),
        ),
        FoldTime(nn.Linear(5, 3)),
    ).double()  # fmt: skip


def images(seed: int = 0) -> Tensor:
    return noise(T, B, 2, 4, 4, seed=seed, dtype=torch.float64) + 0.3


def outcome(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    x = x.detach().requires_grad_()
    out = net(x)
    named = dict(net.named_parameters()) | {"x": x}
    found = torch.autograd.grad(
        out, list(named.values()), noise(*out.shape, seed=9, dtype=out.dtype), allow_unused=True
    )
    buffers = {f"buffer {name}": buffer.clone() for name, buffer in net.named_buffers()}
    return {"out": out.detach(), **buffers, **{name: g for name, g in zip(named, found, strict=True) if g is not None}}


def alike(found: dict[str, Tensor], wanted: dict[str, Tensor], close: float = 1e-10) -> None:
    """Gradients are compared by the greatest of all: a bias before a BatchNorm has none but rounding."""
    assert found.keys() == wanted.keys()
    scale = max(float(each.abs().max()) for each in wanted.values())
    for name, theirs in wanted.items():
        assert float((found[name] - theirs).abs().max()) <= close * scale, name


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_fused_network_is_the_network(backend):
    one, other = conv_net(backend=backend), conv_net(backend=backend)
    names = list(one.state_dict())
    fused = fuse(one)
    assert list(fused.state_dict()) == names
    assert [type(m) for m in fused.modules() if isinstance(m, nn.Sequential)].count(FusedSequential) == 2
    for seed in (0, 1):
        alike(outcome(fused, images(seed)), outcome(other, images(seed)))
    fused.eval()
    other.eval()
    alike(outcome(fused, images(2)), outcome(other, images(2)))
    other.load_state_dict(fused.state_dict())
    fused.load_state_dict(other.state_dict())
    twin = copy.deepcopy(fused)
    alike(outcome(twin, images(2)), outcome(other, images(2)))


def test_neither_batch_norm_runs_by_itself(monkeypatch):
    fused, x = fuse(conv_net()), images()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a BatchNorm ran by itself")

    monkeypatch.setattr(nn.functional, "batch_norm", refuse)
    fused(x)
    fused.eval()
    fused(x)
    with pytest.raises(AssertionError, match="ran by itself"):
        conv_net()(x)


def test_a_frozen_batch_norm_trains_on():
    """In evaluation by itself, in a network that is trained: the gradients of its scale and shift, and of the weights before."""
    nets = [conv_net(), conv_net()]
    for net in nets:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    alike(outcome(fuse(nets[0]), images()), outcome(nets[1], images()))


@pytest.mark.parametrize(
    "front",
    [
        list, lambda: [nn.ReLU()], lambda: [nn.ConvTranspose2d(C, C, 2)],
        lambda: [nn.Conv2d(C, C, 3, padding=1, padding_mode="circular")],
        lambda: [nn.Conv2d(C, C, 1, groups=3)], lambda: [nn.Dropout(0.0), nn.Conv2d(C, C, 2)],
    ],
    ids=["nothing", "ReLU", "transposed", "padding mode", "groups", "two modules"],
)  # fmt: skip
def test_whatever_stands_before_the_batch_norm(front):
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(FoldTime(*front(), nn.BatchNorm2d(C)), tfexplore.LIF(v_threshold=0.4)).double()

    one, other, x = fuse(make()), make(), 2 * noise(T, B, C, H, W, seed=0, dtype=torch.float64)
    alike(outcome(one, x), outcome(other, x))
    alike(outcome(one.eval(), x), outcome(other.eval(), x))


@pytest.mark.parametrize("size", [4, 5])
def test_a_linear_module_whose_features_are_no_channels(size):
    """[T, B, 4, 6] -> Linear(6, size) -> BatchNorm1d(4) normalises the axis of 4, which no weight has."""
    torch.manual_seed(0)
    nets = [nn.Sequential(FoldTime(nn.Linear(6, size), nn.BatchNorm1d(4)), tfexplore.LI()).double() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    one, x = fuse(nets[0]), noise(T, B, 4, 6, seed=0, dtype=torch.float64) * torch.arange(1, 5).view(4, 1)
    for _ in range(3):
        alike(outcome(one, x), outcome(nets[1], x))
    alike(outcome(one.eval(), x), outcome(nets[1].eval(), x))


def test_hooks_are_called():
    """On the layer, on the BatchNorm (which then runs by itself), on the convolution, on the FoldTime."""
    for place in ("1", "0", "0.0", "0.1", "2.0.2"):
        fused, other = fuse(conv_net()), conv_net()
        seen = []
        fused.get_submodule(place).register_forward_hook(lambda _, given, out, seen=seen: seen.append(out.shape))
        alike(outcome(fused, images()), outcome(other, images()))
        alike(outcome(fused.eval(), images()), outcome(other.eval(), images()))
        assert len(seen) == 2, place


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's: there is a newer weight_norm
def test_weights_that_a_hook_computes_are_never_old():
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        conv = nn.utils.weight_norm(nn.Conv2d(2, C, 3))
        nets.append(nn.Sequential(FoldTime(conv, nn.BatchNorm2d(C)), tfexplore.LI()).double())
    one, other = fuse(nets[0]).eval(), nets[1].eval()
    for net in (one, other):
        with torch.no_grad():
            net[0][0].weight_g.mul_(3)
    alike(outcome(one, images()), outcome(other, images()))


class Quarter(nn.BatchNorm2d):
    """As tdBN: more than the normalisation."""

    def forward(self, input: Tensor) -> Tensor:
        return 0.25 * super().forward(input)


def test_a_batch_norm_with_a_forward_of_its_own_runs_by_itself():
    net = nn.Sequential(FoldTime(nn.Conv2d(2, C, 3), Quarter(C)), tfexplore.LIF())
    with pytest.raises(
        ValueError, match=r"^no BatchNorm stands directly before a layer in a Sequential of this network: "
    ):
        fuse(net)
    x, layer = noise(T, B, C, H, W, seed=0, dtype=torch.float64), tfexplore.LI()
    one, other = Quarter(C).double(), Quarter(C).double()
    same(results(together, layer, one, x), results(apart, layer, other, x), 1e-12)


class Doubled(FoldTime):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Halved(Layer):
    def __init__(self) -> None:
        super().__init__(neurons.LIF())

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return 0.5 * super().forward(x)


@pytest.mark.parametrize("pair", [(Doubled, tfexplore.LIF), (FoldTime, Halved)], ids=["fold", "layer"])
def test_modules_around_it_with_a_forward_of_their_own_stay_apart(pair):
    nets = [
        nn.Sequential(pair[0](nn.BatchNorm2d(C)), pair[1](), FoldTime(nn.BatchNorm2d(C)), tfexplore.LI())
        for _ in range(2)
    ]
    x = 2 * noise(T, B, C, H, W, seed=0)
    assert isinstance(fused := fuse(nets[0]), FusedSequential)
    assert torch.allclose(fused(x), nets[1](x), atol=1e-5)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(3, 3), tfexplore.LIF()), tfexplore.LIF(),
        nn.Sequential(FoldTime(nn.BatchNorm1d(3), nn.ReLU()), tfexplore.LIF()),
        nn.Sequential(FoldTime(nn.BatchNorm1d(3)), nn.Identity(), tfexplore.LIF()),
        nn.Sequential(nn.BatchNorm1d(3), tfexplore.LIF()),
    ],
    ids=["none", "a layer", "not last", "not before", "not folded"],
)  # fmt: skip
def test_where_nothing_can_be_fused_it_says_what_to_write(net):
    with pytest.raises(
        ValueError,
        match=r"write FoldTime\(\.\.\., BatchNorm\) and then the layer, or call layer\(x, batch_norm=norm\)\.$",
    ):
        fuse(net)


def test_shared_modules_stay_shared():
    def make() -> nn.Module:
        torch.manual_seed(0)
        fold, layer = FoldTime(nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C)), tfexplore.LIF(v_threshold=0.3)
        block = nn.Sequential(fold, layer)
        return nn.Sequential(block, nn.Sequential(block, fold, layer), nn.Sequential(fold, tfexplore.LI())).double()

    one, other, x = fuse(make()), make(), noise(T, B, C, H, W, seed=0, dtype=torch.float64)
    assert one[0] is one[1][0]
    assert isinstance(one[0], FusedSequential)
    assert one[1][1] is one[2][0] is one[0][0]
    assert list(one.state_dict()) == list(other.state_dict())
    alike(outcome(one, x), outcome(other, x))


def test_carry_record_and_lengths():
    one, other, x = fuse(conv_net()), conv_net(), images()
    lengths = torch.tensor([T, 1, 0, 4])
    made = []
    for net in (one, other):
        with tfexplore.record(net, "v", "s") as traces, tfexplore.padded(net, lengths):
            out = net(x)
        made.append({"out": out.detach(), "v": traces["1"]["v"].detach(), "s": traces["2.1"]["s"].detach()})
    alike(*made)
    one.eval()
    other.eval()
    expected = other(x)
    with tfexplore.carry(one):
        pieces = torch.cat([one(piece) for piece in x.split([2, 4])])
    assert distance(pieces, expected) <= 1e-12
    assert distance(tfexplore.step_by_step(one, x), expected) <= 1e-12


def test_step_by_step_in_training_mode_is_refused_or_per_step():
    one, other, x = fuse(conv_net()), conv_net(), images()
    with pytest.raises(ValueError, match=r"^'0\.1' is a BatchNorm in training mode"):
        tfexplore.step_by_step(one, x)
    made = [tfexplore.step_by_step(net, x, batch_norm="per step") for net in (one, other)]
    assert distance(*made) <= 1e-12


def test_a_constant_image_is_convolved_once():
    one, other = fuse(conv_net()), conv_net()
    single = images()[:1]
    assert not single.requires_grad
    made = []
    for net, x in ((one, single.expand(T, *single.shape[1:])), (other, single.repeat(T, 1, 1, 1, 1))):
        out = net(x)
        found = torch.autograd.grad(out, list(net.parameters()), noise(*out.shape, seed=9, dtype=out.dtype))
        named = dict(zip((name for name, _ in net.named_parameters()), found, strict=True))
        made.append({"out": out.detach(), **named, **{f"buffer {name}": b.clone() for name, b in net.named_buffers()}})
    alike(*made)


def test_compiled_in_one_graph():
    torch.compiler.reset()
    one, other, x = fuse(conv_net()), conv_net(), images()
    made = []
    for net, call in ((one, torch.compile(one, fullgraph=True, backend="aot_eager")), (other, other)):
        out = call(x)
        found = torch.autograd.grad(out, list(net.parameters()), noise(*out.shape, seed=9, dtype=out.dtype))
        made.append([out.detach(), *found, *(buffer.double() for buffer in net.buffers())])
    assert all(distance(mine, theirs) <= 1e-9 for mine, theirs in zip(*made, strict=True))
    torch.compiler.reset()

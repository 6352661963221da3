"""Parameters with a shape: a tensor with one value for each channel, row or neuron, fixed, learned or drawn.

The oracles: every neuron alone, in a layer with plain numbers; and plain loops whose tau is a tensor.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import pickle
import subprocess

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Uniform

import tfexplore
from tests import oracle
from tests.cases import distance, noise, same_bits
from tfexplore import Layer, neurons
from tfexplore.neurons.parameters import Values

T, B, C, H, W = 9, 2, 3, 4, 5
SHAPES = [(C,), (C, H), (C, 1, W), (1, H, 1), (C, H, W)]


def taus(shape: tuple[int, ...], seed: int = 3) -> Tensor:
    return 1.5 + 4 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def lying(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """The same currents [T, B, C, H, W], however they lie in memory."""
    x = noise(T, B, C, H, W, seed=0, dtype=dtype) + 0.3
    if name == "channels last":
        return x.movedim(2, -1).contiguous().movedim(-1, 2)
    if name == "batch within":
        return x.permute(0, 3, 1, 4, 2).contiguous().permute(0, 2, 4, 1, 3)
    if name == "time within":
        return x.permute(1, 2, 0, 3, 4).contiguous().permute(2, 0, 1, 3, 4)
    if name == "gaps":
        wide = x.new_zeros(T, B, C, H, 2 * W)
        wide[..., ::2] = x
        return wide[..., ::2]
    if name == "one sample":
        return x[:, :1].expand(T, B, C, H, W)
    return x


LAYOUTS = ("as named", "channels last", "batch within", "time within", "gaps", "one sample")


def alone(neuron: neurons.Neuron, x: Tensor) -> Tensor:
    """The spikes of each neuron in a layer of its own, with numbers instead of tensors."""
    shape = x.shape[2:]
    values = {key: torch.tensor(getattr(neuron, key).array) for key in neuron.shaped}
    full = {key: v.view(*v.shape, *(1,) * (len(shape) - v.ndim)).expand(shape) for key, v in values.items()}
    out = torch.empty_like(x)
    for place in itertools.product(*map(range, shape)):
        # as float32, which is what a layer's buffers are
        numbers = {key: float(v[place].float()) for key, v in full.items()}
        at = (slice(None), slice(None), *place)
        out[at] = Layer(dataclasses.replace(neuron, **numbers), backend="torch")(x[at])
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_neuron_fires_as_it_would_alone(shape):
    neuron = neurons.LIF(tau=taus(shape), v_threshold=taus(shape, 4) / 6, reset="hard")
    for dtype in (torch.float32, torch.float64):
        expected = alone(neuron, lying("as named", dtype))
        assert 0.05 < expected.mean() < 0.95
        for backend, name in itertools.product(("torch", "numba"), LAYOUTS[:-1]):
            x = lying(name, dtype)
            out = Layer(neuron, backend=backend)(x)
            assert same_bits(out, expected), (backend, name)
    x = lying("one sample")
    assert same_bits(Layer(neuron, backend="numba")(x), alone(neuron, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_all_backends_give_the_same_bits(fake_cupy, dtype):
    neuron = neurons.LIF(tau=taus((C, 1, W)), v_threshold=0.6, v_reset=taus((C,)) / 40, learn="tau")
    for name in LAYOUTS:
        x, results = lying(name, dtype), {}
        for backend in ("torch", "numba", "cuda"):
            layer, given = Layer(neuron, backend=backend, keep="auto"), x.detach().requires_grad_()
            out, (v,) = layer(given, return_state=True)
            out.float().square().sum().backward()
            results[backend] = out, v, given.grad, layer.raw["tau"].grad
        out, v, g_x, g_tau = results.pop("torch")
        assert 0.05 < out.float().mean() < 0.95
        for backend, found in results.items():
            assert same_bits(found[0], out), (name, backend)
            assert same_bits(found[1], v), (name, backend)
            small = {torch.float64: 1e-13, torch.float32: 1e-6}.get(dtype, 1e-2)
            assert distance(found[2].double(), g_x.double()) <= small, (name, backend)
            assert distance(found[3].double(), g_tau.double()) <= max(10 * small, 1e-5), (name, backend)
    assert {loop for loop, _ in fake_cupy.launches} == {"forward", "backward"}


@pytest.mark.parametrize("count", [5, 8, 256])
@pytest.mark.parametrize("inner", [1, 3, 4])
def test_cuda_threads_with_several_neurons_cross_from_group_to_group(fake_cupy, count, inner):
    """Accesses of four neurons that begin and end anywhere in the groups."""
    neuron, x = neurons.LIF(tau=taus((count,)), learn="tau"), noise(6, 2, count, inner, seed=1) + 0.3
    made = []
    for backend in ("cuda", "torch"):
        layer = Layer(neuron, backend=backend)
        out = layer(x)
        (g,) = torch.autograd.grad(out, layer.raw.values(), noise(*x.shape, seed=2))
        made.append((out, g))
    assert torch.equal(made[0][0], made[1][0])
    assert distance(made[0][1], made[1][1]) <= 1e-5


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_those_of_a_plain_loop_with_a_tensor(shape, backend):
    """Learned and fixed tensors together; the loop starts at v_reset, as the layer does by itself."""
    x = lying("channels last", torch.float64).requires_grad_()
    numbers = {"tau": taus(shape), "v_threshold": taus(shape, 4) / 6, "v_reset": taus((C,), 5) / 40}
    for learn in (("tau",), ("tau", "v_threshold", "v_reset")):
        neuron = neurons.LIF(**numbers, learn=learn, reset="hard", detach_reset=False)
        layer = Layer(neuron, backend=backend).double()
        g = noise(*x.shape, seed=6, dtype=torch.float64)
        out, (v,) = layer(x, return_state=True)
        found = torch.autograd.grad((out, v), (x, *(layer.raw[key] for key in learn)), (g, g[0]))

        raw = {key: layer.raw[key].detach().requires_grad_() for key in learn}
        full = dict(layer.fixed.named_buffers()) | {k: r if k != "tau" else 1 + r.exp() for k, r in raw.items()}
        wide = {key: value.view(*value.shape, *(1,) * (3 - value.ndim)) for key, value in full.items()}
        spikes, last, _, _ = oracle.lif(
            x, wide["v_reset"].expand(x.shape[1:]), wide["tau"], v_threshold=wide["v_threshold"], v_reset=wide["v_reset"],
            reset="hard", detach_reset=False,
        )  # fmt: skip
        wanted = torch.autograd.grad((spikes, last), (x, *raw.values()), (g, g[0]))
        assert torch.equal(out, spikes)
        for mine, theirs in zip(found, wanted, strict=True):
            assert distance(mine, theirs) <= 1e-12


def test_every_parameter_of_alif_may_be_a_tensor():
    x = lying("as named", torch.float64)[..., 0].contiguous()  # [T, B, C, H]
    numbers = {"tau": taus((C,)), "tau_b": 3 * taus((C, H), 4), "beta": taus((1, H), 5) / 5, "v_threshold": taus((C,), 6) / 6,
               "v_reset": taus((C, 1), 7) / 50}  # fmt: skip
    layer = Layer(
        neurons.ALIF(**numbers, reset="hard", detach_reset=False, learn=("beta", "tau_b")), backend="numba"
    ).double()
    start = noise(2, *x.shape[1:], seed=8, dtype=torch.float64).abs() / 5
    out, state = layer(x, tuple(start), return_state=True)
    raw = {key: layer.raw[key].detach().requires_grad_() for key in ("beta", "tau_b")}
    bounds = layer.bounds
    full = dict(layer.fixed.named_buffers()) | {key: bounds[key].from_free(r) for key, r in raw.items()}
    spikes, v, b = oracle.alif(
        x, *start, **{key: value.view(*value.shape, *(1,) * (2 - value.ndim)) for key, value in full.items()}
    )
    assert torch.equal(out, spikes)
    assert 0.05 < spikes.mean() < 0.95
    assert all(distance(mine, theirs) < 1e-13 for mine, theirs in zip(state, (v, b), strict=True))
    g = noise(*x.shape, seed=9, dtype=torch.float64)
    found = torch.autograd.grad((out, *state), [layer.raw[key] for key in raw], (g, g[0], g[1]))
    wanted = torch.autograd.grad((spikes, v, b), list(raw.values()), (g, g[0], g[1]))
    assert all(distance(mine, theirs) < 1e-12 for mine, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("learn", [(), ("v_reset",)], ids=["fixed", "learned"])
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_the_initial_state_follows_a_shaped_reset(backend, learn):
    rest = torch.tensor([[-1.0], [0.25], [2.0]])
    layer = Layer(neurons.LI(v_reset=rest, learn=learn), backend=backend)
    out = layer(torch.zeros(4, 2, 3, 5))
    assert torch.equal(out, rest.expand(4, 2, 3, 5))  # at rest, and it stays there
    assert torch.equal(layer(torch.zeros(0, 2, 3, 5), return_state=True)[1][0], rest.expand(2, 3, 5))


def test_gradcheck_of_shaped_parameters():
    layer = Layer(
        neurons.LIF(tau=taus((3,)), v_threshold=taus((3, 1), 4) / 6, v_reset=taus((1, 2), 5) / 40, learn=("v_threshold", "tau"),
                    detach_reset=False), backend="numba", smooth=True,
    ).double()  # fmt: skip
    x = noise(5, 2, 3, 2, seed=0, dtype=torch.float64).requires_grad_()
    start = noise(2, 3, 2, seed=1, dtype=torch.float64).requires_grad_()
    raw = [layer.raw[key] for key in ("tau", "v_threshold")]

    def run(x, v, *raw):
        (spikes, (last,)) = torch.func.functional_call(
            layer, dict(zip(("raw.tau", "raw.v_threshold"), raw, strict=True)), (x, (v,)), {"return_state": True}
        )
        return spikes, last

    assert torch.autograd.gradcheck(run, (x, start, *raw))


# -- drawn -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learn", [(), ("tau",)], ids=["fixed", "learned"])
def test_a_distribution_is_drawn_once_for_each_channel(learn):
    def made() -> tfexplore.LIF:
        torch.manual_seed(7)
        return tfexplore.LIF(tau=Uniform(2.0, 10.0), learn=learn, channels=5)

    torch.manual_seed(7)
    expected = Uniform(2.0, 10.0).sample((5,))
    one, other = made(), made()
    for layer in (one, other):
        tau = layer.learned["tau"] if learn else layer.fixed["tau"]
        assert torch.allclose(tau, expected, rtol=1e-6)
    assert one.neuron == other.neuron
    assert one.neuron != tfexplore.LIF(tau=Uniform(2.0, 10.0), learn=learn, channels=5).neuron
    x = noise(9, 2, 5, seed=1) + 0.3
    assert torch.equal(one(x), other(x))


def test_values_outside_of_the_bound_are_refused_where_they_are_drawn():
    with pytest.raises(
        ValueError, match=r"^LIF: every value of tau must be a finite number, at least 1, but 4 of 4 are not"
    ):
        tfexplore.LIF(tau=Uniform(0.1, 0.9), channels=4)
    with pytest.raises(
        ValueError, match=r"^tau is drawn from a distribution, so the layer must know how many values: "
    ):
        tfexplore.LIF(tau=Uniform(2.0, 3.0))


def test_channels_still_spread_a_learned_number():
    layer = tfexplore.LIF(tau=3.0, learn="tau", channels=4)
    assert torch.allclose(layer.learned["tau"], torch.full((4,), 3.0))
    assert "fixed" not in " ".join(layer.state_dict())
    assert repr(layer) == repr(tfexplore.LIF(tau=3.0, learn="tau", channels=4))


# -- as modules and as values ----------------------------------------------------------------------------------------


def mixed() -> Layer:
    neuron = neurons.LIF(tau=taus((C,)), v_threshold=taus((C, 1), 4) / 6, learn="tau")
    return Layer(neuron, backend="numba")


def test_fixed_tensors_are_in_the_state_dict_and_move_with_the_layer():
    layer, x = mixed(), lying("as named")
    assert set(layer.state_dict()) == {"raw.tau", "fixed.v_threshold"}
    other = Layer(neurons.LIF(tau=taus((C,), 8), v_threshold=taus((C, 1), 9), learn="tau"), backend="numba")
    assert not torch.equal(other(x), layer(x))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    with pytest.raises(RuntimeError, match=r"size mismatch for fixed\.v_threshold"):
        other.load_state_dict(layer.state_dict() | {"fixed.v_threshold": torch.ones(C)})
    assert layer.to(torch.float64).fixed["v_threshold"].dtype == torch.float64
    assert not any(buffer.requires_grad for buffer in layer.buffers())
    assert layer.to("meta").fixed["v_threshold"].is_meta


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["deepcopy", "pickle"]
)
def test_a_copy_is_the_same_layer_and_apart(copied):
    layer, x = mixed(), lying("as named")
    twin = copied(layer)
    assert twin.neuron == layer.neuron
    assert torch.equal(twin(x), layer(x))
    with torch.no_grad():
        twin.fixed["v_threshold"].mul_(4)
    assert not torch.equal(twin(x), layer(x))


def test_another_process_gives_the_same_spikes(tmp_path, python):
    layer, x = mixed(), lying("as named")
    torch.save((layer, x, layer(x)), tmp_path / "layer.pt")
    program = "import sys, torch; layer, x, out = torch.load(sys.argv[1], weights_only=False); print(torch.equal(layer(x), out))"
    done = subprocess.run([python, "-c", program, tmp_path / "layer.pt"], text=True, capture_output=True, check=True)
    assert done.stdout == "True\n"


def test_another_neuron_with_the_same_tensors_may_be_set():
    layer, x = mixed(), lying("as named")
    layer.neuron = dataclasses.replace(layer.neuron, v_reset=0.4)
    expected = Layer(layer.neuron, backend="torch")(x)
    assert torch.equal(layer(x), expected)
    for changed in ({"v_threshold": 1.0}, {"v_threshold": taus((C, 1), 9)}, {"v_reset": taus((C,))}):
        with pytest.raises(
            ValueError, match=r"^this layer has values for \('tau', 'v_threshold'\), but the new neuron "
        ):
            layer.neuron = dataclasses.replace(layer.neuron, **changed)
    plain = tfexplore.LIF()
    with pytest.raises(
        ValueError, match=r"^this layer has values for no parameter, but the new neuron others, for \('tau',\); "
    ):
        plain.neuron = neurons.LIF(tau=taus((2,)))


def test_compiled_in_one_graph():
    torch.compiler.reset()
    layer, x = mixed(), lying("as named")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    results = []
    for call in (compiled, layer):
        given = x.clone().requires_grad_()
        out = call(given)
        results.append((out.detach(), *torch.autograd.grad(out.square().sum(), (given, layer.raw["tau"]))))
    assert all(map(torch.equal, *results))
    torch.compiler.reset()


def test_neurons_with_tensors_are_values():
    made = [neurons.LIF(tau=given) for given in (torch.tensor([2.0, 5.0]), np.array([2.0, 5.0]), Values([2, 5]))]
    assert len(set(made)) == 1
    assert made[0] == made[1] != neurons.LIF(tau=torch.tensor([5.0, 2.0]))
    assert made[0] != neurons.LIF(tau=torch.tensor([[2.0, 5.0]]))
    assert made[0] != neurons.LIF(tau=2.0)
    assert repr(made[0]).startswith("LIF(tau=<2 values, 2 to 5>, ")
    assert repr(neurons.LIF(tau=taus((3, 1, 4)))).startswith("LIF(tau=<3 x 1 x 4 values, ")
    assert made[0].shaped == ("tau",)
    given = torch.tensor([2.0, 5.0])
    neuron = neurons.LIF(tau=given)
    given.zero_()
    assert neuron == made[0]  # a value does not change
    with pytest.raises(ValueError, match="read-only"):
        neuron.tau.array[0] = 3.0
    # neurons that differ in their values only share their equations, and so their kernels
    assert neurons.step_of(made[0]) is neurons.step_of(neurons.LIF(tau=taus((7,))))
    assert neurons.step_of(made[0]) != neurons.step_of(neurons.LIF())

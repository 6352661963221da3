"""NIR's neurons against plain loops, against the equations integrated finely, and between backends."""

import numpy as np
import pytest
import torch

from tests.cases import distance, noise, same_bits
from tests.exchange.nir_loops import parameters, walked
from tfexplore import Layer, record
from tfexplore.exchange import Graph, Node, from_nir
from tfexplore.exchange.neurons import NirCubaLI, NirCubaLIF, NirI, NirIF, NirLI, NirLIF, NirThreshold

KINDS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF")
DT = 1e-3


def alone(kind, p):
    shape = np.broadcast_shapes(*(np.shape(value) for value in p.values()))
    ends = {"in": Node("Input", {"shape": shape}), "out": Node("Output", {"shape": shape})}
    return Graph(ends | {"n": Node(kind, p)}, (("in", "n"), ("n", "out")))


@pytest.mark.parametrize("leak", ["euler", "exact"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_neuron_against_a_plain_loop_to_the_bit(kind, leak):
    p = parameters(kind, 7, DT)
    x = noise(80, 3, 7, seed=1) + 0.5
    expected, potentials = map(torch.tensor, walked(kind, p, x.numpy(), DT, leak=leak, dtype=np.float32))
    for backend in ("torch", "numba"):
        net = from_nir(alone(kind, p), dt=DT, leak=leak, backend=backend)
        with record(net, "v") as traces:
            out = net(x)
        assert torch.equal(traces["n"]["v"], potentials)
        assert torch.equal(out, expected)
    if kind.endswith("IF"):
        assert 0.02 < expected.mean() < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_stand_for_all_neurons(kind):
    """A parameter that is the same everywhere is a number of the kernel, and gives the same bits as an array."""
    p = {name: value[:1].repeat(6) for name, value in parameters(kind, 6, DT).items()}
    uneven = {name: np.append(value, value[0] * 1.5) for name, value in p.items()}
    numbers, arrays = from_nir(alone(kind, p), dt=DT), from_nir(alone(kind, uneven), dt=DT)
    assert not list(numbers.n.fixed.buffers())
    assert list(arrays.n.fixed.buffers())
    x = noise(40, 2, 7, seed=2) + 0.5
    assert same_bits(numbers(x[..., :6].contiguous()), arrays(x)[..., :6])


def test_euler_approaches_the_equation_and_exact_is_there():
    """CubaLI under a current that stays for 4 ms at a time, against 2,000 substeps of each of them."""
    p = {"tau_mem": 0.010, "tau_syn": 0.004, "r": 1.5, "v_leak": 0.1, "w_in": 2.0}
    coarse = np.repeat(np.random.default_rng(0).uniform(0, 1, 10), 4)[:, None]
    fine, _ = walked("CubaLI", p, np.repeat(coarse, 2000, axis=0), DT / 2000)
    at_steps = fine[1999::2000, 0]
    errors = {}
    for parts in (1, 2, 4, 8):
        net = from_nir(
            alone("CubaLI", {name: np.full(1, v) for name, v in p.items()}), dt=DT / parts, dtype=torch.float64
        )
        found = net(torch.tensor(np.repeat(coarse, parts, axis=0)).unsqueeze(1)).flatten().numpy()[parts - 1 :: parts]
        errors[parts] = np.abs(found - at_steps).max()
    ratios = [errors[n] / errors[2 * n] for n in (1, 2, 4)]
    assert all(1.8 < ratio < 2.3 for ratio in ratios), ratios  # of first order
    # a leak alone is exact at any dt while its input stays
    li = {"tau": np.full(1, 0.010), "r": np.full(1, 1.5), "v_leak": np.full(1, 0.1)}
    fine, _ = walked("LI", li, np.repeat(coarse, 2000, axis=0), DT / 2000)
    exact = from_nir(alone("LI", li), dt=4 * DT, leak="exact", dtype=torch.float64)(
        torch.tensor(coarse[::4]).unsqueeze(1)
    )
    assert np.abs(exact.flatten().numpy() - fine[7999::8000, 0]).max() < 3e-5


@pytest.mark.parametrize("cls", [NirI, NirIF, NirLI, NirLIF, NirCubaLI, NirCubaLIF, NirThreshold])
def test_gradients_of_the_kernels_are_those_of_autograd(cls):
    x = noise(20, 2, 5, seed=3)
    found = []
    for backend in ("torch", "numba"):
        leaf = x.clone().requires_grad_()
        layer = Layer(cls(), backend=backend)
        (layer(leaf) * noise(20, 2, 5, seed=4)).sum().backward()
        found.append(leaf.grad)
    assert distance(*found) < 1e-6


def test_parameters_of_neurons_are_learned():
    neuron = NirCubaLIF(rate=1.0, rate_syn=0.25, learn=("rate", "rate_syn", "w_in", "v_threshold"))
    grads = []
    for backend in ("torch", "numba"):
        layer = Layer(neuron, backend=backend)
        assert {name: round(float(value.detach()), 6) for name, value in layer.learned.items()} == {
            "rate": 1.0, "v_threshold": 1.0, "rate_syn": 0.25, "w_in": 1.0,
        }  # fmt: skip
        layer(noise(20, 2, 5, seed=5) + 1).sum().backward()
        grads.append(torch.stack([value.grad for value in layer.raw.values()]))
    assert distance(*grads) < 1e-5


@pytest.mark.parametrize(
    "neuron", [NirLI(rate=0.3), NirCubaLIF(rate=0.15, rate_syn=0.25, w_in=4.0, v_leak=0.1)], ids=str
)
def test_the_cuda_text_gives_the_same_bits(neuron, fake_cupy):
    x = noise(30, 2, 5, seed=6) + 1
    results = []
    for backend in ("torch", "numba", "cuda"):
        leaf = x.clone().requires_grad_()
        out, v = Layer(neuron, backend=backend, keep="auto" if backend == "torch" else "potential")(leaf, trace="v")
        (out.sum() + v.sum()).backward()
        results.append((out.detach(), v.detach(), leaf.grad))
    for out, v, gradient in results[1:]:
        assert same_bits(out, results[0][0])
        assert same_bits(v, results[0][1])
        assert distance(gradient, results[0][2]) < 1e-6


TIES = {
    "IF": {"r": 1.0, "v_threshold": 1.0, "v_reset": 0.0},
    "LIF": {"tau": 1.0, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0},
    "CubaLIF": {
        "tau_mem": 1.0,
        "tau_syn": 1.0,
        "r": 2.0,
        "v_leak": 0.0,
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "w_in": 1.0,
    },
    "Threshold": {"threshold": 0.5},
}


@pytest.mark.filterwarnings("ignore:dt / tau is above 0.5")
@pytest.mark.parametrize("kind", TIES)
def test_nir_fires_above_the_threshold_and_not_at_it(kind):
    at, above = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.5625, 0.0])
    net = from_nir(alone(kind, {name: np.full(1, value) for name, value in TIES[kind].items()}), dt=1.0)
    assert net(at.view(-1, 1, 1)).flatten().tolist() == [0.0, 0.0, 0.0]
    assert net(above.view(-1, 1, 1)).flatten().tolist() == [0.0, 1.0, 0.0]


def test_neurons_start_at_rest():
    for cls in (NirLI, NirLIF, NirCubaLI, NirCubaLIF):
        assert cls(v_leak=-0.5).initial()[0] == -0.5
        _, (v, *_) = Layer(cls(v_leak=-0.5), backend="torch")(torch.zeros(9, 1, 1), return_state=True)
        assert v.item() == -0.5
    assert NirIF(v_reset=-0.5).initial() == (-0.5,)


def test_a_rate_is_a_part():
    assert NirLIF(rate=1.0).rate == 1.0
    for rate in (0.0, 1.001, -0.5):
        with pytest.raises(ValueError, match="rate must be a finite number, above 0 and below 1"):
            NirLIF(rate=rate)

"""The fused CPU kernels against the eager loop: the same bits forward, gradients within the contract, for all neurons.

Also the machinery around them: the choice of a backend, the cache of compiled kernels, threads and forked processes.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tfexplore
from tests.cases import CASES, EDGES, SURROGATES, Case, distance, noise, numbers_within_bounds, same_bits
from tfexplore import Layer, backends, neurons, surrogates
from tfexplore.backends import numba_cpu, warm
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.step import step_of
from tfexplore.nn import routes

EXACT = [case for case in CASES if case.cls is not neurons.EIF]  # + - * / and comparisons only
EXPONENTIAL = [case for case in CASES if case.cls is neurons.EIF]

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
STEPS = st.one_of(st.sampled_from(EDGES), st.integers(1, 100))


def as_is(x: Tensor) -> Tensor:
    return x


def batch_and_time_swapped(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def every_other(x: Tensor) -> Tensor:
    return torch.stack([x, x + 1], -1).flatten(-2)[..., ::2]


def expanded(x: Tensor) -> Tensor:
    return x[:, :1].expand(x.shape)


def channels_last(x: Tensor) -> Tensor:
    return x.movedim(2, -1).contiguous().movedim(-1, 2) if x.ndim > 3 else x


LAYOUTS = (as_is, batch_and_time_swapped, every_other, expanded, channels_last)


def run(layer: Layer, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Everything the forward pass computes, and the gradient of x for a dense loss."""
    x = x.detach().requires_grad_()
    names = ("h", *layer.neuron.states)
    with tfexplore.record(layer, *names) as traces:
        out, state = layer(x, return_state=True)
    weights = noise(*out.shape, seed=1, dtype=out.dtype)
    (out * weights).sum().backward()
    return [out.detach(), *(z.detach() for z in state), *(traces[""][name] for name in names)], x.grad


def agree(case: Case, numbers: dict[str, float], x: Tensor) -> None:
    neuron = case(**numbers)
    expected, gradient = run(Layer(neuron, backend="torch"), x.contiguous())
    found, fused_gradient = run(Layer(neuron, backend="numba", keep=case.keep), x)
    assert all(map(same_bits, found, expected))
    # near rest, the slopes of these two, such as 1 + dt (0.08 v + 5), are small differences that magnify a rounding error
    bound = 1e-5 if case.cls in (neurons.QIF, neurons.Izhikevich) else 1e-6
    # a runaway neuron with random numbers may reach infinity; there is no distance to a gradient that is not finite
    assert not gradient.isfinite().all() or distance(fused_gradient, gradient) <= bound


@pytest.mark.parametrize("case", EXACT, ids=str)
@settings(
    max_examples=20, derandomize=True
)  # the bound on gradients is tight: other seeds are for exploring, not for CI
@given(st.integers(0, 10**6), STEPS, SHAPES, st.sampled_from(LAYOUTS), st.booleans())
def test_numba_and_torch_give_the_same_bits(case, seed, steps, shape, layout, usual):
    numbers = {} if usual else numbers_within_bounds(case.cls, seed)
    agree(case, numbers, layout(case.input(steps, shape, seed)))


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_the_same_bits_for_a_thousand_steps(case):
    agree(case, {}, case.input(1000, (2, 9)))


@pytest.mark.parametrize("name", ["LIF-hard", "ALIF-soft", "Izhikevich-hard"])  # chunks of 32, 16 and 16 steps
@settings(max_examples=20)
@given(STEPS)
def test_recomputing_and_reading_back_give_the_same_gradient(name, steps):
    case = next(case for case in CASES if str(case) == name)
    x = case.input(steps, (3, 4), seed=steps)
    kept = [run(Layer(case(detach_reset=False), backend="numba", keep=keep), x) for keep in ("input", "potential")]
    assert all(map(same_bits, kept[0][0], kept[1][0]))
    assert same_bits(kept[0][1], kept[1][1])
    assert kept[0][1].any()


@pytest.mark.parametrize("case", EXPONENTIAL, ids=str)
@settings(max_examples=20)
@given(st.integers(0, 10**6), STEPS, SHAPES, st.sampled_from(LAYOUTS))
def test_neurons_with_exp_agree_to_four_units_in_the_last_place_of_every_step(case, seed, steps, shape, layout):
    """torch's exp and libm's differ in the last bit, which can move a later spike: each step is compared by itself."""
    neuron, x = case(), layout(case.input(steps, shape, seed))
    names = ("h", "v")
    with tfexplore.record(layer := Layer(neuron, backend="numba"), *names) as fused:
        spikes = layer(x)
    h, v = (fused[""][name] for name in names)
    start = torch.full_like(v[:1], neuron.v_reset)
    with tfexplore.record(layer := Layer(neuron, backend="torch"), *names) as eager:
        layer(
            x.flatten(0, 1).unsqueeze(0), (torch.cat([start, v[:-1]]).flatten(0, 1),)
        )  # every step from numba's own v
    expected = eager[""]["h"].view(h.shape)
    assert ((h - expected).abs() <= 4 * 2**-23 * expected.abs().clamp(min=1)).all()
    assert torch.equal(spikes, (h >= neuron.v_threshold).float())
    after = {"soft": h - spikes * neuron.v_threshold, "hard": torch.where(spikes > 0, neuron.v_reset, h), "none": h}
    assert torch.equal(v, after[case.reset])


@pytest.mark.parametrize("case", EXPONENTIAL, ids=str)
def test_gradients_of_neurons_with_exp(case):
    x = case.input(65, (3, 5), dtype=torch.float32)
    found, gradient = run(Layer(case(), backend="numba", keep=case.keep), x)
    expected, expected_gradient = run(Layer(case(), backend="torch"), x)
    assert torch.equal(found[0], expected[0])  # no spike moved for these inputs: the gradients are comparable
    assert distance(gradient, expected_gradient) <= 1e-5  # 1e-6 is the contract for + - * /; here exp itself differs


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda cls: cls.__name__)
def test_every_surrogate_on_both_backends(surrogate):
    case = Case(neurons.LIF, "soft", surrogate(0.7), False, "potential")
    agree(case, {}, 2 * case.input(33, (4, 5)))


@pytest.mark.parametrize("case", [c for c in CASES if c.reset == c.cls().reset and c.cls is not neurons.EIF], ids=str)
def test_gradients_of_learned_parameters(case):
    """One value per channel: the error of a gradient is measured against the largest of them (a single one may cancel)."""
    learn = tuple(case().parameters)
    x = case.input(50, (2, 6, 3))
    grads = []
    for backend in ("torch", "numba"):
        layer = Layer(case(learn=learn), backend=backend, channels=6)
        out = layer(x)
        (out * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum().backward()
        grads.append({key: raw.grad for key, raw in layer.raw.items() if raw.grad.any()})
    expected, found = grads
    assert found.keys() == expected.keys()
    assert len(found) >= len(learn) - 1
    assert max(distance(found[key], expected[key]) for key in found) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_goes_in_and_out_and_the_state_is_float32(dtype):
    case = CASES[1]
    x = case.input(40, (4, 6)).to(dtype)
    for backend, keep in (("torch", "auto"), ("numba", "input"), ("numba", "potential")):
        layer = Layer(case(), backend=backend, keep=keep)
        values, gradient = run(layer, x)
        expected, full = run(layer, x.float())
        assert values[0].dtype == gradient.dtype == dtype
        assert values[1].dtype == values[2].dtype == torch.float32
        assert torch.equal(values[0].float(), expected[0])
        assert all(map(same_bits, values[1:], expected[1:]))
        # the weights of the loss are rounded to half precision too
        assert distance(gradient.float(), full) < 4 * torch.finfo(dtype).eps


def test_float64_agrees_as_well():
    case = CASES[1]
    agree(case, {}, case.input(70, (3, 4), dtype=torch.float64))


def test_without_gradients_nothing_is_kept(monkeypatch):
    kept = []
    plain = numba_cpu.forward

    def spy(variant, *given):
        made = plain(variant, *given)
        kept.append((variant.keep, 0 if made[2] is None else made[2].numel()))
        return made

    monkeypatch.setattr(numba_cpu, "forward", spy)
    for keep in ("input", "potential"):
        layer, x = tfexplore.LIF(backend="numba", keep=keep), torch.rand(70, 2, 3)
        layer(x)
        with torch.no_grad():
            layer(x.requires_grad_())
        layer(x)
    nothing = ("nothing", 0)
    # input: the states at the start of the chunks of 32 steps but the first; potential: one value for each of 70 steps
    assert kept == [nothing, nothing, ("input", 2 * 6), nothing, nothing, ("potential", 70 * 6)]


def test_a_recomputing_layer_keeps_the_input_itself_and_no_copy():
    x = torch.rand(64, 2, 3, requires_grad=True)
    spikes = tfexplore.LIF(backend="numba", keep="input")(x)
    tensors = spikes.grad_fn.saved_tensors
    assert [0 if t is None else t.numel() for t in tensors] == [x.numel(), 0, 0, 0, 6]
    assert tensors[0].data_ptr() == x.data_ptr()


# -- the choice of a backend ---------------------------------------------------------------------------------------


def test_the_choice_says_why():
    x = torch.zeros(1, 1)
    assert tfexplore.LIF().choice(x) == backends.Choice("numba", "all time steps in one kernel on CPU tensors")
    assert tfexplore.LIF(backend="torch").choice(x) == backends.Choice("torch", "requested")
    assert tfexplore.LIF().choice(x.to("meta")) == backends.Choice("torch", "no fused backend runs on 'meta' tensors")


@pytest.fixture
def forget_what_runs():
    """What is cached is forgotten before and after a test that pretends another machine."""
    caches = (backends._why_not, routes.cached_kernel)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_without_numba_auto_takes_torch_and_says_so(monkeypatch, forget_what_runs):
    with monkeypatch.context() as patch:
        patch.setattr(backends.importlib.util, "find_spec", lambda name: None)
        choice = tfexplore.LIF().choice(torch.zeros(1, 1))
        assert choice.name == "torch"
        assert choice.reason == "the fused numba backend cannot run: Numba is not installed: pip install numba."
        assert tfexplore.LIF()(torch.ones(2, 1, 1)).flatten().tolist() == [1.0, 1.0]
        with pytest.raises(
            RuntimeError, match=r"^backend='numba' cannot run: Numba is not installed: pip install numba\.$"
        ):
            tfexplore.LIF(backend="numba")(torch.ones(2, 1, 1))


def test_importing_tfexplore_imports_no_compiler(python):
    text = "import sys, tfexplore; print(sorted({'numba', 'cupy', 'plotly', 'ipywidgets', 'sklearn'} & sys.modules.keys()))"
    out = subprocess.run([python, "-c", text], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.strip() == "[]"


# -- compiled kernels on disk ---------------------------------------------------------------------------------------

NOTEBOOK_CELL = """
import time, sympy, torch, tfexplore
from tfexplore import Layer, surrogates
from tfexplore.neurons import Neuron, TimeConstant

class TwoStates(Neuron):
    "As from a notebook cell: no file holds it."
    states = ("v", "i")
    tau: TimeConstant = 3.0
    v_threshold: float = 0.8
    def charge(self, v, i, x):
        i = i / 2 + x
        return v - v / self.tau + i * (1 + i) / 4, i
    def after(self, s, v, i):
        return (i * (1 - s / 2),)

bump = surrogates.custom("Cauchy", "1 / (pi * g * (1 + (u / g)**2))", g=0.5)
"""
USE_IT = """
results = []
for backend in ("torch", "numba"):
    x = torch.linspace(-1, 2, 240).sin().view(40, 2, 3).requires_grad_()
    layer = Layer(TwoStates(surrogate=bump, learn="tau", detach_reset=False), backend=backend)
    spikes, state = layer(x, return_state=True)
    spikes.sum().backward()
    results.append([spikes, *state, x.grad, layer.raw["tau"].grad])
assert 0 < results[0][0].mean() < 1
assert all(torch.equal(a, b) for a, b in zip(results[0][:3], results[1][:3]))
assert all((a - b).abs().max() <= 1e-5 * a.abs().max() for a, b in zip(results[0][3:], results[1][3:]))
import numba
from tfexplore.backends import numba_cpu
print(numba_cpu.load.cache_info().currsize, "kernels")
import sys
for module in [m for name, m in sys.modules.items() if name.startswith("tfexplore_")]:
    for loop in ("forward", "backward"):
        if hasattr(module, loop) and module.__name__.endswith("_" + loop):
            stats = getattr(module, loop).stats
            print(loop, "hits", sum(stats.cache_hits.values()), "misses", sum(stats.cache_misses.values()))
"""


def in_subprocess(python: str, cache: os.PathLike[str], text: str) -> list[str]:
    environment = os.environ | {"TFEXPLORE_CACHE": str(cache)}
    done = subprocess.run(
        [python, "-W", "error", "-c", text], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_a_neuron_from_a_notebook_cell_is_compiled_once_for_all_processes(tmp_path, python):
    text = NOTEBOOK_CELL + USE_IT
    with ThreadPoolExecutor(2) as both:  # two processes compile the same kernels into an empty cache at once
        first, second = both.map(lambda _: in_subprocess(python, tmp_path, text), range(2))
    compiled = ["2 kernels", "forward hits 0 misses 1", "backward hits 0 misses 1"]
    assert first[0] == second[0] == compiled[0]
    assert compiled in (first, second)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert in_subprocess(python, tmp_path, text) == ["2 kernels", "forward hits 1 misses 0", "backward hits 1 misses 0"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_same_equations_share_a_kernel_and_others_do_not(kernels_used):
    edited = NOTEBOOK_CELL.replace("(1 - s / 2)", "(1 - s / 3)")
    for text in (NOTEBOOK_CELL, NOTEBOOK_CELL, edited):  # a cell is run, run again, and edited
        space = {"__name__": "__main__"}
        exec(compile(text, "<cell>", "exec", dont_inherit=True), space)
        Layer(space["TwoStates"]())(torch.zeros(1, 1, 1))
    assert kernels_used[0] == kernels_used[1] != kernels_used[2]


def test_a_loop_is_compiled_anew_only_for_what_it_needs() -> None:
    """The forward pass knows no surrogate, the backward pass no record."""

    def file(loop: str, record: tuple[str, ...] = (), **chosen: surrogates.Surrogate) -> str:
        source = numba_cpu.source(Variant(step_of(neurons.LIF(**chosen)), keep="input", record=record))
        return str(numba_cpu.load(source, loop).py_func.__code__.co_filename)

    smooth = surrogates.Sigmoid()
    assert file("forward") == file("forward", surrogate=smooth) != file("forward", ("v",))
    assert file("backward") == file("backward", ("v",)) != file("backward", surrogate=smooth)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads the assembly of x86")
@pytest.mark.parametrize(
    "neuron", [neurons.LIF(), neurons.ALIF(), neurons.Izhikevich()], ids=lambda n: type(n).__name__
)
def test_the_loops_over_neurons_are_vectorised(neuron, tmp_path, monkeypatch):
    """The one loop of arithmetic in each of these works on several neurons at once: packed products and quotients."""
    monkeypatch.setenv("TFEXPLORE_CACHE", str(tmp_path))  # what Numba takes from its cache shows no assembly
    numba_cpu.load.cache_clear()
    variant = Variant(step_of(neuron), keep="potential")
    warm.run("numba", "cpu", neuron, variant)
    for loop in ("forward", "backward"):
        (assembly,) = numba_cpu.load(numba_cpu.source(variant), loop).inspect_asm().values()
        assert re.search(r"\bv?(mul|div)ps\b", assembly), loop
    numba_cpu.load.cache_clear()


# -- threads and processes -------------------------------------------------------------------------------------------


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def large(layer: Layer) -> list[Tensor]:
    """More than one block of neurons and enough work to be shared out between threads."""
    x = CASES[1].input(150, (3, 2500)).requires_grad_()
    assert x[0].numel() > numba_cpu.UNIT
    assert x.numel() > numba_cpu.SMALL
    out, state = layer(x, return_state=True)
    out.cumsum(-1).sum().backward()
    return [out.detach(), *(z.detach() for z in state), x.grad]


@pytest.mark.parametrize("keep", ["input", "potential"])
def test_one_thread_or_many_the_same_bits(threads: Callable[[int], None], keep: str):
    layer, results = tfexplore.LIF(backend="numba", keep=keep), []
    for count in (1, 2, 3):
        threads(count)
        results.append(large(layer))
    expected = large(tfexplore.LIF(backend="torch"))
    for found in results:
        assert all(map(same_bits, found[:2], expected[:2]))
        assert same_bits(found[2], results[0][2])
    assert distance(results[0][2], expected[2]) <= 1e-6


def test_from_four_threads_at_once(threads: Callable[[int], None]):
    threads(2)
    fresh = surrogates.Gaussian(0.3)  # its kernels may have to be compiled by all four
    layers = [tfexplore.LIF(surrogate=fresh, detach_reset=False, backend="numba") for _ in range(4)]
    expected = large(layers[0])
    start = threading.Barrier(4)

    def work(layer: Layer) -> list[list[Tensor]]:
        start.wait()
        return [large(layer) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(work, layers):
            assert all(same_bits(a, b) for found in results for a, b in zip(found, expected, strict=True))


FORK = """
import os, torch, tfexplore
layer, x = tfexplore.LIF(backend="numba"), torch.rand(150, 3, 2500)
expected = layer(x).numpy().tobytes()  # the parent's threads are at work before the fork
child = os.fork()
if child == 0:  # where torch's own parallel operators, torch.equal among them, would wait for threads that are gone
    os._exit(0 if layer(x).numpy().tobytes() == expected else 1)
status = os.waitpid(child, 0)[1]
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="os.fork with threads is for Linux")
def test_in_a_forked_child(python):
    # in a process of its own: pytest's has other threads, which Python warns about at a fork
    subprocess.run([python, "-c", FORK], check=True, timeout=60)

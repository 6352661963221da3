"""The fused CUDA backend on a real GPU: `pytest -m gpu`. What shows without one is in test_cuda_text.py.

It runs from a plain checkout with torch, CuPy, NumPy, SymPy and pytest; where Numba is missing, the CPU side is eager.
"""

import threading
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tfexplore import neurons, surrogates
from tfexplore.backends import cuda
from tfexplore.codegen.builds import THREADS
from tfexplore.neurons import Neuron
from tfexplore.nn.layers import Layer

pytestmark = pytest.mark.gpu
with warnings.catch_warnings():  # CuPy warns at its import of what it may not need
    warnings.simplefilter("ignore")
    if problem := cuda.why_not():
        pytest.skip(f"needs an NVIDIA GPU, a CUDA build of torch, and CuPy: {problem}", allow_module_level=True)

DEVICE = torch.device("cuda", 0)
KEEP = ("potential", "input")
EXACT = [  # made of + - * / and comparisons: the same bits as on the CPU
    neurons.IF(), neurons.LIF(), neurons.LIF(reset="hard", v_reset=-0.1, decay_input=True), neurons.LIF(reset="none"),
    neurons.LIF(reset="hard", detach_reset=False), neurons.LIF(detach_reset=False, surrogate=surrogates.Triangle()),
    neurons.LIF(learn=("v_threshold", "v_reset")), neurons.ALIF(), neurons.ALIF(detach_reset=False, learn=("beta",)),
    neurons.CubaLIF(), neurons.LI(), neurons.QIF(), neurons.Izhikevich(), neurons.PaperLIF(v_reset=0.05),
]  # fmt: skip
WITH_EXP = [  # in the equation, or in what makes a time constant of a learned parameter
    neurons.EIF(), neurons.ParametricLIF(tau=2.3), neurons.LIF(learn=("tau", "v_threshold", "v_reset")),
    neurons.ALIF(detach_reset=False, learn=("beta", "tau_b")),
]  # fmt: skip
SMALL = {torch.float32: 3e-6, torch.float64: 1e-14}
"""Of the largest gradient: the kernel's divisions there are about right, to 2 units in the last place in float32."""


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """The same on every machine: made on the CPU."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def current(neuron: Neuron, steps: int, count: int, dtype: torch.dtype) -> Tensor:
    scale, shift = (4.0, 8.0) if isinstance(neuron, neurons.Izhikevich) else (1.0, 0.3)
    return (noise(steps, 1, count, dtype=torch.float64, seed=steps) * scale + shift).to(dtype)


def run(layer: Layer, x: Tensor, device: torch.device, record: tuple[str, ...] = ("v",)) -> dict[str, Tensor]:
    """One pass forward and backward from a state of noise; all that comes of it, on the CPU."""
    layer = layer.to(device)
    layer.zero_grad()
    count, real = len(layer.neuron.states), torch.float64 if x.dtype == torch.float64 else torch.float32
    rest = torch.tensor([float(v) for v in layer.neuron.initial()], dtype=real).view(-1, *(1,) * (x.ndim - 1))
    x_in = x.detach().to(device).requires_grad_()
    start = (rest + 0.1 * noise(count, *x.shape[1:], dtype=real, seed=1)).to(device).requires_grad_()
    with tfexplore.record(layer, *record) as traces:
        out, state = layer(x_in, tuple(start), return_state=True)
    g_out, g_state = noise(*x.shape, dtype=x.dtype, seed=2), noise(count, *x.shape[1:], dtype=real, seed=3)
    torch.autograd.backward((out, torch.stack(state)), (g_out.to(device), g_state.to(device)))
    assert x_in.grad is not None
    assert start.grad is not None
    made = {"out": out, "state": torch.stack(state), "g_x": x_in.grad, "g_start": start.grad, **traces[""]}
    made |= {f"g_{name}": raw.grad for name, raw in layer.raw.items()}
    return {name: value.detach().cpu() for name, value in made.items()}


def flushed(x: Tensor) -> Tensor:
    """Without float32's denormals (below 1.2e-38): CuPy compiles with -ftz=true, which makes them 0."""
    return torch.where(x.abs() < torch.finfo(torch.float32).tiny, 0, x)


def assert_near(found: Tensor, wanted: Tensor, tolerance: float, what: Any) -> None:
    """max|difference| <= tolerance * max|wanted|."""
    assert found.dtype == wanted.dtype, what
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max(), what


def assert_gradients_near(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float, what: Any) -> None:
    whole = [torch.cat([made["g_start"], made["g_x"].to(made["g_start"].dtype)]) for made in (found, wanted)]
    assert_near(*whole, tolerance, what)
    for name in wanted.keys() - {"out", "state", "v", "h", "g_x", "g_start"}:  # learned parameters
        assert_near(found[name], wanted[name], 10 * tolerance, (what, name))


# -- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", KEEP)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("neuron", EXACT, ids=repr)
def test_it_gives_the_bits_of_the_cpu(neuron: Neuron, dtype: torch.dtype, keep: str) -> None:
    # Izhikevich's v**2 multiplies gradients, and what is rounded off them, by hundreds: three times the tolerance
    for steps, count in ((1, 5), (31, 5), (32, 5), (33, 5), (100, 5), (33, 1), (33, 257)):
        x, channels = current(neuron, steps, count, dtype), count if neuron.learn else None
        found = run(Layer(neuron, backend="cuda", keep=keep, channels=channels), x, DEVICE, ("v", "h"))
        for backend in ("auto", "torch"):  # fused where Numba is installed, and eager
            wanted = run(Layer(neuron, backend=backend, channels=channels), x, torch.device("cpu"), ("v", "h"))
            for name in ("out", "state", "v", "h"):
                assert torch.equal(flushed(found[name]), flushed(wanted[name])), (steps, count, backend, name)
            small = SMALL[dtype] * (3 if isinstance(neuron, neurons.Izhikevich) else 1)
            assert_gradients_near(found, wanted, small, (steps, count, backend))


BOX = surrogates.Rectangle()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "neuron", [neurons.LIF(surrogate=BOX), neurons.LIF(surrogate=BOX, reset="hard"), neurons.ALIF(surrogate=BOX)], ids=repr
)  # fmt: skip
def test_wide_accesses_and_bits(neuron: Neuron, dtype: torch.dtype) -> None:
    """Enough neurons for 16 bytes of them in each thread, whatever is kept; one more, and each thread takes one."""
    processors = torch.cuda.get_device_properties(DEVICE).multi_processor_count
    enough = 8 * THREADS * processors
    for steps, count in ((33, enough), (20, enough + 1)):
        x = current(neuron, steps, count, dtype)
        wanted = run(Layer(neuron, backend="torch"), x, torch.device("cpu"))
        found = {keep: run(Layer(neuron, backend="cuda", keep=keep), x, DEVICE) for keep in (*KEEP, "bits")}
        for keep, made in found.items():
            assert torch.equal(made["out"], wanted["out"]), (keep, count)
            assert torch.equal(flushed(made["state"]), flushed(wanted["state"])), (keep, count)
            assert torch.equal(made["g_x"], found["potential"]["g_x"]), (keep, count)
        if dtype in (torch.float32, torch.float64):
            assert_gradients_near(found["bits"], wanted, SMALL[dtype], count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("neuron", WITH_EXP, ids=repr)
def test_with_exp_it_differs_in_the_last_bits_only(neuron: Neuron, dtype: torch.dtype) -> None:
    x, channels = current(neuron, 33, 1000, dtype), 1000 if neuron.learn else None
    found = run(Layer(neuron, backend="cuda", channels=channels), x, DEVICE)
    wanted = run(Layer(neuron, backend="torch", channels=channels), x, torch.device("cpu"))
    # CUDA rounds exp within 2 units in the last place, the CPU within 1: seldom, a neuron at its threshold fires a step
    # later for that, and then goes another way
    same = (found["out"] == wanted["out"]).all(0).squeeze(0)
    assert same.float().mean() >= 0.99
    small = 1e-5 if dtype == torch.float32 else 1e-13
    assert_near(found["v"][..., same], wanted["v"][..., same], small, "v")
    for name in wanted.keys() - {"out", "state", "v", "g_start"}:  # g_x, and the gradients of what is learned
        assert_near(found[name][..., same], wanted[name][..., same], 10 * small, name)


@pytest.mark.parametrize("keep", KEEP)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "neuron", [neurons.LIF(), neurons.ALIF(), neurons.LI(), neurons.Izhikevich(), neurons.PaperLIF()],
    ids=lambda n: type(n).__name__,
)  # fmt: skip
def test_in_half_precision_the_state_is_float32(neuron: Neuron, dtype: torch.dtype, keep: str) -> None:
    x = current(neuron, 33, 257, dtype)
    found = run(Layer(neuron, backend="cuda", keep=keep), x, DEVICE)
    wanted = run(Layer(neuron, backend="torch"), x, torch.device("cpu"))
    assert (found["out"].dtype, found["g_x"].dtype, found["state"].dtype) == (dtype, dtype, torch.float32)
    assert torch.equal(found["out"], wanted["out"])
    assert torch.equal(flushed(found["state"]), flushed(wanted["state"]))
    # both round a float32 gradient: equal, or neighbours; what is left of large terms has their error
    mine, theirs = found["g_x"].float(), wanted["g_x"].float()
    unit = (torch.finfo(dtype).eps * theirs.abs()).clamp(min=torch.finfo(dtype).smallest_normal)
    assert ((mine - theirs).abs() <= unit + 10 * SMALL[torch.float32] * theirs.abs().max()).all()


@pytest.mark.parametrize("schedule", ["chunked", "speculative"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "neuron",
    [neurons.LIF(), neurons.LIF(reset="none"), neurons.ALIF(learn="beta"), neurons.LI(learn="tau"), neurons.Izhikevich(),
     neurons.LIF(surrogate=BOX, reset="hard")], ids=repr,
)  # fmt: skip
def test_chunks_of_time_give_what_the_serial_kernel_gives(neuron: Neuron, dtype: torch.dtype, schedule: str) -> None:
    """Few neurons, in blocks of one warp, and enough for wide accesses; a last chunk that is shorter."""
    enough = 4 * THREADS * torch.cuda.get_device_properties(DEVICE).multi_processor_count
    keeps = (*KEEP, "bits") if neuron.surrogate == BOX else KEEP
    for steps, count in ((1001, 1), (301, 5), (301, 32), (70, enough)):
        x, channels = current(neuron, steps, count, dtype), count if neuron.learn else None
        for keep in keeps if count < enough else keeps[-1:]:
            found, wanted = (
                run(Layer(neuron, backend="cuda", keep=keep, channels=channels, schedule=each), x, DEVICE)
                for each in (schedule, "serial")
            )
            case, small = (steps, count, keep), SMALL[dtype] * (100 if isinstance(neuron, neurons.Izhikevich) else 3)
            if schedule == "chunked" and neuron.reset == "none":  # a sum in another order
                assert (found["out"] != wanted["out"]).float().mean() < 1e-3 or isinstance(neuron, neurons.LI), case
                for name in ("state", "v"):
                    assert_near(found[name], wanted[name], small, (case, name))
            else:
                assert all(torch.equal(found[name], wanted[name]) for name in ("out", "state", "v")), case
            assert_gradients_near(found, wanted, 10 * small, case)


@pytest.mark.parametrize("keep", KEEP)
def test_any_strides_are_taken(keep: str) -> None:
    layer = Layer(neurons.LIF(), backend="cuda", keep=keep)
    images = noise(6, 4, 3, 8, 8)
    views = {
        "contiguous": images,
        "channels last": images.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (6, 4)),
        "every second": noise(6, 4, 3, 8, 16)[..., ::2],
        "batch first": noise(4, 6, 3, 8, 8).transpose(0, 1),
        "expanded": noise(6, 1, 3, 1, 8).expand(6, 4, 3, 8, 8),
    }
    for name, view in views.items():
        on_gpu = view.to(DEVICE) if name != "expanded" else noise(6, 1, 3, 1, 8).to(DEVICE).expand(6, 4, 3, 8, 8)
        if name == "every second":
            on_gpu = noise(6, 4, 3, 8, 16).to(DEVICE)[..., ::2]
        found, wanted = run(layer, on_gpu, DEVICE), run(layer, view.contiguous(), DEVICE)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted), name


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0)], ids=str)
def test_empty_sizes(shape: tuple[int, ...]) -> None:
    layer = Layer(neurons.ALIF(), backend="cuda")
    start = (torch.rand(shape[1:], device=DEVICE), torch.rand(shape[1:], device=DEVICE))
    x = torch.zeros(shape, device=DEVICE, requires_grad=True)
    spikes, state = layer(x, start, return_state=True)
    spikes.sum().backward()
    assert spikes.shape == shape
    assert all(map(torch.equal, state, start))
    torch.cuda.synchronize()  # a launch of nothing would be reported here


def test_more_element_steps_than_32_bits_count() -> None:
    steps, count, period = 40, 1 << 26, 1024
    if torch.cuda.mem_get_info(DEVICE)[0] < 40 * 2**30:
        pytest.skip("needs 40 GiB of free GPU memory")
    few = noise(steps, 1, period, dtype=torch.bfloat16).to(DEVICE)
    wanted_x = few.clone().requires_grad_()
    wanted = Layer(neurons.LIF(), backend="cuda")(wanted_x)
    (wanted_g,) = torch.autograd.grad(wanted, wanted_x, few)
    many = few.repeat(1, 1, count // period)
    assert many.numel() > 2**31
    x = many.clone().requires_grad_()
    out = Layer(neurons.LIF(), backend="cuda")(x)
    (g,) = torch.autograd.grad(out, x, many)
    for t in range(steps):
        assert (out[t].view(-1, period) == wanted[t]).all()
        assert (g[t].view(-1, period) == wanted_g[t]).all()


# -- a good citizen of torch -----------------------------------------------------------------------------------------


def test_auto_takes_cuda_and_says_why() -> None:
    choice = tfexplore.LIF().choice(torch.zeros(1, 1, device=DEVICE))
    assert choice.name == "cuda"
    assert "one kernel" in choice.reason
    with pytest.raises(ValueError, match="backend='numba' runs CPU tensors, but x is on 'cuda'"):
        tfexplore.LIF(backend="numba")(torch.zeros(1, 1, 1, device=DEVICE))


def test_it_runs_on_the_current_stream() -> None:
    layer = Layer(neurons.LIF(), backend="cuda")
    x = torch.zeros(8, 1, 1000, device=DEVICE)
    layer(x)  # compiled before
    torch.cuda.synchronize()
    side = torch.cuda.Stream(DEVICE)
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)  # about 0.1 s: a kernel on another stream would see the zeros
        x.fill_(2.0)
        spikes = layer(x)
    side.synchronize()
    assert spikes.all()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_it_runs_on_the_tensors_device_and_leaves_the_current_one() -> None:
    x, layer = current(neurons.LIF(), 33, 257, torch.float32), Layer(neurons.LIF(), backend="cuda")
    wanted = run(layer, x, DEVICE)
    found = run(layer, x, torch.device("cuda", 1))
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert torch.cuda.current_device() == 0


@pytest.mark.parametrize(
    ("neuron", "keep", "schedule"),
    [(neurons.ALIF(), "potential", "serial"), (neurons.ALIF(), "input", "serial"), (neurons.ALIF(), "input", "chunked"),
     (neurons.CubaLIF(reset="none"), "potential", "chunked")], ids=str,
)  # fmt: skip
def test_a_cuda_graph_holds_forward_and_backward(neuron: Neuron, keep: str, schedule: str) -> None:
    layer = Layer(neuron, backend="cuda", keep=keep, schedule=schedule)
    steps = 20 if schedule == "serial" else 200
    x, g = noise(steps, 2, 300).to(DEVICE).requires_grad_(), noise(steps, 2, 300, seed=1).to(DEVICE)

    def step() -> tuple[Tensor, Tensor]:
        out = layer(x)
        # detached: a graph that lives on keeps x's gradient on the stream of its first pass, and torch warns at the next
        return out.detach(), torch.autograd.grad(out, x, g)[0]

    side = torch.cuda.Stream(DEVICE)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # as torch requires: compiles, and fills torch's pools
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, grad = step()
    with torch.no_grad():
        x.copy_(noise(steps, 2, 300, seed=5) + 0.5)
    Layer(neurons.ALIF(tau=5.0), backend="cuda")(x)  # other numbers must not reach into the graph
    graph.replay()
    torch.cuda.synchronize()
    wanted_out, wanted_grad = step()
    assert wanted_out.any()
    assert torch.equal(out, wanted_out)
    assert torch.equal(grad, wanted_grad)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("schedule", ["serial", "chunked"])
def test_nothing_waits_for_the_gpu(schedule: str) -> None:
    x, g = noise(200, 2, 300).to(DEVICE).requires_grad_(), noise(200, 2, 300, seed=1).to(DEVICE)
    for tau in (2.0, 2.5):  # compiled with the first; the second is another number
        if tau == 2.5:
            torch.cuda.set_sync_debug_mode("error")
        try:
            for reset in ("soft", "none"):
                layer = Layer(neurons.LIF(tau=tau, reset=reset), backend="cuda", schedule=schedule)
                torch.autograd.grad(layer(x), x, g)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("default")  # the compiler has warnings of its own
def test_torch_compile_makes_one_graph() -> None:
    pytest.importorskip("triton", reason="torch.compile needs Triton on a GPU")
    net = nn.Sequential(nn.Linear(16, 32), Layer(neurons.LIF(), backend="cuda"), nn.Linear(32, 4)).to(DEVICE)
    x = noise(10, 8, 16).to(DEVICE).requires_grad_()
    wanted = net(x)
    (wanted_g,) = torch.autograd.grad(wanted.sum(), x)
    for mode in ("default", "reduce-overhead"):
        found = None
        compiled = torch.compile(net, fullgraph=True, mode=mode)
        for _ in range(3):  # the CUDA graphs of "reduce-overhead" are recorded at the second
            found = compiled(x)
            (g,) = torch.autograd.grad(found.sum(), x)
        assert found is not None
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(g, wanted_g)


def test_autocast_is_honoured() -> None:
    net = nn.Sequential(nn.Linear(16, 32), Layer(neurons.LIF(), backend="cuda")).to(DEVICE)
    with torch.autocast("cuda", torch.float16):
        spikes, (v,) = net[1](net[0](noise(10, 8, 16).to(DEVICE)), return_state=True)
    assert (spikes.dtype, v.dtype) == (torch.float16, torch.float32)


def test_many_threads_may_begin_at_once() -> None:
    x = current(neurons.CubaLIF(), 64, 500, torch.float32).to(DEVICE)
    cuda.load.cache_clear()
    found: list[Tensor] = []

    def work() -> None:
        with torch.cuda.stream(torch.cuda.Stream(DEVICE)):
            spikes = Layer(neurons.CubaLIF(), backend="cuda")(x)
            torch.cuda.current_stream(DEVICE).synchronize()
        found.append(spikes)

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = Layer(neurons.CubaLIF(), backend="torch")(x)
    assert len(found) == 4
    assert all(torch.equal(spikes, wanted) for spikes in found)

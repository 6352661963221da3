"""`warm` compiles what a network needs, and changes nothing of it. The oracle for "needs" is what the first steps compile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tfexplore import cli
from tfexplore.backends import numba_cpu
from tfexplore.backends.compiling import Compiled, compiled
from tfexplore.nn.warming import Warmed, warm


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty cache, on the disk and in this process."""
    caches = (numba_cpu.load, numba_cpu.load_from, numba_cpu.usual, numba_cpu.compiled)
    monkeypatch.setenv("TFEXPLORE_CACHE", str(tmp_path))
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("cold")
def test_after_warming_the_first_steps_compile_nothing() -> None:
    net = nn.Sequential(tfexplore.LIF(), nn.Linear(6, 5), tfexplore.LIF(), nn.Linear(5, 2))
    x = torch.rand(10, 4, 6)
    training, evaluation = warm(net, x)
    # without a gradient for the first layer, and with one for the second; evaluation needs nothing more
    assert sorted(kernel.name for kernel in training.kernels) == ["backward", "forward", "forward"]
    assert evaluation.kernels == ()
    assert all(0 < kernel.seconds < training.seconds for kernel in training.kernels)
    with compiled() as first:
        net(x).sum().backward()
        with torch.no_grad():
            net.eval()(x)
    assert first == []
    with compiled() as others:  # a warmed network is not every network
        tfexplore.LIF(reset="hard")(x)
    assert [kernel.name for kernel in others] == ["forward"]


def test_nothing_of_the_network_changes() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(8), tfexplore.LIF(), nn.Dropout(0.5), nn.Linear(5, 2))
    net[4].eval()
    net(torch.rand(10, 8, 6)).sum().backward()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gradients, modes = [p.grad.clone() for p in net.parameters()], [module.training for module in net.modules()]
    numbers = torch.get_rng_state()
    warm(net, torch.zeros(10, 8, 6))
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert [module.training for module in net.modules()] == modes


def test_half_precision_runs_under_autocast() -> None:
    seen: list[torch.dtype] = []
    net = nn.Sequential(nn.Linear(6, 5), tfexplore.LIF())
    net[1].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    warm(net, torch.zeros(10, 4, 6, dtype=torch.bfloat16))
    assert seen == [torch.bfloat16] * 2


def test_a_network_without_parameters_has_no_backward_pass() -> None:
    assert [done.passes for done in warm(tfexplore.LIF(), torch.zeros(3, 2))] == ["training", "evaluation"]


def test_what_numba_calls_by_the_way_is_not_listed() -> None:
    import numba

    with compiled() as found:
        numba.njit(lambda x: x + 1)(1)
    assert found == []


PROJECT = """
import torch, tfexplore

def make():
    return torch.nn.Sequential(torch.nn.Linear(6, 5), tfexplore.LIF())

def given(size):
    return make()

net, three = make(), 3
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "warm_project.py").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "warm_project", raising=False)
    path = list(sys.path)
    yield
    assert sys.path == path
    sys.modules.pop("warm_project", None)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", ["make", "net"])
def test_the_command_line(name: str, dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["warm", f"warm_project:{name}", "--shape", "10,4,6", "--dtype", dtype, "--device", "cpu"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said[:2]] == ["training", "evaluation"]
    assert said[2].startswith("the network's kernels are ready")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["warm_project:make"], "a network needs the shape of its input"),
        (["--shape", "3,4"], "a network needs the shape of its input"),
        (["warm_project", "--shape", "3,4"], "name a network as package.module:name"),
        (["warm_project:make", "--shape", "3x4"], "--shape must be whole numbers from 1 on with commas"),
        (["warm_project:none", "--shape", "3,4"], "warm_project has no 'none'"),
        (["warm_project:make", "--shape", "3,0,4"], "--shape must be whole numbers from 1 on with commas"),
        (["warm_project:given", "--shape", "3,4"], "warm_project:given() makes no network: TypeError"),
        (["warm_project:three", "--shape", "3,4"], "neither a network nor a function that makes one, but int"),
        (["warm_nowhere:make", "--shape", "3,4"], "No module named 'warm_nowhere'"),
        (["warm_project:make", "--shape", "3,4,5"], "does not run with an input 3,4,5, float32: mat1 and mat2"),
    ],
)
def test_the_command_line_says_what_is_wrong(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["warm", "--device", "cpu", *words]) == 1
    assert said in capsys.readouterr().err


def test_a_pass_in_words() -> None:
    assert str(Warmed("evaluation", (), 0.04)) == "evaluation: 0 kernels compiled, 0.0 s"
    assert (
        str(Warmed("training", (Compiled("forward", 1.24),), 2)) == "training: 1 kernel compiled (forward 1.2 s), 2.0 s"
    )


class Watched(torch.autograd.Function):
    walked = 0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        Watched.walked += 1
        return g


class Watch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = Watched.apply(x)
        return made


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_gradients_that_are_off_around_the_call_are_on_within(around: Callable[[], Any]) -> None:
    net, before = nn.Sequential(nn.Linear(6, 5), Watch(), tfexplore.LIF()), Watched.walked
    with around():
        warm(net, torch.rand(4, 2, 6))
    assert Watched.walked == before + 1

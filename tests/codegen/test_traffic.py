"""Words per element-step: against manual counts, and the shapes of what autograd really saves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tfexplore import neurons, surrogates
from tfexplore.codegen.traffic import BATCH_NORM, kept_bytes, nbytes, traffic_of, words
from tfexplore.codegen.variant import Variant
from tfexplore.explore.kernel.recording import ARGUMENTS, data, leading, python
from tfexplore.measure.counting import Counted, Log
from tfexplore.neurons.step import normalised, step_of
from tfexplore.nn.layers import Layer

BOX = surrogates.Rectangle()


# counted manually, from the equations: (forward, backward); "input" recomputes in chunks of 32 steps over the values needed
@pytest.mark.parametrize(
    ("neuron", "keep", "forward", "backward"),
    [
        (neurons.LIF(), "potential", 3, 3),
        (neurons.LIF(), "input", 2 + 1 / 32, 3 + 1 / 32),
        (neurons.IF(reset="hard", detach_reset=False), "potential", 3, 3),
        (neurons.CubaLIF(), "input", 2 + 2 / 32, 3 + 2 / 32),
        (neurons.LIF(surrogate=BOX), "bits", 2 + 1 / 32, 2 + 1 / 32),  # a bit: is u within the window?
        (neurons.LIF(surrogate=BOX, reset="hard"), "bits", 2 + 2 / 32, 2 + 2 / 32),  # and: did it fire?
        (neurons.LI(), "potential", 2, 2),  # linear: its adjoint needs nothing
        (neurons.LI(), "input", 2, 2),
        (neurons.LI(), "bits", 2, 2),
    ],
    ids=str,
)
def test_words_per_element_step(neuron, keep, forward, backward) -> None:
    accesses = traffic_of(neuron, keep)
    assert float(words(accesses, "forward")) == forward
    assert float(words(accesses, "backward")) == backward
    assert words(accesses) == words(accesses, "forward") + words(accesses, "backward")


def test_without_gradient_only_the_input_and_the_spikes_move() -> None:
    assert [(a.array, a.words) for a in traffic_of(neurons.Izhikevich(), gradient=False)] == [("x", 1), ("out", 1)]


# counted manually; x is one of the values that the adjoint of scale x + shift needs, so chunks are half as long
@pytest.mark.parametrize(
    ("keep", "forward", "backward"), [("input", 2 + 1 / 16, 3 + 1 / 16), ("potential", 4, 4)], ids=str
)
def test_a_batch_norm_in_the_kernel_moves_nine_words(keep: str, forward: float, backward: float) -> None:
    accesses = traffic_of(neurons.LIF(), keep, batch_norm="fused")
    by_kernel = {kernel: float(words(accesses, kernel)) for kernel in ("moments", "forward", "backward", "affine")}
    assert by_kernel == {"moments": 1, "forward": forward, "backward": backward, "affine": 3}
    assert float(words(accesses)) == sum(by_kernel.values()) == {"input": 9 + 1 / 8, "potential": 12}[keep]


def test_a_batch_norm_apart_moves_eight_words_more_than_the_neuron() -> None:
    neuron = neurons.LIF()
    accesses = traffic_of(neuron, batch_norm="apart")
    by_kernel = {kernel: words(accesses, kernel) for kernel in BATCH_NORM["apart"]}
    assert by_kernel == {"statistics": 1, "normalise": 2, "sums": 2, "denormalise": 3}
    assert words(accesses) == 8 + words(traffic_of(neuron)) == 13 + words(traffic_of(neuron)) - 5
    # with running statistics and without a gradient: the neuron alone, or behind a pass that reads and writes
    assert words(traffic_of(neuron, gradient=False, batch_norm="fused")) == 2
    assert words(traffic_of(neuron, gradient=False, batch_norm="apart")) == 4


@pytest.mark.parametrize("keep", ["input", "potential"])
@pytest.mark.parametrize("kind", [neurons.LIF, neurons.IF, neurons.CubaLIF], ids=lambda kind: kind.__name__)
def test_counting_arrays_confirm_the_words_of_the_pair(kind: type[neurons.Neuron], keep: str) -> None:
    steps, count, neuron = 64, 4, kind()  # all neurons of one channel
    variant, log = Variant(normalised(step_of(neuron)), keep=keep), Log()
    arrays = data(variant, neuron, count, steps)
    arrays |= {"g": arrays["g_x"], "sums": np.zeros((1, 2, 1))} | {
        k: np.ones(1) for k in ("shift", "mean", "slope", "offset")
    }
    with_time = {"x", "out", "kept", "g_out", "g_x", "g"}
    counted: dict[tuple[str, str, str], int] = {}
    for kernel in ("moments", "forward", "backward", "affine"):
        log.clear()
        given = [Counted(name, arrays[name], log) if name in with_time else arrays[name] for name in ARGUMENTS[kernel]]
        for i in range(count):  # a thread is a block of one neuron
            python(kernel, variant).run(*leading(i, i + 1, steps), *given)
        for action, found in (("reads", log.reads), ("writes", log.writes)):
            counted |= {(kernel, action, array): n for array, n in found.items()}
    chunks = (steps - variant.chunk) / steps if keep == "input" else 1  # the states before the first are not kept
    assert counted == {
        (a.kernel, a.action, a.array): a.words * steps * count * (chunks if a.array == "kept" else 1)
        for a in traffic_of(neuron, keep, batch_norm="fused")
    }


@pytest.mark.parametrize(
    ("neuron", "keep"),
    [(kind(), keep) for kind in neurons.ALL for keep in ("potential", "input")]
    + [(neurons.LIF(surrogate=BOX), "bits"), (neurons.ALIF(surrogate=BOX, reset="hard"), "bits")],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_kept_bytes_are_those_that_autograd_saves(neuron, keep) -> None:
    count = 10
    layer = Layer(neuron, backend="numba", keep=keep)

    def saved(steps: int) -> int:
        found: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            found.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(torch.rand(steps, 1, count, requires_grad=True))
        return sum(found)

    more = saved(128) - saved(64)  # what grows with T
    assert more == kept_bytes(neuron, keep) * 64 * count
    kept = kept_bytes(neuron, "bits") if keep == "bits" else 0  # bits stay bits
    doubled = 2 * (nbytes(traffic_of(neuron, keep), "float32") - 2 * kept) + 2 * kept
    assert nbytes(traffic_of(neuron, keep), "float64") == doubled


def test_half_precision_halves_the_data_and_not_the_state() -> None:
    assert nbytes(traffic_of(neurons.LIF(), "potential"), "bfloat16", "forward") == 2 + 2 + 4


def test_errors_name_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="keep must be 'potential' or 'input' or 'bits', but got 'spikes'"):
        traffic_of(neurons.LIF(), "spikes")
    with pytest.raises(
        ValueError, match="keep='bits' is not exact for this LIF: its backward pass needs the value of u"
    ):
        traffic_of(neurons.LIF(), "bits")
    with pytest.raises(ValueError, match="batch_norm must be 'fused' or 'apart' or None, but got True"):
        traffic_of(neurons.LIF(), batch_norm=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dtype must be float16"):
        nbytes(traffic_of(neurons.LIF()), "int8")

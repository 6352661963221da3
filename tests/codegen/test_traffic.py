"""Words per element-step: against manual counts, and the shapes of what autograd really saves."""

from __future__ import annotations

import pytest
import torch

from tfexplore import neurons, surrogates
from tfexplore.codegen.traffic import kept_bytes, nbytes, traffic_of, words
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
    with pytest.raises(ValueError, match="dtype must be float16"):
        nbytes(traffic_of(neurons.LIF()), "int8")

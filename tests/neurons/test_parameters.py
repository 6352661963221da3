"""How a learned number stays within its bounds: it is trained without them, with an exact slope, and finite whatever the step."""

from __future__ import annotations

import math

import pytest
import torch

from tfexplore import Layer, neurons
from tfexplore.neurons.parameters import STRAIGHT, Bound, parameters_of

ABOVE, BETWEEN, FREE = Bound(low=1.0), Bound(low=0.0, high=1.0, open=True), Bound()
KNEE = 1 + math.exp(STRAIGHT)


@pytest.mark.parametrize("value", [1 + 1e-9, 1.3, 2.0, 200.0, KNEE, 1.001 * KNEE, 1e12, 1e300])
def test_a_value_above_a_bound_comes_back(value) -> None:
    found = ABOVE.from_free(torch.tensor(ABOVE.to_free("tau", value), dtype=torch.float64)).item()
    assert found == pytest.approx(value, rel=1e-14)


def test_usual_values_are_1_plus_exp_to_the_bit() -> None:
    raw = torch.linspace(-20, STRAIGHT, 1001)
    assert torch.equal(ABOVE.from_free(raw), 1 + raw.exp())
    assert ABOVE.from_free(torch.tensor(ABOVE.to_free("tau", 2.0))).item() == 2.0


@pytest.mark.parametrize("bound", [ABOVE, BETWEEN, FREE], ids=str)
def test_it_grows_and_its_slope_is_that_of_the_curve(bound) -> None:
    """Also where exp turns into its tangent: a jump there would show as a slope of thousands."""
    near = STRAIGHT + torch.tensor([-1e-3, -1e-6, 0.0, 1e-6, 1e-3], dtype=torch.float64)
    raw = torch.cat([torch.linspace(-8, 20, 57, dtype=torch.float64), near]).sort().values.requires_grad_()
    values = bound.from_free(raw)
    assert (values.diff()[raw.diff() > 0] > 0).all(), "one raw number for each value"
    assert torch.autograd.gradcheck(bound.from_free, (raw,), eps=1e-7, rtol=1e-5)


DIVERGES = (neurons.EIF, neurons.Izhikevich)
"""Their own equations give infinity for such numbers: an exp of 1 / d, an Euler step of a million milliseconds."""
LEARNABLE = [
    (cls, name)
    for cls in neurons.ALL
    for name, bound in parameters_of(cls).items()
    if bound.low > -math.inf and cls not in DIVERGES
]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(("cls", "name"), LEARNABLE, ids=lambda given: getattr(given, "__name__", given))
def test_a_learning_rate_far_too_high_leaves_every_number_finite(cls, name, optimiser, sign) -> None:
    layer, x = (
        Layer(cls(learn=name), backend="torch"),
        2 * torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(0)),
    )
    steps, start = optimiser(layer.parameters(), lr=1e6), layer.raw[name].item()
    for _ in range(6):
        steps.zero_grad()
        out, state = layer(x, return_state=True)
        (sign * (out.sum() + sum(z.sum() for z in state))).backward()
        steps.step()
        for found in (out, *state, layer.raw[name], layer.raw[name].grad, layer.learned[name]):
            assert found.isfinite().all()
        assert layer.learned[name] >= layer.bounds[name].low
    assert abs(layer.raw[name].item() - start) > 100, "it has jumped"

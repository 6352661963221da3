"""Levels on a GPU: `pytest -m gpu`. What is kept makes no difference."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.reversible.networks_of_levels import dense, far, gradients, projected
from tfexplore.backends import cuda

pytestmark = pytest.mark.gpu
if problem := cuda.why_not():
    pytest.skip(f"needs an NVIDIA GPU, a CUDA build of torch, and CuPy: {problem}", allow_module_level=True)


@pytest.mark.parametrize("keep", ["levels", "bits", "last"])
def test_gradients_are_those_of_autograd(keep: str) -> None:
    found = {}
    x = torch.randn(6, 64, 5, generator=torch.Generator().manual_seed(0)).cuda()
    for way in ("graph", keep):
        net = dense(keep=way, alpha=0.9).cuda()
        net.steps[0][0].then.append(nn.Dropout(0.1))  # type: ignore[index, union-attr, operator]
        torch.manual_seed(1)
        projected(net(x)).backward()
        found[way] = gradients(net)
    assert all(far(g, found["graph"][name]) < 1e-5 for name, g in found[keep].items())
    assert any(g.abs().max() > 0 for g in found[keep].values())

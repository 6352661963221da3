"""A network within a network, for the tests of what walks over all layers."""

from __future__ import annotations

from torch import Tensor, nn

import tfexplore


class Residual(nn.Module):
    """Nested, with a skip connection, and one layer that is called twice in every pass."""

    def __init__(self, backend: str = "numba") -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), tfexplore.LIF(v_threshold=0.1, backend=backend))
        self.shared = tfexplore.ALIF(tau=3.0, v_threshold=0.15, beta=0.4, backend=backend)

    def forward(self, x: Tensor) -> Tensor:
        once = self.shared(x)
        return self.shared(x + self.inner(once))

"""A fused layer called from JAX: the example of the how-to page runs, and does not block with a single core."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# JAX warns of every later fork in its process, so that it runs in others
if find_spec("jax") is None:
    pytest.skip("needs jax: pip install jax", allow_module_level=True)
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "call_from_jax.py"


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example() -> None:
    spikes, gradient, cost = run("-W", "error", str(EXAMPLE)).splitlines()
    assert spikes == "identical spikes: True"
    assert gradient == "identical gradient: True"
    assert cost.startswith("loss and gradient in torch ")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process is bound to one core on Linux only")
def test_many_calls_in_flight_on_one_core() -> None:
    """Without the example's setting JAX does not return from this. A plain sum over time is the oracle."""
    text = f"""
import os, sys
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
sys.path.insert(0, {str(EXAMPLE.parent)!r})
from call_from_jax import for_jax, jax, jnp, np, tfexplore
integrate = for_jax(tfexplore.LI(tau=2.0, decay_input=False))
loss = jax.jit(jax.value_and_grad(lambda x: (2 * integrate(x * 0.5)).sum()))
x = jnp.zeros((32, 64, 2048))
for _ in range(3):
    results = jax.block_until_ready([loss(x + i / 4) for i in range(4)])
for i, (value, gradient) in enumerate(results):
    v = total = 0.0
    for t in range(32):
        v = v / 2 + i / 4
        total += v * 64 * 2048
    np.testing.assert_allclose(value, total, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, 0, 0], [2 - 0.5 ** (31 - t) for t in range(32)], rtol=1e-5)
print("done")
"""
    assert run("-c", text) == "done\n"

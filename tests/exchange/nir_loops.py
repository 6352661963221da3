"""NIR's neurons as plain NumPy loops over time, from the equations of the paper; nothing of tfexplore is imported here."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def walked(
    kind: str, p: dict[str, Array], x: Array, dt: float, *, leak: str = "euler", dtype: type = np.float64
) -> tuple[Array, Array]:
    """Outputs and potentials after each step, of x [T, ...]: the current first, then v, then the spike, then the reset."""

    def rate(tau: str) -> Array:
        part = dt / np.asarray(p[tau])
        return np.asarray(part if leak == "euler" else 1 - np.exp(-part), dtype)

    rates = {name: rate(name) for name in p if name.startswith("tau")}
    gain = np.asarray(p["r"] * dt, dtype)
    p = {name: np.asarray(value, dtype) for name, value in p.items()}

    leaky = "v_leak" in p
    v = np.broadcast_to(p["v_leak"] if leaky else p.get("v_reset", np.zeros((), dtype)), x.shape[1:]).astype(dtype)
    i = np.zeros_like(v)
    outs, potentials = [], []
    for x_t in x.astype(dtype):
        current = x_t
        if kind.startswith("Cuba"):
            i = i + rates["tau_syn"] * (p["w_in"] * x_t - i)
            current = i
        if leaky:
            v = v + rates["tau_mem" if kind.startswith("Cuba") else "tau"] * (p["r"] * current + p["v_leak"] - v)
        else:
            v = v + gain * current
        out = v
        if "v_threshold" in p:
            out = (v > p["v_threshold"]).astype(dtype)
            v = np.where(out == 1, p["v_reset"], v)
        outs.append(out)
        potentials.append(v)
    return np.stack(outs), np.stack(potentials)


def parameters(kind: str, n: int, dt: float, seed: int = 0) -> dict[str, Array]:
    """Random parameters for n neurons of a kind, none alike, with which they fire now and then at inputs of about 1."""
    rng = np.random.default_rng(seed)
    made = {"r": rng.uniform(0.5, 2.0, n)}
    if kind in ("I", "IF"):
        made["r"] /= 4 * dt
    taus = {"LI": ("tau",), "LIF": ("tau",), "CubaLI": ("tau_mem", "tau_syn"), "CubaLIF": ("tau_mem", "tau_syn")}.get(
        kind, ()
    )
    made |= {tau: dt * rng.uniform(2.0, 12.0, n) for tau in taus}
    if taus:
        made["v_leak"] = rng.uniform(-0.2, 0.2, n)
    if kind.startswith("Cuba"):
        made["w_in"] = rng.uniform(0.5, 2.0, n)
    if kind.endswith("IF"):
        made |= {"v_threshold": rng.uniform(0.3, 0.7, n), "v_reset": rng.uniform(-0.3, 0.1, n)}
    return made

"""Norse: LIFBoxCell (no synaptic current), stepped in a Python loop; it has no ATan, so SuperSpike stands in for it."""

from __future__ import annotations

from collections.abc import Callable

import norse.torch as norse
import torch
from torch import Tensor

from benchmarks.work import Case, Modes, linear_work, neuron_work, recurrent_work, versions

SURROGATE = "surrogate SuperSpike (it has no other that fits), so that only the spikes are compared"
MODE = "LIFBoxCell, loop over time"


def VERSIONS() -> dict[str, str]:
    return versions("norse", "torch")


def detached(z: Tensor, v: Tensor, _: Tensor, threshold: Tensor) -> Tensor:
    return v - z.detach() * threshold


def layer(case: Case) -> Callable[[Tensor], Tensor]:
    """Norse charges v + dt / tau (x - v): x is given twofold."""
    numbers = {"tau_mem_inv": 500.0, "v_leak": 0.0, "v_th": 1.0, "v_reset": 0.0, "alpha": 1.0}
    made = {key: torch.tensor(value, device=case["device"]) for key, value in numbers.items()}
    node = norse.LIFBoxCell(norse.LIFBoxParameters(**made, method="super", reset_method=detached), dt=0.001)

    def run(x: Tensor) -> Tensor:
        state, spikes = None, []
        for x_t in x:  # Norse's own Lift takes x[t], whose backward pass fills a tensor of x's size in every step
            spike, state = node(x_t, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def neuron(case: Case) -> Modes:
    names = {"x.grad": ""} | ({} if case["dtype"] == "float32" else {"spikes": "spikes (rough state)"})
    about = SURROGATE if case["dtype"] == "float32" else f"{SURROGATE}; the state in {case['dtype']}"
    return {MODE: lambda: neuron_work(layer(case), case, scale=2.0, names=names, equation=about)}


def linear_lif(case: Case) -> Modes:
    node = layer(case)
    return {MODE: lambda: linear_work(lambda x: node(2.0 * x), case, SURROGATE, {"weight.grad": ""})}


def recurrent(case: Case) -> Modes:
    """LIFRecurrent charges v + dt / tau (i - v) with i = decayed i + W_in x + W s: tau_syn = dt leaves no decayed i, W is given
    twofold, and W_in is twice the unit matrix."""
    numbers = {"tau_syn_inv": 1000.0, "tau_mem_inv": 500.0, "v_leak": 0.0, "v_th": 1.0, "v_reset": 0.0, "alpha": 1.0}
    made = {key: torch.tensor(value, device=case["device"]) for key, value in numbers.items()}

    def layer(weight: torch.nn.Parameter) -> Callable[[Tensor], Tensor]:
        n, twice = case["n"], 2.0 * torch.eye(case["n"]).to(weight)
        given = {"input_weights": twice, "recurrent_weights": twice, "autapses": True, "dt": 0.001}
        net = norse.LIFRecurrent(n, n, norse.LIFParameters(**made, method="super"), **given)

        def run(x: Tensor) -> Tensor:
            net.recurrent_weights = 2.0 * weight
            spikes: Tensor = net(x)[0]
            return spikes

        return run

    about = f"hard reset; {SURROGATE}; besides, a product of x with an input weight, here the unit matrix"
    names = {"spikes": "spikes (hard reset)", "x.grad": "", "weight.grad": ""}
    return {"LIFRecurrent": lambda: recurrent_work(layer, case, about, names)}

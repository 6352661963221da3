"""BindsNET: LIFNodes, stepped in a Python loop. It learns by plasticity, without gradients, and resets hard."""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.work import INFERENCE, Case, Modes, Work, neuron_work, versions

if (_found := importlib.util.find_spec("bindsnet")) is None:
    raise ModuleNotFoundError("No module named 'bindsnet'")
# `import bindsnet` alone imports gymnasium, OpenCV, torchvision ...; its nodes need none of them
sys.modules["bindsnet"] = types.ModuleType("bindsnet")
sys.modules["bindsnet"].__path__ = list(_found.submodule_search_locations or [])
from bindsnet.network.nodes import LIFNodes  # noqa: E402

MODE = "LIFNodes, loop over time"


def VERSIONS() -> dict[str, str]:
    return versions("bindsnet", "torch")


def layer(case: Case) -> Callable[[Tensor], Tensor]:
    nodes = LIFNodes(
        shape=[case["N"] // case["B"]], thresh=1.0, rest=0.0, reset=0.0, refrac=0, tc_decay=1 / math.log(2)
    ).to(case["device"])
    nodes.compute_decays(dt=torch.tensor(1.0, device=case["device"]))
    nodes.set_batch_size(case["B"])

    def run(x: Tensor) -> Tensor:
        nodes.reset_state_variables()
        spikes = []
        for x_t in x:
            nodes.forward(x_t)
            spikes.append(nodes.s)
        return torch.stack(spikes)

    return run


def neuron(case: Case) -> Modes:
    def make() -> Work:
        if case["passes"] != INFERENCE:
            raise ValueError("BindsNET has no gradients: it learns by plasticity")
        about = "hard reset (it has no soft one), compared with a reference that does so too; spikes as booleans"
        return neuron_work(layer(case), case, names={"spikes": "spikes (hard reset)"}, equation=about)

    return {MODE: make}

# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Networks from elsewhere, and back
#
# **About 45 minutes.** At the end you will have
#
# 1. opened a network that came in a file, seen its graph, and run it in steps of your choice,
# 2. found out why the same neuron, with the same numbers, fires at other times in another library,
# 3. trained a network here, sent it away, and got it back to the last bit,
# 4. refused a file that asks for more than to be read.
#
# The format is NIR, the *Neuromorphic Intermediate Representation*: a graph of nodes, each with its equation, that a dozen
# simulators and chips read. Everything here works without a GPU, and without any of the other libraries.

# %%
import tempfile
from itertools import islice
from pathlib import Path

import nir
import numpy as np
import torch
from torch import nn

import tfexplore
from tfexplore import data, exchange, explore, puzzles
from tfexplore.nn import networks

# %% [markdown]
# ## A network from a file
#
# Twelve inputs, sixteen neurons that feed back into each other, four classes. Left the graph, right what one of its neurons does:

# %%
network = explore.nir()
network

# %%
assert network.result.drawn.back == (("feedback", "hidden"),), "one edge closes a cycle"

# %% [markdown]
# NIR's equations know no time steps. `CubaLIF` is
#
# $$\tau_\text{syn}\, \dot I = -I + w_\text{in} S, \qquad \tau_\text{mem}\, \dot v = (v_\text{leak} - v) + r I, \qquad
# v \leftarrow v_\text{reset} \text{ where } v > v_\text{threshold},$$
#
# times in seconds. To run it is to choose a step $\Delta t$. The grey line is the same neuron on the same current, in steps that
# are 32 times shorter.
#
# **Do:**
#
# 1. Another *neuron shown*, then *neurons* = classes. Do steps of 1 ms do well? Where do they fail?
# 2. *A step takes* 2 ms, 4 ms, 8 ms. What happens to the first spike, what to their number, and what is refused at last?
# 3. *Leak* = exact, at 8 ms: why is it allowed now, and what is still wrong?
# 4. Back to Euler. Count the spikes of one of the *classes* at 1 ms and at 4 ms, in nearly continuous time as well. The file is
#    the same. Why does it fire so much more?
#
# <details><summary>An answer</summary>
#
# 1. A spike can come only at the end of a step, which makes it late. Euler's step goes further than the equation, which makes it
#    early. After a reset these errors go on: neuron 0 of *hidden* has 16 spikes where continuous time has 17, neuron 1 has 3 for
#    one.
# 2. The first spike says little, since late and early may cancel. The number goes wrong: at 4 ms neuron 0 has 18 spikes for 20,
#    and neuron 5 has 25 for 44. At 8 ms a forward Euler step would take the synaptic current, with its $\tau$ of 4 ms, beyond
#    its target: what should decay would swing, and grow.
# 3. The exact leak, $1 - e^{-\Delta t / \tau}$, stays below 1 for every step. But at most one spike fits into a step of 8 ms:
#    where continuous time fires 21 times there are 8.
# 4. A spike lasts one step. In a longer step it brings more: the *weights between layers* count the step too, and no file says
#    for which step they were trained. Choose that of the framework it came from.
# </details>

# %% [markdown] nbgrader={"grade_id": "steps_of-text"}
# ### Puzzle: seconds into steps
#
# A file of another framework gives the time constant `tau` in seconds. Our layers count time steps, and a step takes `dt`
# seconds. Forward Euler makes of $\tau \dot v = -v$ the step $v \leftarrow v - \frac{\Delta t}{\tau} v$. Ours is
# $v \leftarrow v - v / \tau_\text{steps}$. Return the time constant in steps, for a number or an array.
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("steps_of")`


# %% nbgrader={"grade_id": "steps_of"}
def steps_of(tau, dt):
    """The time constant in time steps, of tau in seconds where a step has dt seconds."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "steps_of-check"}
puzzles.check("steps_of", steps_of)

# %% [markdown]
# Here is how such a file comes about, and how it comes in. The first lines could be any framework's: they write NIR with its own
# package. The last ones are ours.

# %%
folder = tempfile.TemporaryDirectory()
file = Path(folder.name) / "theirs.nir"
rng = np.random.default_rng(0)
theirs = nir.NIRGraph(
    {
        "input": nir.Input({"input": np.array([20])}),
        "fc": nir.Affine(rng.normal(0.5, 1, (8, 20)), np.zeros(8)),
        "lif": nir.LIF(
            tau=np.full(8, 20e-3), r=np.ones(8), v_leak=np.zeros(8), v_threshold=np.ones(8), v_reset=np.zeros(8)
        ),
        "output": nir.Output({"output": np.array([8])}),
    },
    [("input", "fc"), ("fc", "lif"), ("lif", "output")],
)
nir.write(file, theirs)

net = exchange.from_nir(file, dt=1e-3)
print(net)

# %% tags=["nbval-ignore-output"]
x = (torch.rand(100, 16, 20, generator=torch.Generator().manual_seed(0)) < 0.3).float()  # [T, B, inputs]
spikes = net(x)
print(f"{int(spikes.sum()):,} spikes;", net.lif.choice(x))

# %% [markdown]
# All 100 steps of a layer in one kernel, forward and backward: an imported network is an ordinary module, and can be trained on.
#
# ## One neuron, six libraries
#
# $\tau \dot v = -v + x$, a threshold, a reset. What could there be to disagree on?

# %%
conventions = explore.conventions("snntorch", "exact", tau=20, dt=2)
conventions

# %%
counts = {name: len(trace.fired) for name, trace in conventions.result.by_library.items()}
assert counts["snntorch"] > 7 * counts["exact"], "the whole input, and not a tenth of it"

# %% [markdown]
# **Do:**
#
# 1. snnTorch fires seven times as often. Its sentence says why. Tick *dt/τ of the current*: what is left of the difference?
# 2. *Library* = Norse, *compared with* = exact: when do they part, and why? Does a *time step* of 0.5 ms help?
# 3. *Library* = sinabs: it solves the leak exactly. Why does it part even so? Try *current* = spikes, at 5 ms.
# 4. *Current* = pulses, at 2 ms again. *Library* = Spyx, *compared with* = snnTorch, with the tick: each spike comes one step
#    later. Which words of its sentence explain that?
# 5. Norse against SpikingJelly: *time step* 5 ms, *current* constant, *strength* 4, *threshold* 1. What decides between them?
#
# <details><summary>An answer</summary>
#
# 1. It adds the whole input at every step, where the equation has $\Delta t / \tau = 1/10$ of it; whoever trains in snnTorch has
#    that tenth in the weights. Then the number of spikes is the same; they part in step 4, where Euler is ahead of the exact
#    leak.
# 2. In step 4: Euler's step goes further, since it does not leak within the step. Yes: at 0.5 ms they agree for much longer.
# 3. Its reset takes the threshold off and keeps what was above it; the exact one here forgets it. With strong input spikes that
#    is much: twice as many.
# 4. It fires on the potential *before* the input of the step.
# 5. The potential is exactly 1 in the first step: Norse fires *above* the threshold, SpikingJelly *at* it. 10 spikes or 20. A
#    layer of ours fires at it, and above it with `strict=True`; `from_nir` gives that, since NIR says above.
# </details>

# %% [markdown] nbgrader={"grade_id": "other_step-text"}
# ### Puzzle: what does the other library do?
#
# Another library says it has the LIF neuron that you know: $h = \beta v + x$, a spike where the potential is above the threshold,
# then a reset. With $\beta$ = 0.5, threshold 1 and a current of 0.7 at every step it computes
#
# | step | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
# |---|---|---|---|---|---|---|---|---|
# | potential | 0.700 | 1.050 | 0.225 | 0.812 | 1.106 | 0.253 | 0.827 | 1.113 |
# | spike | 0 | 1 | 0 | 0 | 1 | 0 | 0 | 1 |
#
# Find out what it does differently, and write its step: from its potential `v` and its spike `s` (0 or 1) of the step before, and
# the current `x`, return the potential that it shows next. The check compares it with the threshold.
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("other_step")`


# %% nbgrader={"grade_id": "other_step"}
def other_step(v, s, x, beta, v_threshold):
    """The other library's potential after one more step; v and s are its potential and its spike of the step before."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "other_step-check"}
puzzles.check("other_step", other_step)

# %% [markdown]
# `exchange.from_snntorch`, `from_norse`, `from_spikingjelly` and `from_sinabs` do this for whole networks of yours: each neuron
# becomes a layer of ours with *that library's* equations, its resets, delays and comparisons, with the same weights, and runs
# fused. If snnTorch is installed, try it:

# %% tags=["nbval-ignore-output"]
try:
    import snntorch
except ImportError:
    print("snnTorch is not installed here: pip install snntorch")
else:
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(20, 64), snntorch.Leaky(beta=0.9, init_hidden=True, learn_beta=True))
    ours = exchange.from_snntorch(original)
    print(ours, exchange.compare(original, ours, x), sep="\n")

# %% [markdown]
# ## Sent away, and brought home
#
# Now a network of yours goes on a journey. It learns the digits, for some seconds:

# %%
torch.manual_seed(0)
digits = data.digits()
mine = nn.Sequential(nn.Linear(64, 64), tfexplore.LIF(tau=4.0, reset="hard"), nn.Linear(64, 10), tfexplore.LI(tau=4.0))
losses = list(islice(networks.fit(mine, digits, lambda net, x: net(x), steps=16), 100))

# %%
graph = exchange.to_nir(mine, dt=1e-3)
exchange.write(graph, Path(folder.name) / "mine.nir")
again = exchange.from_nir(Path(folder.name) / "mine.nir", dt=1e-3)

x = data.currents(digits.test_images, 16)
with torch.no_grad():
    out, expected = again(x), mine(x)
right = (out.mean(0).argmax(1) == digits.test_labels).float().mean()
print(f"tau in the file: {graph.nodes['1'].parameters['tau'][0]} s; the same bits: {torch.equal(out, expected)}")
assert torch.equal(out, expected)
assert right > 0.85

# %%
journey = explore.nir(graph, data.currents(digits.test_images[:1], 16), dt=1e-3)
journey.neuron = 8  # one that fires; what a slider does can be done in code
journey

# %% [markdown]
# What NIR cannot say is refused, and not guessed:

# %%
soft = nn.Sequential(nn.Linear(64, 10), tfexplore.LIF(tau=4.0))  # a soft reset takes the threshold off
try:
    exchange.to_nir(soft, dt=1e-3)
except ValueError as refusal:
    print(refusal)

# %% [markdown]
# ## Files from strangers
#
# A NIR file is HDF5, and HDF5 can do more than hold arrays: a weight may be a *link* to another file on your disk. Whoever gets
# your trained network back would then have that file. So `exchange.read` follows no link, and looks at every size before it
# reads.

# %%
import h5py

secret, bait = Path(folder.name) / "secret.h5", Path(folder.name) / "bait.nir"
with h5py.File(secret, "w") as opened:
    opened["numbers"] = np.arange(160.0).reshape(8, 20)
bait.write_bytes(file.read_bytes())
with h5py.File(bait, "r+") as opened:
    del opened["node/nodes/fc/weight"]
    opened["node/nodes/fc/weight"] = h5py.ExternalLink(str(secret), "numbers")

try:
    exchange.from_nir(bait, dt=1e-3)
except ValueError as refusal:
    print(str(refusal).replace(folder.name, "..."))

# %% [markdown]
# ## What to take home
#
# * A file of neurons holds equations in seconds. A step $\Delta t$ makes numbers of them, and is part of the network.
# * Libraries agree on the name of a neuron, and differ in the step, in the scale of the input, in $>$ or $\ge$, in the reset and
#   when it comes. Each difference moves spikes. Compare traces before you compare accuracies.
# * Within one convention a round trip is exact: the same file gives the same bits.
# * Read what strangers send as data, and follow nothing.
#
# NIR: J. E. Pedersen et al., *Neuromorphic intermediate representation: A unified instruction set for interoperable
# brain-inspired computing*, Nature Communications 15, 8122, 2024.
#
# **Where to read on:** the page *Which library computes what*; the how-to *Exchange networks through NIR*; the neurons are in
# `tfexplore/exchange/neurons.py`, a few lines each. All puzzles are in `puzzles`.

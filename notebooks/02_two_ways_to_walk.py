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
# # Two ways to walk
#
# ![Fused, the network is done after five launches; step by step and layer by layer have hardly begun by then.](walks.svg)
#
# **About 30 minutes.** At the end you will be able to
#
# 1. draw the work of a spiking network as a grid, and say what every cell of it waits for,
# 2. explain why two very different orders of work give the same result, and count what each of them costs,
# 3. tell which connections forbid one of the orders, and show the wrong numbers that come out if you take it anyway,
# 4. cut time into chunks without changing the result.

# %%
import random

import numpy as np  # noqa: F401  (for your answers)
import torch
from torch import nn

import tfexplore
from tfexplore import explore, puzzles

# %% [markdown]
# ## The grid of work
#
# A network of several layers is to run for $T$ time steps. That is a grid of work: one row for each layer, one column for
# each time step $t$. A **cell** of the grid is one layer at one time step, and somebody has to execute all of them.
#
# Two things cost time when a computer does that. Every operation must be started: a **launch**. And every number that it
# reads from memory or writes to memory must be moved: a **word**.
#
# Below, three walks over the grid of a small network were *recorded* while it really ran, each bar being one piece of
# work, numbered in the order of execution; time steps count from 0 here, as they do in code. Press **▶**, or move
# *pieces done* with the arrow keys; then choose another walk.

# %%
schedules = explore.schedules(walk="step by step", steps=8)
schedules.show()

# %% [markdown]
# **Do:** play *step by step*, then *layer by layer*, then *fused*. How many pieces is a row of LIF neurons cut into, and a
# row of a linear layer? Which arrows point at a cell of a LIF layer, and which at a cell of a linear layer?
#
# <details><summary>An answer</summary>
#
# Step by step, every cell is a piece of its own: 40 of them. Layer by layer, a linear layer multiplies all time steps at
# once, in one piece; but the LIF row is still a loop over time, eight pieces. Fused, that loop runs inside one kernel, and
# every row is one piece: 5 of them.
#
# A cell of a linear layer waits for the layer below, at the same time step. A cell of a LIF layer also waits for *itself*,
# one step earlier: its membrane potential is the state that it goes on from.
# </details>
#
# ## Any order that follows the arrows
#
# The two arrows are all there is to respect. So there are not only two ways to walk, but very many. Here is the same kind of
# network, walked by hand in a *random* order: of all cells whose arrows are satisfied, take any. A layer of `tfexplore` takes
# its state as an argument and gives the new one back, which makes a single cell one line of Python.

# %%
torch.manual_seed(0)
net = nn.Sequential(
    nn.Linear(16, 32), tfexplore.LIF(v_threshold=0.2), nn.Linear(32, 10), tfexplore.LIF(v_threshold=0.2)
)
x = torch.rand(8, 4, 16)  # time steps, batch, features


def walk_at_random(net, x, seed):
    choose, outs, states, order = random.Random(seed), {}, {}, []
    cells = {(row, t) for row in range(len(net)) for t in range(len(x))}
    while cells:
        ready = [(row, t) for row, t in cells if (row - 1, t) not in cells and (row, t - 1) not in cells]
        row, t = choose.choice(sorted(ready))
        below = outs[row - 1, t] if row > 0 else x[t : t + 1]
        if isinstance(net[row], tfexplore.Layer):
            outs[row, t], states[row] = net[row](below, states.get(row), return_state=True)
        else:
            outs[row, t] = net[row](below)
        cells.remove((row, t))
        order.append((row, t))
    return torch.cat([outs[len(net) - 1, t] for t in range(len(x))]), order


with torch.no_grad():
    expected = tfexplore.step_by_step(net, x)
    for seed in range(3):
        out, order = walk_at_random(net, x, seed)
        assert torch.equal(out, expected)
        print("layer, step:", *order[:9], "...")
print(f"{int(expected.sum())} spikes: the same, bit for bit, in every order")

# %% [markdown]
# Every cell does the same arithmetic on the same numbers, whenever its turn comes: nothing else can come out.
#
# **Layer by layer** is one of these orders, with one difference: a linear layer handles all time steps in *one* matrix product.
# As you saw in `00_start_here`, the product of a larger matrix may be rounded differently in the last bit. So we compare in
# float64, and up to rounding. Layer by layer and *fused* agree to the last bit.

# %%
layered = nn.Sequential(
    nn.Linear(16, 32),
    tfexplore.LIF(v_threshold=0.2, backend="torch"),
    nn.Linear(32, 10),
    tfexplore.LIF(v_threshold=0.2, backend="torch"),
)
layered.load_state_dict(net.state_dict())
with torch.no_grad():
    assert torch.equal(tfexplore.layer_by_layer(net, x), tfexplore.layer_by_layer(layered, x))  # fused and not
    wide = net.double()
    stepped, rows = tfexplore.step_by_step(wide, x.double()), tfexplore.layer_by_layer(wide, x.double())
    assert torch.allclose(stepped, rows, rtol=0, atol=1e-12)
print("fused and layer by layer: the same bits; step by step: the same up to rounding")

# %% [markdown]
# Now it is your turn to walk.

# %% [markdown] nbgrader={"grade_id": "walk_the_grid-text"}
# ### Puzzle: walk the grid
#
# A network of `layers` layers runs for `steps` time steps. `cell(layer, t)` runs one layer for one time step; it needs the
# cell (layer, t − 1), for the potentials, and the cell (layer − 1, t), for its input. If `feedback` is true, layer 0 also needs
# what the last layer sent out one step ago, the cell (layers − 1, t − 1). Layers and time steps count from 0.
#
# Call `cell` once for every cell, in an order in which each finds what it needs. Cells of one layer that follow each other
# are one launch of a kernel, which reads the layer's state when it begins and writes it when it ends: have few launches. The
# budget below is for 8 time steps without feedback.
#
# **Traffic budget:** 2.25 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("walk_the_grid")`


# %% nbgrader={"grade_id": "walk_the_grid"}
def walk_the_grid(layers, steps, feedback, cell):
    """Call cell(layer, t) once for every layer and every time step, in an order with as few launches as possible."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "walk_the_grid-check"}
puzzles.check("walk_the_grid", walk_the_grid)

# %% [markdown]
# ## What the walks cost
#
# If the result is the same, we may choose the cheapest walk. The recorder behind the picture is `measure.timeline.what_ran`.
# It watches the operations that PyTorch hands to the device, and writes down one event for each piece of work. These are
# counts and not times: they are the same on every machine.

# %%
print(f"{'walk':16}{'pieces':>8}{'launches':>10}{'words':>10}")
for walk in schedules.result.walks.values():
    print(f"{walk.name:16}{len(walk.pieces):8}{walk.launches:10}{walk.words:10,}")

stepped, rows, fused = schedules.result.walks.values()
assert stepped.launches > rows.launches > 10 * fused.launches
assert stepped.words > rows.words > 4 * fused.words

# %% [markdown]
# What do these numbers mean? A launch costs time however little it computes: with few neurons, that is most of the time.
# (On an H200, a loop over 32 steps of 10,000 neurons took 12 ms forward and backward; the same kernels without Python
# between them, as a CUDA graph, 0.66 ms; fused, 0.02 ms.) A word costs memory bandwidth: with many neurons, that is most of
# the time. Fusion saves both.
#
# Where do they go? Here is one LIF layer alone, per **element-step**: one neuron at one time step.

# %%
from tfexplore.codegen import traffic
from tfexplore.measure.timeline import what_ran

current = torch.rand(100, 1, 1000)  # 100 steps of 1,000 neurons
for backend in ("torch", "auto"):
    layer = tfexplore.LIF(backend=backend)
    with torch.no_grad(), what_ran(layer) as events:
        layer(current)
    pieces = [event for event in events if event.kind == "forward"]
    words = events.words / current.numel()
    print(f"backend={backend!r}: {len(pieces)} pieces, {events.launches} launches, {words:.2f} words per element-step")

assert abs(words - float(traffic.words(traffic.traffic_of(layer.neuron, gradient=False)))) < 0.05

# %% [markdown]
# The fused kernel reads the current and writes the spike: **two words**, and a little for the state before the first step and
# after the last. (This is without a gradient; notebook 04 is about the backward pass.) The eager loop moves more than twenty:
#
# **Do:** the equation of a LIF step is below. Count the operations that an eager loop needs for it, each of which
# reads its operands from memory and writes its result. How many launches do you find for one time step?

# %%
tfexplore.neurons.LIF(tau=2.0)

# %%
with torch.no_grad(), what_ran(eager := tfexplore.LIF(backend="torch")) as events:
    eager(current[:2])
print("launches in step 1:", events[1].launches)
assert events[1].launches == 9

# %% [markdown]
# <details><summary>An answer</summary>
#
# Charging: four (an addition, a subtraction, a division, a subtraction). Firing: three (subtract the threshold, compare with
# zero, make a number of the answer). Soft reset: two (a multiplication, a subtraction). That is nine launches, which read 12
# words of neurons and write 9: 21 words, and 2 more for putting the steps together at the end.
# </details>
#
# ## What a recurrent connection breaks
#
# So far, all arrows pointed up or to the right, and layer by layer was allowed. Now the spikes of the first LIF layer come
# back to its own input one step later, through a linear layer that is called `back`. Look at the arrow into the row `back`.

# %%
recurrent = explore.schedules(network="recurrent layer", walk="step by step")
recurrent.controls["piece"].value = 8
recurrent.show()

# %% [markdown]
# **Do:** choose *layer by layer*. The library refuses this walk, and says why; the explorer takes it anyway, to show
# what would happen. What do the crosses mean, and why has the first column none?
#
# <details><summary>An answer</summary>
#
# The arrows go down again: `back` at step $t$ needs the spikes of the row *above* it, at step $t-1$. Layer by layer, the whole
# row `back` runs before any of these spikes exists. Every cross is a cell that needed something which was not there yet,
# and took zeros. In the first column nothing is missing: before the first step there were no spikes.
#
# Step by step, both kinds of arrows are respected.
# </details>
#
# The library's own recurrent layer is `tfexplore.Recurrent`. It steps inside, so it is always right, but it cannot be fused:

# %%
looped = nn.Sequential(nn.Linear(16, 32), tfexplore.Recurrent(tfexplore.LIF(), nn.Linear(32, 32)))
try:
    tfexplore.layer_by_layer(looped, x)
except ValueError as error:
    print(error)

# %% [markdown]
# ## What a feedback breaks
#
# The same happens over more than one layer: here the spikes of the *second* LIF layer come back to the input of the first.
# Play the forbidden walk.

# %%
feedback = explore.schedules(network="feedback", walk="layer by layer")
feedback.show()

# %% [markdown]
# How wrong is the result? We compare it with that of step by step, for each time step:

# %%
right, wrong = (feedback.result.walks[name].out for name in ("step by step", "layer by layer"))
for t in range(len(right)):
    differ = int(((right[t] - wrong[t]).abs() > 1e-9).sum())
    print(f"step {t}: {differ:3} of {right[t].numel()} outputs differ")
assert torch.allclose(right[0], wrong[0])
assert not torch.allclose(right[1:], wrong[1:])

# %% [markdown]
# Only the first step is right. A wrong order need not crash: it gives wrong numbers, which look like any others. That is
# why the library refuses.
#
# ## What BatchNorm breaks
#
# An arrow may also hide in a layer that looks harmless. BatchNorm, in training, subtracts the mean over the batch and over *all
# time steps* of its input. So a cell waits for its whole row, later steps included, and step by step is another computation:

# %%
normed = nn.Sequential(tfexplore.FoldTime(nn.Linear(16, 32), nn.BatchNorm1d(32)), tfexplore.LIF())
try:
    tfexplore.step_by_step(normed, x)
except ValueError as error:
    print(error)

# %%
normed.eval()  # now mean and variance are fixed numbers, and no step waits for a later one
with torch.no_grad():
    assert torch.allclose(tfexplore.step_by_step(normed, x), tfexplore.layer_by_layer(normed, x))

# %% [markdown]
# ## A cut in time
#
# Rows can also be cut. Suppose that the input arrives in chunks, or that it is too long for the memory. The only arrows that
# cross a cut in time are the states. So it is enough to *carry* each layer's state over the cut: `tfexplore.carry` does that.

# %%
net = net.float()
with torch.no_grad():
    whole = net(x)
    with tfexplore.carry(net) as states, what_ran(net) as events:
        chunks = [net(x[:3]), net(x[3:4]), net(x[4:])]
assert torch.allclose(torch.cat(chunks), whole)
for event in events:
    print(f"layer {event.layer}: steps {event.first} to {event.last - 1}")
print({name: [tuple(z.shape) for z in state] for (name, call), state in states.items()})

# %% [markdown]
# **Do:** remove `tfexplore.carry(net) as states,` and the last line from that cell, and run it again. What do you get? Remove
# the assertion too: what do the events say about the steps?
#
# <details><summary>An answer</summary>
#
# The assertion fails: every chunk starts from the initial state, and the spikes after the first cut are others. Without a
# state that is carried on, every call of the network is a new beginning, and its events begin at step 0 again.
# </details>
#
# A state is small: one number per neuron, whatever the number of steps. Now carry it yourself.

# %% [markdown] nbgrader={"grade_id": "carry_the_state-text"}
# ### Puzzle: carry the state over a cut in time
#
# A long recording comes in chunks: `chunks` is a list of currents, each of shape [time steps, neurons]. `layer(x, state)`
# runs all time steps of one chunk, and returns two things: the spikes, of the same shape as `x`, and the state in which it
# leaves the neurons. The state `None` is a layer at rest. The chunks arrive one after the other: give `layer` one at a time.
# Return the spikes of the whole recording, as one array, as if it
# had never been cut.
#
# **Traffic budget:** 2.25 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("carry_the_state")`


# %% nbgrader={"grade_id": "carry_the_state"}
def carry_the_state(layer, chunks):
    """The spikes of all chunks of time, one after the other, as one array [T, neurons]."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "carry_the_state-check"}
puzzles.check("carry_the_state", carry_the_state)

# %% [markdown]
# ## Your own network
#
# The explorer takes any PyTorch module with layers of `tfexplore` whose data have time first. Here is a convolutional one;
# replace it by yours.

# %%
mine = nn.Sequential(
    tfexplore.FoldTime(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2)),
    tfexplore.LIF(v_threshold=0.3),
    tfexplore.FoldTime(nn.Flatten(), nn.Linear(36, 10)),
    tfexplore.LI(),
)
own = explore.schedules(mine, torch.rand(6, 2, 1, 8, 8), walk="fused")
own.show()

# %% [markdown]
# ## Recap
#
# * The work is a grid of (layer, time) cells. A cell waits for the layer below, and a cell with a state for its own last step.
# * Every order that follows the arrows gives the same result. Step by step walks columns, layer by layer walks rows, and fused
#   does a row in one piece: far fewer launches, far fewer words.
# * Arrows that come back down (a recurrent connection, a feedback) forbid rows; a layer that mixes time steps (BatchNorm in
#   training) forbids columns. A wrong order does not crash, it gives wrong numbers.
# * Only states cross a cut in time, so carrying them over is enough.
#
# **Where to read on:** `03_inside_the_kernel` opens one of these long pieces: what happens inside a fused kernel, thread by
# thread and word by word?

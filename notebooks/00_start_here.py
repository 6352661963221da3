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
# # Start here: a spiking network, fused
#
# **About 10 minutes.** At the end you will have
#
# 1. raced three ways of computing the same layer of spiking neurons on *your* machine,
# 2. watched a spiking network learn to read handwritten digits, down to single neurons,
# 3. checked that the fast way and the slow way give the same result, and seen where they may differ.
#
# Run the cells one after the other with <kbd>Shift</kbd>+<kbd>Enter</kbd>. Everything here works without a GPU.

# %%
import torch

import tfexplore
from tfexplore import explore

# %% [markdown]
# ## One neuron, one step
#
# A *spiking neuron* has a membrane potential $v$. In every time step $t$ it **charges** (its input current $x[t]$ comes in
# and part of the potential leaks away, with time constant $\tau$), it **fires** a spike $s[t]=1$ if it has reached its
# threshold (otherwise $s[t]=0$), and it **resets**. $\Theta$ is the step function: 1 from zero on, 0 below.

# %%
tfexplore.neurons.LIF(tau=2.0)

# %% [markdown]
# This is the *leaky integrate-and-fire* (LIF) neuron, and these equations are the only place where it is defined. The
# slow loop, the fast kernels and their derivatives below are all made from them.
#
# ## A race
#
# A network has many neurons, and each must take its $T$ steps. There are three ways to walk through them:
#
# * **step by step**: for each time step, go through all layers;
# * **layer by layer**: for each layer, go through all time steps, each step still a handful of small operations;
# * **fused**: layer by layer, but all time steps of a layer run inside *one* kernel (one compiled loop), so that the
#   potential never leaves the fast memory between two steps. This is *temporal fusion*.
#
# The race times one training pass, forward and backward. Run the next two cells, then move the sliders and press **Start**
# yourself. When is fusion worth most: with few neurons, or with many?

# %%
race = explore.Race(steps=32, neurons=50_000)
race.show()

# %% tags=["nbval-ignore-output"]
print((await race.run()).sentence())

# %% [markdown]
# The arithmetic is the same in all three. What differs is the traffic: the slow ways write every intermediate value of
# every step to memory and read it back, and they pay for starting each small operation; the fused kernel reads the
# current, writes the spike, and is done.
#
# ## Learning to read digits
#
# Now a network of spiking neurons learns to read 1,797 handwritten digits of 8 × 8 pixels. Each pixel's brightness
# enters as a constant current; behind it come two layers of spiking neurons, and the mean output over time is the answer.
#
# The next cells train it once. Press **Stop** at any time. Then choose another walk, another $\tau$ or fewer steps, and
# press **Start**. The two lower sliders choose which test digit is shown, and whose potential.

# %%
training = explore.Training(walk="fused", steps=16, epochs=6)
training.show()

# %% tags=["nbval-ignore-output"]
print((await training.run()).sentence())

# %%
assert training.result.accuracies[-1][1] > 0.9, "nine test digits in ten should be read rightly"

# %% [markdown]
# > **Do:** find a hidden neuron that fires for a 0 but not for a 1. Then raise $\tau$ to 8 and train again: what happens to
# > the number of spikes, and why? (With a longer memory, more of the current is still there when the next step comes.)
#
# ## The same result?
#
# A faster way is only worth having if it computes the same thing. We train the same network twice for two epochs, from
# the same weights and on the same batches, and compare the losses of all batches.
#
# **Fused against layer by layer.** Both do the same operations in the same order, so the losses are equal to the last bit
# of float32:

# %%
fused = explore.losses("fused", batches=46)
layered = explore.losses("layer by layer", batches=46)
assert fused == layered
print(f"{len(fused)} losses, all equal bit for bit: {fused == layered}")

# %% [markdown]
# **Step by step** multiplies the weights with one time step at a time, a matrix of another shape. The matrix library then
# adds up the products in another order, and rounds differently in the last bit. Learning amplifies such a difference:

# %%
stepped = explore.losses("step by step", batches=46)
same = [a == b for a, b in zip(fused, stepped, strict=True)]
apart = max(abs(a - b) for a, b in zip(fused, stepped, strict=True))
assert apart < 0.1
print(f"float32: the first losses agree to six digits: {abs(fused[0] - stepped[0]) < 1e-6}")

# %% tags=["nbval-ignore-output"]
print(f"float32: {sum(same)} of {len(same)} losses are the same bits; the largest difference is {apart:.1e}.")

# %% [markdown]
# Is this rounding, or an error? Double precision tells: with 16 digits instead of 7, an error of ours would stay as large as
# it is, and rounding must shrink a hundred-million-fold.

# %%
fused64 = explore.losses("fused", batches=46, dtype=torch.float64)
stepped64 = explore.losses("step by step", batches=46, dtype=torch.float64)
apart64 = max(abs(a - b) for a, b in zip(fused64, stepped64, strict=True))
assert apart64 < 1e-10
print(f"float64: all {len(fused64)} losses agree to 1e-10: {apart64 < 1e-10}")

# %% [markdown]
# ## Why is the whole training not as much faster as the neurons?
#
# Because a training step is more than neurons: matrix products, the optimiser and Python itself take as long as before.
# What is fused can only save the time that it took (Amdahl's law).

# %% tags=["nbval-ignore-output"]
explore.breakdown(steps=16)

# %% [markdown]
# ## Recap
#
# * A spiking layer steps through time: charge, fire, reset. The steps of one neuron must follow each other: fusion does not
#   make time parallel, it keeps the walk inside one kernel.
# * Step by step, layer by layer and fused are three orders of the same computation. The results agree to rounding, and the
#   last two bit for bit.
# * Fusion wins by moving less memory and starting fewer operations. How much, depends on the sizes: race again.
#
# **In your own code** a layer is an ordinary PyTorch module, and takes currents of shape [T, batch, features]:

# %%
net = torch.nn.Sequential(
    torch.nn.Linear(64, 32),
    tfexplore.LIF(tau=2.0),
    torch.nn.Linear(32, 10),
    tfexplore.LI(tau=4.0),
)
net(torch.rand(16, 8, 64)).shape

# %% [markdown]
# Where to read on: the project's `README.md` shows the layers and their options; `help(tfexplore.Layer)` has the details;
# `tfexplore doctor` (in a terminal) says what this machine can do, and what a GPU would need.

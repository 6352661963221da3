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
# ![Fused, the network is done after five launches; step by step and layer by layer have hardly begun by then.](walks.svg)
#
# One network, run three ways. By the end of this notebook you will know what holds up the first two.
#
# **About 15 minutes.** At the end you will have
#
# 1. raced three ways of computing the same spiking neurons on *your* machine,
# 2. watched a spiking network learn to read handwritten digits, down to single neurons,
# 3. checked that the fast way and the slow ways give the same result, and seen where they may differ.
#
# Run the cells one after the other with <kbd>Shift</kbd>+<kbd>Enter</kbd>. Everything here works without a GPU.

# %%
import torch

import tfexplore
from tfexplore import explore

# %% [markdown]
# ## One neuron, one step
#
# A *spiking neuron* has a membrane potential $v$. In every time step $t$ it **charges** (its input current $x[t]$ comes
# in and part of the potential leaks away, with time constant $\tau$), it **fires** a spike $s[t]=1$ if it has reached
# its threshold (otherwise $s[t]=0$), and after a spike it **resets**: the threshold is taken off the potential. $\Theta$
# is the step function: 1 from zero on, 0 below.

# %%
tfexplore.neurons.LIF(tau=2.0)

# %% [markdown]
# This is the *leaky integrate-and-fire* (LIF) neuron. It is defined by these equations and nowhere else: the slow loop, the
# fast kernels and their derivatives below are all made from them.
#
# ## A race
#
# A network has many neurons in several layers, and each neuron must take its $T$ steps. There are two orders to walk in:
#
# * **step by step**: for each time step, go through all layers;
# * **layer by layer**: for each layer, go through all time steps. Each step is still a handful of small operations.
#
# And there is a shortcut on the second path:
#
# * **fused**: layer by layer, with all time steps of a layer inside *one* kernel (one compiled loop; not Jupyter's
#   kernel, the Python process that runs your cells), so that the potential stays in registers or cache from one step to
#   the next. This is *temporal fusion*.
#
# The race times one training pass, forward and backward, through two layers. Run the next two cells. Then move the sliders
# and press **Start** yourself: when does fusion gain most, with few neurons or with many, with few steps or with many?

# %%
race = explore.race(steps=32, neurons=50_000)
race.show()

# %% tags=["nbval-ignore-output"]
print((await race.run()).sentence())

# %% [markdown]
# <details><summary><b>Why?</b> (try it first, then click)</summary>
#
# With few neurons, the slow ways spend their time on starting thousands of small operations: every operation has a price,
# however little it computes. With many neurons, they spend it on memory: every operation of every step writes its result to
# memory, and the next one reads it back. The fused kernel pays neither. Forward it reads the current and writes the spike;
# backward it reads the incoming gradient (and the current once more) and writes the gradient of the current. In between,
# where all values of a step fit the processor's cache, the slow ways come closest.
# </details>
#
# ## Learning to read digits
#
# Now a spiking network learns to read handwritten digits, images of 8 × 8 pixels: 1,438 to learn from, and 359 that it
# never sees while learning, to test it. Each pixel's brightness is a constant input. Two hidden layers of spiking
# neurons follow, each behind a linear layer; a last linear layer gives ten outputs, and the largest mean over time is
# the answer. A *linear layer* makes weighted sums of its inputs. Training shows the network a few images at a time (a
# *batch*), computes how wrong it is (the *loss*), and an *optimiser* changes the weights a little to lower it. Once
# through all images is an *epoch*.
#
# Run the next two cells to train it once; **Stop** works at any time. Then choose another walk, another $\tau$ or another
# number of steps, and press **Start**. *Test image shown* and *hidden neuron shown* choose what you look at; the title says
# which digit the image is.

# %%
training = explore.training(walk="fused", steps=16, epochs=6)
training.show()

# %% tags=["nbval-ignore-output"]
result = await training.run()
print(result.sentence())

# %%
if len(result.accuracies) == 6:  # you did not stop it early
    assert result.accuracies[-1][1] > 0.9, "nine test digits in ten should be classified correctly"

# %% [markdown]
# **Do:** move *test image shown* to a 0, then to a 1, and find a hidden neuron that fires for one and not for the other.
# Then choose $\tau = 8$, which also makes the network anew, before any training: what happens to the number of spikes, and
# why?
#
# <details><summary>An answer</summary>
#
# There are more of them. With a longer memory, more of the potential is still there when the next current comes in, so the
# same current reaches the threshold sooner and more often.
# </details>
#
# ## The same result?
#
# A faster way is only worth having if it computes the same thing. We train the same network for two epochs in each way,
# from the same weights and on the same batches, and compare the losses of all batches.
#
# **Fused and layer by layer** do the same operations in the same order, so the losses are equal to the last bit of
# float32 (numbers of 32 bits, about 7 digits):

# %%
fused = explore.losses("fused", batches=46)
layered = explore.losses("layer by layer", batches=46)
assert fused == layered
print(f"{len(fused)} losses, equal bit for bit")

# %% [markdown]
# **Step by step** multiplies the weights with one time step at a time, a matrix of another shape. The matrix library may
# then add up the products in another order, and so round differently in the last bit. Learning amplifies such a difference:

# %%
stepped = explore.losses("step by step", batches=46)
same = sum(a == b for a, b in zip(fused, stepped, strict=True))
apart = max(abs(a - b) for a, b in zip(fused, stepped, strict=True))
assert abs(fused[0] - stepped[0]) < 1e-5
assert apart < 0.1
print("float32: the first losses agree to five digits")

# %% tags=["nbval-ignore-output"]
print(f"float32: {same} of {len(fused)} losses are the same bits; the largest difference is {apart:.1e}.")

# %% [markdown]
# Is that rounding, or a mistake? Let us repeat it in float64, with 16 digits instead of 7: a mistake would stay as large as
# it is, while differences that come from rounding must all but vanish.

# %%
fused64 = explore.losses("fused", batches=46, dtype=torch.float64)
stepped64 = explore.losses("step by step", batches=46, dtype=torch.float64)
assert max(abs(a - b) for a, b in zip(fused64, stepped64, strict=True)) < 1e-10
print(f"float64: all {len(fused64)} losses agree to 1e-10")

# %% [markdown]
# It was rounding.
#
# ## Why does training gain less than the neurons?
#
# Because a training step is more than neurons: the matrix products of the linear layers, the optimiser and Python itself
# take as long as before. Fusing the neurons can save at most the time that they took (Amdahl's law), even if they ran
# twenty times as fast. Here are the parts of one training step of the network above, with 32 time steps, on this machine:

# %% tags=["nbval-ignore-output"]
explore.breakdown(steps=32)

# %% [markdown]
# ## Recap
#
# * A spiking layer steps through time: charge, fire, reset. A neuron's steps must follow each other. Fusion does not make
#   time parallel; it keeps the whole walk inside one kernel.
# * Step by step and layer by layer are two orders of the same computation; fused is the second one, inside one kernel.
#   Fused and layer by layer agree bit for bit (checked here on the CPU), and step by step up to rounding.
# * Fusion wins by moving less memory and starting fewer operations. How much depends on the sizes: race again.
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
# **Next:** `01_the_neuron` takes one of these neurons apart. (The layers and their options are in the project's `README.md`, the
# details in `help(tfexplore.Layer)`. What this machine can do, and what a GPU would need, says `%run -m tfexplore doctor` in a
# cell.)

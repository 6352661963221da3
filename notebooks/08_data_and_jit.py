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
# # Data as bits, and the step as one program
#
# **About 40 minutes.** At the end you will have
#
# 1. packed eight spikes into a byte, and read one of them without unpacking the rest,
# 2. followed the bytes of a data set from the disk to the backward pass, as floats and as bits,
# 3. trained a spiking network on real speech, in which every sample has another length,
# 4. turned a whole training step into one program, and found out after how many steps that pays.
#
# Both ideas are those of Spyx, a library on JAX: keep packed data in the device's memory, compile the whole step. Everything
# here works without a GPU.

# %%
import numpy as np  # noqa: F401  (for your answers)
import torch
from torch import nn

import tfexplore
from tfexplore import data, explore, puzzles
from tfexplore.data import PackedDataset, pack, unpack
from tfexplore.nn import BitSaving

# %% [markdown]
# ## Eight spikes in a byte
#
# A spike is 0 or 1. As a float32 it takes 32 bits.

# %%
bits = explore.bits(steps=20)
bits

# %%
assert bits.result.nbytes["packed"] == 12 * 3, "20 steps are two and a half bytes, so three for each of 12 neurons"

# %% [markdown]
# **Do:**
#
# 1. Move *row* and *byte*: the frame shows which eight spikes a byte has, and the sentence how it is put together. Which spikes
#    give 255, and which 128?
# 2. *T* = 20: why are the spikes not 32 times smaller? Which *T* is best, and which the worst?
# 3. Packed along *neurons*: what is the waste now, and where does it come from?
# 4. *Values* = up to 3: event cameras and bins of time give more than one spike. What does a count cost?
#
# <details><summary>An answer</summary>
#
# 1. Eight spikes: 255. Only the first: 128, or 1 if the first value is the lowest bit. Neither order is better, but a file must
#    say which it has; NumPy, and Spyx, take the highest.
# 2. Half of the third byte is empty: 1/26.7. A multiple of 8 is 1/32; one step is 1/4, no better than a byte for each.
# 3. 12 neurons take two bytes, so a quarter is empty. The axis that is packed should be long, or a multiple of 8.
# 4. Two bits instead of one: 1/16 at best. To store counts as spikes would be smaller, and wrong: `pack` refuses it.
# </details>

# %% [markdown] nbgrader={"grade_id": "pack_eight-text"}
# ### Puzzle: eight steps in a byte
#
# A spike is 0 or 1, yet as a float32 it takes 32 bits. Here are eight time steps of spikes, `s` [8, N]. Write them into `packed`
# [N], one *byte* for each neuron: step 0 is the byte's highest bit (worth 128), step 7 its lowest (worth 1). So the spikes
# 0 1 0 0 1 0 1 1 are 64 + 8 + 2 + 1 = 75. Read each spike once, and write each byte once.
#
# **Traffic budget:** 1.03125 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("pack_eight")`


# %% nbgrader={"grade_id": "pack_eight"}
def pack_eight(s, packed):
    """Eight steps of spikes s [8, N], 0 or 1, into the bytes packed [N]: step 0 is the highest bit, step 7 the lowest."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "pack_eight-check"}
puzzles.check("pack_eight", pack_eight)

# %% [markdown] nbgrader={"grade_id": "read_bit-text"}
# ### Puzzle: a bit, without unpacking
#
# The spikes of T time steps are packed along time, eight to a byte: `packed` [T / 8, N], and the first step of each byte is its
# highest bit. Return the spikes of time step `t`, 0 or 1 for each neuron. Leave the rest packed: one byte of each neuron is all
# that you need to read.
#
# **Traffic budget:** 0.25 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("read_bit")`


# %% nbgrader={"grade_id": "read_bit"}
def read_bit(packed, t):
    """The spikes of time step t, 0 or 1 for each neuron, out of the bytes packed [T / 8, N]; step 0 is the highest bit."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "read_bit-check"}
puzzles.check("read_bit", read_bit)

# %% [markdown]
# `pack` does what you did, for any shape, any axis, on the CPU and on the GPU, in one pass. It keeps the length, since padding
# cannot be seen in the bits. And it does not make binary what is not:

# %%
spikes = (torch.rand(20, 4, 50, generator=torch.Generator().manual_seed(0)) < 0.2).float()  # [T, B, features]
packed = pack(spikes)
print(packed, "from", spikes.nbytes, "bytes")
assert torch.equal(unpack(packed), spikes)

try:
    pack(spikes + spikes.roll(1, 0))
except ValueError as refusal:
    print(refusal)

# %% [markdown]
# ## From the disk to the backward pass
#
# Where do spikes wait? In a file, in the device's memory, in a batch on its way to the first layer; and then that layer saves its
# input, because the gradient of its weight is $\sum_t g_t \, s_t^\top$. Here are the digits as spikes, and their bytes:

# %%
path = explore.data_path(steps=64, batch=128)
path

# %%
assert path.result.ratio("saved for backward by the first layer") == 32
assert path.result.alike, "the same bits of the gradient, from spikes kept as bits"

# %% [markdown]
# **Do:** *T* = 20, then *T* = 100. Which bars lose a bit of their distance, and which do not? What does the *batch* change?
#
# <details><summary>An answer</summary>
#
# Where *T* is no multiple of 8, the last byte of each neuron is partly empty: a batch is 26.7 times smaller at 20 steps, 30.8
# times at 100. What the layer saves is packed along its 64 inputs, and stays at 1/32. The batch changes the lower two pairs
# only, and floats and bits alike.
# </details>

# %% [markdown]
# The same in code. A `PackedDataset` keeps everything on one device, and shuffles, shifts and flips there; `BitSaving` is put
# around a layer that reads spikes:

# %%
images, labels, _, _ = data.digits()
drawn = torch.rand(len(images), 32, 64, generator=torch.Generator().manual_seed(0)) < images.unsqueeze(1)
dataset = PackedDataset(pack(drawn.float(), dim=1), labels)  # [N, T, features], packed along time
print(dataset)

layer = nn.Linear(64, 10)
x, y = next(dataset.batches(64, shuffle=torch.Generator().manual_seed(1)))
plain = torch.autograd.grad(nn.functional.cross_entropy(layer(x).mean(0), y), layer.weight)[0]
saving = torch.autograd.grad(nn.functional.cross_entropy(BitSaving(layer)(x).mean(0), y), layer.weight)[0]
print("x", tuple(x.shape), "- the gradients have the same bits:", torch.equal(plain, saving))
assert torch.equal(plain, saving)

# %% [markdown]
# Event cameras count: how often did a pixel report within a bin of time? With `bits=2` a count up to 3 is kept. The loaders of
# event recordings (`data.nmnist`, `data.dvs128_gesture`, `data.shd` ...) read files on your disk, bin them, and keep them packed
# beside the recordings. Here are events without a camera, made by moving a digit before a *simulated* sensor:

# %%
events = data.moving_digits().train_simulated  # counts [T, n, off and on, height, width]
print(tuple(events.shape), "- the most events of a pixel in one step:", int(events.max()))
explore.bits(events[:, 0, 1, 6].float(), bits=4)  # one row of 12 pixels, one digit

# %% [markdown]
# ## Real speech, and no two alike
#
# *JapaneseVowels*: 640 utterances of two vowels, by nine men. Each has 12 numbers per step, and 7 to 29 steps. In a batch they
# are padded to the longest. Who is speaking? Press **Start**, or run the next cell:

# %%
speech = explore.speech(epochs=30)
speech.show()

# %% tags=["nbval-ignore-output"]
trained = await speech.run()
print(trained.sentence())

# %%
if len(trained.accuracies) == 30:  # you did not stop it before
    assert trained.accuracies[-1][1] > 0.95

# %% [markdown]
# **Do:**
#
# 1. *Test utterance shown*: what happens to the spikes behind the line? To the output? Look for one that is taken for another
#    speaker (31 is one, as a rule).
# 2. Untick *ignore the padding*, and **Start**. What do the neurons do behind the line now? What is the accuracy?
# 3. *Hidden neurons* = 32, and **Start**. How many are enough for 95 %?
#
# <details><summary>An answer</summary>
#
# 1. Nothing fires there: the kernel ends each sample's loop at its own length, and no gradient comes from there. The output is
#    the mean over the utterance's own steps.
# 2. They go on with what is left in them, and are averaged with the rest. Here it costs little, one or two utterances of
#    370: the padding is zeros, and a leaky neuron soon forgets what was before. Were it long, or the answer read from the *last*
#    step, it would cost much.
# 3. Some 96 do it; 512 come near 98 %.
# </details>
#
# ## The step as one program
#
# A training step is more than its kernels: Python calls modules, autograd builds a graph and walks it, the optimiser goes over
# its parameters, a hundred small calls. For a small network that takes longer than the arithmetic. So do it once, write down
# which operators ran on which memory, and from then on run the list: on a GPU as a *CUDA graph*, on a CPU as a list of operators.

# %%
step = explore.whole_step(steps=16, hidden=128)
step.show()

# %% tags=["nbval-ignore-output"]
times = await step.run()
print(times.sentence())

# %%
if len(times.seconds) == 2:
    assert times.apart["captured"] == 0, "the same losses, to the bit"

# %% [markdown]
# **Do** (each change needs **Start** again):
#
# 1. After how many steps does capturing pay? Is that before or after the end of the first epoch (44 batches)?
# 2. *T* = 64 and *hidden neurons* = 512. What is left of the gain, and why?
# 3. Tick *torch.compile too*, and wait. It compiles the arithmetic itself. Why does it gain nothing here?
#
# <details><summary>An answer</summary>
#
# 1. On most machines after some dozens to a few hundred steps, so within a few epochs. The first time is the longest, since what
#    captures has to be imported: **Start** again.
# 2. Little or nothing: Python's share is the same number of microseconds, but the kernels take more. On a CPU it may *never pay*.
# 3. Our kernels are fused already, and to a compiler each is one operator that it cannot look into. What is left between them
#    is little, and compiling takes some ten seconds or more.
# </details>

# %% [markdown]
# In code it is one line. The step must be one: the same memory at every call, nothing read back to Python on the way. What cannot
# be captured is named:

# %%
torch.manual_seed(0)
net = nn.Sequential(BitSaving(nn.Linear(64, 32)), tfexplore.LIF(), nn.Linear(32, 10))
optimiser = torch.optim.Adam(net.parameters(), lr=2e-3, fused=True, capturable=True)


def train(x, y):
    optimiser.zero_grad()
    loss = nn.functional.cross_entropy(net(x).mean(0), y)
    loss.backward()
    optimiser.step()
    return loss


captured = tfexplore.capture(train)
for epoch in range(2):
    for x, y in dataset.batches(64, shuffle=torch.Generator().manual_seed(epoch), drop_last=True):
        loss = captured(x, y)
print(f"{captured.report()[0].calls} steps, all but six of them without Python between the operators")


# %%
def curious(x, y):
    loss = train(x, y)
    return loss if loss.item() > 1 else 2 * loss  # a number, read in Python


try:
    tfexplore.capture(curious)(x, y)
except RuntimeError as refusal:
    print(refusal)

# %% [markdown]
# ## What to take home
#
# * Spikes are bits. Packed they take 1/32 of float32, on the disk, on the device and between the passes, and every gradient has
#   the same bits. Keep the length, the order and the depth with them, and refuse what does not fit.
# * Sequences of different length need their lengths, not only padding.
# * For small networks Python is the cost. Capturing takes it out, and pays after a number of steps that can be measured.
#
# Spyx: K. Heckel and T. Nowotny, *Spyx: A Library for Just-In-Time Compiled Optimization of Spiking Neural Networks*, 2024,
# [arXiv:2402.18994](https://arxiv.org/abs/2402.18994). JapaneseVowels: M. Kudo, J. Toyama and M. Shimbo, *Multidimensional curve
# classification using passing-through regions*, Pattern Recognition Letters 20, 1999.
#
# **Where to read on:** the how-to pages *Keep spikes as bits*, *Load recordings* and *Capture a training step*. `tfexplore bench
# step` has the same step in Spyx beside it. All puzzles are in `puzzles`.

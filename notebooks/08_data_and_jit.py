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
# 4. *Values* = counts up to 3: event cameras and bins of time give more than one spike. What does a count cost?
#
# <details><summary>An answer</summary>
#
# 1. Eight spikes: 255. Only the first: 128, or 1 if the first value is the lowest bit. Neither order is better, but a file must
#    say which it has; NumPy, and Spyx, take the highest.
# 2. Half of the third byte is empty: 1/26.7. A multiple of 8 is 1/32; one step is 1/4, no better than a byte for each.
# 3. 12 neurons take two bytes, so a quarter is empty. The axis that is packed should be long, or a multiple of 8.
# 4. Two bits instead of one: 1/16 at best. To store counts as spikes would be smaller, and wrong: `pack` refuses it.
# </details>

# %% [markdown]
# PUZZLE: pack_eight

# %% [markdown]
# PUZZLE: read_bit

# %% [markdown]
# `pack` does what you did, for any shape, any axis, on the CPU and on the GPU, in one pass. It keeps the length, since padding
# cannot be seen in the bits. And it does not make binary what is not:

# %%
spikes = (torch.rand(20, 4, 50) < 0.2).float()  # [T, B, features]
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
# input, because the gradient of its weight is $\sum_t g_t \, s_t^\top$. Here are the digits as spikes, and the bytes of each:

# %%
path = explore.data_path(steps=64, batch=128)
path

# %%
assert path.result.ratio("saved for backward by the first layer") == 32
assert path.result.alike, "the same bits of the gradient, from spikes kept as bits"

# %% [markdown]
# **Do:** *T* = 20, then *T* = 100. When do the bars lose a bit of their distance? What does the *batch* change?
#
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

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
# # Train a network
#
# **About 30 minutes.** At the end you will have
#
# 1. built a convolutional spiking network in ten lines, trained it live, and looked into its layers,
# 2. silenced a layer, and found out when training can wake it up again,
# 3. checked over several seeds that step by step and fused learn the same,
# 4. seen where the time of a training step goes, before fusion and after.

# %%
import io

import numpy as np  # noqa: F401  (for your answers)
import torch
from IPython.display import Image
from matplotlib.figure import Figure
from torch import nn

from tfexplore import LIF, FoldTime, explore, fuse, puzzles, surrogates
from tfexplore.data import currents, digits

# %% [markdown]
# ## The data
#
# scikit-learn's handwritten digits: 1,797 images of 8 × 8 pixels, from white (0) to black (1). The network learns from 1,438
# of them, the *training set*. The other 359, the *test set*, are kept aside, to see how it does with
# images that are new to it.

# %%
x_train, y_train, x_test, y_test = digits()
x_train, x_test = x_train.view(-1, 1, 8, 8), x_test.view(-1, 1, 8, 8)  # one channel of 8 rows and 8 columns
data = (x_train, y_train, x_test, y_test)

drawing = Figure(figsize=(9, 1.3), layout="constrained")
for k, axes in enumerate(drawing.subplots(1, 10)):
    axes.imshow(x_train[k, 0], cmap="Greys")
    axes.set_title(int(y_train[k]))
    axes.axis("off")
drawing.savefig(picture := io.BytesIO(), dpi=110)
Image(picture.getvalue(), alt="The first ten training images, handwritten digits, each under its label.")

# %% [markdown]
# An image has no time, but a spiking network needs a current at every step. The simplest *coding* is a constant current: each
# pixel's brightness, again at each of the $T$ steps. So a batch of $B$ images becomes a tensor $x$ of shape
# $[T, B, \mathrm{channels}, \mathrm{rows}, \mathrm{columns}]$. Constant currents take no memory: the steps share one image.

# %%
x = currents(x_train[:64], steps=8)
assert x.data_ptr() == x_train.data_ptr()
x.shape

# %% [markdown]
# ## The network
#
# A convolution looks at a small window of the image and slides it over all places; it has no state. `FoldTime` runs such
# modules on all $T \cdot B$ images at once. Between them stand the spiking layers, and last comes a linear layer, the
# *readout*, with one output for each digit. This cell is yours to change, and to run again:


# %%
atan, box = surrogates.ATan(), surrogates.Rectangle(width=1.0)


def my_network(tau=2.0, threshold=1.0, surrogate=atan):
    torch.manual_seed(0)  # the same weights every time
    neuron = {"tau": tau, "v_threshold": threshold, "surrogate": surrogate}
    net = nn.Sequential(
        FoldTime(nn.Conv2d(1, 16, 3, padding=1)),
        LIF(**neuron),  # [T, B, 16, 8, 8]
        FoldTime(nn.AvgPool2d(2), nn.Conv2d(16, 32, 3, padding=1)),
        LIF(**neuron),  # [T, B, 32, 4, 4]
        FoldTime(nn.Flatten(), nn.Linear(32 * 4 * 4, 10)),
    )
    for conv in (net[0][0], net[2][1]):
        conv.weight.data *= 3  # PyTorch's own weights are too weak to make many neurons fire
    return net


my_network()(x).shape

# %% [markdown]
# The readout speaks at every step; its answer is the mean over time, and the largest of the ten means is the digit. So the
# loss is the cross-entropy of the mean output with the label. Cross-entropy is large where the right digit gets a small
# share of the ten, and near 0 where it gets nearly all.

# %%
answer = my_network()(x).mean(0)  # [B, 10]
loss = nn.functional.cross_entropy(answer, y_train[:64])
print(f"untrained: a loss of {loss:.1f}, as good as guessing among ten: {torch.log(torch.tensor(10.0)):.1f}")

# %% [markdown]
# ## Train it, live
#
# Run the next two cells. Left, loss and accuracy; middle, one neuron and its layer for one test image; right, the **firing
# rates**: the part of all time steps in which the neurons of a layer fire, now (bars) and before training (◇). *Layer 1* and
# *layer 3* are the places of the two LIF layers in the network, counted from 0. Watch the bars while the loss falls.
#
# **Stop** ends a training, and **Resume** takes it up where it stopped: same weights, same optimiser, same order of the
# images, so that the result is the same to the last bit. **Start** begins anew, from untrained weights.

# %%
training = explore.training(my_network(), data, steps=8, epochs=4, rate=5e-3, neuron=40)
training.show()

# %% tags=["nbval-ignore-output"]
result = await training.run()
print(result.sentence())

# %%
if len(result.accuracies) == 4:  # you did not stop it early
    assert result.accuracies[-1][1] > 0.93, "most test images should be classified correctly"
    assert all(rate > 0.01 for rate in result.rates[-1][1].values()), "both layers fire"

# %% [markdown]
# **Do:** press **Start**, **Stop** in the middle, choose another test image, then **Resume**. Then find out (each change
# makes the network anew, so press **Start** after it):
#
# 1. *Time steps T* = 2: what is lost, and why? What does T = 32 cost and gain?
# 2. *Time constant τ* = 8: what happens to the firing rates?
#
# <details><summary>An answer</summary>
#
# 1. In two steps a neuron can say 0, 1 or 2 spikes, and no more: a coarse answer, and usually a somewhat lower accuracy. With
#    more steps the counts become finer, but time and memory grow with T, and there is soon little left to gain.
# 2. They go up: a larger τ forgets less, so more of the past current is still there, and the threshold is reached more often.
# </details>
#
# ## The layer that never fires
#
# A spike is all that the next layer hears. If a layer never fires, the next one receives nothing, and its weights cannot
# learn: their gradient is the input times an error, and the input is 0. What about the silent layer itself? Its own gradient
# has to pass through the surrogate (notebook 04), which stands in for the slope of the spike. Before you read on, guess: can
# a silent layer learn to fire?
#
# **Do:** set *threshold* to 3 above. The ◇ of layer 3 stands at 0: it is silent. Press **Start**, and watch its bar.
#
# Here is the gradient of the second convolution, in front of a silent layer, for two surrogates:

# %%
for surrogate in (atan, box):
    net = my_network(threshold=3.0, surrogate=surrogate)
    spikes = net[:4](x)
    nn.functional.cross_entropy(net[4](spikes).mean(0), y_train[:64]).backward()
    gradient = net[2][1].weight.grad.abs().max().item()
    print(f"{surrogate}: {int(spikes.sum())} spikes, the gradient is {'not zero' if gradient else 'exactly zero'}")

# %% [markdown]
# And what comes of it, after three epochs of training each:

# %%
reached = {}
for surrogate in (atan, box):
    silent = my_network(threshold=3.0, surrogate=surrogate)
    outcome = await explore.training(silent, data, steps=8, epochs=3, rate=5e-3).run()
    reached[surrogate] = outcome.accuracies[-1][1]
    fires = outcome.rates[-1][1]["3"] > 0
    print(f"{surrogate}: the silent layer {'fires now' if fires else 'has still not fired once'}")
assert reached[atan] > 0.6
assert reached[box] < 0.2

# %% [markdown]
# <details><summary><b>Why?</b> (try it first, then click)</summary>
#
# The rectangle is zero outside of its width. No potential of the silent layer comes near the threshold, so every gradient on
# its way to the weights is multiplied by zero: the layer is *dead*, and no optimiser can change that. All that learns is the
# bias of the readout, which does not look at the image. The arctangent's tails never end: a small gradient remains. And the
# optimiser used here, Adam, divides each gradient by its usual size, so that small ones move the weights, too.
#
# Remedies are stronger weights (as in `my_network`), a lower threshold, a larger τ, or a surrogate with wide tails. Worth a look
# whenever a deep network does not learn: the firing rates of its layers.
# </details>
#
# Our readout does not spike. If it did, the digit whose neuron spikes most would be the answer:

# %% [markdown] nbgrader={"grade_id": "spike_count-text"}
# ### Puzzle: read the answer off the spikes
#
# The last layer has one neuron per class. `s` holds its spikes, 0 or 1, of shape [T, examples, classes]. Each example is read as
# the class whose neuron fired most often; of classes that fired equally often, take the first. Return one class number per
# example.
#
# Stuck? There are 2 hints, one per call: `puzzles.hint("spike_count")`


# %% nbgrader={"grade_id": "spike_count"}
def spike_count(s):
    """The class that each example is read as, from the spikes s [T, examples, classes]: an array of one number per example."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "spike_count-check"}
puzzles.check("spike_count", spike_count)

# %% [markdown]
# ## Do both ways learn the same?
#
# The same network, trained step by step and fused: from the same weights, on the same images in the same order. One training
# proves little, so we do it from several **seeds**: other weights, another order. Left and middle, the two ways lie on top of
# each other; what to look at is on the right: how far apart the two losses of the same batch are.

# %%
seeds = explore.seeds("mlp", seeds=3, epochs=3, steps=8)
seeds.show()

# %% tags=["nbval-ignore-output"]
compared = await seeds.run()
print(compared.sentence())

# %%
if len(compared.finished()) == 3:
    assert all(pair.drift()[0] < 1e-5 for pair in compared.pairs), "they begin alike"
    assert all(abs(images) < 20 for images in compared.images_apart())

# %% [markdown]
# (It is the network of notebook 00, without convolutions, to save time; `explore.seeds("conv")` has them.)
#
# Step by step multiplies smaller matrices, so the products may be added up in another order, and differ in the last digit.
# One neuron that spikes a step earlier for it, and the two trainings drift apart, as two seeds do, but less. Is it really
# only rounding? With 16 digits instead of 7 it must all but vanish:

# %%
exact = explore.seeds("mlp", seeds=3, epochs=2, steps=8, precision="float64")
exactly = await exact.run()
assert exactly.drift().max() < 1e-10
assert exactly.images_apart() == [0, 0, 0]
print(f"float64: {len(exactly.drift())} pairs of losses agree to 1e-10; each pair reads equally many test images")

# %% [markdown]
# So the two ways are the same computation. What you choose is the time it takes, and a seed changes the accuracy more than
# the way to walk does.
#
# **Do:** choose *precision* float64 above and press **Start**: where do the dots on the right go?
#
# <details><summary>An answer</summary>
#
# Down by about nine powers of ten, to where the last of 16 digits is. Many are missing: those losses have the same bits.
# </details>
#
# ## Where does the time go?
#
# Here are the parts of one training step, before the neurons are fused and after; first of the network without convolutions,
# then of the one with. Only the neurons' part can shrink.

# %% tags=["nbval-ignore-output"]
explore.breakdown("mlp", steps=8)

# %% tags=["nbval-ignore-output"]
explore.breakdown("conv", steps=8)

# %% [markdown]
# **Do:** in which of the two does fusion help more, and why? What should be made faster next? Try other numbers of steps, or
# a network of your own: `explore.breakdown(my_network(), data, steps=8)`.
#
# <details><summary>An answer</summary>
#
# Where the neurons take the larger part: the two sentences above say how much. Where these pages were made it is the
# convolutional network: its filters are small (the first layer does 9 multiplications for each neuron, that of the other
# network 64), and it has six times as many neurons. In a large network, with many channels, it is the other way round, and
# once the neurons are fused the convolutions are what is left. (On a GPU it is another picture:
# convolutions are quick there, and starting operations is dear. On an H200 a step of ResNet18 took 11 ms fused and 18 layer by
# layer as CUDA graphs, where no operation waits for Python, and 26 and 51 without.)
# </details>
#
# ### BatchNorm, within the neurons
#
# Most convolutional networks have a *BatchNorm* behind each convolution. It takes from every channel its mean, over images and
# time steps, and divides it by its standard deviation, so that the currents have a size that suits the neurons. Its arithmetic is
# next to nothing, but it reads and writes all currents several times. **Guess first:** once the neurons are fused, what takes
# longer, they or BatchNorm?

# %% tags=["nbval-ignore-output"]
norms = explore.breakdown("conv", steps=8, batch_norm="apart")
norms

# %% [markdown]
# Subtract and divide: for the neuron that is a shift and a scale of its current. Its kernel can do that as it reads the current,
# and `fuse(net)` puts it there, forward and backward.
#
# **Do:** set *BatchNorm* to *in the kernel*. Where does its part of the lower bar go, and how much longer does the neurons' get?
#
# <details><summary>An answer</summary>
#
# It all but vanishes: the sentence above the bars says how much the two take together, and how much apart. Of BatchNorm only
# one read of the currents is left in each direction, for the mean and the variance and for their gradient: 9 words for every
# neuron and time step instead of 13, counted as in notebook 03. The upper bar stays, as nothing is fused there.
# </details>
#
# Is it the same network?

# %%
torch.manual_seed(0)
net = nn.Sequential(FoldTime(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)), LIF())
apart = net(x)
together = fuse(net)(x)
changed = (apart != together).float().mean().item()
assert apart.any()
assert changed < 1e-3
print(f"the same spikes, to rounding: fewer than 1 in 1,000 of {apart.numel():,} differ")

# %% [markdown]
# What fusion can save at most is known before it is written:

# %% [markdown] nbgrader={"grade_id": "amdahl-text"}
# ### Puzzle: what fusion can save at most
#
# A training step is made of parts: `parts` is a dictionary that says how many milliseconds each takes. Now the part called `name`
# runs `times` times as fast, and the others as before. How many times as fast is the whole training step? (`times` may be
# infinite: then the part takes no time at all.)
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("amdahl")`


# %% nbgrader={"grade_id": "amdahl"}
def amdahl(parts, name, times):
    """How many times as fast the whole is when the part of this name runs `times` times as fast. parts: name -> milliseconds."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "amdahl-check"}
puzzles.check("amdahl", amdahl)

# %% [markdown]
# ## Recap
#
# * Images become constant currents; the answer is the readout's mean over time; the loss is its cross-entropy.
# * Firing rates tell whether a network can learn. A silent layer wakes up only if its surrogate's tails reach down to
#   where its potentials are.
# * Step by step and fused are the same computation: what differs is rounding, and it vanishes with the digits.
# * Fusion makes the neurons faster, and BatchNorm with them; the rest stays as it is. Measure where the time goes before you
#   make it faster.
#
# **And of the whole course:** a neuron charges, fires and resets, at every step (01). Any order of the (layer, time) grid that
# respects what waits for what gives the same result (02). A fused kernel keeps the potential in a register, so that little
# more than the input and the spikes touches memory (03). Backwards it is the same walk from the last step to the first (04).
# Nothing here made time parallel: it moved less, and started less.
#
# **Where to read on**
#
# * `06_split_time`, the next notebook: the time steps of one network, cut over several devices.
# * `README.md` in the project's folder: the layers and their options, your own neuron, learned parameters. Now take
#   `tfexplore.LIF` to your own network!
# * `benchmarks/` there: one layer measured against other libraries; `make bench` measures on your machine.
# * Temporal fusion: Y. Li, J. Li, K. Sun, L. Leng, R. Cheng, *Towards Scalable GPU-Accelerated SNN Training via Temporal
#   Fusion*, ICANN 2024, [doi:10.1007/978-3-031-72341-4_5](https://doi.org/10.1007/978-3-031-72341-4_5),
#   [arXiv:2408.00280](https://arxiv.org/abs/2408.00280).
# * Surrogate gradients: E. O. Neftci, H. Mostafa, F. Zenke, *Surrogate Gradient Learning in Spiking Neural Networks*, IEEE
#   Signal Processing Magazine, 2019, [doi:10.1109/MSP.2019.2931595](https://doi.org/10.1109/MSP.2019.2931595).
# * All the puzzles of the course in one place: `puzzles`.

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
# # Time walked backwards
#
# **About 45 minutes.** At the end you will have
#
# 1. seen how the memory of training grows with the number of time steps, and which ways out there are,
# 2. inverted a network in time: from where it ended back to where it began, and watched the moment at which that breaks,
# 3. found out that two bits of each state are enough to make it exact, and trained a network with them,
# 4. asked which neurons need a gradient through time at all.
#
# The idea is that of *temporal reversible* spiking networks, T-RevSNN. Everything here works without a GPU.

# %%
import numpy as np  # noqa: F401  (for your answers)
import torch
from torch import nn

from tfexplore import explore, puzzles
from tfexplore.reversible import Level, ReversibleTime, error

# %% [markdown]
# ## What T time steps cost
#
# Backpropagation through time (*BPTT*) needs, on its way back, what every layer computed at every time step on the way there. So
# memory grows with $T$. The next two cells train the same small network under several *policies*, for one step each, count
# the bytes that they hold, and compare their gradients. Watch the slopes: some grow with $T$, some are flat.

# %%
memory = explore.memory_over_time(network="levels", longest=32)
memory.show()

# %% tags=["nbval-ignore-output"]
curves = await memory.run()
print(curves.sentence())

# %% [markdown]
# **Do:**
#
# 1. Which curve is flat, and has it BPTT's gradient? (Point at a sign: the cosine between the two gradients is shown.) Which of
#    those that have it grow the least?
# 2. *Largest T* = 128, and **Start** (a minute or two). By how much has BPTT grown, by how much the *bits*?
# 3. *Memory shown*: saved for backward. The dotted lines are predicted from the equations. Which signs lie off their lines, and
#    why may they?
# 4. *Network* = two convolutions: what is left of the policies, for ordinary layers?
#
# <details><summary>An answer</summary>
#
# 1. Only *SLTT*, which cuts the gradient at every step: at $T = 32$ its cosine is 0.57. The *bits* have BPTT's gradient and
#    hardly grow, a sixteenth as fast as the levels' *states*. Checkpointing, truncated BPTT and the *anchors* grow like
#    $\sqrt{T}$. The *last* states alone would be flat and right, but they have one sign only, at $T = 4$: for more steps they are
#    refused, and you will see why.
# 2. BPTT four times, the bits one and a half times: most of what they hold is what one step needs while it is computed again.
# 3. SLTT's, by a fifth, and at small $T$ those of truncated BPTT and of the levels walked back: what is saved
#    in a step that is under way is counted and not predicted. (Checkpointing has no sign: it saves out of autograd's sight.)
# 4. Checkpointing, and those that cut. An ordinary layer cannot be walked back; it can be recomputed from a saved state (notebook
#    04), which checkpointing does for whole chunks of time. It may also keep less of each step, its input or bits; then memory
#    still grows like $T$.
# </details>
#
# ## Levels
#
# What can be walked back? Not a LIF neuron that resets: after the spike, who knows what it was? T-RevSNN takes *levels* instead,
# each a layer (or several) with one leaky state $c_l$ that is never reset. In a time step they go one after the other, from the
# lowest up:
#
# $$c_l[t] = F_l\big(s_{l-1}[t],\ s_{l+1}[t-1]\big) + \alpha_l \, c_l[t-1]$$
#
# $F_l$ may be anything, convolutions and neurons among them, as long as it has **no memory**: time is in the states alone. A
# level sees the one below, and the one above as it was a step earlier. It sees *spikes*, $s = 1$ where $c \ge 0.5$. A neuron that
# fires so, without a memory, is *turned off* in time (`temporal="off"` makes any layer of this library such a one).

# %%
torch.manual_seed(0)
level0 = Level(nn.Linear(5, 8), nn.Linear(6, 8))  # what comes from below, what from above; they are added
level1 = Level(nn.Linear(8, 6))  # the top level: nothing above
net = ReversibleTime([level0, level1], channels=(8, 6), alpha=0.5)

x = torch.randn(20, 3, 5)  # 20 time steps, a batch of 3
out, state = net(x, return_state=True)
print("the top level at every step:", tuple(out.shape), " the states at the end:", [tuple(c.shape) for c in state])

# %% [markdown]
# Now turn the equation round. If you know the states behind a step, and can compute $F$ again, you have those before it:
#
# $$c_l[t-1] = \big(c_l[t] - F_l\big) / \alpha_l$$
#
# So the backward pass may begin with the last states only, and find all others on its way. It computes every $F$ once more, takes
# its gradient, and forgets it: one extra forward pass, in memory that does not grow.

# %% [markdown] nbgrader={"grade_id": "invert_level-text"}
# ### Puzzle: walk one level back
#
# A step of a level was `c = F(below, above) + alpha * before`. Here is `c`, the state that it left, with what it saw: `below` and
# `above`. The function `F` computes again what the step added. With the number `alpha`, return the state that was there before
# the step.
#
# Stuck? There are 2 hints, one per call: `puzzles.hint("invert_level")`


# %% nbgrader={"grade_id": "invert_level"}
def invert_level(c, below, above, F, alpha):
    """The state of the level before the step that left it in c; F(below, above) is what the step added."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "invert_level-check"}
puzzles.check("invert_level", invert_level)

# %% [markdown] nbgrader={"grade_id": "invert_levels-text"}
# ### Puzzle: in which order?
#
# Now four levels. In the step they went from the lowest up: level $l$ saw the spikes of the level below *after* its step, and
# those of the level above *before* its step,
#
# $$c_l[t] = F_l\big(s_{l-1}[t],\ s_{l+1}[t-1]\big) + \alpha\, c_l[t-1].$$
#
# `c` is the list of the states behind the step, `x` is what level 0 saw below. `F` is a list of functions: `F[l](below, above)`
# computes $F_l$ again, and the top level has nothing above, `None`. The function `see` gives the spikes of a state. With the
# number `alpha`, return the list of the states before the step.
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("invert_levels")`


# %% nbgrader={"grade_id": "invert_levels"}
def invert_levels(c, x, F, see, alpha):
    """The states of all levels before the step that left them in c[0], c[1], ...: a list of arrays."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "invert_levels-check"}
puzzles.check("invert_levels", invert_levels)

# %% [markdown]
# ## Until a spike flips
#
# Here are three levels of 48, 32 and 24 neurons. Forward is the broad line; the dashed one is found backwards, from the last
# step.

# %%
inverse = explore.inverse(alpha=0.5, steps=24)
inverse

# %%
exactness = inverse.result.exactness
assert exactness.flips.any(), "in 24 steps, some spike has flipped"
assert not exactness.flips[:, -8:].any(), "but not in the last 8"

# %% [markdown]
# **Do:**
#
# 1. Press **play**. The error grows along a straight line, on a logarithmic axis. Which factor per step? Then it jumps: when?
# 2. Find a neuron (another *level*, another *neuron*) whose ticks differ: the other levels see a spike that was not there.
# 3. *α* = 0.9: how far back does it hold now? And *α* = 0.3? Why would a network that forgets quickly be harder to invert?
# 4. *T* = 64 and *α* = 0.7, then *precision* = float64: what do 29 more bits buy, here and at *α* = 0.5?
# 5. Levels seen *as numbers*: is there a cliff?
#
# <details><summary>An answer</summary>
#
# 1. By $1/\alpha = 2$: each step forgets one bit, and going back cannot bring it again. As long as no spike flips, the other
#    levels see exactly what they saw, and the gradients of the weights are exact to the last bit. With the first flip, $F$ is
#    that of another network, off by whole spikes, and this error too doubles at every step, through all levels.
# 2. For instance neuron 5 of level 0, in the first four steps.
# 3. At 0.9 far beyond 24 steps. At 0.3 a dozen steps are too many: what is left of a state after $k$ steps is $\alpha^k$ of it,
#    and the rest of the digits has been rounded away.
# 4. In 64 steps no spike flips any more. A step at α = 0.7 forgets half a bit, so 29 bits buy some 56 steps. At 0.5 it is a bit
#    per step, and 29 of them.
# 5. No: the error goes on growing, and every gradient is off a little from the first step on.
# </details>

# %% [markdown] nbgrader={"grade_id": "safe_steps-text"}
# ### Puzzle: when does it break?
#
# Numbers are rounded: a state is off by one rounding, $2^{-m}$ with `mantissa` $= m$. A step of the inverse takes the error that
# is there, adds a rounding of its own, and divides by `alpha`: $\text{error} \leftarrow (\text{error} + 2^{-m}) / \alpha$,
# beginning at 0. How many steps can be inverted so that the error is at most $2^{-w}$, with `wanted` $= w$?
#
# Stuck? There are 2 hints, one per call: `puzzles.hint("safe_steps")`


# %% nbgrader={"grade_id": "safe_steps"}
def safe_steps(alpha, mantissa, wanted):
    """How many steps can be inverted, so that the error stays at 2**-wanted or below; one rounding is 2**-mantissa."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "safe_steps-check"}
puzzles.check("safe_steps", safe_steps)

# %% [markdown]
# `keep="last"` is this policy. It does the sum of the puzzle, and refuses what cannot be right. With *anchors* (the states kept
# as numbers every $k$ steps) it goes on for as long as you like:

# %%
images = torch.rand(1, 64, 5).expand(64, 64, 5)  # 64 steps of the same input
try:
    ReversibleTime([level0, level1], channels=(8, 6), alpha=0.5, keep="last")(images)
except ValueError as refusal:
    print(refusal)

anchored = ReversibleTime([level0, level1], channels=(8, 6), alpha=0.5, keep="last", anchors=4)
print(anchored.choice(images))

# %% [markdown]
# ## Two bits
#
# What does the backward pass want to know of a state? Nobody has ever seen it as a number: only through $s$, and the gradient of
# $s$ asks whether $c$ lies in [0, 1]. Two questions, two bits.

# %% [markdown] nbgrader={"grade_id": "keep_two_bits-text"}
# ### Puzzle: what must be kept?
#
# The other levels see a state `c` through a spike: 1 where `c >= 0.5`, else 0. Its gradient is that of clamping to [0, 1]: `g_c`
# is `g_s` where `0 <= c <= 1`, and 0 elsewhere. So the backward pass has two yes-or-no questions about each state.
#
# In the forward pass, read `c` once and write the answers into `kept`. Then `c` is gone. In the backward pass write `s[t]`, so
# that the levels can be computed again, and `g_c[t]`. All are [T, N]; `kept` has room for a *byte* of each state: use a quarter
# of it.
#
# **Traffic budget:** 4.125 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("keep_two_bits")`


# %% nbgrader={"grade_id": "keep_two_bits"}
def keep_two_bits(c, kept, s, g_s, g_c):
    """Forward: read c, write kept. Backward, without c: write the spikes s, and g_c, the gradient of c."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "keep_two_bits-check"}
puzzles.check("keep_two_bits", keep_two_bits)

# %% [markdown]
# So keep those two bits of every state at every step, a sixteenth of a number. Nothing is inverted any more: not even
# $\alpha = 0$ is in the way. This is what a `ReversibleTime` does where it can, and it says so:

# %%
choice = net.choice(x)
print(f"{choice.name}: {choice.reason}.")

# %%
net.keep = "graph"  # BPTT, by autograd
net(x).square().sum().backward()
expected = {name: p.grad.clone() for name, p in net.named_parameters()}

net.keep = "bits"
net.zero_grad()
net(x).square().sum().backward()
same = [torch.equal(p.grad, expected[name]) for name, p in net.named_parameters() if "steps" in name]
print(f"{sum(same)} of the {len(same)} gradients of weights have the same bits as by BPTT")
assert all(same)

# %% [markdown]
# And the two $\alpha$? Their gradient is $\sum_t g_t \cdot c_{t-1}$, and it asks for the states as numbers. They are gone. It can
# be had all the same, to rounding:

# %% [markdown] nbgrader={"grade_id": "alpha_gradient-text"}
# ### Puzzle: the gradient of alpha, without the states
#
# With `c[t] = f[t] + alpha * c[t-1]`, beginning at 0, the gradient of alpha is $\sum_t g_t \cdot c_{t-1}$, where $g_t$ is the
# gradient of `c[t]`. But only bits of the states were kept, no numbers! What comes by in the backward pass is, for every step
# from the *last* one to the first, `f` (computed again anyway) and `g`: arrays of neurons. Return the gradient of alpha
# anyway, a single number. A row is gone when the next one comes.
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("alpha_gradient")`


# %% nbgrader={"grade_id": "alpha_gradient"}
def alpha_gradient(backwards, alpha):
    """The gradient of alpha; backwards yields f and g of every step, from the last one to the first."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "alpha_gradient-check"}
puzzles.check("alpha_gradient", alpha_gradient)

# %% [markdown]
# ## Train it
#
# Three levels learn the digits twice, from the same weights, on the same batches, in turn: once by BPTT, once keeping two bits.

# %%
twins = explore.twins("bits", steps=16, epochs=2)
twins.show()

# %% tags=["nbval-ignore-output"]
trained = await twins.run()
print(trained.sentence())

# %%
if len(trained.losses["bits"]) >= 5:  # you did not stop it before
    assert trained.apart()[:5].max() < 1e-4, "the first losses agree"
    assert trained.memory["bits"].held < trained.memory["graph"].held / 2

# %% [markdown]
# **Do** (each change needs **Start** again):
#
# 1. *T* = 4, then 64. When do two bits pay? Where does their memory come from, if not from time?
# 2. *Second one keeps* the levels' states: now the losses agree to the last bit. With two bits they part after a while. Why?
# 3. Keep *the last states only*, at *T* = 64. Which numbers does the refusal name?
#
# <details><summary>An answer</summary>
#
# 1. BPTT holds 1 MiB for each time step. Walked back, a training step needs about as much as BPTT does for four or five, at
#    $T$ = 4 as at 64: what the levels compute within one time step, and the gradients of the weights.
# 2. The gradient of $\alpha$ is summed in another order, so it differs in its last digits. After some batches an $\alpha$ does so
#    too, then every weight, by some $10^{-8}$, and at last a spike flips. From there on the two trainings go their own ways, as
#    two seeds do, and are as good.
# 3. $T$ = 64, α = 0.9: the inverse loses 13 of 24 bits, but among over a hundred thousand neurons some state lies so close to the
#    threshold that 22 bits are wanted.
# </details>
#
# ## Which neurons need the past?
#
# There is another way out: **cut** the gradient through time. Each step then takes the states before it as constants, and nothing
# has to be kept. (`temporal_gradient=False`, in any layer; *SLTT* is this in all of them.) What is lost? The paper on T-RevSNN
# cut it in *some* layers of a residual network, and compared what was left of the gradient. Its picture: what counts are the
# neurons at the ends of the stages; all others could be turned off. Let us look, and add what is missing there, a *control*: as
# many layers cut at random.

# %%
cuts = explore.cuts("ms", batches=20, seeds=2)
cuts.show()

# %% tags=["nbval-ignore-output"]
cut = await cuts.run()
print(cut.sentence())

# %% [markdown]
# **Do:**
#
# 1. Left: is the gradient better when only the stage ends keep theirs, or when only they are cut? And against their controls?
# 2. Right: in which layers does a cut weigh most? What has that to do with the ends of stages, what with depth?
# 3. *Network* = SEW-ResNet (spikes are added), and **Start**. *T* = 8. Does the picture change?
#
# <details><summary>An answer</summary>
#
# Cutting the four stage ends leaves more of the gradient than cutting all others, but that is four layers against thirteen: four
# layers chosen at random do as much harm, and four chosen at random, kept, as much good. A cut changes the gradients of all
# weights *before* it, so later layers tend to weigh more; stage ends are not those that weigh most. With more training, on 5,000
# digits of MNIST (`tfexplore bench cuts`), to cut another layer of each stage instead did more harm in most comparisons, in both
# networks: the picture of the paper did not appear.
# That says nothing of other networks and data. It is why a control belongs to an experiment.
# </details>
#
# ## A network of your own
#
# These explorers take yours: `explore.inverse(net, x)`, `explore.memory_over_time(net, x)`, `explore.cuts(net, ends)`. And in
# one sentence:

# %% tags=["nbval-ignore-output"]
print(error(net, x))

# %% [markdown]
# ## Recap
#
# * Memory of BPTT grows with $T$, since every step's values are kept. What can be computed again need not be.
# * A leaky state without reset can be inverted, from the top level down. Each step loses $\log_2 1/\alpha$ bits, and the first
#   spike that flips ends it: nothing gradual warns you.
# * Read through comparisons, a state is two bits to the backward pass. Kept, they make it exact for every $\alpha$.
# * Cutting the gradient is cheaper still, and changes it. By how much is to be measured, with a control.
#
# T-RevSNN: J. Hu et al., *High-Performance Temporal Reversible Spiking Neural Networks with O(L) Training Memory and O(1)
# Inference Cost*, ICML 2024, [PMLR 235](https://proceedings.mlr.press/v235/hu24q.html). Its networks are here:
# `tfexplore.reversible.trevsnn("small")`. Two bits, and the gradient of $\alpha$ without states, are of this course.
#
# **Where to read on:** the how-to page *Train longer sequences than fit in memory* (`docs/howto/longer_sequences.md`);
# `tfexplore/reversible/backward.py` is the walk back. All puzzles are in `puzzles`.

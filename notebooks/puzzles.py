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
# # Puzzles
#
# **About 2½ to 10 hours in all; 31 puzzles of 5 to 20 minutes each, in any order.** Here you will
#
# 1. write every piece of a spiking network yourself: forwards, backwards, and fused,
# 2. see each checked at once, with a picture of what is expected and of what came,
# 3. keep to a budget: the words of memory that your code reads and writes are counted.
#
# The same puzzles stand in the notebooks that prepare them. Solve them wherever you like; none needs a GPU.

# %%
import numpy as np

from tfexplore import puzzles

# %% [markdown]
# ## How it works
#
# A puzzle is three cells: a text, the beginning of a function, and a check. Replace the line `raise NotImplementedError` by
# lines of your own, run the cell, then run the check. Let us try with a mistake: this `charge` forgets the leak.


# %%
def charge(v, x, tau):
    return v + x


puzzles.check("charge", charge)

# %% [markdown]
# A check ends in one of six ways: **right**; **right, but too much traffic**; **wrong**; **crashed**; **not finished**, when time
# is up; **not yet**, as long as nothing is written. Hardly anything that you write can break the notebook (should a check
# hang, restart the kernel). When you are stuck, ask for a hint, and if that is not enough, for the next one:

# %%
puzzles.hint("charge")

# %%
puzzles.hint("charge")

# %% [markdown]
# **Traffic.** A GPU computes much faster than it moves numbers to and from memory, so some puzzles count the *words*
# (numbers) that move, per *element-step* (one neuron at one time step). In this one, `x`, `h` and `out` are in memory. Every
# `x[t]` that you write down reads a row of it, and every `out[t] = ...` writes one. What you give a name, as in `row = x[t]`,
# is in registers: it was read once, and can be used again for nothing. But registers are few: a variable that holds more than
# the puzzle allows (most often a row or two) lives in memory as well, and is counted so.
#
# This answer is right, and yet not good enough: it moves three times as many words as are needed.


# %%
def fuse_the_loop(x, h, out, tau, v_threshold):
    v = np.zeros(x.shape[1])
    for t in range(len(x)):
        h[t] = v - v / tau + x[t]
        out[t] = np.where(h[t] >= v_threshold, 1.0, 0.0)
        v = h[t] - out[t] * v_threshold


verdict = puzzles.check("fuse_the_loop", fuse_the_loop)
assert verdict.outcome == "too much traffic"
verdict

# %% [markdown]
# Now it is your turn. Begin anywhere.
#
# ## 1 · The neuron
#
# These belong to the notebook `01_the_neuron`.

# %% [markdown] nbgrader={"grade_id": "charge-text"}
# ### Puzzle: the current comes in
#
# Write the first third of a time step. The neuron has the potential `v`. In one step, the share 1/`tau` of it leaks away, and
# the current `x` comes in. Return the potential after that, which we call $h$. It must work for one neuron and for an array of
# neurons.
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("charge")`


# %% nbgrader={"grade_id": "charge"}
def charge(v, x, tau):
    """The potential h after the current x came in and the share 1/tau of v leaked away."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "charge-check"}
puzzles.check("charge", charge)

# %% [markdown] nbgrader={"grade_id": "fire-text"}
# ### Puzzle: a spike, or none
#
# Return 1 where the potential `h` has reached the threshold `v_threshold`, and 0 where it has not. A neuron that stands exactly
# at the threshold fires. It must work for one neuron and for an array of neurons.
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("fire")`


# %% nbgrader={"grade_id": "fire"}
def fire(h, v_threshold):
    """1 where the potential h has reached the threshold, 0 elsewhere."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "fire-check"}
puzzles.check("fire", fire)

# %% [markdown] nbgrader={"grade_id": "soft_reset-text"}
# ### Puzzle: the soft reset
#
# After a spike, the soft reset takes the threshold off the potential; what was above it stays. Return the potential after the
# reset, given the potential `h`, the spike `s` (0 or 1) and the threshold, for one neuron or for an array. You can do it
# without an `if`.
#
# Stuck? There are 2 hints, one per call: `puzzles.hint("soft_reset")`


# %% nbgrader={"grade_id": "soft_reset"}
def soft_reset(h, s, v_threshold):
    """The potential after the reset: lower by the threshold where the neuron fired (s = 1)."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "soft_reset-check"}
puzzles.check("soft_reset", soft_reset)

# %% [markdown] nbgrader={"grade_id": "hard_reset-text"}
# ### Puzzle: the hard reset
#
# After a spike, the hard reset sets the potential to `v_reset`, whatever it was. Return the potential after the reset, given
# the potential `h` and the spike `s` (0 or 1), for one neuron or for an array.
#
# Stuck? There are 2 hints, one per call: `puzzles.hint("hard_reset")`


# %% nbgrader={"grade_id": "hard_reset"}
def hard_reset(h, s, v_reset):
    """The potential after the reset: v_reset where the neuron fired (s = 1), as it was elsewhere."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "hard_reset-check"}
puzzles.check("hard_reset", hard_reset)

# %% [markdown]
# ## 2 · Two ways to walk
#
# These belong to the notebook `02_two_ways_to_walk`.

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
# ## 3 · Inside the kernel
#
# These belong to the notebook `03_inside_the_kernel`.

# %% [markdown] nbgrader={"grade_id": "one_thread-text"}
# ### Puzzle: one thread of the GPU
#
# On a GPU, thread `i` walks neuron `i` through all `T` time steps. Memory has no rows and columns: `x` and `out` are flat, with
# the `N` words of time step 0 first, then the `N` words of time step 1, and so on. So in every step, neighbouring threads touch
# neighbouring words, which the GPU moves together. The potential starts at 0; the neuron is a LIF with soft reset.
# Write what one thread does: read the current, charge, fire, write the spike, reset.
#
# **Traffic budget:** 2 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("one_thread")`


# %% nbgrader={"grade_id": "one_thread"}
def one_thread(i, T, N, x, out, tau, v_threshold):
    """What thread i does: all T time steps of neuron i. x and out are flat: N words of time step 0, then of step 1, ..."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "one_thread-check"}
puzzles.check("one_thread", one_thread)

# %% [markdown] nbgrader={"grade_id": "fuse_the_loop-text"}
# ### Puzzle: fuse the loop
#
# This works, but every small operation reads and writes whole rows of memory, at 6 words per element-step:
#
# ```python
# v = np.zeros(x.shape[1])
# for t in range(len(x)):
#     h[t] = v - v / tau + x[t]
#     out[t] = np.where(h[t] >= v_threshold, 1.0, 0.0)
#     v = h[t] - out[t] * v_threshold
# ```
#
# `x`, `h` and `out` are memory: each word of them that you read or write is counted. A row in a variable of your own, such
# as `v`, is in registers and free, as long as it has one word per neuron or two. Get the same spikes within the budget.
#
# **Traffic budget:** 2 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("fuse_the_loop")`


# %% nbgrader={"grade_id": "fuse_the_loop"}
def fuse_the_loop(x, h, out, tau, v_threshold):
    """Read the current x [T, N], write the spikes into out [T, N]. h [T, N] is there, but need not be used."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "fuse_the_loop-check"}
puzzles.check("fuse_the_loop", fuse_the_loop)

# %% [markdown] nbgrader={"grade_id": "roofline-text"}
# ### Puzzle: the roofline
#
# A processor does at most `peak` operations per second, and its memory moves at most `bandwidth` bytes per second; both at the
# same time. How long, in seconds, does a kernel need at the very least that does `flops` operations and moves `nbytes` bytes?
#
# Stuck? There are 2 hints, one per call: `puzzles.hint("roofline")`


# %% nbgrader={"grade_id": "roofline"}
def roofline(flops, nbytes, peak, bandwidth):
    """The least time in seconds for flops operations and nbytes bytes, at peak operations and bandwidth bytes per second."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "roofline-check"}
puzzles.check("roofline", roofline)

# %% [markdown]
# ## 4 · Backwards through time
#
# These belong to the notebook `04_backwards_through_time`.

# %% [markdown] nbgrader={"grade_id": "surrogate-text"}
# ### Puzzle: the surrogate
#
# The step function of a spike has the slope 0 almost everywhere, so nothing could be learned through it. In the backward pass, it
# is replaced by a smooth step, here $\frac{1}{\pi}\arctan\left(\frac{\pi}{2}\alpha u\right) + \frac{1}{2}$, where $u$ is the
# distance from the threshold. Return the slope (the derivative) of this smooth step at `u`, for a number or an array.
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("surrogate")`


# %% nbgrader={"grade_id": "surrogate"}
def surrogate(u, alpha):
    """The slope at u of the smooth step arctan(pi / 2 * alpha * u) / pi + 1 / 2."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "surrogate-check"}
puzzles.check("surrogate", surrogate)

# %% [markdown] nbgrader={"grade_id": "backward_step-text"}
# ### Puzzle: one step back
#
# The forward step was: `h = v - v / tau + x`, then the spike `s` of `h`, then the soft reset. Now two gradients come back:
# `g_s`, that of the spike, and `g_v`, that of the potential after the reset. `slope` is the surrogate's slope, already
# computed. The reset is detached: for the gradient, the potential after the reset changes exactly as `h` does.
#
# Return two gradients, `g_x, g_before`: that of the current `x`, and that of the potential `v` before the step.
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("backward_step")`


# %% nbgrader={"grade_id": "backward_step"}
def backward_step(g_s, g_v, slope, tau):
    """The gradients of the current x and of the potential before the step: return g_x, g_before."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "backward_step-check"}
puzzles.check("backward_step", backward_step)

# %% [markdown] nbgrader={"grade_id": "whole_backward-text"}
# ### Puzzle: the whole backward pass
#
# Put the steps together, for a LIF with a detached soft reset as before. `h` holds the potentials before the reset, saved
# in the forward pass, `g_s` the gradients that arrive at the spikes; write the gradients of the currents into `g_x`. `slope(u)`
# is the surrogate's slope at the distance u = h − threshold.
# After the last time step nothing more arrives, so `g_v` begins as zeros there.
#
# **Traffic budget:** 3 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("whole_backward")`


# %% nbgrader={"grade_id": "whole_backward"}
def whole_backward(h, g_s, g_x, tau, v_threshold, slope):
    """From the potentials h and the gradients g_s of the spikes, write the gradients g_x of the currents; all are [T, N]."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "whole_backward-check"}
puzzles.check("whole_backward", whole_backward)

# %% [markdown] nbgrader={"grade_id": "recompute-text"}
# ### Puzzle: do not store what you can recompute
#
# Keeping every potential costs a word written and a word read. Instead, keep the state `v` at the start of every chunk of 32
# time steps only, and walk each chunk twice: forwards, to have its potentials again, and then backwards. The neuron is a LIF
# with a detached soft reset. Here is one chunk:
# its currents `x` [32, N], the potential `v` [N] at its start, the gradients `g_s` [32, N] that arrive at its spikes, and
# `g_v` [N], which comes from the chunk after it in time. `tau`, `v_threshold` and `slope` are as before.
# Write `g_x` [32, N], and return the gradient of `v`, for the chunk before it.
#
# A chunk's potentials fit into registers: a list or an array of your own may have up to 32 × N words here, and is free.
#
# **Traffic budget:** 3.03125 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("recompute")`


# %% nbgrader={"grade_id": "recompute"}
def recompute(x, v, g_s, g_x, g_v, tau, v_threshold, slope):
    """The backward pass through one chunk: write g_x, and return the gradient of v, the potential at the chunk's start."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "recompute-check"}
puzzles.check("recompute", recompute)

# %% [markdown] nbgrader={"grade_id": "keep_bits-text"}
# ### Puzzle: keep only bits
#
# With a rectangle as the surrogate, the backward pass has one question about each potential: is `u`, its distance from the
# threshold, within half a `width`? The answer is one bit. In the forward pass, read `u` once and write the answers into
# `kept`. Then `u` is gone: the backward pass has only `kept` and `g_s`. There, write `g_u[t]`: it is `g_s[t]` divided by
# `width` where the answer was yes, and 0 elsewhere.
#
# `kept` has room for one *byte* per element-step (it is uint8, [T, N]): a quarter of a word. Use only as much of it as you need.
#
# **Traffic budget:** 3.0625 words per element-step (one neuron at one time step).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("keep_bits")`


# %% nbgrader={"grade_id": "keep_bits"}
def keep_bits(u, kept, g_s, g_u, width):
    """Write g_u = g_s * slope into g_u; the slope is 1 / width where |u| < width / 2, and 0 elsewhere. All are [T, N]."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "keep_bits-check"}
puzzles.check("keep_bits", keep_bits)

# %% [markdown]
# ## 5 · Training a network
#
# These belong to the notebook `05_train_a_network`.

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
# ## 6 · Split time
#
# These belong to the notebook `06_split_time`.

# %% [markdown] nbgrader={"grade_id": "split_forward-text"}
# ### Puzzle: pass the state over the cut
#
# Time is cut into segments, one for each of `ranks` devices. All of them run your function at once: each with its own number
# `rank`, from 0 to ranks − 1, and its own segment `x` of the currents, [time steps, neurons]. Each of the `layers` is called as
# `layer(x, state)`. It runs over the whole segment and returns two things: the spikes, which are the next layer's `x`, and the
# state in which it leaves its neurons. The state `None` is a layer at rest. So rank 0 begins; every other rank begins where the
# rank before it ended.
#
# Call `send` as `send(to, value)`: it puts a message on its way to another rank, and waits for nobody. Call `receive` as
# `receive(source)`: it waits for the next message from that rank, and returns it. Return the spikes of the last layer.
#
# To run a layer over a segment takes one *time slot*, whatever the length of the segment; a message takes none. Be done with $P$
# ranks and $L$ layers after $L + P - 1$ slots. The picture shows in which slot, counted from 0, each rank ran each layer.
#
# Stuck? There are 4 hints, one per call: `puzzles.hint("split_forward")`


# %% nbgrader={"grade_id": "split_forward"}
def split_forward(rank, ranks, x, layers, send, receive):
    """The spikes of the last layer for this rank's segment x of the currents; the state comes from the rank before."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "split_forward-check"}
puzzles.check("split_forward", split_forward)

# %% [markdown] nbgrader={"grade_id": "stuck_ranks-text"}
# ### Puzzle: spot the deadlock
#
# Often a `send` waits too: its message goes over only when the other rank stands at the `receive` for it; then both go on.
# (Large messages are sent so: there is no place to put them meanwhile.) Ranks that wait for each other in a circle then wait for
# ever, and so does a rank that waits for one that has ended, or for one that waits for ever itself.
#
# `programs` is a list of lists: `programs[rank]` is what this rank does, step after step, each `("send", to)` or
# `("receive", source)`. (A program may be empty: its rank has ended.) Find out how far each rank comes. Return one truth value
# per rank: `True` if it waits for ever, `False` if it comes to its end.
#
# Stuck? There are 4 hints, one per call: `puzzles.hint("stuck_ranks")`


# %% nbgrader={"grade_id": "stuck_ranks"}
def stuck_ranks(programs):
    """For every rank, whether it waits for ever (True) or comes to the end of its program (False)."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "stuck_ranks-check"}
puzzles.check("stuck_ranks", stuck_ranks)

# %% [markdown] nbgrader={"grade_id": "best_ranks-text"}
# ### Puzzle: the best number of devices
#
# One device needs `serial` seconds, $T_s$. $P$ devices share the work, but each one after the first adds `communication`
# seconds of messages, $T_c$:
#
# $$T(P) = \frac{T_s}{P} + (P - 1)\, T_c$$
#
# More devices are not always faster. Return the whole number of devices, from 1 to `most`, that needs the least time.
#
# Stuck? There are 4 hints, one per call: `puzzles.hint("best_ranks")`


# %% nbgrader={"grade_id": "best_ranks"}
def best_ranks(serial, communication, most):
    """The number of devices, 1 to most, with the least time: serial / P + (P - 1) * communication seconds."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "best_ranks-check"}
puzzles.check("best_ranks", best_ranks)

# %% [markdown]
# ## 7 · Reversible time
#
# These belong to the notebook `07_reversible_time`.

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
# ## 8 · Spikes as bits
#
# These belong to the notebook `08_data_and_jit`.

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
# ## 9 · Exchange
#
# These belong to the notebook `09_exchange`.

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
# ## 10 · Time as a scan
#
# These belong to the notebook `10_parallel_in_time`.

# %% [markdown] nbgrader={"grade_id": "combine-text"}
# ### Puzzle: two steps into one
#
# A step of a neuron without reset is $v \leftarrow a v + b$: the leak leaves the share $a$, and $b$ comes in. Two such steps, one
# after the other, are again such a step! `first` and `second` are pairs `(a, b)`. Return the pair of both together, `first`
# going first. Whoever can do that can combine any number of steps, two by two and in any grouping.
#
# In the last case the neuron has two states: `a` is a 2 × 2 matrix, and `b` has two numbers.
#
# Stuck? There are 4 hints, one per call: `puzzles.hint("combine")`


# %% nbgrader={"grade_id": "combine"}
def combine(first, second):
    """The pair (a, b) of two steps v -> a v + b, one after the other; first and second are their pairs."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "combine-check"}
puzzles.check("combine", combine)

# %% [markdown] nbgrader={"grade_id": "most_rounds-text"}
# ### Puzzle: how many rounds can a fixed point need?
#
# With a reset, a step needs the spike before it. A *fixed point* guesses all spikes: at first, none. A round computes every
# potential from the guess, $h_t = v_{t-1} - v_{t-1} / \tau + x_t$ and $v_t = h_t - s_t$ with the guessed spikes $s$, beginning at
# $v = 0$. Then the new guess is a spike wherever $h_t \ge 1$. This is repeated until nothing changes, and the guess is right.
#
# How many rounds can it take? Return a current, an array of `steps` numbers, for which as many rounds as possible change a spike.
# The time constant `tau` is above 1. The picture shows the last round that changes each time step.
#
# Stuck? There are 4 hints, one per call: `puzzles.hint("most_rounds")`


# %% nbgrader={"grade_id": "most_rounds"}
def most_rounds(steps, tau):
    """A current, one number for each of the steps, for which the fixed point needs as many rounds as it can."""
    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "most_rounds-check"}
puzzles.check("most_rounds", most_rounds)

# %% [markdown] nbgrader={"grade_id": "no_scan-text"}
# ### Puzzle: a neuron that no scan can do
#
# Our scans need *affine* steps: $v_t = a_t v_{t-1} + b_t$, with $a_t$ and $b_t$ known beforehand. They may be made of the
# current, and even of the spikes, where these are guessed: then a reset is no obstacle. Write a neuron that no scan can do even
# so, and say why. `Neuron` is the library's base class. An answer looks like this one, which is LIF, and wrong:
#
# ```python
# class Mine(Neuron):
#     tau: float = 4.0
#     v_threshold: float = 1.0
#
#     def charge(self, v, x):
#         return v - v / self.tau + x
#
# return Mine, "reset"
# ```
#
# The reason is one word: `"reset"` (a spike moves the potential), `"threshold"` (it is not always the same), `"input"` (what is
# kept of v depends on the current) or `"state"` (what is kept of v depends on v).
#
# Stuck? There are 3 hints, one per call: `puzzles.hint("no_scan")`


# %% nbgrader={"grade_id": "no_scan"}
def no_scan(Neuron):
    """A class on Neuron that no scan over time can do, even where its spikes are known, and the reason in a word."""

    raise NotImplementedError  # your turn


# %% nbgrader={"grade_id": "no_scan-check"}
puzzles.check("no_scan", no_scan)

# %% [markdown]
# ## The score
#
# What this session has checked; run it again after each puzzle.

# %%
puzzles.progress()

# %% [markdown]
# **Where to read on:** the notebooks `01_the_neuron` to `10_parallel_in_time` explain what the puzzles ask for. For a teacher:
# `python tools/puzzles.py teacher FOLDER` writes the notebooks with their solutions as a course for nbgrader.

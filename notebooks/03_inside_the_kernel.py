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
# # Inside the kernel
#
# **About 45 minutes.** At the end you will be able to
#
# 1. read a fused kernel, from its equation to the code that a GPU and a CPU run,
# 2. say which thread touches which word of memory, and count the words,
# 3. tell how fast the memory would let the kernel be, and how near it comes on *your* machine,
# 4. say what compiling a kernel costs, and when you pay for it.
#
# You need no GPU, and you need not know CUDA. Notebook `02_two_ways_to_walk` showed the order in which layers and time steps
# are walked; here we look at one layer that runs all its time steps in one go.

# %%
import numpy as np

from tfexplore import explore, neurons, puzzles
from tfexplore.codegen.traffic import traffic_of, words

# %% [markdown]
# ## From an equation to code
#
# A *kernel* is a small program that runs for very many neurons at once. A fused kernel has two parts. One is **generated** from
# the neuron's equations; the other, the loop over time around it, is **written by hand**, the same for every neuron. Below
# are both parts for a GPU (in CUDA, a dialect of C++, on the left) and for a CPU (in Python that Numba compiles, on the right).
#
# **Do:** find the line of the equation for $h$ in both generated parts. Then find the loop over time in both loops.

# %%
explore.sources(neurons.LIF(tau=2.0))

# %% [markdown]
# <details><summary>An answer</summary>
#
# It is the line `h_v = …` in the function `charge`. The loop over time is `for t in range(steps)` on the right. On the left it
# is two loops: the last lines take `AHEAD` steps at a time, and `walk` above them asks for the currents of these steps together,
# and then uses them one after the other. Inside, both call `charge`, `fire`, `spike`, `reset` and `output`.
#
# Only the left part has a function `derive`: a division takes a GPU a dozen operations, but $\tau$ is the same in all steps. So
# $1/\tau$ is computed once, before the loop, and `divide(…, tau, inverse_tau)` takes three operations, with the same result to
# the last bit.
# </details>
#
# Neither $\tau$ nor the threshold has a value in this code: they arrive in the list `p` when the kernel is called. That is why
# moving a slider never compiles anything. And nobody wrote code for your neuron: define one, and its kernels are there.

# %%
from tfexplore.neurons import Neuron, TimeConstant


class Hasty(Neuron):
    """A leaky neuron whose leak grows with its potential."""

    tau: TimeConstant = 4.0
    v_threshold: float = 1.0
    v_reset: float = 0.0

    def charge(self, v, x):
        return v - v * v / self.tau + x


print(explore.sources(Hasty()).cuda.split("\n\n")[1])  # after `derive`

# %% [markdown]
# **Do:** change `charge` above to `v - v / self.tau + x * x` and run the cell again. Which line of the kernel changed?
# (One: `h_v = …` in `charge`.) Then change it back, and run the cell once more: we need Hasty as it was.
#
# ## One thread per neuron
#
# A GPU runs thousands of *threads*: each takes the same program through its own data, and groups of 32 normally take
# each line together. Our kernel gives each thread **one neuron**: thread $i$ computes neuron $i$ through all $T$ time
# steps.
#
# Two places hold numbers. *Memory* is large and far away: it holds the currents `x`, the spikes `out`, and whatever must
# be saved for the backward pass (`kept`). A *register* belongs to one thread, is right beside its arithmetic, and costs next to
# nothing to use. The potential $v$ is needed again one step later, by the same thread: so it **stays in a register** for
# all $T$ steps, and that is the whole trick of temporal fusion. (The CPU's loop takes neurons in blocks of 2,048, whose
# potentials stay in the cache. In a large layer, a GPU's thread takes four neighbours instead of one neuron, so that each
# access has 16 bytes; each of them is computed as you see it here.)
#
# Now watch it. The explorer runs the real source of the CPU's kernel, for one neuron after the other, stops at every line
# that touches memory or changes a register, and lays the records side by side: GPU thread $i$ does the same for its neuron
# $i$. (`states` is a short array in the cache here; on the GPU it is a register.) Press ▶, or move **micro-step** with the
# arrow keys: the arrays in memory are above, the kernel and the threads' registers below. *Time steps still count from 0.*

# %%
stepper = explore.kernel("LIF", kernel="forward", keep="nothing", threads=8, steps=6)
stepper.show()

# %% [markdown]
# **Do:** (1) Which words does thread 3 read, and which does it write, from start to end? (2) In which micro-steps is no memory
# touched at all? (3) Where does $v$ come from in the next time step?
#
# <details><summary>Answers</summary>
#
# (1) Its own column: it reads `x[0, 3]`, `x[1, 3]`, …, and writes `out[0, 3]`, `out[1, 3]`, …; it never looks at another
# thread's column, so the threads need not wait for each other. (2) In three lines of every step: where it takes its state
# (`load_z`), decides on the spike (`spike`), and resets (`reset`). All of that is in registers. (3) From the register,
# `v after` of the step before. Only before the first step did it come from memory (`start`).
# </details>
#
# ### Neighbours
#
# Memory is one long row of words. `x[t, i]` lies at place $t N + i$ of it ($N$ neurons, time first), so threads 0, 1, 2,
# … read places that lie side by side. A GPU fetches memory in *sectors* of 32 bytes (eight float32 words) at least, so
# eight neighbours share one fetch: the access is *coalesced*. What if `x` were stored the other way round, as $[N, T]$?

# %%
T, N, t = 6, 8, 2
time_first = [t * N + i for i in range(N)]
time_last = [i * T + t for i in range(N)]
print(
    "x[t, i], time first: threads read the places", time_first, "->", len({place // 8 for place in time_first}), "fetch"
)
print(
    "x[i, t], time last:  threads read the places", time_last, "->", len({place // 8 for place in time_last}), "fetches"
)

# %% [markdown]
# <details><summary>And with 1,000 time steps?</summary>
#
# Then the places are 1,000 words apart, and every thread needs a fetch of its own: eight times the traffic, seven eighths of
# which nobody asked for now. This is why the currents are stored with time first.
# </details>
#
# ## Counting the words
#
# One neuron at one time step is an *element-step*. How much memory does the kernel move for each? The explorer counted every
# word that its threads touched. The library also *derives* that number from the equations, without running anything.
# They must agree, and this cell stops with an error if they do not:

# %%
run = stepper.result
print("counted:", {" ".join(key): str(count) for key, count in run.counted().items()})
for access in traffic_of(neurons.LIF(), gradient=False):
    print("derived:", access.kernel, access.action, access.words, "word of", access.array)
assert run.counted() == run.derived() == {("x", "read"): 1, ("out", "write"): 1}

# %% [markdown]
# Two words, and it cannot be fewer, as long as every current and every spike takes a whole word: a current that is not
# read cannot matter, and a spike that is not written is lost. A loop of separate operations moves many times that, since
# each operation reads and writes its operands in memory.
#
# **Do:** before you look at the number below the cell, count the words of this loop of NumPy operations yourself.
# `Counted` arrays count for us.

# %%
from tfexplore.measure.counting import Counted, Log

log = Log()
x, out = (Counted(name, array, log) for name, array in (("x", np.ones((T, N))), ("out", np.zeros((T, N)))))
v, h = (Counted(name, np.zeros(N), log) for name in ("v", "h"))
for t in range(T):
    h[:] = v - v / 2.0  # an operation on whole rows: the row h is in memory
    h[:] = h + x[t]
    out[t] = h >= 1.0
    v[:] = h - out[t] * 1.0
print(log.words() / (T * N), "words per element-step")

# %% [markdown]
# <details><summary>An answer</summary>
#
# Line by line: two reads of `v`, a write of `h`; reads of `h` and `x`, a write of `h`; a read of `h`, a write of `out`;
# reads of `h` and `out`, a write of `v`. That is 11. (And we were kind: the results of `v / 2.0` and of `out[t] * 1.0`
# are rows in memory too, which nobody counted. PyTorch's small operations pay for them as well: that is why notebook 02
# counted more.)
# </details>
#
# Now it is your turn.

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

# %% [markdown]
# With one thread's loop understood, fuse a whole one:

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

# %% [markdown]
# ## What must be saved for the backward pass
#
# Training needs the backward pass, the way back from the loss to the weights, and that pass needs to know what happened in
# the forward pass (notebook 04 shows why). The kernel can write the potential of every step (`keep="potential"`), or only
# the state at the start of every *chunk* of steps (the kernel's own, not those of notebook 02), and compute the chunk once
# more in the backward pass (`keep="input"`). A LIF's chunk has 32 steps (16 on a GPU).
#
# **Do:** play the backward pass below. Then choose `potential` for **keep for backward**, and compare the last lines of
# the table of words. Which array is no longer read? Which is read more?

# %%
back = explore.kernel("LIF", kernel="backward", keep="input", threads=8, steps=6)
back.show()

# %% [markdown]
# <details><summary>An answer</summary>
#
# With `keep="input"` the kernel first goes forward through the chunk: it reads `x` and computes the potentials `q` again,
# into memory on the chip (registers, or what a GPU calls shared memory). Then it goes backward in time: it reads the gradient
# `g_out` of every spike, takes `q` from the chip, and writes the gradient `g_x` of the current. With `keep="potential"`, `x` is
# not read, but one kept potential is, in every step. The forward kernel had to write that one as well.
# </details>
#
# How many words is that in total, forward and backward? For every neuron of the library, and counted against derived, over
# two whole chunks:

# %%
for neuron in (neurons.LIF(), neurons.CubaLIF(), neurons.Izhikevich(), Hasty()):
    line = f"{type(neuron).__name__:11}"
    for keep in ("potential", "input"):
        runs = [explore.kernel(neuron, way, keep, threads=2, steps=64).result for way in ("forward", "backward")]
        assert all(run.counted() == run.derived() for run in runs)
        total = sum(sum(run.counted().values()) for run in runs)
        # the first of the two chunks begins where all neurons begin: its states are neither saved nor read
        total += 2 * len(neuron.states) / 64 if keep == "input" else 0
        assert total == words(traffic_of(neuron, keep))
        line += f"   {keep}: {float(total):.4g}"
    print(line, "words per element-step")

# %% [markdown]
# **Do:** why does Izhikevich's neuron gain more from `keep="input"` than the LIF? (Compare CubaLIF, which also has two
# states, and your Hasty, which has one.)
#
# <details><summary>An answer</summary>
#
# Because its charge is not linear in $v$: the derivative contains $v[t-1]$, beside the $h[t]$ at which the slope of the
# spike is taken (its *surrogate*: notebook 04). So two values per step are needed, and keeping them costs two words written
# and two read. Computing them again costs one word read, the current; the rest is arithmetic. Two states alone cost
# nothing: CubaLIF's charge is linear.
# </details>
#
# ## How fast can it be?
#
# A kernel that does so little arithmetic per word waits for the memory. So its speed limit is simple: the bytes it must move,
# divided by the bytes that the memory moves per second. We measure the latter with a large copy, which does nothing else.
#
# The **roofline** draws that limit. To the right: how many operations a pass does per byte that it moves. Upwards: operations
# per second. Whatever comes from memory stays below the slanted roof (the memory's), and everything below the level one (the
# processor's). Run the next two cells.
#
# **Look at** the table below the figure (on a page without a kernel: at the legend): which part of the copy's bandwidth does
# the fused LIF reach? Which roof is above it? (The dashed line is a copy that must also get new memory for its result. The
# fused layers use memory again that was let go of, and are spared that.)

# %%
roof = explore.roofline(["LIF", "Izhikevich"])
roof.show()

# %% tags=["nbval-ignore-output"]
print((await roof.run()).sentence())

# %% [markdown]
# <details><summary>What does it say?</summary>
#
# A point on the slanted roof moves its bytes as fast as a copy does: then only fewer bytes would make it faster, and fewer
# operations would not. A point well below has something else to wait for. On a CPU that can be the arithmetic
# itself (a division takes longer than a sum), or too few threads to keep the memory busy. The eager loop moves many more bytes
# for the same spikes: look at its bytes per element-step, and not only at its height.
# </details>
#
# ### Against the other ways to walk
#
# Now the clock: two layers of LIF neurons, forward and backward, step by step, layer by layer, and fused, with more and more
# time steps. An element-step that costs the same for every $T$ is a level line.
#
# **Do:** before you run it, guess: will the three lines draw nearer to each other with more time steps, or further apart?

# %%
speed = explore.speed("T", neurons=10_000, largest=64)
speed.show()

# %% tags=["nbval-ignore-output"]
print((await speed.run()).sentence())

# %% [markdown]
# <details><summary>An answer</summary>
#
# The slow ways pay for every operation of every step, so their lines soon become level, and rise once what is saved for
# the backward pass outgrows the cache. The fused way starts one kernel for all steps, so its line falls as more steps share
# that price: they draw apart. Where fused rises again, memory has become its limit.
# </details>
#
# **Do:** let **neurons N** grow to the right, and press **Start**. Then try the **dtype**. On a machine with a GPU these same
# cells use it; the project's README has figures of an H200.
#
# `torch.compile` can fuse such a loop, too: it unrolls the time steps and compiles the result, and again for another
# $T$; the more steps, the longer that takes. Its dashed line was recorded earlier, on the machine named below the
# figure. With few steps it can keep up with fused, or do better: these two layers have no weights between them, so it
# may merge both into one loop. With many steps it falls behind, and compiling takes longer and longer. The button measures one
# point here.
#
# ## What compiling costs
#
# Nobody ships a kernel for the neuron that you invent in a notebook cell: it is compiled *just in time* (JIT), the first time
# a layer needs it.

# %%
cost = explore.compile_cost()
cost.show()

# %% tags=["nbval-ignore-output"]
print((await cost.run()).sentence())

# %% [markdown]
# The first call compiles. Compiled kernels are then kept on disk, under a name made from their text: tomorrow's session finds
# them there. Numbers ($\tau$, thresholds, $T$, $N$) are not part of the text, so
# changing them compiles nothing; another equation, surrogate (notebook 04), dtype or `keep` does. `tfexplore warm` compiles
# ahead.
#
# **Do:** what would you have to change in your neuron `Hasty` to pay again: `tau=5.0`, or `v * v * v` in `charge`?
#
# <details><summary>An answer</summary>
#
# `v * v * v`, since that is another text. `tau=5.0` only sends another number to the same kernel.
# </details>
#
# One more thing to work out yourself: a roof.

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
# ## Recap
#
# * A fused kernel is a neuron's equations, generated, inside a loop over time, written by hand.
# * One thread takes one neuron through all time steps; the potential stays in its register. Neighbouring threads touch
#   neighbouring words.
# * A LIF moves 2 words per element-step without a gradient, 6 forward and backward with `keep="potential"`, and little more than
#   5 with `keep="input"`. The number follows from the equations, and counting confirms it.
# * Time is still walked step by step, in every thread. Fusion saves memory traffic and launches; it does not make time parallel.
#
# **Read on:** `04_backwards_through_time` shows what the backward pass computes, and why something must be saved for it.

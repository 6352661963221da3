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
# # Backwards through time
#
# **About 45 minutes.** At the end you will
#
# 1. know why a spike needs a *surrogate* to learn from, and see how its width decides which neurons learn at all,
# 2. read the backward pass through one time step as seven short lines, and check them against PyTorch by hand,
# 3. see how far a gradient reaches back through time, and which of $\tau$, reset and `detach_reset` decides it,
# 4. train a neuron's potential to follow a curve,
# 5. predict, to the byte, what the fused layers must save for the backward pass.
#
# You need charge, fire and reset from `01_the_neuron`, and the fused loop from `03_inside_the_kernel`.

# %%
import math

import numpy as np  # noqa: F401  (for your answers)
import torch
from IPython.display import Latex

from tfexplore import LIF, codegen, explore, neurons, puzzles, surrogates

# %% [markdown]
# ## A step has no slope to learn from
#
# Learning means changing every weight a little, in the direction that makes the loss $L$ smaller. That direction is the
# *gradient*, the derivative of $L$, and it is found by the chain rule, from the loss back to the weights. On its way it meets
# the spike, $s = \Theta(u)$, where $u$ says how far the potential is above its threshold. What is the slope of $\Theta$?

# %%
u = torch.linspace(-1, 1, 9, dtype=torch.float64)
tiny = 1e-6
rise = ((u + tiny >= 0).double() - (u - tiny >= 0).double()) / (2 * tiny)
print("u     ", u.tolist())
print("slope ", [round(value) for value in rise.tolist()])

# %% [markdown]
# Zero everywhere but at the threshold, and there as large as you please: it grows with every finer step. The chain rule
# multiplies by this slope, so nothing at all would come back to the weights.
#
# The way out is a **surrogate**: in the backward pass only, take the slope of a *smooth* step instead. The spikes themselves
# stay 0 or 1. This one is the slope of an arctangent; its number $\alpha$ makes it narrow and high, or wide and low:

# %%
surrogates.ATan(alpha=2.0)

# %% [markdown]
# ## Play: which neurons learn?
#
# The next explorer runs 24 LIF neurons for $T$ steps. Neuron 0, at the bottom, gets a current too weak to make it fire by
# itself; every further neuron gets a stronger one. The loss is the number of spikes in five time steps.
#
# * **Left:** the surrogate, and below it where the potentials of all neurons fall. Only where the two overlap does a
#   gradient get through.
# * **Right:** the gradient of the loss with respect to the current of every neuron at every step, from one backward pass of
#   the real kernel. Red: more current, more spikes. Blue: fewer. Grey: exactly zero.

# %%
slopes = explore.surrogate(tau=5.0)
slopes.show()

# %% [markdown]
# **Do:** choose *Rectangle* and make its `width` small. What happens to whole rows of the heat map, and why is that bad for
# learning? Then try *SuperSpike* with a large `alpha`.
#
# <details><summary>An answer</summary>
#
# One after the other turns grey from end to end. A rectangle is exactly zero outside its width, and the potentials of those
# neurons never come near enough to the threshold while the loss counts. A neuron without any gradient is not changed by
# learning, so it stays as it is: it is *dead*. SuperSpike has tails: its slope gets small there, but never zero, so faint
# gradients remain.
# </details>
#
# A surrogate is one line. Here is one of your own, as SymPy text; every number in it becomes a slider:

# %%
own = surrogates.custom("Tent", "Max(0, 1 - Abs(u) / w) * a", w=0.5, a=1.0)
explore.surrogate(own, tau=5.0, steps=60)

# %% [markdown]
# Now write one yourself.

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

# %% [markdown]
# ## One step back
#
# Here is the way *there* once more, as it was in `01_the_neuron`:

# %%
neuron = neurons.LIF(tau=2.0)
neuron

# %% [markdown]
# Now back. We write $g_y$ for the derivative of the loss with respect to $y$. Two gradients arrive at step $t$:
# $g_\mathrm{out}[t]$ from the layer above, which received the spike, and $g_v[t]$ from the step after, which received the
# potential. The chain rule takes them back through reset, fire and charge. Nobody wrote these lines: SymPy derived them from
# the equations above. (The first line recomputes $u$, instead of saving it.)

# %%
Latex(codegen.latex_of_adjoint(neuron))

# %% [markdown]
# Read it from top to bottom: it is a program. It gives $g_x[t]$ to the layer below, and $g_v[t-1]$ to the step before.
# Such a step back is called the **adjoint** of the step. One part of it is worth a second look: $g_v[t-1]$ is $g_h[t]$ times
# $1 - 1/\tau$. Every step back costs the gradient that factor.
#
# **Do:** the spike also goes into the reset, $v[t] = h[t] - s[t]\,v_\mathrm{threshold}$. Where is that path above?
#
# <details><summary>An answer</summary>
#
# It is left out: by default the reset is *detached* (`detach_reset=True`), as is common practice. With `detach_reset=False`
# the line for $g_s$ has one more term, the path from the potential after the reset back to the spike:
# </details>

# %%
Latex(codegen.latex_of_adjoint(neurons.LIF(tau=2.0, detach_reset=False)))

# %% [markdown]
# ### Three steps by hand
#
# Let us run that program for three time steps of one neuron, and ask PyTorch for the same gradients. The loss is the number
# of spikes, so $g_\mathrm{out} = 1$ at every step.

# %%
tau, alpha = 2.0, 2.0
x = [0.8, 0.5, 0.9]

v, h = 0.0, []
for t in range(3):  # there: charge, fire, reset
    h.append(v - v / tau + x[t])
    v = h[t] - (1.0 if h[t] >= 1 else 0.0)

g_v, g_x = 0.0, [0.0] * 3  # no step comes after the last
for t in reversed(range(3)):  # and back
    slope = alpha / 2 / (1 + (math.pi * alpha * (h[t] - 1) / 2) ** 2)
    g_u = 1.0 * slope
    g_h = g_u + g_v
    g_x[t] = g_h
    g_v = g_h * (1 - 1 / tau)
print("by hand", [round(g, 6) for g in g_x])

# %%
given = torch.tensor(x, dtype=torch.float64).view(3, 1, 1).requires_grad_()
spikes = LIF(tau=2.0, backend="torch")(given)  # the plain loop in torch: PyTorch's own autograd finds the backward pass
spikes.sum().backward()
autograd = given.grad.flatten().tolist()
print("autograd", [round(g, 6) for g in autograd])
assert all(abs(a - b) < 1e-12 for a, b in zip(g_x, autograd, strict=True))

# %% [markdown]
# The same. Your turn: one step back, as a function.

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

# %% [markdown]
# ## All steps back, in one launch
#
# PyTorch's autograd remembers every operation of the forward pass, and plays them back one after the other: here are the
# operations in the graph that it built for $T = 64$ steps, in the plain loop and in the fused layer.


# %%
def pieces(tensor):
    """How many operations autograd remembers behind this tensor."""
    seen, todo = set(), [tensor.grad_fn]
    while todo:
        piece = todo.pop()
        if piece is not None and piece not in seen:
            seen.add(piece)
            todo += [before for before, _ in piece.next_functions]
    return len(seen)


current = torch.rand(64, 1, 1000, requires_grad=True)
loop, fused = LIF(backend="torch"), LIF()
assert pieces(loop(current)) > 64
assert pieces(fused(current)) == 2
print("plain loop: more than one piece for every step")
print("fused:", pieces(fused(current)))

# %% [markdown]
# The fused layer is one operator: the two are its backward pass, and the input. Its **backward kernel** is a loop from the last
# step to the first, with the adjoint inside; $g_v$ stays in a register from one step to the next, as $v$ did in the forward
# pass. This is the generated part, for a CPU:

# %%
print(codegen.source_of(neuron, "adjoint", keep="input"))

# %% [markdown]
# **Do:** find each of the equations above in it. (`h_v` is $h[t]$; `g_v_next` is the $g_v[t]$ that arrives, `g_v` the
# $g_v[t-1]$ that is handed on; `slope` is $\Theta'(u[t])$; `q` holds what the forward pass saved, `p` the numbers
# of the neuron.)
#
# The loop around it, for a CPU and for a GPU, is in `explore.sources(neurons.LIF(), kernel="backward")`. Write it yourself:

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

# %% [markdown]
# ## How far back does a gradient reach?
#
# Look at the heat map again, now at its columns. Below it stands the mean magnitude of the gradient at each step, on a
# logarithmic axis, beside a dashed line: the factor $1 - 1/\tau$ per step.

# %%
reach = explore.surrogate(tau=10.0, steps=200)
reach.show()

# %%
for tau in (2.0, 5.0, 10.0, 20.0):
    reach.controls["tau"].value = tau
    expected = math.floor(math.log(0.01) / math.log(1 - 1 / tau))
    print(f"tau = {tau:4}: 1 % is left after {reach.result.flow.reach} steps; expected {expected}")
    assert reach.result.flow.reach == expected
reach.controls["tau"].value = 10.0

# %% [markdown]
# With the detached soft reset the gradient follows the line exactly, whatever the spikes do. A loss at the end of a long
# sequence teaches the neuron next to nothing about its beginning: at $\tau = 2$, less than 1 % of the gradient is left
# seven steps back.
#
# **Do:** set $\tau = 20$ and choose the *hard* reset. What do the spikes (the dots) do to the gradient now? Then untick
# *detach reset*: what changes?
#
# <details><summary>An answer</summary>
#
# A hard reset forgets: after a spike the potential is $v_\mathrm{reset}$, whatever it was before, so nothing passes back
# through a spike. Each row is grey up to and including its last spike before the loss; a row without a spike stays
# coloured. Attached, the gradient finds a way around: a little more potential might have changed whether the neuron
# fired, and the surrogate lets that through. The grey is gone.
# </details>
#
# **Do:** back to the *soft* reset, *detach reset* still unticked, $\tau = 40$. Choose *Rectangle* and make it narrower and
# narrower. When does the gradient grow as it goes back through time, instead of fading?
#
# <details><summary>An answer</summary>
#
# With an attached soft reset, a step back multiplies by $(1 - 1/\tau)\,(1 - v_\mathrm{threshold}\,\Theta'(u))$. A
# rectangle is $1/\mathrm{width}$ high: below a width of one half, $1 - \Theta'$ falls below $-1$. While a potential
# stays within the rectangle, its gradient changes its sign with every step (red, blue, red) and grows. (Much narrower
# rectangles are rarely hit, so that more and more rows turn grey.) This is how gradients explode, and one reason why
# resets are detached.
# </details>

# %% [markdown]
# ## A loss on the potential
#
# So far the loss saw spikes only. It may look at the potential as well: `layer(x, trace="v")` returns the potential after every
# step, and a gradient may arrive at each of them. In the program above, what the loss sends to $v[t]$ is added to the $g_v[t]$
# that comes from the step after. Nothing else changes.
#
# Let the loss be the *sum* of the potentials of a neuron that never fires, with $\tau = 2$. **Guess first:** which of four
# steps gets the largest gradient, and how large is it?

# %%
given = torch.full((4, 1, 1), 0.1, dtype=torch.float64, requires_grad=True)
spikes, v = LIF(tau=2.0)(given, trace="v")
v.sum().backward()
print([round(g, 3) for g in given.grad.flatten().tolist()])
assert not spikes.any()
assert given.grad.flatten().tolist() == [1 + 1 / 2 + 1 / 4 + 1 / 8, 1 + 1 / 2 + 1 / 4, 1 + 1 / 2, 1.0]

# %% [markdown]
# The first: it has part in all four potentials, in each with half the weight that it has in the one before.
#
# Now a neuron with three hundred inputs, each of which fires in a random pattern of its own, always the same one. Their weights
# are trained until the potential *follows a curve*. The loss looks at $h$, the potential before the reset, and compares it with
# the curve at every step. Run the next two cells, and watch the gradient below the potential.

# %%
follow = explore.follow("sine", tau=5.0)
follow.show()

# %% tags=["nbval-ignore-output"]
followed = await follow.run()
print(followed.sentence())

# %%
if len(followed.losses) > 300:  # you did not stop it early
    assert followed.distance < 0.03, "the potential follows the curve"
    assert not followed.spikes.any(), "no spike was needed"

# %% [markdown]
# **Do:** guess before you press **Start** each time. (1) *The loss looks at* the last step: which steps get a gradient, and what
# does the potential do before? (2) Back to every step, with *threshold* 0.4: where does the neuron fire?
#
# <details><summary>An answer</summary>
#
# (1) The last 21, as in the explorer above: each step back costs the factor $1 - 1/\tau$. The potential ends on the curve, and
# does what it likes before. (2) Where the curve is above the threshold: there $h$ reaches it, and that is a spike. Nobody asked
# for those spikes; a loss on the potential decides about them, too. And each of them is a jump that the gradient does not see
# (the reset is detached), so that it follows the curve less closely.
# </details>
#
# ## What must be saved for the backward pass
#
# The backward pass needs something of the forward pass: for the LIF the charged potential $h$ of every step, since the
# surrogate is taken at $u = h - v_\mathrm{threshold}$. There are two ways to have it:
#
# * `keep="potential"`: the forward kernel writes $h$ at every step, and the backward kernel reads it.
# * `keep="input"`: keep the current $x$, which is in memory anyway, and the potential at every 32nd step only. The backward
#   kernel **recomputes** 32 steps at a time from there.
#
# Both follow from the equations, so the cost can be *predicted*. The next explorer does that, for two layers of neurons behind
# linear layers. Then it runs the network in five ways and counts the memory that autograd really holds (above left), and the
# bytes that the operators are given and give back (above right).

# %%
memory = explore.memory(steps=64, neurons=200)
memory.show()

# %% tags=["nbval-ignore-output"]
result = await memory.run()
print(result.sentence("fused, keep input"))

# %%
if len(result.kept) == len(result.ways):  # you did not stop it early
    for way in result.ways[2:]:
        assert result.counted_kept(way) == result.predicted_kept(way)
        assert result.counted_moved(way) == result.predicted_moved(way)

# %% [markdown]
# For the three fused ways, predicted and counted agree to the byte (the plain loops are only counted). And perhaps not
# as you expected: the plain loops keep no more than `potential` does, since this LIF's derivative needs nothing but $u$.
# They lose by what they *move*: every small operation reads its inputs from memory and writes its result back.
#
# **Do:** before you press **Start** each time, guess. (1) What does `keep="input"` keep in `bfloat16`, in which currents and
# spikes take two bytes instead of four? (2) How do the ways compare for *Izhikevich*, a neuron with two states?
#
# <details><summary>An answer</summary>
#
# (1) About half: the current is now stored in two bytes, while the potential is kept in four in every format but `float64`.
# In `float32`, `input` saves traffic but no memory; in half precision it saves both. (2) The plain loops now keep three to
# four values per neuron and step, since autograd keeps what every multiplication needs. The adjoint needs two
# (`potential`), and recomputing needs none but the current.
# </details>
#
# It works on a network of your own, too; the network itself stays as it is:

# %%
net = torch.nn.Sequential(torch.nn.Linear(20, 50), LIF(tau=2.0), torch.nn.Linear(50, 10), LIF(tau=4.0))
mine = explore.memory(net, torch.rand(32, 8, 20))
mine.show()

# %% tags=["nbval-ignore-output"]
(await mine.run()).kept["fused, keep potential"]

# %% [markdown]
# Stop storing what you can recompute:

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

# %% [markdown]
# ### Can it be less?
#
# Take the rectangle surrogate and a detached soft reset. Of each step the backward pass then needs to know one thing only: was
# $u$ within the rectangle, or not? That is one *bit* instead of 32, and the library keeps just that with `keep="bits"`. It asks
# the equations whether bits are enough: once the outcomes of all comparisons are known, is every number in the adjoint one
# of finitely many? If not, it says what stands in the way:

# %%
box = surrogates.Rectangle()
for neuron in (
    neurons.LIF(surrogate=box),
    neurons.LIF(surrogate=box, reset="hard"),
    neurons.LIF(),
    neurons.LIF(surrogate=box, reset="hard", detach_reset=False),
    neurons.Izhikevich(surrogate=box),
):
    try:
        bits = float(8 * codegen.kept_bytes(neuron, "bits"))
        print(f"{bits:.0f} bit{'s' * (bits > 1)} per neuron and step, instead of 32")
    except ValueError as error:
        print(error)

# %% [markdown]
# The gradient is the same to the last digit, whatever is kept:

# %%
x = torch.randn(100, 1, 1000, generator=torch.Generator().manual_seed(0), requires_grad=True)
gradients = []
for keep in ("potential", "input", "bits"):
    spikes = LIF(surrogate=box, keep=keep)(x)
    gradients += torch.autograd.grad(spikes[-1].sum(), x)
assert gradients[0].any()
print(torch.equal(gradients[0], gradients[1]), torch.equal(gradients[0], gradients[2]))

# %% [markdown]
# **Do:** go back to the memory explorer above. Predict first: with the *Rectangle* surrogate, how many bytes will
# `keep="bits"` keep and move per neuron and time step? Then set *surrogate* to Rectangle: a sixth way appears with its
# prediction, and **Start** counts it. Which other neurons have it?
#
# <details><summary>An answer</summary>
#
# It keeps one bit, 0.125 bytes, a thirty-second of the potential. It moves 16.25: $x$ and the spikes in the forward pass,
# their two gradients in the backward pass, four bytes each, and the bit twice. That is less than with `input` (20.25) and
# `potential` (24). So it is for IF and CubaLIF; ALIF keeps two bits. LI has the sixth way with any surrogate: it is linear,
# never fires, and keeps nothing. The others need the potential itself: ParametricLIF to learn $\tau$, QIF, EIF and
# Izhikevich for the slope of their curve, and PaperLIF because its reset is not detached.
# </details>
#
# How would you do it?

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
# ## Recap
#
# * A spike's true slope is zero; a surrogate replaces it, in the backward pass only. Where it is zero too, nothing is learned.
# * The adjoint, the backward pass through one step, is derived from the neuron's equations. The backward kernel runs it from
#   the last step to the first, in one launch.
# * With a detached soft reset the gradient fades by $1 - 1/\tau$ per step. A hard reset cuts it at a spike; an attached reset
#   with a narrow surrogate may make it explode.
# * A loss may look at the potential: its gradient joins the one that comes from the step after.
# * What must be saved for the backward pass follows from the equations: one potential per step; or the current and a few
#   potentials to recompute from; or, where every choice of the adjoint hangs on a comparison, a bit.
#
# **Where to read on:** `05_train_a_network` puts all of it to work. The derivation is in the package, in
# `tfexplore/neurons/adjoint.py`: 150 lines.

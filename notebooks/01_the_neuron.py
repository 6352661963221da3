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
# # The neuron: charge, fire, reset
#
# **About 35 minutes.** At the end you will
#
# 1. have computed a spiking neuron by hand, step after step, and got the same numbers as the library,
# 2. know which current makes it fire, and what its time constant and its reset do,
# 3. read its firing rate off a curve, and know why that curve has stairs,
# 4. have written a neuron of your own, which runs in one fused kernel.

# %%
import numpy as np
import torch
from IPython.display import Markdown

import tfexplore
from tfexplore import explore, neurons, puzzles

# %% [markdown]
# ## Charge
#
# A neuron is a leaky bucket. What is in the bucket is its *membrane potential* $v$. At every time step $t$ an *input current*
# $x[t]$ is poured in, and a part of the potential leaks out: the fraction $1/\tau$ of it. $\tau$ is the *time constant*,
# counted in time steps. This is the *leaky integrate-and-fire* neuron, LIF. Look at its first line, **charge**:

# %%
neurons.LIF(tau=10.0)

# %% [markdown]
# $v[t-1]$ is what the step before has left, $h[t]$ is the *charged* potential, and $v_\mathrm{reset}$ is the level of an empty
# bucket: 0, here and in what follows. Let us pour in 0.15 at every step, and never mind the other two lines yet. We begin
# with an empty bucket, and a tenth leaks out at every step:

# %%
tau, x = 10.0, 0.15

h = 0.0
for t in range(1, 61):
    h = h - h / tau + x
    if t in (1, 2, 3, 10, 30, 60):
        print(f"h[{t}] = {h:.4f}")

# %% [markdown]
# The potential rises more and more slowly, towards a level at which as much leaks out as comes in: $h/\tau = x$, so
# $h = \tau x = 1.5$. This is its *fixed point*. Now write the line yourself:

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

# %% [markdown]
# ## Fire
#
# When the charged potential reaches the *threshold* $v_\mathrm{threshold}$ (1 here), the neuron **fires** a *spike*:
# $s[t] = 1$. Otherwise $s[t] = 0$. That is the second line of the equations; $\Theta$ is the *step function*, 1 from zero
# on and 0 below.

# %%
h = 0.0
for t in range(1, 13):
    h = h - h / tau + x
    s = 1 if h - 1.0 >= 0 else 0
    print(f"step {t:2}   h = {h:.4f}   s = {s}")

# %% [markdown]
# It reaches the threshold at step 11, and then fires for ever: something must take the potential down again.

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

# %% [markdown]
# ## Reset
#
# After a spike, the potential is **reset**, and $v[t]$ is what the step leaves for the next one. There are three ways:
#
# * **soft**: the threshold is taken off, $v = h - 1$. What was above the threshold is kept.
# * **hard**: the potential is set to a fixed value, here $v = 0$. What was above the threshold is lost.
# * **none**: the potential stays as it is.
#
# Charge, fire and reset together make the whole neuron:


# %%
def by_hand(x, tau, reset):
    """Charged potentials, spikes, and potentials after the reset, of a LIF neuron with threshold 1."""
    v, hs, ss, vs = 0.0, [], [], []
    for x_t in x:
        h = v - v / tau + x_t
        s = 1.0 if h >= 1 else 0.0
        if reset == "soft":
            v = h - s
        elif reset == "hard":
            v = h * (1 - s)
        else:
            v = h
        hs.append(h), ss.append(s), vs.append(v)
    return hs, ss, vs


# %% [markdown]
# Does the library do the same? A *layer* takes currents of shape [time steps, batch, neurons] (a *batch* is several
# independent runs at once; here one). All axes after the time are independent neurons, so [time steps, neurons] will do as
# well. Within `tfexplore.record` the layer also writes down the potentials. We give it a random current, and compare every
# number:

# %%
current = torch.rand(200, 1, 1, generator=torch.Generator().manual_seed(0))

for reset in ("soft", "hard", "none"):
    layer = tfexplore.LIF(tau=tau, reset=reset)
    with tfexplore.record(layer, "h", "s", "v") as recorded:
        layer(current)
    hand = dict(zip("hsv", by_hand(current.flatten().tolist(), tau, reset), strict=True))
    for name, trace in recorded[""].items():
        np.testing.assert_allclose(trace.flatten(), hand[name], rtol=1e-4, atol=1e-5)
    print(f"{reset}: {int(sum(hand['s']))} spikes in 200 steps, and all potentials agree")

# %% [markdown]
# Hard fires less often than soft for the same current, and with *none* it fires at nearly every step. Now the two resets
# are yours:

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

# %% [markdown]
# The other reset forgets.

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
# Now put *your* pieces together, and let them run beside the library's layer:


# %%
def my_neuron(x, tau):
    v, spikes = 0.0, []
    for x_t in x:
        h = charge(v, x_t, tau)
        s = fire(h, 1.0)
        v = soft_reset(h, s, 1.0)
        spikes.append(s)
    return spikes


if all(map(puzzles.passed, ("charge", "fire", "soft_reset"))):
    mine = my_neuron(current.flatten().tolist(), tau)
    assert mine == tfexplore.LIF(tau=tau)(current.double()).flatten().tolist()
    print(f"Your neuron fires {sum(mine):.0f} times in 200 steps, and the library's in the very same ones.")
else:
    print("Once charge, fire and soft_reset are right, run this cell again: it makes a neuron of them.")

# %% [markdown]
# ## Play
#
# Here is the same neuron to play with: on top the current, below it the potential, which charges up to $h$ and falls to $v$
# after a spike (a dot), and the spike times. The panel on the right comes later. Move *constant current x* first.

# %%
neuron = explore.neuron(neurons.LIF(tau=10.0), strength=0.15, steps=200)
neuron.show()

# %% [markdown]
# **Do:** find the smallest constant current that makes the neuron fire. Then choose $\tau = 20$: what is it now, and why?
#
# <details><summary>An answer</summary>
#
# 0.11 and 0.06 on the slider, whose steps are 0.01; exactly: just above 0.1, and just above 0.05. The potential climbs
# towards its fixed point $\tau x$, and it fires if that lies above the threshold: the *threshold current* is $1/\tau$. A
# larger $\tau$ leaks less, so a weaker current is enough.
# </details>

# %%
for x in (0.099, 0.101):
    spikes = tfexplore.LIF(tau=10.0)(torch.full((1000, 1), x))
    print(f"constant current {x}: {int(spikes.sum())} spikes in 1000 steps")
    assert spikes.any() == (x > 1 / 10)

# %% [markdown]
# **Do:** with $\tau = 10$ and a current of 0.35, compare *soft* and *hard* reset. Which one fires more, and why?
#
# <details><summary>An answer</summary>
#
# Soft: 60 spikes in 200 steps, and hard 50. The potential overshoots the threshold a little. A soft reset keeps that charge,
# so the next spike comes sooner; a hard reset throws it away, and all intervals are equal. You see it in the potentials after
# a spike: with the hard reset all are 0, with the soft one they differ.
# </details>

# %%
for reset, expected in (("soft", 60), ("hard", 50)):
    spikes = tfexplore.LIF(tau=10.0, reset=reset)(torch.full((200, 1), 0.35))
    assert spikes.sum() == expected

# %% [markdown]
# **Do:** set the current to 0.08, below the threshold current, so that the neuron is silent. Choose *noise* as the input
# current, with the same mean of 0.08, and turn up *noise σ*. Then try *spikes at a rate*. Last, choose *drawn by hand*
# and move the twelve sliders, until the neuron makes exactly three spikes.
#
# <details><summary>What do you see?</summary>
#
# With noise the neuron fires, although its mean current is too weak: now and then several strong inputs come close together,
# and it remembers the first ones long enough. A constant current of the same mean would never do it. So a rate depends on
# more than the mean.
# </details>

# %%
silent = explore.neuron(neurons.LIF(tau=10.0), strength=0.08)
assert len(silent.result.times) == 0
silent.controls["current"].value = "noise"  # setting a control in Python does what moving it does
silent.controls["strength"].value, silent.controls["sigma"].value = 0.08, 0.2
print(silent.result.sentence())
assert len(silent.result.times) > 0

# %% [markdown]
# ## How often does it fire?
#
# The right panel answers that for all constant currents at once. It is called the *f–I curve*: firing rate (f) against
# current (I, for which we write $x$). Its dots were measured: 81 neurons with different currents ran in one batch. The line
# is computed from the equations. With a hard reset that is short enough to do here. From $v = 0$, after $k$ steps of charging,
#
# $$h_k = \tau x \left(1 - (1 - 1/\tau)^k\right),$$
#
# and the interval between two spikes is the first whole number $k$ for which $h_k \ge 1$.

# %%
x = np.array([0.12, 0.15, 0.2, 0.35, 0.6])
interval = np.ceil(np.log(1 - 1 / (tau * x)) / np.log(1 - 1 / tau))

spikes = tfexplore.LIF(tau=tau, reset="hard")(torch.tensor(x, dtype=torch.float32).expand(1000, -1))
for column, (x_i, k) in enumerate(zip(x, interval, strict=True)):
    times = spikes[:, column].nonzero().flatten()
    assert (times.diff() == k).all()
    print(f"x = {x_i:.2f}: a spike every {k:.0f} steps, rate {1 / k:.3f}; {len(times)} spikes in 1000 steps")

# %%
rates = explore.neuron(neurons.LIF(tau=10.0, reset="hard"), strength=0.35)
rates.show()

# %% [markdown]
# **Do:** look at the right panel, and move the current: the diamond is the neuron on the left. Why does the curve have
# stairs, and why does it end at 1? Then choose the soft reset, $\tau = 2$ and a current of 0.7 (why is the left side
# silent with less than 0.5?): what becomes of the stairs?
#
# <details><summary>An answer</summary>
#
# An interval is a whole number of steps, so the rate can only be 1, 1/2, 1/3, … and it cannot exceed one spike per step. The
# dotted line is the textbook formula for continuous time, which knows nothing of steps. The soft reset carries the rest of
# the charge over, so intervals of, say, 2 and 3 steps can alternate: between 1/2 and 1/3 there is a small stair for every
# fraction. A short time constant forgets the rest sooner, so the stairs are wider.
# </details>
#
# **For the curious:** at exactly the threshold current the potential approaches the threshold and never reaches it. On paper.
# A computer rounds, and so the neuron fires after all, as soon as the gap is smaller than the last digit:

# %%
for dtype in (torch.float32, torch.float64):
    spikes = tfexplore.LIF(tau=2.0)(torch.full((100, 1), 0.5, dtype=dtype))
    print(f"tau = 2, x = 0.5, {dtype}: first spike at step {spikes.flatten().nonzero()[0].item() + 1}")

# %% [markdown]
# ## A zoo of neurons
#
# All neurons of the library follow the same three lines, some with a second state beside $v$. These are their equations as
# the library has them; the slow loops and the fast kernels are made from nothing else.

# %%
rows = [f"| **{kind.__name__}** | {kind()._repr_latex_()} |" for kind in neurons.ALL]
Markdown("\n".join(["| neuron | one time step |", "|---|---|", *rows]))

# %% [markdown]
# Some are simpler than LIF (IF does not leak); ParametricLIF is a LIF whose $\tau$ is learned, and PaperLIF the neuron
# of the temporal-fusion paper; some add a slow current (CubaLIF), and some a sharper upswing (QIF, EIF, Izhikevich). LI
# does not fire at all: it is used as an output. ALIF has an adaptive threshold, $\beta b$ above the fixed one: every
# spike raises $b$, and $b$ decays slowly. Here it gets a current that is switched on at step 50:

# %%
adaptive = explore.neuron(neurons.ALIF(beta=8.0), current="step", strength=0.12, steps=400)
adaptive.controls["on"].value = (50, 400)
adaptive.show()

# %% [markdown]
# **Do:** watch the dashed threshold. What happens to the intervals between spikes? Set the parameter *beta* to 0: which
# neuron have you got now? Then choose other neurons in the first menu.
#
# <details><summary>An answer</summary>
#
# The threshold climbs with every spike, so the potential has further to go, and the intervals grow: the neuron *adapts*. With
# `beta = 0` the threshold stays where it is, and that is a LIF neuron.
# </details>

# %%
layer = tfexplore.ALIF(beta=8.0)
times = layer(torch.full((350, 1), 0.12)).flatten().nonzero().flatten()
print("intervals between spikes:", times.diff().tolist())
assert times.diff()[-1] > times.diff()[0]

# %% [markdown]
# ## A neuron of your own
#
# A neuron is a class with its parameters and its `charge`. This one leaks a constant amount at every step, whatever its
# potential is, and never goes below zero (Fusi and Mattia, 1999, studied such neurons for chips). `Max` comes from
# [SymPy](https://www.sympy.org), because the library reads the equation, and does not only run it:

# %%
from sympy import Max

from tfexplore.neurons import Neuron, Positive


class Drip(Neuron):
    leak: Positive = 0.05
    v_threshold: float = 1.0

    def charge(self, v, x):
        return Max(v + x - self.leak, 0)


Drip()

# %% [markdown]
# That is all. From these lines the library makes the kernel, for forward and (notebook 04) for backward. The fused kernel of
# your neuron gives the same spikes as the slow loop, bit for bit, and the explorer takes it like any other:

# %%
x = torch.rand(500, 1, 100, generator=torch.Generator().manual_seed(0)) * 0.3
fused = tfexplore.Layer(Drip())(x)
slow = tfexplore.Layer(Drip(), backend="torch")(x)
assert torch.equal(fused, slow)
print(f"{int(fused.sum())} spikes, the same in both")

# %%
drip = explore.neuron(Drip())
drip.show()

# %% [markdown]
# **Do:** change `charge` in the cell above, and run it and the cells below it again. Leak a fixed part *and* a constant? Let a
# strong current count double? What does the f–I curve look like?
#
# ## Recap
#
# * One time step: **charge** (current in, leak out), **fire** (1 at the threshold, else 0), **reset** (soft keeps what is
#   above the threshold, hard forgets it).
# * A constant current makes a LIF neuron fire if its fixed point $\tau x$ lies above the threshold. Noise can do it with less.
# * The firing rate has stairs, because time comes in steps; with a hard reset the interval has an exact formula.
# * A neuron is defined by its equations and nothing else, also your own.
#
# **Where to read on:** this was one neuron. A network has many, in several layers, and each needs its past: notebook
# `02_two_ways_to_walk` shows the two orders in which they can be computed.

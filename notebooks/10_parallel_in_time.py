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
# # What is parallel in time
#
# **About 45 minutes.** At the end you will have
#
# 1. made one step out of two, and 32 steps in 9 rounds,
# 2. sorted the neurons: which of them can be computed so, and why a reset spoils it,
# 3. guessed all spikes of a neuron at once, again and again, and counted how often,
# 4. seen on a map for how many neurons and steps any of this is faster than a plain loop, on this machine.
#
# A fused kernel computes all time steps at once, but *one after the other*: it is not parallel in time. This notebook is about
# what is. Everything here works without a GPU.

# %%
import numpy as np
import torch

from tfexplore import LIF, explore, neurons, puzzles, scan
from tfexplore.data import currents, digits
from tfexplore.neurons import affine_of, step_of
from tfexplore.nn import networks

# %% [markdown]
# ## 32 steps in 9 rounds
#
# One leaky neuron without reset, 32 time steps. Each row is a *round*: what stands in one row could be computed at the same
# moment, since it waits for nothing else in that row. Press **play**.

# %%
tree = explore.scan(way="tree scan", steps=32)
tree

# %%
if tree.way == "tree scan" and tree.steps == 32:  # as it is above
    assert (tree.result.depth(), tree.result.work()) == (9, 57)
np.testing.assert_allclose(tree.result.rounds[-1].v, tree.result.v, rtol=1e-12)  # what the loop gives

# %% [markdown]
# **Do:**
#
# 1. Move *rounds done* back to 1, and forward. Which steps are final (green) after round 1, 2, 3? Which are the last?
# 2. *Way* = step by step: how many rounds, how many operations? On the right, both ways are signs: which trades what for what?
# 3. *Way* = doubling scan: fewer rounds still. What does it pay for them? *T* = 64: how do the three grow?
# 4. *T* = 32 again, *way* = chunked scan, with chunks of 2, 4, 8 and 16 steps: which has the fewest rounds? What are the
#    crosses?
#
# <details><summary>An answer</summary>
#
# 1. Steps 0 and 1; then 3; then 7: a cell is final once its interval reaches back to the beginning, and the way *up* makes
#    intervals of 2, 4, 8 steps. Then the way *down* fills in what lies between; every other step waits for the very last round.
# 2. 31 rounds of one operation each. The tree has 9, and 57 operations: nearly twice the work for less than a third of the
#    depth.
# 3. 5 rounds, and 129 operations. With $T$ the loop's rounds grow as $T$, the two others' as $\log_2 T$; the work of the tree
#    as $2T$, that of the doubling scan as $T \log_2 T$.
# 4. 17, 13, 17 and 31 rounds: chunks of about $\sqrt{T}$ steps. In the first phase every chunk begins with a potential of 0,
#    which is wrong for all but the first: only its *end* is of use, so all else (the crosses) is computed in vain, and again in
#    the third phase.
# </details>
#
# How can a step be computed before the one that it needs? It is not. What is computed is what *will be done* to the potential,
# whatever that is. A step without reset is $v_t = a\, v_{t-1} + b_t$. That is a pair of numbers, and two of them, one after the
# other, are again one:
#
# $$v_2 = a_2\,(a_1 v_0 + b_1) + b_2 = \underbrace{a_2 a_1}_{a}\, v_0 + \underbrace{a_2 b_1 + b_2}_{b}$$

# %% [markdown]
# What makes a scan of it is one small function: the pair that two steps are together. Write it yourself. A neuron of two states
# comes last, and there the order of a product begins to matter.

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

# %% [markdown]
# The check has combined your pairs in drawn trees, and each gave what the loop gives, up to rounding: the product is
# *associative*. It does not commute. Steps may be grouped as you like, but never swapped, and that is all a scan uses.

# %% [markdown]
# ## Who can?
#
# A step that is a pair is called *affine* in its state. Whether it is follows from the equations, by differentiating them: if
# the derivative of the new state with respect to the old one has the old one in it, no pair of numbers will do.

# %%
for neuron in (neurons.LI(), neurons.LIF(reset="none"), neurons.LIF(), neurons.ALIF(), neurons.QIF()):
    print(f"{f'{type(neuron).__name__}, reset {neuron.reset}':17} {scan.why_not(neuron) or 'a scan'}")

affine_of(step_of(neurons.LIF(reset="none")))

# %% [markdown]
# Without a reset a LIF is a scan. With one, what a step does depends on whether it fires, and that on the potential.
# *If the spikes were known*, most neurons would be affine again:

# %%
for kind in neurons.ALL:
    print(f"{kind.__name__:14} {scan.why_not(kind(), given_spikes=True) or 'affine, given the spikes'}")

# %% [markdown]
# So a reset is something that can be guessed, and some neurons cannot be helped even so. Write one. It is judged twice: by its
# equation, and by numbers.

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
# The slope $dv_t / dv_{t-1}$ of such a neuron is no number that is known before $v$ is.
#
# ### The backward pass is always one
#
# This is about the way *forward*. When the gradient flows back, all potentials and spikes are known, and by the chain rule what
# a step does to a gradient is *multiply* it, and add: affine, for every neuron there is. So the backward pass of a QIF neuron,
# which no scan can run forward, is a tree of 9 rounds like the one above:

# %%
torch.manual_seed(0)
x = torch.rand(32, 1, 4, dtype=torch.float64, requires_grad=True)
g = torch.randn_like(x)
torch.autograd.backward(scan.walk(neurons.QIF(), x).out, g)  # the plain loop, by autograd

count = scan.Count()
found = scan.gradient(neurons.QIF(), x.detach(), g, how="associative", count=count).x
torch.testing.assert_close(found, x.grad)
print(f"the gradient of autograd's loop, after a longest chain of {count.depth} combinations instead of 32")

# %% [markdown]
# ## With a reset: guess
#
# What if the spikes are *guessed*? Guess that there is none. Given that, compute all potentials (a scan), see who fires, and
# take this for the next guess. When nothing changes any more, the guess is the truth: there is only one train of spikes that
# follows from itself.

# %%
guess = explore.predict(
    "The neuron below fires 7 times in 32 steps. How many rounds of guessing will it take?",
    ["2 or 3", "about log2(32) = 5", "about twice the spikes", "more than 32"],
)
guess

# %%
fixed = explore.scan(way="fixed point", steps=32)
fixed

# %%
shown = fixed.result
if fixed.way == "fixed point":
    assert np.array_equal(shown.rounds[-1].v, shown.v), "what the loop gives, not nearly but exactly"
    assert len(shown.rounds) <= 2 * shown.spikes.sum() + 1, "each two rounds find a spike more, at the least"
    print(f"{shown.spikes.sum():.0f} spikes, {len(shown.rounds)} rounds")
guess.check("about twice the spikes")

# %% [markdown]
# **Do:**
#
# 1. Play it. Green is *final*: nothing left of it was guessed wrong. Sand is right already, but nobody can know. How does the
#    green grow?
# 2. *Input current* up and down: no spikes, few, many. What decides the number of rounds?
# 3. *Way* = speculative chunks: here not spikes are guessed, but the potential between chunks, and each chunk is a plain loop
#    with its resets. How many rounds, how many operations? Now *reset* = hard, *chunk* = 16, τ = 2, *T* = 64, and a strong
#    current. Why is it right so soon?
#
# <details><summary>An answer</summary>
#
# 1. From the left, up to the next spike that was not foreseen, or that was foreseen and does not come. Everything right of it
#    was computed in vain.
# 2. The spikes. Without any, one round. Two rounds make at least one more of them sure: so $n$ spikes take at most $2n + 1$
#    rounds, and never more than there are steps. (Few can do for many: see below.)
# 3. 4 rounds, one for each chunk, and 80 operations instead of the loop's 32: each round makes one more chunk final, but need
#    not do more. With the hard reset there are 2 rounds, as it forgets: two neurons with other potentials that fire at the same
#    step are the same from there on. So a chunk that began wrong ends right, if it is long enough, and the next one begins
#    right.
# </details>

# %% [markdown]
# **Predict:** τ = 4, a soft reset, 32 steps, and a *constant* current: 0.3, 0.6, 0.9 or 1.0. Which of them needs the most
# rounds, which the fewest? Does the neuron that fires most need most?
#
# <details><summary>An answer</summary>
#
# 0.6: 31 rounds, with 16 spikes. 0.3: 9; 0.9: 13, with 25 spikes. And 1.0 only 2, though it fires at all 32 steps. What costs a
# round is a spike that *decides* about a later one. At 1.0 every step fires, whatever the reset does.
# </details>

# %%
rounds = {}
for strength in (0.3, 0.6, 0.9, 1.0):
    solved = scan.solve(neurons.LIF(tau=4.0), torch.full((32, 1, 1), strength))
    rounds[strength] = solved.rounds
    print(f"{strength}: {solved.rounds} rounds, {int(solved.out.sum())} spikes")
assert max(rounds, key=rounds.get) == 0.6
assert min(rounds, key=rounds.get) == 1.0

# %% [markdown]
# No current can need more than 32: step 0 is right after round 1, step 1 after round 2, and so on. So 31 is one short of the
# most, by a current that no one chose with care. Can you find the missing round?

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

# %% [markdown]
# The picture is a staircase: each step changes for the last time in its own round. Then 32 passes over 32 steps have done what
# a loop does in one.

# %% [markdown]
# In the library this is an argument of every layer. The spikes are those of the serial kernel, to the last bit (and the rounds
# are few here, as a hard reset forgets):

# %%
torch.manual_seed(0)
x = torch.rand(1024, 1, 2)
serial = LIF(tau=2.0, reset="hard", schedule="serial")(x)
assert torch.equal(LIF(tau=2.0, reset="hard", schedule="speculative")(x), serial)
solved = scan.solve(neurons.LIF(tau=2.0, reset="hard"), x)
assert torch.equal(solved.out, serial)
print(
    f"{int(serial.sum(0).max())} spikes of the busiest neuron in 1,024 steps; {solved.rounds} rounds of guessing spikes"
)

# %% [markdown]
# ## Is it faster?
#
# Depth is what a machine with enough idle lanes would wait for. A layer of many neurons leaves none idle: every lane already
# has a neuron of its own, and all work that a scan adds is time lost. The comparison that counts is with a *fused* kernel, not
# with an eager loop.

# %%
guess_1 = explore.predict("1 neuron without reset, 16,384 steps, forward: what is faster?", ["serial", "chunked"])
guess_1

# %%
guess_2 = explore.predict("1,000 such neurons, 1,024 steps: what is faster?", ["serial", "chunked"])
guess_2

# %%
guess_3 = explore.predict("100,000 such neurons, 64 steps: what is faster?", ["serial", "chunked"])
guess_3

# %% tags=["nbval-ignore-output"]
scan_map = explore.scan_map()
scan_map.show()

# %% [markdown]
# Each cell is a layer: $T$ steps to the right, $N$ neurons upwards. Its colour is the fastest way whose spikes are the serial
# kernel's, as recorded on the machine that is named above. Now your machine, for the three shapes:

# %% tags=["nbval-ignore-output"]
for each, steps, count in ((guess_1, 16384, 1), (guess_2, 1024, 1000), (guess_3, 64, 100_000)):
    scan_map.steps, scan_map.neurons = steps, count
    measured = await scan_map.run()
    print(measured.sentence("fastest", "chunked"))
    each.check("chunked" if scan_map.winner(steps, count) == "chunked" else "serial")

# %% [markdown]
# **Do:**
#
# 1. Where does the chunked scan begin to win? How many neurons does it take until the lanes of this CPU have enough to do?
# 2. *Passes* = forward + backward: the backward pass of every neuron is a scan. What changes?
# 3. *Neuron* = a LIF with a soft reset. Who is left? *Shown* = rounds, *of which way* = fixed point: how do they grow with $T$?
# 4. *Shown* = work, then depth: which way would win on a machine with lanes without end?
#
# <details><summary>An answer</summary>
#
# 1. As recorded on two cores of a CPU: for a single neuron and 65,536 steps. With ten neurons the serial kernel wins again: a
#    vector instruction computes all ten at once, and nothing is left idle that twice the work could be put on.
# 2. The border moves to 16,384 steps, and it is there for neurons *with* a reset too, as their backward pass is a scan.
# 3. Nobody: forward, the serial kernel wins every cell. With τ = 2 the rounds hardly grow, from 5 to 14; with τ = 20, 53 at $T
#    = 256$ and 217 at $T = 1{,}024$: such a neuron remembers, so one wrong spike spoils what comes long after it.
# 4. The chunked scan, 767 steps deep where the loop has 65,536, and a tree would be 31. That is what a GPU with one neuron is;
#    but nobody has run these kernels on one yet.
# </details>

# %% [markdown]
# ## Other neurons instead
#
# If the reset is what forbids a scan, one can leave it out, come late with it, or draw it at random. What comes out is
# *another* neuron, a *relaxation*, however well it learns:
#
# | | equation | spikes |
# |---|---|---|
# | LIF, $d = 1 - 1/\tau$ | $h_t = d\,(h_{t-1} - \vartheta s_{t-1}) + x_t$ | $h_t \ge \vartheta$ |
# | `PSN` (Fang et al., 2023) | $H = W X$, a learned $T \times T$ matrix | $H + b \ge 0$ |
# | `SlidingPSN` | $h_t = \sum_i w_i\, x_{t-k+i}$, the same $k$ numbers at every step | $h_t + b \ge 0$ |
# | `DelayedReset` | $h_t = d\, h_{t-1} + x_t - d\,\vartheta s_{t-D}$ | $h_t \ge \vartheta$ |
# | `FPT` (Feng et al., 2025) | three rounds of a smooth LIF | drawn with probability $\sigma(\alpha (h_t - \vartheta))$ |
#
# Each runs all its steps at once, or $D$ of them. What is lost? A PSN may look into the future:

# %%
torch.manual_seed(0)
x = 2 * torch.rand(16, 8, 32)
later = x.clone()
later[8:] = 0  # only what comes after step 7 is another
for layer in (scan.PSN(16), scan.MaskedPSN(16, k=4), scan.SlidingPSN(4)):
    with torch.no_grad():
        same = torch.equal(layer(x)[:8], layer(later)[:8])
    print(f"{type(layer).__name__:11} the first 8 outputs {'stay' if same else 'change'} when later inputs do")
    assert same == (type(layer) is not scan.PSN)

# %% [markdown]
# And FPT's spikes are drawn, so that no two calls give the same. How many are those of a LIF?

# %%
error = scan.fpt_error(scan.FPT(tau=2.0), torch.rand(64, 8, 64, generator=torch.Generator().manual_seed(0)))
print(
    f"{error.drawn:.0%} of all are others. A LIF fires at {error.lif_rate:.0%} of the steps, FPT at {error.fpt_rate:.0%}"
)
assert error.drawn > 0.1
assert (scan.DelayedReset(1)(x) != LIF()(x)).float().mean() < 1e-3, "a reset that is not delayed is a LIF, to rounding"

# %% [markdown]
# They do learn. The digits, two layers of 64 neurons, four epochs each, from the same weights:


# %%
def learned(make):
    """The accuracy on digits it has not seen, of a network with these layers in the place of LIF."""
    net, data, steps = networks.mlp(64), digits(), 16
    torch.manual_seed(0)
    for name, module in net.named_children():
        if isinstance(module, LIF):
            setattr(net, name, make())
    batches = 4 * -(-len(data.train_labels) // networks.BATCH)
    for _ in zip(
        range(batches), networks.fit(net, data, lambda net, x: net(x), steps, networks.RATES["mlp"], 0), strict=False
    ):
        pass
    with torch.no_grad():
        found = net(currents(data.test_images, steps)).mean(0).argmax(1)
    return (found == data.test_labels).float().mean().item()


makers = {
    "LIF": LIF, "PSN": lambda: scan.PSN(16), "SlidingPSN": lambda: scan.SlidingPSN(8),
    "DelayedReset": lambda: scan.DelayedReset(4), "FPT": scan.FPT,
}  # fmt: skip
accuracies = {name: learned(make) for name, make in makers.items()}
assert min(accuracies.values()) > 0.7

# %% tags=["nbval-ignore-output"]
print({name: f"{accuracy:.1%}" for name, accuracy in accuracies.items()})

# %% [markdown]
# **Do:** what would you have to give up to use a PSN on a microphone that never stops? And a SlidingPSN?
#
# <details><summary>An answer</summary>
#
# A PSN needs all $T$ steps before it says anything, and its matrix belongs to one $T$. A SlidingPSN needs the last $k$ inputs
# only: it can run forever, but what happened more than $k$ steps ago is gone, where a LIF's potential keeps a little of
# everything.
# </details>


# %% [markdown]
# ## Recap
#
# * A fused kernel is serial in time. Its depth is $T$; its neurons are what runs side by side.
# * An affine step is a pair, and pairs may be grouped at will: $2T$ work, $2 \log_2 T$ depth. The forward pass of a neuron with
#   a reset is none; the backward pass of every neuron is.
# * Guessing is exact, and takes a round for every spike or two that nobody could foresee.
# * On a machine whose lanes are busy, the least work wins. A scan is for few neurons and many steps.

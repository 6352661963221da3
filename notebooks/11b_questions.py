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

# %%
import itertools

import torch
from IPython.display import Markdown
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import tfexplore
from tfexplore import LIF, Recurrent, explore, neurons
from tfexplore.codegen import traffic
from tfexplore.data import currents, pack, unpack
from tfexplore.explore.base.sheet import Axis, Heat, Line, Panel, Rule, Sheet
from tfexplore.explore.memory import kept as memory
from tfexplore.measure import clock, contestants, first_calls
from tfexplore.measure.event_driven import EVENTS_FAR, EVENTS_NEAR
from tfexplore.measure.results import milliseconds, records
from tfexplore.neurons.affine import why_not
from tfexplore.nn import BitSaving

# %% [markdown]
# ## 9. There are no spikes on a GPU: what does one cost as float, byte, bit?
#
# A wire without a spike is silent and costs nothing. A GPU has no such wires: at every step every neuron sends a number, mostly
# 0.0. What can be chosen is how many bits that number has.

# %%
guess9 = explore.predict(
    "The spikes of a layer are packed into bits, 1/32 of the memory. The multiply-adds of the next linear layer are then ...",
    ["1/32 of what they were", "as many as there are spikes", "as many as before"],
)
guess9

# %%
torch.manual_seed(0)
layer = nn.Linear(256, 256)
with torch.no_grad():
    spikes = LIF()(torch.rand(32, 32, 256))  # [T, B, features]
forms = {"float32": spikes, "float16": spikes.half(), "a byte": spikes.byte(), "a bit": pack(spikes, dim=0)}
again = unpack(forms["a bit"])
flops = []
for given in (spikes, again, torch.zeros_like(spikes)):  # as they were, from bits, and without a single spike
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(given)
    flops.append(counter.get_total_flops())
assert torch.equal(again, spikes)
assert flops == [2 * spikes.numel() * 256] * 3
plain, saving = (
    torch.autograd.grad(each(spikes).square().sum(), layer.weight)[0] for each in (layer, BitSaving(layer))
)
assert torch.equal(plain, saving), "saved for backward as bits, too: the same gradient, bit for bit"
guess9.check("as many as before")

# %%
sizes = {name: kept.nbytes / spikes.numel() for name, kept in forms.items()}
assert sizes == {"float32": 4, "float16": 2, "a byte": 1, "a bit": 1 / 8}
explore.bars(
    {"kept or moved, for each neuron and time step": sizes, "multiplied, in the next layer": dict.fromkeys(sizes, 4)},
    "bytes",
    f"{spikes.mean():.0%} of these numbers are 1, the rest 0; each is multiplied by {layer.out_features} weights.",
    caption="However it was kept, what PyTorch multiplies has the dtype of the weights: float32 here.",
)

# %% tags=["nbval-ignore-output"]
work = {name: (lambda kept=kept: layer(kept.float())) for name, kept in forms.items() if name != "a bit"}
work["a bit"] = lambda: layer(unpack(forms["a bit"]))
with torch.no_grad():
    *_, taken = clock.rounds(work, 5)
print("product, conversion included:", {name: f"{1e3 * seconds:.1f} ms" for name, seconds in taken.items()})

# %% [markdown]
# **Answer.** Wherever a spike waits or is moved it costs as many bytes as you give it, down to an eighth: packed, it takes 1/32
# of float32, and every gradient has the same bits (notebook 08). In the product it costs a multiply-add whether it is 0 or 1, so
# packing saves memory and traffic, and not a single operation.
#
# *On a GPU* the same holds. Half precision is recorded (an H200, ten million neurons, forward and backward, the neurons alone):

# %%
h200 = {
    dtype: milliseconds(
        "neuron", "H200", T=32, N=10_000_000, dtype=dtype, passes="forward + backward", surrogate="ATan"
    )
    for dtype in ("float32", "bfloat16")
}
halved = h200["bfloat16"]["cuda, keep=input"] / h200["float32"]["cuda, keep=input"]
print(f"bfloat16 takes {halved:.2f} of the time of float32; the words alone would be 0.50")
assert 0.5 < halved < 1

# %% [markdown]
# Spikes as bits have not been timed on a GPU by this project: that is a gap.
#
# ## 10. Why a GPU at all, and not neuromorphic hardware?
#
# A chip for spikes works event-driven: only where there is a spike it adds a weight to each of the neurons behind. Nothing is
# multiplied, and what is silent costs nothing. We count both for one trained network, with its real spikes. **Far** is memory
# outside of the chip, **near** memory beside the arithmetic.

# %%
guess10 = explore.predict(
    "64 images, 8 steps, weights in far memory. Fetched spike by spike, the words from far are ... those of a matrix product",
    ["fewer than", "about as many as", "more than five times"],
)
guess10

# %%
events = explore.event_driven("words from far", rows=512)
events

# %%
found = events.result
assert found.trained.accuracy > 0.9
assert all(0.05 < rate < 0.6 for rate in found.rates.values())
assert all(found.ratio(EVENTS_FAR, rate) > 5 for rate in found.rates.values())
guess10.check("more than five times")

# %% [markdown]
# A matrix product fetches a weight once, for all 512 rows. Spike by spike it is fetched for every spike, unless it lives near
# its neuron, which is what a neuromorphic chip is built for.
#
# **Do:** compare *operations*, then *energy*. Then put *T times batch* to 1, one image and one step: who wins now? And with
# 8,192 *neurons per layer*?
#
# <details><summary>An answer</summary>
#
# Events need fewer operations at any rate: an addition for each spike, instead of a multiplication and an addition for each
# neuron. In energy, with weights near, they win at any rate where a weight is used only once; for 8,192 neurons and 512 rows both
# cross at 40 %. With weights far they win below 0.2 % there, and no network fires so rarely.
# </details>
#
# And training? There, gradients flow through the network as well. How much of *them* is zero?

# %%
for name, layer_of in found.trained.layers.items():
    print(f"{name}: most spikes are 0, but of the gradients of its current {layer_of.gradient:.0%} are not")
assert all(layer_of.spikes < 0.6 < 0.99 < layer_of.gradient for layer_of in found.trained.layers.values())

# %%
crossings = {
    f"{rows:,} row{'s' * (rows > 1)}, {width:,} neurons": explore.event_driven(rows=rows, width=width).result.crossing(
        EVENTS_NEAR
    )
    for rows, width in [(1, 128), (64, 2048), (512, 8192), (4096, 8192)]
}
assert crossings["1 row, 128 neurons"] > 1 > 0.5 > crossings["4,096 rows, 8,192 neurons"]
explore.bars(
    {"dense costs as much at a firing rate of ...": crossings},
    "firing rate",
    "The fewer rows share a weight, the better for events; above 1 they cost less at any rate.",
    log=True,
    caption="Energy with weights near, by published numbers for 45 nm (Horowitz, ISSCC 2014).",
)

# %% [markdown]
# **Answer.** For inference with one sample at a time and weights near the neurons, events need less energy at any firing rate
# by this count; once hundreds of rows share a weight, dense is cheaper above a rate of some 40 %. Training is another matter:
# batches are large, and the backward pass is dense (a surrogate with tails leaves no gradient at zero), so it runs on machines
# for dense products.
#
# *What the count leaves out:* the neurons' own updates, moving spikes between cores, instructions, clocks and leakage, smaller
# numbers than float32, and the backward pass of an event-driven chip. Energies: M. Horowitz, *Computing's energy problem (and
# what we can do about it)*, ISSCC 2014, 45 nm, 0.9 V: 0.9 pJ an addition, 3.7 pJ a multiplication, 5 pJ for 32 bits of an 8 kB
# SRAM, at least 650 pJ for 32 bits of DRAM. *On a GPU* the counts are the same; its energy was not measured by this project.
#
# ## 11. Is "parallel" a misnomer?
#
# The neurons of a layer do not wait for each other, but the steps of a neuron do. What has to wait for what can be found out by
# changing one number, and looking for what else changes:


# %%
def changed_by_one_input(layer, name="", neuron=5, step=4):
    """Which potentials [neuron, step] are others when one number of the input is another."""
    x = torch.rand(20, 1, 12, generator=torch.Generator().manual_seed(0))
    other, found = x.clone(), []
    other[step, 0, neuron] += 2.0  # enough for a spike
    for given in (x, other):
        with torch.no_grad(), tfexplore.record(layer, "v") as traces:
            layer(given)
        found.append(traces[name]["v"][:, 0].T)
    return found[0] != found[1]


def draw(differ, sentence):
    cells = Heat("differ", differ.int().numpy(), colours=("#7b879430", "#cc6677"), distinct=True, gap=2)
    panel = Panel([cells], x=Axis("time step t", -0.6, 19.6, every=1), y=Axis("neuron", 11.6, -0.6, every=1))
    return explore.drawn(Sheet({"cells": panel}, height=330), sentence)


differ = changed_by_one_input(LIF())
assert differ.any(dim=1).nonzero().flatten().tolist() == [5], "no other neuron"
assert differ.any(dim=0).nonzero().min() == 4, "no earlier step"
draw(
    differ,
    "One number of the input, of neuron 5 at step 4, changes the potentials of that neuron from then on, and no others.",
)

# %% [markdown]
# So a fused kernel is parallel over neurons, and serial over time: its **work** is $T$ steps for each neuron, and its
# **depth**, the longest chain, is $T$ steps too. "Depends on" is not yet "must wait for": where a step is affine in its states,
# time is a *scan*, and needs $2 \log_2 T$ rounds only (notebook 10).

# %%
guess11 = explore.predict(
    "For which neurons of the library is the *backward* recurrence a scan over time?",
    ["those without reset", "those whose forward pass is one", "all of them"],
)
guess11

# %%
rows = ["| neuron | forward pass a scan? | given the spikes? | backward pass? |", "|---|---|---|---|"]
forward, given_spikes = {}, {}
for kind in (*neurons.ALL, lambda: neurons.LIF(reset="none")):
    step = neurons.step_of(kind())
    name = step.name + ", no reset" * (kind not in neurons.ALL)
    forward[name], given_spikes[name] = (why_not(step, given_spikes=known) for known in (False, True))
    reasons = forward[name], given_spikes[name]
    words = [f"no: {reason.partition(',')[0].partition(':')[0]}" if reason else "**yes**" for reason in reasons]
    rows.append(f"| {name} | {words[0]} | {words[1]} | **yes** |")
assert [name for name in forward if not forward[name]] == ["LI", "LIF, no reset"]
assert [name for name in given_spikes if given_spikes[name]] == ["QIF", "EIF", "Izhikevich"]
Markdown("\n".join(rows))

# %% [markdown]
# The last column is a claim: once the forward values are known, the gradients obey a *linear* recurrence. Twice the gradient at
# the output must give exactly twice the gradient at the input, and the sum of two the sum; which the forward pass does not do
# for any neuron that spikes:

# %%
for kind in neurons.ALL:
    x = (4 * torch.rand(30, 1, 8, dtype=torch.float64)).requires_grad_()
    layer = tfexplore.Layer(kind(), backend="torch")
    out = layer(x)
    g = torch.randn(2, *out.shape, dtype=out.dtype)
    one, two, both = (torch.autograd.grad(out, x, each, retain_graph=True)[0] for each in (g[0], g[1], g[0] + 3 * g[1]))
    assert torch.allclose(one + 3 * two, both, rtol=1e-9, atol=1e-9), kind
    if kind.spiking:
        with torch.no_grad():
            assert not torch.equal(layer(2 * x), 2 * out), kind
print(f"linear in the gradient: {len(neurons.ALL)} of {len(neurons.ALL)} neurons")
guess11.check("all of them")

# %% [markdown]
# **Answer.** Of a fused kernel, yes: neurons run in parallel, time does not, and its depth is $T$. The word is right for scans:
# the forward pass of neurons without reset (and, given the spikes, of all with affine equations), and the backward pass of
# every neuron.
#
# *On a GPU* nothing of this differs, since it follows from the equations; when a scan is also *faster* is notebook 10's map.
#
# ## 12. Is the unrolled equation a transformation, or substitution?
#
# The paper writes the potential after several steps as one long formula. Does that make anything parallel? SymPy unrolls our LIF,
# whose two steps, substituted into each other, read

# %%
unrolled = explore.unrolling("LIF", reset="soft", steps=16)
unrolled.result.formulas["substituted"][2].in_full()

# %%
guess12 = explore.predict(
    "Unrolled by substitution over 16 steps, the longest chain of operations is ...",
    ["a sixteenth", "half as long", "as long as in the loop"],
)
guess12

# %%
unrolled

# %%
formulas = unrolled.result.formulas["substituted"]
one = formulas[1]
for steps, formula in formulas.items():
    assert (formula.work, formula.depth, formula.nested) == (steps * one.work, steps * one.depth, steps)
guess12.check("as long as in the loop")

# %% [markdown]
# Every spike sits within the next one, comparison within comparison; no law of algebra takes these apart. Written out, each step
# repeats the one before four times. Now without the reset. There, two steps $z \mapsto A z + b$ are one such step, $(A_2 A_1,\;
# A_2 b_1 + b_2)$, and brackets may be moved. This is a transformation:

# %%
regrouped = explore.unrolling("LIF", reset="none", steps=16)
regrouped

# %%
pairs = regrouped.result.formulas["in pairs"]
assert regrouped.result.same(8), "the same function of v and the inputs, by algebra"
assert [pairs[2**k].depth for k in range(1, 5)] == [5, 7, 9, 11], "two more for twice the steps"
assert unrolled.result.reason, "with a reset there are no pairs"
Markdown("\n".join(f"* ${name} = {part}$" for name, part in pairs[4].latex().items()))

# %% [markdown]
# **Answer.** Substitution: the same 8 operations for each step, of which 7 wait for each other, so 112 in a row for 16 steps,
# just as in the loop. A transformation would be the product of pairs, 11 in a row; but that needs a step that is affine in its
# state, which the reset forbids.
#
# *On a GPU:* the same formulas. What the paper's kernel gains, it gains by keeping $v$ in a register (question 14).
#
# ## 13. Does it fail for recurrent networks?
#
# In a recurrent layer the spikes of step $t-1$ come back through a matrix as a current of step $t$. Layer by layer is out
# (notebook 02). What is left?

# %%
guess13 = explore.predict(
    "What of a recurrent layer cannot be fused over time?",
    ["everything", "one matrix product in each step, and the neurons' step behind it", "nothing"],
)
guess13


# %%
def nodes(out):
    """The nodes of autograd's graph behind a tensor."""
    seen, todo = set(), [out.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [before for before, _ in node.next_functions]
    return len(seen)


torch.manual_seed(0)
feedback, lengths, graphs, spikes = nn.Linear(32, 32), (8, 16, 32), {}, {}
for way, backend in (("a loop of modules", "torch"), ("one operator", "auto")):
    net = Recurrent(LIF(backend=backend), feedback)
    spikes[way] = [net(torch.ones(steps, 4, 32).requires_grad_()) for steps in lengths]
    graphs[way] = [nodes(out) for out in spikes[way]]
    print(f"{way}: {graphs[way]} nodes of autograd for T = {lengths}")
assert all(torch.equal(a, b) for a, b in zip(*spikes.values(), strict=True)), "the same spikes, bit for bit"
assert graphs["a loop of modules"][2] > 3 * graphs["a loop of modules"][0]
assert graphs["one operator"][2] == graphs["one operator"][0], "nothing of it grows with T"

# %%
torch.manual_seed(0)
differ = changed_by_one_input(Recurrent(LIF(), nn.Linear(12, 12)), "layer")
others = differ.any(dim=1).nonzero().flatten().tolist()
assert len(others) > 6, "other neurons, too"
assert differ[:, 4].nonzero().flatten().tolist() == [5], "but not at the same step: the feedback arrives one step later"
guess13.check("one matrix product in each step, and the neurons' step behind it")
draw(
    differ,
    f"With feedback the same number changes {len(others)} of 12 neurons: each waits for all others of the step before.",
)

# %%
xeon = milliseconds("recurrent", "Xeon", T=100, n=256, passes="forward + backward")
names = {
    "the products alone": "the products alone", "numba": "Recurrent", "plain loop": "hand-written loop",
    "snntorch: RLeaky, loop over time": "snnTorch", "norse: LIFRecurrent": "Norse",
    "spikingjelly: ElementWiseRecurrentContainer": "SpikingJelly",
}  # fmt: skip
assert xeon["the products alone"] < xeon["numba"] < xeon["plain loop"]
explore.bars(
    {"T = 100, a batch of 64, 256 neurons, forward and backward": {name: xeon[key] for key, name in names.items()}},
    "ms",
    f"Recurrent takes {xeon['numba'] / xeon['the products alone']:.1f} times the products alone, a loop by hand "
    f"{xeon['plain loop'] / xeon['the products alone']:.1f} times.",
    caption=f"Recorded: {records(benchmark='recurrent')[0].label}.",
)

# %% [markdown]
# **Answer.** It does not fail, but less is left to fuse: the input's product for all steps at once, the neurons' step in one
# kernel, one node of autograd, and the weight's gradient as one product over all steps. One product in each step remains
# serial, since s[t-1] must be known; a scan is no way out, as combining two steps of $n$ neurons multiplies $n \times n$
# matrices, $n$ times the work.
#
# *On a GPU* `Recurrent` has not been measured by this project: that is a gap. (There, steps are short and launches dear, so
# that a CUDA graph of the loop should matter more than here.)
#
# ## 14. Is it only less memory traffic?
#
# A fused kernel does the same arithmetic. What it saves are words, which we can count, and launches. So words alone predict
# a speedup:

# %%
lif, x = nn.Sequential(LIF()), torch.rand(32, 1, 1000)
moved = {way.name: memory.moved(lif, x, way)["0"] / 4 for way in (memory.LAYERED, memory.INPUT)}
predicted = moved["layer by layer"] / moved["fused, keep input"]
assert moved["fused, keep input"] == 5, "forward: x read, out written; backward: g_out and x read, g_x written"
assert float(traffic.words(traffic.traffic_of(neurons.LIF()))) == 5 + 2 / 32, "and the state of every 32nd step"
assert predicted > 8
print(f"eager {moved['layer by layer']:.1f} words, fused {moved['fused, keep input']:.1f}: {predicted:.1f} times fewer")

# %%
guess14 = explore.predict(
    "An H200, forward and backward, as CUDA graphs. Fused against an eager loop, a speedup as the words predict is found for ...",
    ["few neurons (10,000)", "many neurons (ten million)", "both"],
)
guess14

# %%
sizes, case = (
    (10_000, 1_000_000, 10_000_000),
    {"T": 32, "dtype": "float32", "passes": "forward + backward", "surrogate": "ATan"},
)
h200 = [milliseconds("neuron", "H200", N=n, **case) for n in sizes]
called = [ms["eager torch"] / ms["cuda, keep=input"] for ms in h200]
replayed = [ms["CUDA graph of the plain loop"] / ms["CUDA graph of cuda, keep=input"] for ms in h200]
assert 0.8 < replayed[-1] / predicted < 1.25
assert replayed[0] > 3 * predicted
guess14.check("many neurons (ten million)")
lines = [
    Line("called from Python", sizes, called, "#cc6677", sign="circle", label="called from Python"),
    Line(
        "as CUDA graphs",
        sizes,
        replayed,
        "#4c6fff",
        "dash",
        sign="diamond",
        label="as CUDA graphs: no Python in between",
    ),
    Rule("words", y=predicted),
]
axes = Axis("neurons N", 5e3, 2e7, log=True, ticks={n: f"{n:,}" for n in sizes}), Axis("times as fast as eager", 0, 40)
explore.drawn(
    Sheet({"speedup": Panel(lines, x=axes[0], y=axes[1])}, height=380, legend="below"),
    f"With ten million neurons, words predict {predicted:.1f}; measured: {replayed[-1]:.1f}, and {called[-1]:.0f} with Python.",
    caption=f"Recorded: {records(benchmark='neuron')[-1].label}. Dotted: what the words alone predict.",
)

# %% [markdown]
# And on this machine? The roofline says how near the kernel comes to a copy, which does nothing but move words:

# %% tags=["nbval-ignore-output"]
roof = explore.roofline(["LIF"], steps=16, neurons=400_000, mebibytes=64)
print((await roof.run()).sentence())
roof

# %% [markdown]
# **Answer.** With many neurons, yes, and this much: 44.5 words for each neuron and step become 5, and an H200 is 8.3 times as
# fast where the words predict 8.9. With few neurons it is launches and Python: there the same two programs are 33 times apart
# though all words fit into the cache.
#
# ## 15. Do they need a kernel of their own, or do `torch.compile`, JAX or Triton do it?
#
# Compilers fuse, too. `torch.compile` unrolls the loop over time and compiles what comes out; JAX has a loop of its own,
# `lax.scan`; in Triton one writes the kernel by hand, in Python.

# %%
guess15 = explore.predict(
    "torch.compile is given a loop over 16 time steps instead of 4. The program that it must compile is ...",
    ["the same", "twice as long", "about four times as long"],
)
guess15

# %%


def loop(x):
    return contestants.plain_loop(x)  # two layers of LIF, as anyone would write them


lengths = (4, 8, 16)
programs = [make_fx(loop)(torch.rand(steps, 1, 4)).graph.nodes for steps in lengths]
operations = [sum(node.op == "call_function" for node in program) for program in programs]
assert operations[2] - operations[1] == 2 * (operations[1] - operations[0]), "so many more for each step"
LIF()(torch.rand(5, 1, 10))
compiled = first_calls.compiled()
LIF()(torch.rand(77, 2, 13))
assert first_calls.compiled() == compiled, "another T, another N: nothing is compiled"
print(dict(zip(lengths, operations, strict=True)), "operations in the unrolled loop; fused: one kernel for any T")
guess15.check("about four times as long")

# %%
(epyc,) = records(benchmark="torch_compile")
rows = [row for row in epyc.rows if row["N"] == 10_000]
ticks = [row["T"] for row in rows]
seconds = Line("compiling", ticks, [row["first_call_s"] for row in rows], "#cc6677", sign="circle")
times = [
    Line(name, ticks, [row["median_ms"][name] for row in rows], colour, dash, sign="circle", label=name)
    for name, colour, dash in (("fused", "#4c6fff", "solid"), ("torch.compile", "#cc6677", "dash"))
]
panels = {
    "compiling": Panel([seconds], title="compiling, once for every T", x=Axis("time steps T", 0), y=Axis("seconds", 0)),
    "times": Panel(times, title="then, one pass", x=Axis("time steps T", 0), y=Axis("ms", 0)),
}
assert all(early["first_call_s"] < late["first_call_s"] for early, late in itertools.pairwise(rows))
explore.drawn(
    Sheet(panels, height=350, legend="below"),
    f"T = 32: {rows[-1]['first_call_s']:.0f} s of compiling, then {times[1].y[-1]:.1f} ms a pass; fused {times[0].y[-1]:.1f} ms.",
    caption=f"Two layers of 10,000 LIF neurons, forward and backward. Recorded: {epyc.label}.",
)

# %%
cpu = milliseconds("neuron", "EPYC", N=524_288, **case)
gpu = h200[-1]
who = {
    "one LIF layer, 524,288 neurons, AMD EPYC, 2 cores": {
        "fused": cpu["numba, keep=input"], "JAX, scan (Spyx)": cpu["spyx: LIF, scan in jit"],
        "hand-written loop": cpu["plain loop"], "torch.compile of it": cpu["torch.compile of the plain loop"],
    },
    "ten million neurons, H200": {
        "fused": gpu["cuda, keep=input"], "Triton (SpikingJelly)": gpu["spikingjelly: multi-step LIF operator, triton"],
        "JAX, scan": gpu["jax: lax.scan in jit"], "hand-written loop": gpu["plain loop"],
    },
}  # fmt: skip
assert all(group["fused"] == min(group.values()) for group in who.values())
explore.bars(
    who, "ms", "T = 32, float32, forward and backward.", caption="Recorded; torch.compile on the H200 was not."
)

# %% [markdown]
# **Answer.** For few steps of one fixed $T$, `torch.compile` does it: as fast or faster, after 11 to 67 seconds of compiling,
# and anew for another $T$. For many neurons and steps somebody has to write a loop that keeps the state on the chip, forward
# and backward, and in Triton that is a kernel of one's own too; what need not be written by hand is the neuron in it.
#
# *On a GPU:* above, recorded. `torch.compile` on an H200, and anything with more than one GPU, are gaps. JAX is not part of this
# course's installation, so its figures are recorded ones.
#
# ## The page to hand in
#
# Take a network of your own. Before you run the last cell, predict three numbers about it, all of which will be counted:
#
# * **saved**: how many bytes do its layers of neurons save for backward, altogether?
# * **moved**: how many words does a neuron move at a time step, forward and backward?
# * **additions**: for every multiply-add that a matrix product does behind spikes, how many additions would an event-driven
#   machine do?
#
# (Shapes are all you need for the first, the equations of notebook 03 for the second, and for the third a good guess.)

# %%
name = ""  # yours


def my_network():
    torch.manual_seed(0)  # the same weights every time
    return nn.Sequential(
        nn.Linear(64, 100), LIF(v_threshold=0.5), nn.Linear(100, 100), LIF(v_threshold=0.5), nn.Linear(100, 10)
    )


x = currents(torch.rand(16, 64, generator=torch.Generator().manual_seed(0)), steps=16)  # [T, B, features]
predictions = {"saved": None, "moved": None, "additions": None}  # write numbers here

# %%
page = explore.hand_in(my_network(), x, name=name, **predictions)
assert page.counted["saved"] > 0
assert 0 <= page.counted["additions"] <= 1
page

# %% [markdown]
# **Hand in** the table above (`print(page)` has it as Markdown, to copy), and one sentence for each prediction that was off:
# what did you not think of?
#
# <details><summary>How could one have known?</summary>
#
# *Saved:* two layers, 16 steps, 16 samples, 100 neurons, four bytes each: a fused layer saves its current, and below 33 steps no
# state beside it. *Moved:* the current and the spike forward, and backward the gradient of the spike, the current again, and
# its gradient. *Additions:* the mean firing rate, weighted by the neurons behind; here some 14 %.
# </details>

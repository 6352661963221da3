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
# # Fifteen questions
#
# **About 90 minutes**, six for each question. A paper on temporal fusion was first called *Temporal Parallelization for GPU
# Acceleration of Spiking Neural Networks*. It was sent to ICLR 2024, reviewed in public, and
# [withdrawn](https://openreview.net/forum?id=SMZnJtkNX5); as *Towards Scalable GPU-Accelerated SNN Training via Temporal
# Fusion* it appeared at ICANN 2024 ([arXiv:2408.00280](https://arxiv.org/abs/2408.00280)). Its reviewers asked good questions.
# Here are fifteen, theirs and those that follow from them, each with an answer that you can measure.
#
# Each section asks you to **predict** first, then runs an experiment of a few seconds, and ends with two sentences. Commit to
# an answer before you run the experiment: that is where the learning is. There is no GPU here, so each section also says what
# is known of one, from figures that were recorded, and what is not known.

# %%
import itertools

import sympy
import torch
from IPython.display import Latex, Markdown
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import tfexplore
from tfexplore import LIF, FoldTime, Recurrent, explore, neurons, timesplit
from tfexplore.codegen import traffic
from tfexplore.data import currents, pack, unpack
from tfexplore.explore.base.sheet import Axis, Heat, Line, Panel, Rule, Sheet
from tfexplore.explore.breakdown.recorded import whole_networks
from tfexplore.explore.kernel.depth import depth_of
from tfexplore.explore.memory import kept as memory
from tfexplore.explore.split.runs import WAITING
from tfexplore.measure import clock, contestants, first_calls, results
from tfexplore.measure.contestants import FUSED, INFERENCE, LAYERED
from tfexplore.measure.event_driven import EVENTS_FAR, EVENTS_NEAR
from tfexplore.measure.results import milliseconds, records
from tfexplore.measure.stream import Stream
from tfexplore.measure.timeline import what_ran
from tfexplore.neurons.affine import why_not
from tfexplore.nn import BitSaving
from tfexplore.nn.networks import vgg
from tfexplore.nn.residual import MSBlock, conv
from tfexplore.timesplit import Link

h200 = next(record for record in results.records(benchmark="neuron") if record.device == "cuda")


def on_h200(**case):
    """The recorded training steps of one LIF layer on a GPU: float32, ATan, with the GPU's own time; of this T or N."""
    case = {"dtype": "float32", "surrogate": "ATan", "passes": "forward + backward"} | case
    rows = [row for row in h200.rows if all(row[name] == value for name, value in case.items())]
    return sorted(rows, key=lambda row: (row["T"], row["N"]))


print("Figures of a GPU, where there are any:", h200.label)

# %% [markdown]
# ## 1. Is it not still O(T) in time?
#
# A fused kernel runs all $T$ time steps of a layer in one launch. But inside, step $t$ still needs the potential of step $t-1$.

# %%
guess_1 = explore.predict(
    "T is doubled. What doubles: the longest chain of operations that wait for each other, the number of launches?",
    [
        "both in a loop of PyTorch operations, neither in a fused kernel",
        "both in a loop of PyTorch operations, only the chain in a fused kernel",
        "both in either",
    ],
)
guess_1

# %% [markdown]
# The *depth* is the longest chain of operations of which each waits for the one before: not even endless hardware is faster.
# `depth_of` runs the text of the fused kernel on numbers that count for how many operations they have waited. Launches are
# counted while a layer runs.

# %%
print(f"{'T':>5}{'depth, fused':>14}{'work, fused':>13}{'launches, loop':>16}{'launches, fused':>17}")
for T in (16, 32, 64):
    depth, work = depth_of(neurons.LIF(), T)
    current, launches = torch.rand(T, 1, 100), {}
    for backend in ("torch", "auto"):
        with torch.no_grad(), what_ran(layer := LIF(backend=backend)) as events:
            layer(current)
        launches[backend] = events.launches
    print(f"{T:5}{depth:14}{work:13}{launches['torch']:16}{launches['auto']:17}")
    assert depth == 7 * T, "seven operations of a step wait for each other, and for the step before"
    assert launches == {"torch": 9 * T + 2, "auto": 1}, "nine a step, one before the first, one behind the last"
guess_1.check("both in a loop of PyTorch operations, only the chain in a fused kernel")

# %% [markdown]
# And the time:

# %%
speed = explore.speed("T", neurons=10_000, passes=INFERENCE, largest=128)
speed.controls["unit"].value = "ms per pass"
speed.show()

# %% tags=["nbval-ignore-output"]
measured = await speed.run()
print(measured.sentence())

# %% [markdown]
# **Answer.** Yes: fused or not, a LIF layer is $7T$ operations deep, and takes time in proportion to $T$ once that is more than
# the call itself. What a fused kernel takes away are nine launches and some twenty words of memory traffic a step, so the
# *slope* is another, not the *shape*; only a scan changes the depth (notebook 10).
#
# **On a GPU** a call from Python takes so long that the line looks level, and one may take it for a constant. Called from
# Python, and as a CUDA graph, which leaves Python out:

# %%
for row in on_h200(N=10_000):
    ms = row["median_ms"]
    called, alone = ms["cuda, keep=input"], ms["CUDA graph of cuda, keep=input"]
    print(f"T = {row['T']:3}: called from Python {called:.2f} ms, the GPU alone {alone:.3f} ms")

# %% [markdown]
# ## 2. Does communication between devices eat the gain?
#
# Notebook 06 splits the time steps over processes: each sends the hidden states at its cut to the next. One reviewer expected
# that the messages take longer than anything else.

# %%
guess_2 = explore.predict(
    "Three devices share the time steps of four layers. What keeps them from being 3 times as fast?",
    ["nothing", "mostly the messages", "mostly waiting for the first states"],
)
guess_2

# %% [markdown]
# First, count. What does a rank hand over in a training step of four linear and LIF layers? (Starting three processes takes
# some seconds: they stay for sections 3 and 8.)

# %%
run = explore.split_run(processes=3, network=WAITING, steps=48, layers=4)
crew = run.crew_of(3)

B, N = 8, 64
net = nn.Sequential(*(part for _ in range(4) for part in (nn.Linear(N, N), LIF(v_threshold=0.3))))
crossed = {T: crew.run(timesplit.traffic, net, torch.rand(T, B, N)) for T in (24, 96)}
for T, (_, middle, _) in crossed.items():
    current = T // 3 * B * N * 4
    print(f"T = {T}: the middle rank sends {middle.states:,} bytes of states in {middle.messages} messages,", end=" ")
    print(f"where its part of one layer's current is {current:,} bytes")
first, middle, last = crossed[96]
assert crossed[24] == crossed[96], "a state is one time step's worth, however many steps there are"
assert middle.states == 2 * 4 * B * N * 4, (
    "forward to the next rank, and backward to the one before: four layers, four bytes"
)
assert first.states == last.states == middle.states // 2

# %% [markdown]
# Then, measure, with layers that only wait, so that each process is like a device of its own:

# %% tags=["nbval-ignore-output"]
result = await run.run()
print(result.sentence())

# %% tags=["nbval-ignore-output"]
layers, ranks = 4, 3
if result.alone:  # you did not stop it before
    one, free = (timesplit.plan(result.plan.costs, 48, 8, Link(0.0, float("inf")), P) for P in (1, ranks))
    alone, took = (sorted(seconds)[len(seconds) // 2] for seconds in (result.alone, result.seconds))
    print(f"{ranks:5.2f}  times as fast as one device, if nothing were lost")
    print(f"{layers * ranks / (layers + ranks - 1):5.2f}  with waiting for the first states: L P / (L + P - 1)")
    print(f"{free.speedup:5.2f}  the same, planned from the measured layers")
    print(f"{result.plan.speedup:5.2f}  planned, with the measured messages")
    print(f"{alone / took:5.2f}  measured")

    assert 1 < free.speedup < ranks, "even if messages took no time, three devices would not be 3 times as fast"
    waiting, messages = free.seconds - one.seconds / ranks, result.plan.seconds - free.seconds
    guess_2.check("mostly waiting for the first states" if waiting > messages else "mostly the messages")

# %% [markdown]
# **Answer.** No: a message carries one time step of one layer, whatever $T$ is, and what is lost is mostly the wavefront's own
# beginning and end, $P - 1$ of $L + P - 1$ turns. Messages eat the gain only where a layer's part takes no longer than a
# message's latency: few neurons, few steps, slow links.
#
# **On GPUs** this has not been measured: we never had two, and NCCL is untested. But the layers' time is recorded, and a link's
# data sheet says what a message would take. Half of a layer's training step of $T = 32$, beside the two messages of its state,
# one each way, at 10 µs and 450 GB/s:

# %%
link = Link(latency=1e-5, bandwidth=4.5e11)
for row in on_h200(T=32):
    half, sent = row["median_ms"]["CUDA graph of cuda, keep=input"] / 2, 2e3 * link.message(4 * row["N"])
    print(f"N = {row['N']:10,}: half of the layer {half:.3f} ms (recorded), two messages {sent:.3f} ms (data sheet)")

# %% [markdown]
# With ten thousand neurons they would eat it all.
#
# ## 3. Why not data parallelism?
#
# Give each device some of the samples instead: nobody waits for anybody, only the weights' gradients are summed at the end. It
# is what everybody does.

# %%
guess_3 = explore.predict(
    "With 8 devices and the batch that they share: when is it better to cut time?",
    ["always", "never", "with fewer samples than devices", "with more samples than devices"],
)
guess_3

# %%
x = torch.rand(48, B, N)
print(f"{'cut':6}{'bytes of states':>17}{'bytes summed':>14}   (the rank in the middle)")
for cut in ("time", "batch"):
    _, handed, _ = crew.run(timesplit.traffic, net, x, cut)
    print(f"{cut:6}{handed.states:17,}{handed.summed:14,}")
    weights = sum(4 * p.numel() for p in net.parameters())
    assert (handed.states == 0) == (cut == "batch")
    assert handed.summed >= weights, "either way every weight's gradient is summed over the ranks"

# %% [markdown]
# So data parallelism always moves less: whoever cuts time sums the weights' gradients as well. Next, the plan of a training
# step (of four blocks of 256 neurons, $T$ = 1,024), from costs of layers that were measured and recorded:

# %%
plan = explore.split_plan(devices=8, layers=4, batch=1, steps=1024)
print(f"8 devices, times as fast as one, costs from {plan.result.machine}")
print(f"{'batch':>5}{'time cut':>10}{'batch cut':>11}{'both':>8}")
better = {}
for batch in (1, 2, 4, 8, 16):
    plan.batch = batch
    found, made = plan.result, plan.result.plan
    by_batch = timesplit.plan(
        made.costs, made.steps, batch, made.link, replicas=min(8, batch)
    )  # a sample each, or more
    both = found.sweep.combined[list(found.sweep.devices).index(8)]
    faster = [found.speedup(seconds) for seconds in (made.seconds, by_batch.seconds, both)]
    print(f"{batch:5}{faster[0]:10.2f}{faster[1]:11.2f}{faster[2]:8.2f}")
    better[batch] = made.seconds < by_batch.seconds
assert better == {1: True, 2: True, 4: True, 8: False, 16: False}
guess_3.check("with fewer samples than devices")

# %%
plan.batch = 4
plan

# %% [markdown]
# **Answer.** Where the batch has a sample for each device, data parallelism is simpler, moves less and is faster: cut the batch
# first. With fewer samples than devices it leaves devices idle, and cutting time, or both together, goes on.
#
# **On GPUs** the same plan holds with other costs; it has not been measured there. The sum of the gradients is the same for
# both, so a fast link helps neither more. What is different is that a GPU wants large batches to be busy at all, and time is
# rarely so long: the case for cutting time is a long recording, or a network of which one sample fills the memory.
#
# ## 4. Why was SpikingJelly with CuPy as slow as without?
#
# In a table of the first version, SpikingJelly's fused CuPy kernels took nearly as long as its PyTorch operations. A reviewer
# had seen otherwise. The benchmark behind the table is not published (the
# [repository](https://github.com/EMI-Group/snn-temporal-fusion) times its own network only, and there the clock waits), so
# nobody can say what happened. But one can show how such a row comes about. A GPU takes orders and returns at once. What does a
# clock see that does not wait?

# %%
guess_4 = explore.predict(
    "A plain loop takes several times as long as a fused kernel. What does a clock say that stops when the work is launched?",
    ["the plain loop takes several times as long", "both take about as long", "the fused kernel takes longer"],
)
guess_4

# %% [markdown]
# Without a GPU we need a stand-in for its queue: `Stream` hands work over to another thread and returns. The work is real, two
# LIF layers over 32 steps, and so is the thread; only the device is missing. Earlier work keeps it busy, as in a training loop.

# %% tags=["nbval-ignore-output"]
work, clocks = contestants.contestants(32, 10_000, passes=INFERENCE), {}
with Stream() as stream:
    for way in (LAYERED, FUSED):
        work[way]()  # warm
        clocks[way] = min(stream.seconds(work[way]) for _ in range(5))
for way, (launched, ran) in clocks.items():
    print(
        f"{way:15} the clock stops when it is launched: {1e3 * launched:6.3f} ms, when it has run: {1e3 * ran:6.2f} ms"
    )

# %%
seen = {}
with Stream() as stream, stream.held():
    for way in (LAYERED, FUSED):
        stream.launch(lambda way=way: seen.update({way: work[way]()[0]}))
    assert stream.launched == 2, "the clock stops here ..."
    assert stream.done == len(seen) == 0, "... and nothing has run"
assert torch.equal(seen[LAYERED], seen[FUSED]), "later both have, with the same spikes"
guess_4.check("both take about as long")

# %% [markdown]
# **Answer.** A clock that does not wait measures the launches, which cost the host the same for a slow kernel and a fast one.
# That is one way to such a row; two more are below, and without the script none of them can be ruled out.
#
# **On a GPU** there is a second way, and it is recorded: a clock that does wait, but sees Python. SpikingJelly's fused kernel
# (here by Triton; CuPy's was not measured) against a plain loop:

# %%
print(f"{'T':>4}{'N':>12}   times as fast as a loop: called from Python, the GPU alone (CUDA graphs)")
for row in on_h200():
    ms = row["median_ms"]
    called = ms["plain loop"] / ms["spikingjelly: multi-step LIF operator, triton"]
    alone = ms["CUDA graph of the plain loop"] / ms["spikingjelly: CUDA graph of multi-step LIF operator, triton"]
    print(f"{row['T']:4}{row['N']:12,}{called:28.1f}{alone:16.1f}")

# %% [markdown]
# With four time steps the kernel is four to five times as fast, and one hardly sees it, as Python takes longer than the GPU.
# (With 500 steps it is the other way round: now Python's part is in the loop, and the kernel looks seven times better than it
# is.) Third, SpikingJelly's `set_backend(net, "cupy")` changes only the layers that have such a kernel in their step mode, and
# at the time said nothing of the others: a network that stays in its single-step mode has no kernel over time. So: wait for the
# device, look at the device's own time, and check which kernel ran.
#
# ## 5. Is the accuracy the same?
#
# The first version had no accuracy in it. A reviewer wanted a ResNet *and* a VGG. Here are small ones: with shortcuts, and a
# plain chain; both with BatchNorm. Each is trained on the digits from three seeds: fused, and with every layer a loop of
# PyTorch operations whose gradient autograd finds, from the same weights, on the same batches.


# %%
def resnet(seed):
    torch.manual_seed(seed)
    readout = FoldTime(nn.Flatten(), nn.Linear(8 * 4 * 4, 10))
    return nn.Sequential(conv(1, 4), MSBlock(4, 4, stride=1), MSBlock(4, 8, stride=2), LIF(), readout)


guess_5 = explore.predict(
    "After an epoch, by how many of the 359 test images do the two differ?",
    ["none", "as many as two seeds differ by", "a few"],
)
guess_5

# %%
pairs = explore.seeds(resnet, reference="layer by layer", seeds=3, epochs=1, steps=4)
pairs.show()

# %% tags=["nbval-ignore-output"]
of_resnet = await pairs.run()
print(of_resnet.sentence())

# %%
chain = explore.seeds(lambda seed: vgg(seed=seed), reference="layer by layer", seeds=3, epochs=1, steps=4)
chain.show()

# %% tags=["nbval-ignore-output"]
of_vgg = await chain.run()
print(of_vgg.sentence())

# %%
for name, found in {"ResNet": of_resnet, "VGG": of_vgg}.items():
    if len(found.finished()) == 3:  # you did not stop it before
        assert found.drift().max() < 1e-3, "the losses of each batch agree"
        assert max(map(abs, found.images_apart())) <= 3
        assert len(set(found.final("fused"))) > 1, "while seeds differ"
        print(f"{name}: {len(found.drift())} pairs of losses agree, and so do the test images of three seeds")

# %% tags=["nbval-ignore-output"]
guess_5.check("none" if not any(of_resnet.images_apart() + of_vgg.images_apart()) else "a few")

# %% [markdown]
# **Answer.** The same, image by image: the losses agree batch by batch, mostly to the last bit, while another seed changes the
# accuracy by several per cent. Fusion changes who executes the equations, not the equations.
#
# **On a GPU** the spikes are bit for bit those of the reference too, as its kernels are built without fused multiply-adds, and
# gradients agree to a millionth (the tests passed on an H200). An *accuracy* has not been measured there, neither in float32
# nor in half precision.
#
# ## 6. Does it train, or only infer?
#
# A reviewer praised the speed of *inference*. To train, a kernel must save what the backward pass needs, and there must be a
# backward pass.

# %%
guess_6 = explore.predict(
    "How many words per neuron and time step does a fused layer move in training, where inference moves two?",
    ["two as well", "four", "five", "more than twenty"],
)
guess_6

# %%
images, labels = tfexplore.data.digits()[:2]
x, y = tfexplore.data.currents(images[:64].view(-1, 1, 8, 8), steps=8), labels[:64]
gradients = {}


def on_backend(net, backend):
    """The network, with every layer of neurons executed by this backend: "torch" is the loop, "auto" the fused kernel."""
    for module in net.modules():
        if isinstance(module, tfexplore.Layer):
            module.backend = backend
    return net


for backend in ("auto", "torch"):
    net = on_backend(vgg(seed=1), backend)
    loss = nn.functional.cross_entropy(net(x).mean(0), y)
    gradients[backend] = torch.autograd.grad(loss, list(net.parameters()))
apart = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*gradients.values(), strict=True))
assert all(g.any() for g in gradients["auto"]), "every layer gets a gradient"
assert apart < 1e-5
print(
    f"{len(gradients['auto'])} parameters: the fused backward pass gives the gradients that autograd finds in the loop"
)

# %% [markdown]
# And it learns:

# %%
training = explore.training("mlp", steps=8, epochs=3)
training.show()

# %% tags=["nbval-ignore-output"]
trained = await training.run()
print(trained.sentence())

# %%
if len(trained.accuracies) == 3:  # you did not stop it before
    assert trained.accuracies[-1][1] > 0.9

neuron = neurons.LIF()
inference = traffic.words(traffic.traffic_of(neuron, gradient=False))
words = traffic.words(traffic.traffic_of(neuron, "input"))
print(f"words per neuron and time step: inference {float(inference):.2f}, training {float(words):.2f}")
assert (float(inference), round(float(words))) == (2, 5)
guess_6.check("five")

# %% [markdown]
# **Answer.** It trains: the backward pass is a fused kernel too, derived from the same equations, and its gradients are those
# of autograd. It moves five words where inference moves two; the states that it saves add a sixteenth of a word.
#
# **On a GPU** both are recorded, and the times are in the ratio of the words:

# %%
infer, train = (on_h200(T=32, N=10**7, passes=passes)[0]["median_ms"] for passes in ("inference", "forward + backward"))
print(f"inference {infer['cuda']:.2f} ms, training {train['cuda, keep=input']:.2f} ms:", end=" ")
print(f"{train['cuda, keep=input'] / infer['cuda']:.2f} times as long")

# %% [markdown]
# ## 7. Is a single layer a toy?
#
# A LIF layer alone became 7 times as fast as a hand-written loop on a CPU, and 9 times on a GPU. But a network is mostly
# convolutions: how much is left of that?

# %%
guess_7 = explore.predict(
    "The neurons take a fifth of a training step of a ResNet18. How many times as fast is the step at most, if they are fused?",
    ["1.25 times", "5 times", "as many times as a layer alone"],
)
guess_7

# %% [markdown]
# First what can be counted, the words that a forward pass moves, with and without fusion:

# %%
print(f"{'network':8}{'neurons, loop':>15}{'the others':>12}{'share':>8}{'neurons, fused':>16}{'share':>8}")
for name, net in {"VGG": vgg(), "ResNet": resnet(0)}.items():
    moved, kinds = {}, {place: type(module) for place, module in net.named_modules()}
    for backend in ("torch", "auto"):
        with torch.no_grad(), what_ran(on_backend(net, backend)) as events:
            net(x)
        mine = sum(event.words for event in events if kinds[event.layer] is LIF)
        moved[backend] = mine, sum(event.words for event in events) - mine
    (slow, others), (fast, same) = moved["torch"], moved["auto"]
    assert others == same, "fusion leaves the rest as it is"
    assert slow > 9 * fast, "and the neurons move a tenth of the words"
    print(f"{name:8}{slow:15,}{others:12,}{slow / (slow + others):8.0%}{fast:16,}{fast / (fast + others):8.0%}")

# %% [markdown]
# Then what it takes here, part by part, in a training step of the VGG:

# %% tags=["nbval-ignore-output"]
explore.breakdown(vgg(), steps=8, rounds=3)

# %% [markdown]
# And what was recorded of whole networks, layer by layer in PyTorch against fused:

# %% tags=["nbval-ignore-output"]
print(f"{'neurons take':>51}{'times as fast':>15}")
for made in whole_networks():
    share = "not measured" if made.share is None else f"{made.share:.0%}"
    print(
        f"{made.network:9}T = {made.steps:2}, B = {made.batch:2}, {made.dtype:9} {share:>12} {made.gain:14.2f}   {made.where}"
    )

# %%
assert all(made.gain > 1 for made in whole_networks()), "no network became slower"
guess_7.check(f"{1 / (1 - 1 / 5):.2f} times")

# %% [markdown]
# **Answer.** A layer alone is a toy, in that nobody runs it alone: small networks become 1.6 to 3.6 times as fast on a CPU,
# ResNet18 and VGG-11 1.1 to 1.6 times, since convolutions remain. That is what Amdahl's law allows to the neurons' share, plus
# what BatchNorm adds, which is fused with them.
#
# **On a GPU** the share is larger, because convolutions are quick there: a step of ResNet18 became 1.7 times as fast in
# bfloat16 and 1.5 times in float32 (H200, CUDA graphs on both sides). So the neurons, and what is fused with them, took at
# least this part of it:

# %%
for made in whole_networks("cuda"):
    print(f"{made.network}, {made.dtype}: {made.layered:.1f} ms -> {made.fused:.1f} ms, at least {made.saved:.0%}")

# %% [markdown]
# ## 8. What exactly is the multi-device scheme?
#
# Two reviewers asked where Figure 4 was. Here is a figure of the scheme, drawn from the real run of section 2. Time is cut into
# a segment for each process. Process $p$ runs its segment of layer 1 as soon as process $p - 1$ has sent that layer's state;
# then layer 2, and so on; the loss sums over all; then everything backwards, with gradients of states.

# %%
guess_8 = explore.predict(
    "While process 0 runs its time steps of layer 2, what does process 1 do?",
    ["it runs its steps of layer 1", "it runs its steps of layer 2", "it waits"],
)
guess_8

# %% tags=["nbval-ignore-output"]
run

# %% tags=["nbval-ignore-output"]
if result.alone:  # you did not stop it before
    work = {
        (event.kind, int(event.device.removeprefix("rank ")), event.layer): event
        for event in result.events
        if event.kind in ("forward", "backward")
    }
    names, turn = (
        [f"layer{k}" for k in range(1, layers + 1)],
        48 / ranks * 8 * 4e-5,
    )  # seconds that a layer waits, at least
    assert set(work) == set(itertools.product(("forward", "backward"), range(ranks), names)), "every cell, each way"
    for name, p in itertools.product(names, range(1, ranks)):
        forward, backward = (work[kind, p, name] for kind in ("forward", "backward"))
        assert forward.end - work["forward", p - 1, name].begin > 1.9 * turn, "a state comes from the process before"
        assert work["backward", p - 1, name].end - backward.begin > 3.8 * turn, "its gradient from the one behind"
    for (before, behind), p in itertools.product(itertools.pairwise(names), range(ranks)):
        assert work["forward", p, before].end <= work["forward", p, behind].begin, "layer after layer"
    one, two = work["forward", 1, "layer1"], work["forward", 0, "layer2"]
    guess_8.check("it runs its steps of layer 1" if one.begin < two.end and two.begin < one.end else "it waits")
run.close()

# %% [markdown]
# **Answer.** A wavefront over layers and processes: cell (layer $l$, process $p$) follows (layer $l - 1$, process $p$) and
# (layer $l$, process $p - 1$), forwards, and in reverse backwards. With $L$ layers and $P$ processes a pass takes $L + P - 1$
# turns instead of $L \cdot P$, and the gradients are those of one process (notebook 06 asserts it to twelve digits).
#
# **On GPUs** it is the same schedule with NCCL for gloo, untested on two GPUs so far. The paper describes its scheme in words
# and a formula, and publishes no code of it that could be compared.
#
# ## 9. There are no spikes on a GPU: what does one cost as float, byte, bit?
#
# A wire without a spike is silent and costs nothing. A GPU has no such wires: at every step every neuron sends a number, mostly
# 0.0. What can be chosen is how many bits that number has.

# %%
guess_9 = explore.predict(
    "The spikes of a layer are packed into bits, 1/32 of the memory. The multiply-adds of the next linear layer are then ...",
    ["1/32 of what they were", "as many as there are spikes", "as many as before"],
)
guess_9

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
guess_9.check("as many as before")

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
recorded = {
    dtype: milliseconds(
        "neuron", "H200", T=32, N=10_000_000, dtype=dtype, passes="forward + backward", surrogate="ATan"
    )
    for dtype in ("float32", "bfloat16")
}
halved = recorded["bfloat16"]["cuda, keep=input"] / recorded["float32"]["cuda, keep=input"]
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
guess_10 = explore.predict(
    "64 images, 8 steps, weights in far memory. Fetched spike by spike, the words from far are ... those of a matrix product",
    ["fewer than", "about as many as", "more than five times"],
)
guess_10

# %%
events = explore.event_driven("words from far", rows=512)
events

# %%
found = events.result
assert found.trained.accuracy > 0.9
assert all(0.05 < rate < 0.6 for rate in found.rates.values())
assert all(found.ratio(EVENTS_FAR, rate) > 5 for rate in found.rates.values())
guess_10.check("more than five times")

# %% [markdown]
# A matrix product fetches a weight once, for all 512 rows. Spike by spike it is fetched for every spike, unless it lives near
# its neuron, which is what a neuromorphic chip is built for.
#
# **Do:** compare *operations*, then *energy*. Then put *T times batch* to 1, one image and one step: who wins now? And with
# 512 again, but 8,192 *neurons per layer*?
#
# <details><summary>An answer</summary>
#
# Events need fewer operations at any rate: an addition for each spike, instead of a multiplication and an addition for each
# neuron. In energy, with weights near, they win at any rate where a weight is used only once; for 8,192 neurons and 512 rows
# they win below 40 %. With weights far they win there only below 1 %, where this network's layers fire at 30 % and 44 %.
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
# by this count; once hundreds of rows share the weights of a wide layer, dense is cheaper above a rate of some 40 %. Training is
# another matter: batches are large, and the backward pass is dense (a surrogate with tails leaves no gradient at zero), so it
# runs on machines for dense products.
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
    x, y = Axis("time step t", -0.6, 19.6, every=1, bare=True), Axis("neuron", 11.6, -0.6, every=1, bare=True)
    return explore.drawn(Sheet({"cells": Panel([cells], x=x, y=y)}, height=330), sentence)


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
guess_11 = explore.predict(
    "For which neurons of the library is the backward recurrence a scan over time?",
    ["those without reset", "those whose forward pass is one", "all of them"],
)
guess_11

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
guess_11.check("all of them")

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
# whose two steps, substituted into each other, read (with $\vartheta$ for the threshold, a reset potential of 0, and $\theta$ for
# the comparison)

# %%
unrolled = explore.unrolling("LIF", reset="soft", steps=16)
two = unrolled.result.formulas["substituted"][2].in_full()
short = {"v_threshold": sympy.Symbol(r"\vartheta"), "v_reset": sympy.S.Zero}
two = two.xreplace({symbol: short[symbol.name] for symbol in two.free_symbols if symbol.name in short})
Latex(sympy.multiline_latex(sympy.Symbol("v_next"), two, 2))

# %%
guess_12 = explore.predict(
    "Unrolled by substitution over 16 steps, the longest chain of operations is ...",
    ["a sixteenth", "half as long", "as long as in the loop"],
)
guess_12

# %%
unrolled

# %%
formulas = unrolled.result.formulas["substituted"]
one = formulas[1]
for steps, formula in formulas.items():
    assert (formula.work, formula.depth, formula.nested) == (steps * one.work, steps * one.depth, steps)
guess_12.check("as long as in the loop")

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
guess_13 = explore.predict(
    "What of a recurrent layer cannot be fused over time?",
    ["everything", "one matrix product in each step, and the neurons' step behind it", "nothing"],
)
guess_13


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
guess_13.check("one matrix product in each step, and the neurons' step behind it")
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
guess_14 = explore.predict(
    "An H200, forward and backward, as CUDA graphs. Fused against an eager loop, a speedup as the words predict is found for ...",
    ["few neurons (10,000)", "many neurons (ten million)", "both"],
)
guess_14

# %%
sizes, case = (
    (10_000, 1_000_000, 10_000_000),
    {"T": 32, "dtype": "float32", "passes": "forward + backward", "surrogate": "ATan"},
)
recorded = [milliseconds("neuron", "H200", N=n, **case) for n in sizes]
called = [ms["eager torch"] / ms["cuda, keep=input"] for ms in recorded]
replayed = [ms["CUDA graph of the plain loop"] / ms["CUDA graph of cuda, keep=input"] for ms in recorded]
assert 0.8 < replayed[-1] / predicted < 1.25
assert replayed[0] > 3 * predicted
guess_14.check("many neurons (ten million)")
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
guess_15 = explore.predict(
    "torch.compile is given a loop over 16 time steps instead of 4. The program that it must compile is ...",
    ["the same", "twice as long", "about four times as long"],
)
guess_15


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
guess_15.check("about four times as long")

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
gpu = recorded[-1]
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

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
# **About 90 minutes, or six for each question.** A paper on temporal fusion was first called *Temporal Parallelization for GPU
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

import torch
from torch import nn

import tfexplore
from tfexplore import LIF, FoldTime, explore, timesplit
from tfexplore.codegen import traffic
from tfexplore.explore.breakdown.recorded import whole_networks
from tfexplore.explore.kernel.depth import depth_of
from tfexplore.explore.split.runs import WAITING
from tfexplore.measure import results
from tfexplore.measure.contestants import FUSED, INFERENCE, LAYERED, contestants
from tfexplore.measure.stream import Stream
from tfexplore.measure.timeline import what_ran
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
    "T is doubled. What grows with it, for a loop of PyTorch operations / for a fused kernel?",
    [
        "operations that wait for each other / none",
        "operations that wait for each other, and launches / the former only",
        "operations that wait for each other, and launches / both",
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
    depth, work = depth_of(tfexplore.neurons.LIF(), T)
    current, launches = torch.rand(T, 1, 100), {}
    for backend in ("torch", "auto"):
        with torch.no_grad(), what_ran(layer := LIF(backend=backend)) as events:
            layer(current)
        launches[backend] = events.launches
    print(f"{T:5}{depth:14}{work:13}{launches['torch']:16}{launches['auto']:17}")
    assert depth == 7 * T, "seven operations of a step wait for each other, and for the step before"
    assert launches == {"torch": 9 * T + 2, "auto": 1}, "nine a step, one before the first, one behind the last"
guess_1.check("operations that wait for each other, and launches / the former only")

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
work, clocks = contestants(32, 10_000, passes=INFERENCE), {}
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

neuron = tfexplore.neurons.LIF()
inference = traffic.words(traffic.traffic_of(neuron, gradient=False))
words = traffic.words(traffic.traffic_of(neuron, "input"))
print(f"words per neuron and time step: inference {float(inference):.2f}, training {float(words):.2f}")
assert (float(inference), round(float(words))) == (2, 5)
guess_6.check("five")

# %% [markdown]
# **Answer.** It trains: the backward pass is a fused kernel too, derived from the same equations, and its gradients are those
# of autograd. It moves five words where inference moves two, the saved states among them being a thirty-second of a word.
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
        neurons = sum(event.words for event in events if kinds[event.layer] is LIF)
        moved[backend] = neurons, sum(event.words for event in events) - neurons
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
print(f"{'':30}neurons' share, times as fast")
for made in whole_networks():
    share = "not measured" if made.share is None else f"{made.share:.0%}"
    print(
        f"{made.network:9}T = {made.steps:2}, B = {made.batch:2}, {made.dtype:9} {share:>12} {made.gain:10.2f}   {made.where}"
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

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
# # Split time over devices
#
# **About 40 minutes.** At the end you will have
#
# 1. watched several processes share the time steps of one network, as a wavefront, in a real run on your machine,
# 2. passed a neuron's state over the cut, forwards, and its gradient back, and got the gradients of one process,
# 3. seen what happens to all the others when one of them fails,
# 4. planned how many devices pay, and when cutting the batch is the better idea.
#
# Everything here works without a GPU: the devices are processes of this machine.

# %%
import numpy as np  # noqa: F401  (for your answers)
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tfexplore import LIF, explore, puzzles, timesplit
from tfexplore.data import currents, digits

P = 3  # processes; 2 on a small machine

# %% [markdown]
# ## What can be cut
#
# A training step is too slow, or its memory too large, for one device. There are several. What do you cut?
#
# | cut | each device has | what travels | useless with only one |
# |---|---|---|---|
# | the batch (*data parallelism*) | some of the samples | the weights' gradients, once | sample |
# | the layers (*pipeline*) | some of the layers | the outputs of a layer, all $T$ steps of them | layer |
# | **time** | some of the time steps | the **state** at the cut, one step's worth | time step |
#
# Cutting time looks hopeless: step $t$ needs the potential of step $t-1$. But it needs nothing else from the past. So this
# holds: run the first steps, hand the state over, run the rest. Notebook 02 did that under the name `carry`:

# %%
torch.manual_seed(0)
layer, x = LIF(tau=4.0), torch.rand(20, 2, 5)
first, state = layer(x[:12], return_state=True)  # the first device
second = layer(x[12:], state)  # the second one
assert torch.equal(torch.cat([first, second]), layer(x))
print(f"The state at the cut: {state[0].numel()} numbers. The current: {x.numel()}.")

# %% [markdown]
# For a single layer nothing is won: the second device waits until the first has finished. Two layers make the difference.
# The time steps of one device are its **segment**. While the first device runs its segment of layer 2, the second one has the
# state of layer 1 at hand, and runs its own segment of layer 1. With many layers all devices are at work at once, each one
# layer behind the other: a **wavefront**. On the way back it is the same from the other end: the gradient of the state at the
# cut travels from the later device to the earlier one.
#
# ## Watch it happen
#
# Here each device is a *process* of this machine: a program that runs beside the others, with a memory of its own. Its number
# is its **rank**. Let there be $P$ of them, and $L$ layers.
#
# The next cells start `P` of them (some seconds, and some 450 MB each), with torch's own launcher, and run a training step
# on them. Above is what each process did; below is what a plan had predicted. A layer has one colour; hatched is the
# backward pass; a thin line is a wait. (The layers do nothing but take their time, as if each process were a device of its
# own: your machine may have fewer cores than processes. You can choose layers that compute.)

# %%
run = explore.split_run(processes=P, layers=4)
run.show()

# %% tags=["nbval-ignore-output"]
result = await run.run()
print(result.sentence())

# %%
if result.seconds:  # you did not stop it before the first run
    done = {(event.device, event.kind) for event in result.events}
    assert done >= {(f"rank {r}", kind) for r in range(P) for kind in ("forward", "backward", "wait")}

# %% [markdown]
# **Do** (each change needs **Start** again):
#
# 1. Follow one colour from process 0 to process 2. Why does process 2 begin so late? Why does process 0 wait in the middle?
# 2. *Layers* = 8, then 1. What becomes of the waits?
# 3. *Micro-batches* = 4: the batch is cut as well, and the quarters follow each other. What is gained, and what does it cost?
# 4. *Linear and LIF layers*, *T* = 128, with 2 and with 4 processes. Is it as fast as planned? (How many cores has your
#    machine?)
#
# <details><summary>An answer</summary>
#
# 1. It needs the state of the first layer at step 32, which is there when processes 0 and 1 have run their segments. In the
#    middle stands the loss: it looks at all time steps, so nobody can turn back before the last process is through.
# 2. Call one layer over one segment a *time slot*. A pass takes $L + P - 1$ slots instead of $L \cdot P$, and each process waits
#    for $P - 1$ of them: the *bubble*, 20 % of the time with 8 layers, 33 % with 4. With one layer it is 67 %: three
#    processes take as long as one, and their messages besides.
# 3. $M$ micro-batches make $L \cdot M + P - 1$ slots, each an $M$-th as long: the bubble shrinks. But there are $M$ times as many
#    messages, and small pieces of work are less efficient.
# 4. Processes that compute share the cores: with more processes than cores, or beside other programs, each is slower. And
#    these layers are short, well under a millisecond, so that messages weigh nearly as much as the work. The plan, which thinks
#    of devices of their own, promises too much.
# </details>

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

# %% [markdown]
# ## A network of your own
#
# You write an ordinary network, and wrap it. `split.segment(x)` is what this process has to run. A loss needs all of time, so
# `split.mean(out)` gives every process the mean over all steps (there are also `last`, `whole` and `total`). Every process
# computes this same loss, but its gradient counts once, not $P$ times. The rest is as ever.

# %%
x_train, y_train, _, _ = digits()
x, y = currents(x_train[:32], steps=24).double(), y_train[:32]


def my_network():
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(64, 50), LIF(v_threshold=0.3), nn.Linear(50, 30), LIF(v_threshold=0.2), nn.Linear(30, 10)
    )
    return net.double()


def train_step(ranks):
    """Runs in every process."""
    split = timesplit.TimeSplit(my_network(), ranks=ranks)
    out = split(split.segment(x))  # states cross the cuts in here
    loss = cross_entropy(split.mean(out), y)  # the same in every process
    loss.backward()  # gradients of states cross them in here, and the weights' are summed
    print(f"steps {sum(split.steps[: ranks.rank])} to {sum(split.steps[: ranks.rank + 1]) - 1}, loss {loss:.6f}")
    return loss.item(), [p.grad for p in split.parameters()]


run.close()  # ends the processes above; Start would begin new ones
crew = timesplit.Crew(P)
losses, gradients = zip(*crew.run(train_step), strict=True)

# %% [markdown]
# Is it the same as in one process? In double precision, rounding should be all that differs:

# %%
net = my_network()
loss = cross_entropy(net(x).mean(0), y)
loss.backward()
pairs = zip((p.grad for p in net.parameters()), gradients[0], strict=True)
apart = max(((expected - found).abs().max() / expected.abs().max()).item() for expected, found in pairs)
assert len(set(losses)) == 1, "every process has the same loss"
assert abs(losses[0] - loss.item()) < 1e-12
assert apart < 1e-12
print("one process: the same loss, and the same gradients to 12 digits")

# %% [markdown]
# In a script it is the same code within `with timesplit.ranks() as ranks:`, and torch's launcher starts it, on one machine
# or on many, on CPUs or GPUs (the libraries that carry the messages are called gloo and NCCL):
#
# ```sh
# torchrun --nproc-per-node 4 my_script.py
# torchrun --nproc-per-node 4 -m tfexplore.timesplit --check     # the digits, and the losses of one process beside them
# ```
#
# ## When one of them fails
#
# All others wait for it: for a state, for a gradient, for a sum. A program that hangs, without a word, is the classic misery
# of many processes. Here every wait knows what it waits for, and the news of a failure travels along the same connections:


# %%
def fails(ranks):
    split = timesplit.TimeSplit(my_network(), ranks=ranks)
    out = split(split.segment(x))
    if ranks.rank == 1:
        raise ValueError("a mistake in the loss")
    return split.mean(out)  # the others wait here for rank 1 ... but not for long


try:
    crew.run(fails)
except timesplit.RankError as error:
    print(error)

assert len(crew.run(train_step)) == P  # and it works again
crew.end()

# %% [markdown]
# A killed process is noticed within a second; one that hangs, after a minute (`timeout=`). But a program in which everybody
# waits for somebody else hangs even if nobody fails. If you know what each one sends and receives, it can be found before it
# runs:

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

# %% [markdown]
# ## How many devices pay?
#
# More devices make each segment shorter, and add messages. With $T_s$ seconds on one device, and $T_c$ seconds that every
# further device adds, whatever the length of its segment (its messages, starting its layers),
#
# $$\text{seconds}(P) \approx \frac{T_s}{P} + (P - 1) \, T_c.$$
#
# (The bubble is left out. It does not grow without end: it approaches one layer's time, $T_s / L$, and leaves the best $P$
# nearly where it is.)

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
# So the best $P$ is near $\sqrt{T_s / T_c}$: for a network that takes 100 times as long, 10 times as many devices pay.
#
# The explorer below plans a whole training step from costs of layers that were measured (on the machine that it names). It
# walks through the same schedule as the processes above, with as many devices as you like. A *block* is a linear layer and its
# LIF neurons: two colours. The linear layer has no state, so it waits for nobody, and all devices begin at once; only the short
# LIF layers stand in line, so the bubble is smaller than with equal slots. A message takes the *latency* of the link, however
# short it is, and its bytes divided by the link's *bandwidth*.
#
# On the right is how much faster that is than one device: split in time, with the batch cut (*data parallel*), and with both
# together: the devices are cut into groups, each group has a part of the batch, and splits its time.

# %%
plan = explore.split_plan(devices=4, layers=4, batch=16, steps=256)
plan

# %%
planned = plan.result
assert planned.plan.seconds < planned.one.seconds, "four devices are faster than one"
assert planned.data_parallel.seconds < planned.plan.seconds, "and cutting this batch is faster still"

# %% [markdown]
# **Do:**
#
# 1. *Batch* = 16: cutting the batch wins as long as there are enough samples. Where do its steps in the curve come from?
# 2. *Batch* = 1, *T* = 16,384: what can data parallelism do now? How many devices does time splitting use well?
# 3. *Batch* = 4, *T* = 256, and 16 devices: which of the three is fastest, and how does it use them?
# 4. *Link* = 0.01 GB/s; back to 10 GB/s, then *latency* = 1,000 µs. Which bars grow, and why?
# 5. *Normalisation* = BatchNorm. Its mean and variance run over all time steps, so nobody can go on before all have arrived:
#    a barrier in every block. What is left of the wavefront?
#
# <details><summary>An answer</summary>
#
# 1. Nobody waits for anybody but for one sum of gradients at the end. 9 devices share 16 samples as slowly as 8 do: somebody
#    has 2 of them.
# 2. Nothing: a single sample cannot be cut. Time splitting goes on: 16 devices are nearly 10 times as fast as one. It is
#    fastest with some 37, but from 24 on each device waits for more than half of the time.
# 3. Both together: 4 groups with one sample each, and in each group 4 segments of time.
# 4. On a slow link it is the black bar at the end: the sum of all weights' gradients, which are many bytes, and which data
#    parallelism pays as well. The states are small (one time step of one layer). Latency is paid by every message: it
#    stretches the wavefront at every cut, and the two sums that go round all devices: the loss in the middle, the gradients
#    at the end.
# 5. All devices still work at the same time, but every barrier costs waits and two sums over all devices, each way. 16
#    devices with one sample and 16,384 steps are then some 4 times as fast as one instead of nearly 10. (The plan
#    lets BatchNorm average over all samples too, so data parallelism has its barriers as well. Micro-batches would compute
#    something else, so they are refused.)
# </details>

# %%
alone = explore.split_plan(devices=16, layers=4, batch=1, steps=16384)
assert alone.result.data_parallel is None, "one sample cannot be cut"
assert alone.result.plan.speedup > 4, "time can"
alone

# %% [markdown]
# ## When to use it
#
# **First cut the batch.** If it has enough samples for your devices, and memory suffices, data parallelism is simpler and
# faster: it has no bubble. Measured on a machine of two cores, with six linear layers, each with its LIF layer, and a batch of
# 64: two processes were 1.8 times as fast as one with the batch cut, and 1.5 times with time cut.
#
# **Cut time when the batch cannot be cut** (one sample, or no more than the devices that share it already), when $T$ is very
# long, or when what one sample saves for the backward pass does not fit: each device keeps only its own time steps. With the
# same network, a batch of one and 2,048 time steps, two processes were 1.2 times as fast as one, where data parallelism
# cannot even start.
#
# **Do not cut time** with few time steps, with few layers, with BatchNorm in training, or over a link whose latency is as long
# as a layer takes. A recurrent layer can be cut (its last spikes belong to its state). A network with feedback over several
# layers gains nothing: its layers cannot run ahead of each other.
#
# These figures are of CPUs. Over several GPUs the same code runs with NCCL, but we have not been able to measure that yet.
#
# ## Recap
#
# * The past of a spiking network is its state, so time can be cut, and only the state at the cut travels.
# * Layer by layer, the devices work as a wavefront: $L \cdot M + P - 1$ slots instead of $L \cdot M \cdot P$.
# * The gradients are those of one process: gradients of states go back over the cuts, those of weights are summed.
# * The best number of devices grows with the square root of the work. Cut the batch first, then time.
#
# The idea of cutting time over GPUs is from the paper on temporal fusion, Y. Li et al., ICANN 2024,
# [arXiv:2408.00280](https://arxiv.org/abs/2408.00280), which gives no code of it.
#
# **Where to read on:** all puzzles are in `puzzles`; `tfexplore/timesplit/cut.py` is how a state crosses the cut. And your own
# costs make your own plan:

# %% tags=["nbval-ignore-output"]
for cost in timesplit.costs(my_network(), x):
    print(
        f"layer {cost.layer}: {1e6 * (cost.forward + cost.backward):5.1f} µs per time step, {cost.state:6.0f} bytes of state"
    )

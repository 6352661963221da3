# ruff: noqa: E501  (a table reads best with a line for each case)
"""Bad input gives one clear error at the call: which argument, what came, what is allowed. One table, all cases."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor, nn

import tfexplore
from tfexplore import FoldTime, Layer, Recurrent, backends, losses, neurons, penalties, surrogates
from tfexplore.data import encoders
from tfexplore.neurons import Neuron
from tfexplore.nn import readout

X = torch.zeros(3, 2, 4)
META = X.to("meta")
V = torch.zeros(2, 4)
Y = torch.tensor([0, 3])
HALF = torch.full((2, 4), 0.5)


def lif(**options: Any) -> Layer:
    return tfexplore.LIF(**options)


def neuron(**body: Any) -> type[Neuron]:
    """A neuron of one's own, all right but for `body`."""
    usual = {"__annotations__": {"v_threshold": float}, "v_threshold": 1.0, "charge": lambda self, v, x: v + x}
    annotations = usual["__annotations__"] | body.pop("__annotations__", {})
    return type("Mine", (Neuron,), usual | body | {"__annotations__": annotations, "__module__": __name__})


def two_backwards(layer: Layer) -> None:
    x = X.clone().requires_grad_()
    (g,) = torch.autograd.grad(layer(x + 0.7).square().sum(), x, create_graph=True)
    g.sum().backward()


def learned_elsewhere(x: Tensor) -> None:
    tfexplore.ParametricLIF()(x)


Bad = tuple[str, Callable[[], Any], type[Exception], str]
ONE_OF = r"float32, float64, float16, bfloat16"
FINITE = "must be a finite number"
TABLE: list[Bad] = [
    # -- x
    ("list x", lambda: lif()([[0.0]]), TypeError, r"x must be a tensor \[T, B, \*features\], but got list\."),
    ("no x", lambda: lif()(None), TypeError, r"x must be a tensor \[T, B, \*features\], but got NoneType\."),
    ("1-D x", lambda: lif()(X[:, 0, 0]), ValueError, r"x must be \[T, B, \*features\], with time first, but got shape \(3,\)\."),
    ("0-D x", lambda: lif()(X[0, 0, 0]), ValueError, r"x must be \[T, B, \*features\], with time first, but got shape \(\)\."),
    ("integer x", lambda: lif()(X.long()), TypeError, rf"x must be one of {ONE_OF}, but got int64; convert it with x\.float\(\)\."),
    ("bool x", lambda: lif()(X.bool()), TypeError, rf"x must be one of {ONE_OF}, but got bool; convert it with x\.float\(\)\."),
    ("complex x", lambda: lif()(X.cfloat()), TypeError, rf"x must be one of {ONE_OF}, but got complex64; .*"),
    ("float8 x", lambda: lif()(X.to(torch.float8_e5m2)), TypeError, rf"x must be one of {ONE_OF}, but got float8_e5m2; .*"),
    ("sparse x", lambda: lif()(X.to_sparse()), TypeError, r"x must be a dense tensor, but got layout torch\.sparse_coo; convert it with x\.to_dense\(\)\."),
    # -- parameters of a neuron
    ("NaN tau", lambda: lif(tau=math.nan), ValueError, rf"LIF: tau {FINITE}, at least 1, but got nan\."),
    ("infinite tau", lambda: lif(tau=math.inf), ValueError, rf"LIF: tau {FINITE}, at least 1, but got inf\."),
    ("tau 0", lambda: lif(tau=0), ValueError, rf"LIF: tau {FINITE}, at least 1, but got 0\."),
    ("negative tau", lambda: lif(tau=-2.0), ValueError, rf"LIF: tau {FINITE}, at least 1, but got -2\.0\."),
    ("tau 0.5", lambda: lif(tau=0.5), ValueError, rf"LIF: tau {FINITE}, at least 1, but got 0\.5\."),
    ("bool tau", lambda: lif(tau=True), ValueError, rf"LIF: tau {FINITE}, at least 1, but got True\."),
    ("text tau", lambda: lif(tau="2"), ValueError, rf"LIF: tau {FINITE}, at least 1, but got '2'\."),
    ("no tau", lambda: lif(tau=None), ValueError, rf"LIF: tau {FINITE}, at least 1, but got None\."),
    ("huge tau", lambda: lif(tau=10**400), ValueError, rf"LIF: tau {FINITE}, at least 1, but got 1000+\."),
    ("two taus", lambda: lif(tau=torch.tensor([1.0, 0.5])), ValueError, r"LIF: every value of tau must be a finite number, at least 1, but 1 of 2 are not; the first, at \[1\], is 0\.5\."),
    ("a number that is trained in a tensor", lambda: lif(tau=torch.full((2,), 2.0, requires_grad=True)), TypeError, r"LIF: tau must be fixed; to train it, name it: learn='tau'\."),
    ("NaN among taus", lambda: lif(tau=torch.tensor([[2.0, math.nan]])), ValueError, r"LIF: every value of tau must be a finite number, at least 1, but 1 of 2 are not; the first, at \[0, 1\], is nan\."),
    ("no tau at all", lambda: lif(tau=torch.ones(3, 0)), ValueError, r"LIF: tau must have at least one value, but got shape \(3, 0\)\."),
    ("bool taus", lambda: lif(tau=torch.tensor([True, True])), TypeError, rf"LIF: tau {FINITE}, at least 1, or a tensor of such, but got tensor\(\[True, True\]\)\."),
    ("complex taus", lambda: lif(tau=torch.full((2,), 2 + 0j)), TypeError, rf"LIF: tau {FINITE}, at least 1, or a tensor of such, but got tensor.*"),
    ("taus in words", lambda: lif(tau=np.array(["two"])), TypeError, rf"LIF: tau {FINITE}, at least 1, or a tensor of such, but got array.*"),
    ("three taus for four channels", lambda: lif(tau=torch.full((3,), 2.0))(X), ValueError, r"tau has values for \[3\], so x must be \[T, B, 3, \.\.\.\], but got shape \(3, 2, 4\)\."),
    ("taus for more axes", lambda: lif(tau=torch.full((4, 1), 2.0))(X), ValueError, r"tau has values for \[4, 1\], so x must be \[T, B, 4, 1, \.\.\.\], but got shape \(3, 2, 4\)\."),
    ("a learned tau at the bound", lambda: lif(tau=torch.tensor([2.0, 1.0]), learn="tau"), ValueError, r"a learned tau must start above 1, but got 1\.0\."),
    ("taus and other channels", lambda: lif(tau=torch.full((3,), 2.0), learn="tau", channels=4), ValueError, r"tau has shape \(3,\), but channels=4 wants \(4,\); leave channels out\."),
    ("fixed taus and channels", lambda: lif(tau=torch.full((3,), 2.0), channels=3), ValueError, r"channels=3 has no effect: LIF learns no parameter \(see learn=\) and draws none\."),
    ("taus elsewhere", lambda: lif(tau=torch.full((4,), 2.0))(META), ValueError, r"x is on meta, but the layer's tau is on cpu; move it: layer\.to\('meta'\)\."),
    ("complex", lambda: lif(v_threshold=1j), ValueError, rf"LIF: v_threshold {FINITE}, but got 1j\."),
    ("decay 1", lambda: neurons.PaperLIF(decay=1.0), ValueError, rf"PaperLIF: decay {FINITE}, above 0 and below 1, but got 1\.0\."),
    ("dt 0", lambda: neurons.Izhikevich(dt=0), ValueError, rf"Izhikevich: dt {FINITE}, above 0, but got 0\."),
    ("flag", lambda: lif(decay_input=2), TypeError, r"LIF: decay_input must be True or False, but got 2\."),
    ("detach", lambda: lif(detach_reset="no"), TypeError, r"LIF: detach_reset must be True or False, but got 'no'\."),
    ("keyword", lambda: lif(threshold=1.0), TypeError, r"LIF has no parameter 'threshold'; it takes .*tau.*v_threshold.*backend.*"),
    ("trainable tau", lambda: lif(tau=torch.tensor(2.0, requires_grad=True)), TypeError, r"LIF: tau must be fixed; to train it, name it: learn='tau'\."),
    # -- reset, surrogate, learn
    ("reset", lambda: lif(reset="zero"), ValueError, r"LIF does not admit reset='zero'; it admits 'soft', 'hard', 'none'\."),
    ("no reset", lambda: lif(reset=None), ValueError, r"LIF does not admit reset=None; it admits 'soft', 'hard', 'none'\."),
    ("LI soft", lambda: tfexplore.LI(reset="soft"), ValueError, r"LI does not admit reset='soft'; it admits 'none'\."),
    ("paper soft", lambda: neurons.PaperLIF(reset="soft"), ValueError, r"PaperLIF does not admit reset='soft'; it admits 'hard'\."),
    ("Izhikevich none", lambda: neurons.Izhikevich(reset="none"), ValueError, r"Izhikevich does not admit .* admits 'hard'\."),
    ("surrogate class", lambda: lif(surrogate=surrogates.ATan), TypeError, r"LIF: surrogate must be like surrogates\.ATan\(alpha=2\.0\), but got <class.*"),
    ("surrogate name", lambda: lif(surrogate="atan"), TypeError, r"LIF: surrogate must be like .*, but got 'atan'\."),
    ("learn unknown", lambda: lif(learn="w"), ValueError, r"LIF cannot learn 'w'; its parameters are tau, v_threshold, v_reset\."),
    ("learn a number", lambda: lif(learn=3), TypeError, r"LIF: learn must be names of parameters, but got 3\."),
    ("learn at the bound", lambda: lif(tau=1.0, learn="tau"), ValueError, r"a learned tau must start above 1, but got 1\.0\."),
    ("channels without learn", lambda: lif(channels=3), ValueError, r"channels=3 has no effect: LIF learns no parameter \(see learn=\) and draws none\."),
    ("no channels", lambda: lif(learn="tau", channels=0), ValueError, r"channels must be a whole number from 1 on, but got 0\."),
    ("half channels", lambda: lif(learn="tau", channels=1.5), ValueError, r"channels must be a whole number from 1 on, but got 1\.5\."),
    ("other channels", lambda: lif(learn="tau", channels=3)(X), ValueError, r"tau has values for \[3\], so x must be \[T, B, 3, \.\.\.\], but got shape \(3, 2, 4\)\."),
    ("no channel dimension", lambda: lif(learn="tau", channels=2)(X[..., 0]), ValueError, r"tau has values for \[2\], so x must be \[T, B, 2, \.\.\.\], but got shape \(3, 2\)\."),
    # -- backends and devices
    ("backend", lambda: lif(backend="jax"), ValueError, r"backend must be one of 'auto', 'torch', 'numba', 'cuda', but got 'jax'\."),
    ("keep", lambda: lif(keep="x"), ValueError, r"keep must be one of 'auto', 'potential', 'input', 'bits', but got 'x'\."),
    ("CPU tensor to cuda", lambda: lif(backend="cuda")(X), ValueError, r"backend='cuda' runs CUDA tensors, but x is on 'cpu'; move x with x\.to\('cuda'\),? or use backend='auto'\."),
    ("GPU tensor to numba", lambda: lif(backend="numba")(META), ValueError, r"backend='numba' runs CPU tensors, but x is on 'meta'; move x with x\.to\('cpu'\),? or use backend='auto'\."),
    ("learned elsewhere", lambda: learned_elsewhere(META), ValueError, r"x is on meta, but the layer's tau is on cpu; move it: layer\.to\('meta'\)\."),
    ("neuron class", lambda: Layer(neurons.LIF), TypeError, r"neuron must be like neurons\.LIF\(tau=2\.0\), but got <class.*"),
    # -- state
    ("state count", lambda: lif()(X, (V, V)), TypeError, r"state must be a tuple of 1 tensors? \(v\), but got 2 values\."),
    ("no states", lambda: tfexplore.ALIF()(X, ()), TypeError, r"state must be a tuple of 2 tensors \(v, b\), but got 0 values\."),
    ("bare state", lambda: lif()(X, V), TypeError, r"state must be a tuple of 1 tensors? \(v\), but got Tensor\."),
    ("numbers as state", lambda: lif()(X, (0.0,)), TypeError, r"state must be a tuple of 1 tensors? \(v\), but got .*"),
    ("state shape", lambda: lif()(X, (V[:1],)), ValueError, r"state 'v' must have x's shape without time, \(2, 4\), but got \(1, 4\); .*"),
    ("state dtype", lambda: lif()(X, (V.double(),)), ValueError, r"state 'v' must be torch\.float32 on cpu, but got torch\.float64 on cpu\."),
    ("half state", lambda: lif()(X.half(), (V.half(),)), ValueError, r"state 'v' must be torch\.float32 on cpu, but got torch\.float16 on cpu\."),
    ("state device", lambda: lif()(X, (V.to("meta"),)), ValueError, r"state 'v' must be torch\.float32 on cpu, but got torch\.float32 on meta\."),
    ("recurrent state", lambda: Recurrent(lif(), nn.Linear(4, 4))(X, (V,)), TypeError, r"state must be a tuple of 2 tensors \(v, last spikes\), but got 1 values?\."),
    # -- traces, lengths, BatchNorm
    ("trace unknown", lambda: tfexplore.ALIF()(X, trace=("v", "w")), ValueError, r"a trace must be one of 'h', 'v', 'b', but got 'w' \(the output is returned anyway\)\."),
    ("trace of spikes", lambda: lif()(X, trace="s"), ValueError, r"a trace must be one of 'h', 'v', but got 's' .*"),
    ("trace of last spikes", lambda: Recurrent(lif(), nn.Linear(4, 4))(X, trace="last spikes"), ValueError, r"a trace must be one of 'h', 'v', but got 'last spikes' .*"),
    ("trace True", lambda: lif()(X, trace=True), TypeError, r"trace must be a name or several, such as 'v', but got True\."),
    ("layer's list of lengths", lambda: lif()(X, lengths=[3, 1]), TypeError, r"lengths must be a tensor of integers, but got list\."),
    ("layer's lengths above T", lambda: lif()(X, lengths=torch.tensor([4, 1])), ValueError, r"lengths must be from 0 to T = 3, but got \[4, 1\]\."),
    ("layer's negative length", lambda: lif()(X, lengths=torch.tensor([3, -1])), ValueError, r"lengths must be from 0 to T = 3, but got \[3, -1\]\."),
    ("layer's lengths of another batch", lambda: lif()(X, lengths=torch.tensor([3])), ValueError, r"lengths must be \[B\], one for each of the 2 samples, but got shape \(1,\)\."),
    ("padded by a list", lambda: tfexplore.padded(lif(), [3, 1]).__enter__(), TypeError, r"lengths must be a tensor of integers, but got list\."),
    ("padded below 0", lambda: tfexplore.padded(lif(), torch.tensor([3, -1])).__enter__(), ValueError, r"lengths must be from 0 on, but got \[3, -1\]\."),
    ("no BatchNorm", lambda: lif()(X, batch_norm=nn.LayerNorm(4)), TypeError, r"batch_norm must be a BatchNorm of torch\.nn, but got LayerNorm\."),
    ("BatchNorm of other channels", lambda: lif()(X, batch_norm=nn.BatchNorm1d(2)), ValueError, r"BatchNorm1d normalises 2 channels, but axis 2 of x has another size: x is \(3, 2, 4\)\."),
    ("BatchNorm without channels", lambda: lif()(X[..., 0], batch_norm=nn.BatchNorm1d(2)), ValueError, r"BatchNorm1d normalises 2 channels, but axis 2 of x has another size: x is \(3, 2\)\."),
    ("BatchNorm of one value", lambda: lif()(X[:1, :1], batch_norm=nn.BatchNorm1d(4)), ValueError, r"BatchNorm1d has one value per channel in training mode, so no variance; use net\.eval\(\)\."),
    ("nothing to fuse", lambda: tfexplore.fuse(nn.Sequential(FoldTime(nn.BatchNorm1d(4), nn.ReLU()), lif())), ValueError, r"no BatchNorm stands directly before a layer in a Sequential of this network: .*"),
    # -- gradients
    ("double backward", lambda: two_backwards(lif(backend="numba")), RuntimeError, r"The fused kernels have no second derivative .*; use backend='torch' for it\."),
    # -- modules around layers
    ("folded state", lambda: FoldTime(nn.Linear(4, 4), lif()), ValueError, r"FoldTime takes stateless modules, but '1' is a LIF with a state\."),
    ("folded 1-D", lambda: FoldTime(nn.Linear(4, 4))(X[0, 0]), ValueError, r"x must be \[T, B, \*features\], with time first, but got shape \(4,\)\."),
    ("recurrent module", lambda: Recurrent(nn.ReLU(), nn.Linear(4, 4)), TypeError, r"Recurrent takes a spiking layer first, but got ReLU\."),
    ("record unknown", lambda: tfexplore.record(nn.Sequential(lif()), "w").__enter__(), ValueError, r"No layer records 'w'; there is h, s, v\."),
    # -- a neuron of one's own
    ("charge of two values", lambda: Layer(neuron(charge=lambda self, v, x: (v, x))()), TypeError, r"Mine\.charge must return a tuple of 1 values?, for v\."),
    ("charge of one value", lambda: Layer(neuron(states=("v", "i"), charge=lambda self, v, i, x: v)()), TypeError, r"Mine\.charge must return a tuple of 2 values, for v, i\."),
    ("after of no value", lambda: Layer(neuron(states=("v", "i"), charge=lambda self, v, i, x: (v, i), after=lambda self, s, v, i: ())()), TypeError, r"Mine\.after must return a tuple of 1 values?, for i\."),
    ("initial of a number", lambda: Layer(neuron(initial=lambda self: 0.0)()), TypeError, r"Mine\.initial must return a tuple of 1 values?, for v\."),
    ("too many arguments", lambda: Layer(neuron(charge=lambda self, v: v)()), TypeError, r"The equations of Mine must run on SymPy symbols .*positional arguments.*"),
    ("a state called s", neuron(states=("v", "s")), ValueError, r"Mine cannot name a parameter or state 's': .* are taken\."),
    ("a parameter called v", neuron(__annotations__={"v": float}, v=1.0), ValueError, r"Mine cannot name a parameter or state 'v': .*"),
    ("a parameter called h_v", neuron(__annotations__={"h_v": float}, h_v=1.0), ValueError, r"Mine cannot name a parameter or state 'h_v': .*"),
    ("a word of C++", neuron(__annotations__={"double": float}, double=1.0), ValueError, r"Mine cannot name a parameter 'double': words of Python, of C\+\+ and of the kernels are taken\."),
    ("another", neuron(__annotations__={"catch": float}, catch=1.0), ValueError, r"Mine cannot name a parameter 'catch': words of Python, of C\+\+ and of the kernels are taken\."),
    ("nothing to reset", neuron(spiking=False), ValueError, r"Mine does not fire, so it has nothing to reset: .*"),
    ("no charge", lambda: Layer(neuron(charge=Neuron.charge)()), NotImplementedError, r"Mine needs a method charge\(self, v, x\)\."),
    ("math.exp", lambda: Layer(neuron(charge=lambda self, v, x: math.exp(v) + x)()), TypeError, r"The equations of Mine must run on SymPy symbols \(sympy\.exp rather than math\.exp.*"),
    ("if on a state", lambda: Layer(neuron(charge=lambda self, v, x: v if v > 0 else x)()), TypeError, r"The equations of Mine must .*sympy\.Piecewise rather than if\).*"),
    ("foreign symbol", lambda: Layer(neuron(charge=lambda self, v, x: v + sympy.Symbol("k") * x)()), ValueError, r"The equations of Mine mention 'k', which is no state and no self\.parameter\."),
    ("besselj", lambda: Layer(neuron(charge=lambda self, v, x: sympy.besselj(0, v) + x)())(X), ValueError, r"Numba kernels cannot compute besselj in .*; they know \+ - \* / and exp, log, .*"),
    ("besselj eager", lambda: Layer(neuron(charge=lambda self, v, x: sympy.besselj(0, v) + x)(), backend="torch")(X), ValueError, r"torch kernels cannot compute besselj in .*"),
    ("no threshold", type("Bare", (Neuron,), {"charge": lambda self, v, x: v + x}), TypeError, r"Bare fires, so it needs a parameter v_threshold or a method threshold\(self, v, \.\.\.\)\."),
    ("no v_reset", lambda: neuron()(reset="hard"), TypeError, r"Mine needs a parameter v_reset for its hard reset\."),
    # -- readouts, losses, penalties
    ("readout", lambda: readout(X, "first"), ValueError, r"over must be one of 'mean', 'sum', 'last', 'max', but got 'first'\."),
    ("no step", lambda: readout(X[:0]), ValueError, r"out must have one time step or more, but got shape \(0, 2, 4\)\."),
    ("integer out", lambda: readout(X.long()), TypeError, rf"out must be one of {ONE_OF}, but got int64; convert it with out\.float\(\)\."),
    ("list of lengths", lambda: readout(X, lengths=[3, 1]), TypeError, r"lengths must be a tensor of integers, but got list\."),
    ("float lengths", lambda: readout(X, lengths=torch.ones(2)), TypeError, r"lengths must be integers, but got float32\."),
    ("a mask as lengths", lambda: readout(X, lengths=torch.ones(3, 2) > 0), TypeError, r"lengths must be integers, but got bool\."),
    ("lengths shape", lambda: readout(X, lengths=torch.ones(3).long()), ValueError, r"lengths must be \[B\], one for each of the 2 samples, but got shape \(3,\)\."),
    ("length 0", lambda: readout(X, lengths=torch.tensor([0, 2])), ValueError, r"lengths must be from 1 to T = 3, but got \[0, 2\]\."),
    ("length above T", lambda: losses.van_rossum_distance(X, X, 2.0, lengths=torch.tensor([4, 2])), ValueError, r"lengths must be from 1 to T = 3, but got \[4, 2\]\."),
    ("4-D classes", lambda: losses.rate_cross_entropy(X[..., None], Y), ValueError, r"spikes must be \[T, B, classes\], with time first, but got shape \(3, 2, 4, 1\)\."),
    ("no step of v", lambda: losses.potential_cross_entropy(X[:0], Y), ValueError, r"v must have one time step or more, but got shape \(0, 2, 4\)\."),
    ("float target", lambda: losses.rate_mse(X, Y.float()), TypeError, r"target must be integers, but got float32\."),
    ("target shape", lambda: losses.count_cross_entropy(X, Y[:1]), ValueError, r"target must be \[B\], one for each of the 2 samples, but got shape \(1,\)\."),
    ("target above", lambda: losses.rate_mse(X, Y + 1), ValueError, r"target must be from 0 to classes - 1 = 3, but got \[1, 4\]\."),
    ("target -100", lambda: losses.per_step_cross_entropy(X, Y - 100), ValueError, r"target must be from 0 to classes - 1 = 3, but got \[-100, -97\]\."),
    ("smoothing", lambda: losses.rate_cross_entropy(X, Y, label_smoothing=1.5), ValueError, r"label_smoothing must be a finite number from 0 to 1, but got 1\.5\."),
    ("lam", lambda: losses.per_step_cross_entropy(X, Y, lam=-0.1), ValueError, r"lam must be a finite number from 0 to 1, but got -0\.1\."),
    ("phi", lambda: losses.per_step_cross_entropy(X, Y, phi=math.nan), ValueError, r"phi must be a finite number, but got nan\."),
    ("rate 2", lambda: losses.rate_mse(X, Y, correct=2), ValueError, r"correct must be a finite number from 0 to 1, but got 2\."),
    ("count -1", lambda: losses.count_mse(X, Y, correct=2, incorrect=-1), ValueError, r"incorrect must be a finite number from 0 on, but got -1\."),
    ("tau of a distance", lambda: losses.van_rossum_distance(X, X, 0.0), ValueError, r"tau must be a finite number above 0, but got 0\.0\."),
    ("other trains", lambda: losses.van_rossum_distance(X, X[:, :1], 2.0), ValueError, r"target must have the shape of spikes, \(3, 2, 4\), but got \(3, 1, 4\)\."),
    ("bounds crossed", lambda: penalties.firing_rate(X, lower=0.5, upper=0.4), ValueError, r"lower must be a finite number from 0 to 0\.4, but got 0\.5\."),
    ("per", lambda: penalties.silence(X, per="batch"), ValueError, r"per must be 'neuron' or 'sample', but got 'batch'\."),
    ("at least", lambda: penalties.silence(X, at_least=True), ValueError, r"at_least must be a finite number from 0 on, but got True\."),
    # -- encoders
    ("rate above 1", lambda: encoders.rate(HALF + 1, 5), ValueError, r"x must be from 0 to 1, but got values from 1\.5 to 1\.5; scale or clamp it first\."),
    ("NaN rate", lambda: encoders.rate(HALF * math.nan, 5), ValueError, r"x must be from 0 to 1, but got values from nan to nan; scale or clamp it first\."),
    ("integers", lambda: encoders.rate(Y, 5), TypeError, r"x must be a tensor of floats, but got int64\."),
    ("a number", lambda: encoders.latency(0.5, 5), TypeError, r"x must be a tensor of floats, but got float\."),
    ("no steps", lambda: encoders.currents(HALF, 0), ValueError, r"steps must be a whole number from 1 on, but got 0\."),
    ("negative latency", lambda: encoders.latency(HALF - 1, 5), ValueError, r"x must be from 0 to 1, but got values from -0\.5 to -0\.5; scale or clamp it first\."),
    ("form", lambda: encoders.latency(HALF, 5, form="exp"), ValueError, r"form must be 'linear' or 'log', but got 'exp'\."),
    ("threshold of log", lambda: encoders.latency(HALF, 5, form="log", threshold=0), ValueError, r"threshold must be a finite number above 0, up to 1, but got 0\."),
    ("tau of latency", lambda: encoders.latency(HALF, 5, form="log", tau=0), ValueError, r"tau must be a finite number above 0, but got 0\."),
    ("threshold of delta", lambda: encoders.delta(X, 0.0), ValueError, r"threshold must be a finite number above 0, but got 0\.0\."),
    ("infinite signal", lambda: encoders.delta(X - math.inf, 1.0), ValueError, r"x must be finite, but got values from -inf to -inf\."),
    ("out of range", lambda: encoders.population(HALF, 4, low=1, high=2), ValueError, r"x must be from 1 to 2, but got values from 0\.5 to 0\.5; scale or clamp it first\."),
    ("one field", lambda: encoders.angle(HALF, 1), ValueError, r"neurons must be at least 2, for the two ends of the range, but got 1\."),
    ("range", lambda: encoders.angle(HALF, 4, low=1, high=1), ValueError, r"high must be a finite number above 1, but got 1\."),
    ("sigma", lambda: encoders.population(HALF, 4, sigma=0.0), ValueError, r"sigma must be a finite number above 0, but got 0\.0\."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), [pytest.param(*case[1:], id=case[0]) for case in TABLE])
def test_bad_input(call: Callable[[], Any], kind: type[Exception], message: str):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    text = str(caught.value)
    assert re.fullmatch(message, text, re.DOTALL), text
    assert len(text) < 500


class NoCuPy:
    def find_spec(self, name, path=None, target=None):
        if name == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'", name="cupy")


def test_cuda_without_cupy(monkeypatch):
    """A GPU that torch sees, and no CuPy: "auto" falls back with the reason, "cuda" names what to install."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "cupy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoCuPy(), *sys.meta_path])
    backends._why_not.cache_clear()
    try:
        choice = backends.choose("auto", "cuda")
        assert choice.name == "torch"
        assert choice.reason.startswith("the fused cuda backend cannot run: ")
        with pytest.raises(RuntimeError, match=r"^backend='cuda' cannot run: .*[Cc]u[Pp]y.*(pip install|cuda1[23])"):
            backends.choose("cuda", "cuda")
    finally:
        backends._why_not.cache_clear()


def test_cuda_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    backends._why_not.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=r"^backend='cuda' cannot run: torch finds no CUDA device"):
            backends.choose("cuda", "cuda")
    finally:
        backends._why_not.cache_clear()


def test_a_bad_call_leaves_the_layer_usable():
    layer = tfexplore.LIF()
    with pytest.raises(TypeError):
        layer(X.long())
    assert layer(X).shape == X.shape


class Kept(Neuron):
    """What is right is not refused: names the generated code uses for itself, integers for numbers, NumPy's numbers."""

    states: ClassVar[tuple[str, ...]] = ("v", "g", "p")
    q: float = 1
    w: float = 1.0
    v_threshold: float = 1.0

    def charge(self, v, g, p, x):
        return v + self.q * x, g * self.w, p


@pytest.mark.parametrize("q", [2, 2.0, torch.tensor(2.0), sympy.Integer(2).__int__()], ids=repr)
def test_what_is_right_is_not_refused(q):
    assert Kept(q=q).q == 2.0
    assert Layer(Kept(q=q))(X + 0.5).all()

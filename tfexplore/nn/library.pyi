"""Signatures and docstrings of the layers in library.py; written by tools/layer_stubs.py."""

from typing import ClassVar

from torch import Tensor
from torch.distributions import Distribution

from tfexplore import neurons
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.surrogates import ATan, Rectangle, Surrogate
from tfexplore.nn.layers import Layer

class NeuronLayer(Layer):
    """A layer that makes its own neuron: it takes the neuron's parameters and the options of `Layer` together."""

    kind: ClassVar[type[Neuron]]
    options: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, kind: type[Neuron]) -> None: ...
    def __init__(self, **given: object) -> None: ...

class IF(NeuronLayer, kind=neurons.IF):
    """Integrate-and-fire: no leak.

    The charge of one step::

        h = v + x

    A layer of `neurons.IF`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.IF()
        >>> spikes, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> spikes.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        v_threshold: float | Tensor | Distribution = 1.0,
        v_reset: float | Tensor | Distribution = 0.0,
        reset: str = "soft",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=2.0),
        learn: str | tuple[str, ...] = (),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

class LIF(NeuronLayer, kind=neurons.LIF):
    """Leaky integrate-and-fire, the forward Euler step of tau dv/dt = -(v - v_reset) + x (Lapicque, 1907).

    The charge of one step::

        h = v - (v - v_reset) / tau + x       decay_input=False
        h = v + (x - (v - v_reset)) / tau     decay_input=True

    A layer of `neurons.LIF`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        tau: membrane time constant, in time steps; at least 1.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.
        decay_input: divide the input by tau too, as in the differential equation.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.LIF()
        >>> spikes, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> spikes.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        tau: float | Tensor | Distribution = 2.0,
        v_threshold: float | Tensor | Distribution = 1.0,
        v_reset: float | Tensor | Distribution = 0.0,
        decay_input: bool = False,
        reset: str = "soft",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=2.0),
        learn: str | tuple[str, ...] = (),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

class ParametricLIF(NeuronLayer, kind=neurons.ParametricLIF):
    """LIF with a learned time constant (Fang et al., ICCV 2021).

    The charge of one step is that of `LIF`; a layer trains w, and tau = 1 + exp(w) stays above one step.

    A layer of `neurons.ParametricLIF`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        tau: membrane time constant before training, in time steps; above 1.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.
        decay_input: divide the input by tau too, as in the differential equation.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.ParametricLIF()
        >>> spikes, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> spikes.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        tau: float | Tensor | Distribution = 2.0,
        v_threshold: float | Tensor | Distribution = 1.0,
        v_reset: float | Tensor | Distribution = 0.0,
        decay_input: bool = False,
        reset: str = "soft",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=2.0),
        learn: str | tuple[str, ...] = ("tau",),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

class ALIF(NeuronLayer, kind=neurons.ALIF):
    """LIF with an adaptive threshold (Bellec et al., NeurIPS 2018).

    The charge of v is that of `LIF`; the threshold rises with every spike, and decays::

        threshold  v_threshold + beta b
        after      b' = b - (b - s) / tau_b

    A layer of `neurons.ALIF`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        tau: membrane time constant, in time steps; at least 1.
        v_threshold: the threshold at b = 0.
        v_reset: the potential after a hard reset, and before the first step.
        decay_input: divide the input by tau too, as in the differential equation.
        tau_b: time constant of the adaptation b, in time steps; at least 1.
        beta: how far the threshold rises per unit of b.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v and b, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.ALIF()
        >>> spikes, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> spikes.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3]), torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        tau: float | Tensor | Distribution = 20.0,
        v_threshold: float | Tensor | Distribution = 1.0,
        v_reset: float | Tensor | Distribution = 0.0,
        decay_input: bool = False,
        tau_b: float | Tensor | Distribution = 200.0,
        beta: float | Tensor | Distribution = 1.8,
        reset: str = "soft",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=2.0),
        learn: str | tuple[str, ...] = (),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

class CubaLIF(NeuronLayer, kind=neurons.CubaLIF):
    """Current-based LIF: the input feeds a synaptic current i, which drives v.

    The charge of one step::

        h_i = i - i / tau_syn + x
        h_v = charge of LIF(v, h_i)

    A layer of `neurons.CubaLIF`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        tau: membrane time constant, in time steps; at least 1.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.
        decay_input: divide the current by tau too, as in the differential equation.
        tau_syn: time constant of the synaptic current, in time steps; at least 1.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v and i, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.CubaLIF()
        >>> spikes, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> spikes.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3]), torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        tau: float | Tensor | Distribution = 10.0,
        v_threshold: float | Tensor | Distribution = 1.0,
        v_reset: float | Tensor | Distribution = 0.0,
        decay_input: bool = False,
        tau_syn: float | Tensor | Distribution = 5.0,
        reset: str = "soft",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=2.0),
        learn: str | tuple[str, ...] = (),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

class LI(NeuronLayer, kind=neurons.LI):
    """Leaky integrator, a readout that does not spike: its layer returns the potential v.

    One step is the charge of `LIF`::

        v' = v - (v - v_reset) / tau + x       decay_input=False
        v' = v + (x - (v - v_reset)) / tau     decay_input=True

    A layer of `neurons.LI`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        tau: membrane time constant, in time steps; at least 1.
        v_reset: the potential at rest, and before the first step.
        decay_input: divide the input by tau too: with a constant input x, v then approaches v_reset + x.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.LI()
        >>> potentials, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> potentials.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        tau: float | Tensor | Distribution = 2.0,
        v_reset: float | Tensor | Distribution = 0.0,
        decay_input: bool = True,
        reset: str = "none",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=2.0),
        learn: str | tuple[str, ...] = (),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

class QIF(NeuronLayer, kind=neurons.QIF):
    """Quadratic integrate-and-fire, tau dv/dt = a (v - v_rest) (v - v_c) + x (Gerstner et al., Neuronal Dynamics, 5.3).

    The charge of one step::

        h = v + (x + a (v - v_rest) (v - v_c)) / tau

    A layer of `neurons.QIF`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        tau: membrane time constant, in time steps; at least 1.
        a: the sharpness of the parabola; above 0.
        v_rest: the resting potential.
        v_c: the critical potential, above which v grows by itself.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.QIF()
        >>> spikes, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> spikes.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        tau: float | Tensor | Distribution = 2.0,
        a: float | Tensor | Distribution = 1.0,
        v_rest: float | Tensor | Distribution = 0.0,
        v_c: float | Tensor | Distribution = 0.8,
        v_threshold: float | Tensor | Distribution = 1.0,
        v_reset: float | Tensor | Distribution = -0.1,
        reset: str = "hard",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=2.0),
        learn: str | tuple[str, ...] = (),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

class EIF(NeuronLayer, kind=neurons.EIF):
    """Exponential integrate-and-fire, tau dv/dt = -(v - v_rest) + d exp((v - v_t) / d) + x (Fourcaud-Trocme et al., 2003).

    The charge of one step::

        h = v + (x - (v - v_rest) + d exp((v - v_t) / d)) / tau

    A layer of `neurons.EIF`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        tau: membrane time constant, in time steps; at least 1.
        d: the sharpness of the upswing; above 0.
        v_t: the rheobase threshold, from which v grows by itself.
        v_rest: the resting potential.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.EIF()
        >>> spikes, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> spikes.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        tau: float | Tensor | Distribution = 2.0,
        d: float | Tensor | Distribution = 1.0,
        v_t: float | Tensor | Distribution = 0.8,
        v_rest: float | Tensor | Distribution = 0.0,
        v_threshold: float | Tensor | Distribution = 1.0,
        v_reset: float | Tensor | Distribution = -0.1,
        reset: str = "hard",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=2.0),
        learn: str | tuple[str, ...] = (),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

class Izhikevich(NeuronLayer, kind=neurons.Izhikevich):
    """Izhikevich's neuron: dv/dt = 0.04 v^2 + 5 v + 140 - w + x, dw/dt = a (b v - w) (Izhikevich, 2003).

    In mV and ms. One step, whose charge is two forward Euler steps from the same (v, w); w is the paper's u::

        charge     h_v = v + dt (0.04 v^2 + 5 v + 140 - w + x)
                   h_w = w + dt a (b v - w)
        reset      v = (1 - s) h_v + s v_reset
        after      w = h_w + d s

    A layer of `neurons.Izhikevich`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        dt: the length of a time step, in ms; above 0.
        a: the rate of the recovery w, per ms; above 0.
        b: how strongly w follows v.
        d: how far w jumps with a spike.
        v_threshold: the peak of a spike, in mV.
        v_reset: the potential after a spike (the paper's c), and before the first step, in mV.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v and w, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.Izhikevich()
        >>> spikes, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> spikes.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3]), torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        dt: float | Tensor | Distribution = 0.5,
        a: float | Tensor | Distribution = 0.02,
        b: float | Tensor | Distribution = 0.2,
        d: float | Tensor | Distribution = 8.0,
        v_threshold: float | Tensor | Distribution = 30.0,
        v_reset: float | Tensor | Distribution = -65.0,
        reset: str = "hard",
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=2.0),
        learn: str | tuple[str, ...] = (),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

class PaperLIF(NeuronLayer, kind=neurons.PaperLIF):
    """The temporal-fusion paper's LIF, v[t] = decay v[t-1] (1 - s[t-1]) + v_reset s[t-1] + x[t] (Li et al., 2024).

    The decay belongs to its hard reset::

        charge     h = v + x
        reset      v = decay h (1 - s) + v_reset s

    Its surrogate is a rectangle of width 1 and its reset is not detached; the gradient here is exact, also for v_reset != 0.

    A layer of `neurons.PaperLIF`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
    of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
    for each of
    `channels`.

    Args:
        decay: the part of the potential that remains after a step; between 0 and 1.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a spike, and before the first step.
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` for v, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> import torch, tfexplore
        >>> layer = tfexplore.PaperLIF()
        >>> spikes, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
        >>> spikes.shape, [z.shape for z in state]
        (torch.Size([5, 2, 3]), [torch.Size([2, 3])])
    """

    def __init__(
        self,
        *,
        decay: float | Tensor | Distribution = 0.2,
        v_threshold: float | Tensor | Distribution = 0.3,
        v_reset: float | Tensor | Distribution = 0.0,
        reset: str = "hard",
        detach_reset: bool = False,
        surrogate: Surrogate = Rectangle(width=1.0),
        learn: str | tuple[str, ...] = (),
        strict: bool = False,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None: ...

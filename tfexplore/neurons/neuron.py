r"""What a neuron *is*: a small frozen value whose methods are the equations of one time step.

One step of every neuron here is the same four lines, with the membrane potential as the first state::

    charge     h = charge(z, x)             z: the states before the step, x: the input current
    fire       u = h_v - threshold(h)       s = 1 where u >= 0 (strict: where u > 0), else 0
    reset      v = soft | hard | none       one of the rules the neuron admits
    after      the other states             ALIF's adaptation, Izhikevich's recovery, ...

The methods are plain Python, so they run on numbers; run on SymPy symbols (`step.step_of`) they *are* the equations from
which the LaTeX, the torch reference, the Numba and CUDA kernels and the derivative of the step are made.
This file holds the base class and its checks; the neurons themselves are in `library.py`.
"""

from __future__ import annotations

import dataclasses
import keyword
from dataclasses import dataclass
from typing import Any, ClassVar, dataclass_transform

from tfexplore.neurons.parameters import Decay, Positive, TimeConstant, Values, checked, parameters_of
from tfexplore.neurons.surrogates import ATan, Surrogate, Value

__all__ = ["Decay", "Neuron", "Positive", "TimeConstant", "Value"]  # all that a definition needs

OURS = frozenset(
    """STATES SCALARS PER_NEURON LEARNED DERIVED NEEDS WATCHED TRACED CONSTANT CHUNK KEEP_INPUT KEEP_POTENTIAL KEEP_BITS STEPS
    WIDTH THREADS VECTOR AHEAD SHARED STREAMING LENGTHS LIKE""".split()  # noqa: SIM905  (as below)
)
CPP = frozenset(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl const
    const_cast constexpr continue decltype default delete do double dynamic_cast else enum explicit export extern false float
    for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected
    public register reinterpret_cast return short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
    xor_eq""".split()  # noqa: SIM905  (eighty words are read as a paragraph)
)
WORDS = OURS | CPP | frozenset(keyword.kwlist)
RESERVED = frozenset(
    {
        "x",
        "x_centre",
        "x_scale",
        "x_shift",
        "s",
        "u",
        "h",
        "out",
        "slope",
        "g_s",
        "g_u",
        "g_x",
        "g_out",
        "real",
        "math",
        "torch",
        "where",
        "number",
    }
)


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class Neuron:
    r"""Base of all neurons. A subclass is a definition: annotated parameters, `charge`, and what differs from here.

    One time step, with the states z before it and the input current x; v, the membrane potential, is the first state::

        charge     h = charge(z, x)
        fire       u = h_v - threshold(h),  s = 1 where u >= 0 (strict: where u > 0), else 0
        reset      v = h_v - s threshold(h)      "soft"
                   v = (1 - s) h_v + s v_reset   "hard"
                   v = h_v                       "none"
        after      the other states

    Fields annotated `float` (or `TimeConstant`, `Positive`, `Decay`) are numbers that every kernel takes at run time: a number,
    or a tensor with one for each channel or neuron, or a `torch.distributions.Distribution` from which a layer draws one for each
    of its `channels`. Any other field (`decay_input: bool`) selects between equations. The class attributes `states`, `resets`
    and `spiking` name the states, the resets that it admits, and whether it fires.

    Args:
        reset: `"soft"` (subtract the threshold), `"hard"` (set v to `v_reset`) or `"none"`.
        detach_reset: no gradient flows through the spike in the reset of v.
        surrogate: the derivative that stands in for that of the spike in the backward pass, such as `surrogates.ATan()`.
        learn: names of the parameters that a layer trains; one may stand alone, `learn="tau"`.
        strict: at the threshold itself it does not fire yet: a spike is u > 0, as in snnTorch, Norse and NIR.

    Raises:
        ValueError, TypeError: naming the parameter, what came and what is allowed.

    Example:
        A complete neuron, with fused kernels on every backend (this also works in a notebook cell):

        >>> from tfexplore.neurons import Neuron, TimeConstant
        >>> class Leaky(Neuron):
        ...     tau: TimeConstant = 2.0
        ...     v_threshold: float = 1.0
        ...     v_reset: float = 0.0
        ...     def charge(self, v, x):
        ...         return v - v / self.tau + x
        >>> Leaky(tau=4.0).charge(1.0, 0.5)
        1.25
    """

    states: ClassVar[tuple[str, ...]] = ("v",)
    resets: ClassVar[tuple[str, ...]] = ("soft", "hard", "none")
    spiking: ClassVar[bool] = True

    reset: str = "soft"
    detach_reset: bool = True
    surrogate: Surrogate = ATan()  # noqa: RUF009  (a frozen value)
    learn: tuple[str, ...] = ()
    strict: bool = False

    # -- the equations, to be overridden -------------------------------------------------------------------------

    def charge(self, *states_and_x: Value) -> Value | tuple[Value, ...]:
        """The states with the input added, before firing: one value, or a tuple in the order of `states`."""
        raise NotImplementedError(f"{type(self).__name__} needs a method charge(self, {', '.join(self.states)}, x).")

    def threshold(self, *charged: Value) -> Value:
        """What v is compared with; `v_threshold` unless a neuron has another."""
        return self.v_threshold  # type: ignore[attr-defined]  # a parameter of every spiking neuron

    def soft(self, s: Value, v: Value, *others: Value) -> Value:
        """v after a soft reset: the threshold subtracted."""
        return v - s * self.threshold(v, *others)

    def hard(self, s: Value, v: Value, *others: Value) -> Value:
        """v after a hard reset: `v_reset`."""
        return v * (1 - s) + self.v_reset * s  # type: ignore[attr-defined]  # checked where reset="hard"

    def none(self, s: Value, v: Value, *others: Value) -> Value:
        """v without a reset."""
        return v

    def after(self, s: Value, *charged: Value) -> tuple[Value, ...]:
        """The states behind v after firing; by default they stay as charged."""
        return charged[1:]

    def initial(self) -> tuple[Value, ...]:
        """The states before the first step: v at v_reset, the others at 0."""
        return (getattr(self, "v_reset", 0.0), *(0.0 for _ in self.states[1:]))

    # -- the machinery -------------------------------------------------------------------------------------------

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Neuron.__repr__  # type: ignore[method-assign]  # dataclass would put the common fields first
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        bounds = parameters_of(type(self))
        self._check_names({*bounds, *self.states})
        for key, bound in bounds.items():
            object.__setattr__(self, key, checked(type(self).__name__, key, getattr(self, key), bound))
        self._check_options()
        object.__setattr__(self, "learn", self._checked_learn())
        self._check_thresholds()

    def _check_names(self, names: set[str]) -> None:
        """Names of parameters and states become names in generated code."""
        name = type(self).__name__
        derived = {
            f"{before}{z}{after}"
            for z in self.states
            for before in ("", "h_", "g_", "g_h_", "traced_", "g_traced_")
            for after in ("", "_next")
        }
        if taken := (RESERVED & names) | (derived & parameters_of(type(self)).keys()):
            raise ValueError(
                f"{name} cannot name a parameter or state {sorted(taken)[0]!r}: the states, what is made of their names, and "
                f"{', '.join(sorted(RESERVED))} are taken."
            )
        if taken := WORDS & names:
            raise ValueError(
                f"{name} cannot name a parameter {sorted(taken)[0]!r}: words of Python, of C++ and of the kernels are taken."
            )

    def _check_options(self) -> None:
        name = type(self).__name__
        if self.reset not in self.resets:
            allowed = ", ".join(map(repr, self.resets))
            raise ValueError(f"{name} does not admit reset={self.reset!r}; it admits {allowed}.")
        if not self.spiking and self.reset != "none":
            raise ValueError(
                f"{name} does not fire, so it has nothing to reset: give it resets = ('none',) and reset = 'none'."
            )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (bool, "bool") and not isinstance(value, bool):
                raise TypeError(f"{name}: {field.name} must be True or False, but got {value!r}.")
        if not isinstance(self.surrogate, Surrogate):
            raise TypeError(f"{name}: surrogate must be like surrogates.ATan(alpha=2.0), but got {self.surrogate!r}.")

    def _checked_learn(self) -> tuple[str, ...]:
        """`learn` as a tuple of this neuron's parameters; one name may stand alone."""
        name, parameters = type(self).__name__, parameters_of(type(self))
        learn: Any = self.learn
        learn = (learn,) if isinstance(learn, str) else learn
        if not isinstance(learn, tuple | list):
            raise TypeError(f"{name}: learn must be names of parameters, but got {learn!r}.")
        if unknown := [key for key in learn if key not in parameters]:
            raise ValueError(f"{name} cannot learn {unknown[0]!r}; its parameters are {', '.join(parameters)}.")
        return tuple(learn)

    def _check_thresholds(self) -> None:
        """The parameters that the methods of this base class use."""
        cls, parameters = type(self), parameters_of(type(self))
        if self.spiking and "v_threshold" not in parameters and cls.threshold is Neuron.threshold:
            raise TypeError(
                f"{cls.__name__} fires, so it needs a parameter v_threshold or a method threshold(self, v, ...)."
            )
        if self.reset == "hard" and "v_reset" not in parameters and cls.hard is Neuron.hard:
            raise TypeError(f"{cls.__name__} needs a parameter v_reset for its hard reset.")

    @property
    def parameters(self) -> dict[str, Any]:
        """The numbers of this neuron, by name; `Values` where there is one for each channel or neuron."""
        return {key: getattr(self, key) for key in parameters_of(type(self))}

    @property
    def shaped(self) -> tuple[str, ...]:
        """The parameters with one value for each channel or neuron."""
        return tuple(key for key, value in self.parameters.items() if isinstance(value, Values))

    def __repr__(self) -> str:
        own = [f.name for f in dataclasses.fields(self) if f.name not in COMMON]
        fields = [*own, *(f.name for f in dataclasses.fields(Neuron) if getattr(self, f.name) != f.default)]
        return f"{type(self).__name__}({', '.join(f'{key}={getattr(self, key)!r}' for key in fields)})"


def check_neuron(neuron: object) -> None:
    """Raises TypeError unless this is a neuron as a value; its class is none."""
    if not isinstance(neuron, Neuron):
        raise TypeError(f"neuron must be like neurons.LIF(tau=2.0), but got {neuron!r}.")


COMMON = frozenset(f.name for f in dataclasses.fields(Neuron))

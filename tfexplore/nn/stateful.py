"""Modules with a hidden state over time: how they are called, and what they accept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from tfexplore.nn.checks import State, check_input


class Stateful(nn.Module):
    """Base of modules with a hidden state over time: `Layer` and `Recurrent`.

    `carry` sets a state provider in `provider`, `record` a sink for traces in `sink`, `padded` the samples' lengths in `padding`.
    """

    alike = True
    """Whether every hidden state has x's shape without time."""

    def __init__(self) -> None:
        super().__init__()
        self.provider: Any = None
        self.sink: Any = None
        self.padding: Any = None

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the hidden states, in the order of the state tuple."""
        raise NotImplementedError

    @property
    def trace_names(self) -> tuple[str, ...]:
        """What `trace` may name: the charged potential, and the neuron's states."""
        return ("h", *self.state_names)

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        """The spikes, and the state after the last step, which may be () without `want_state`.

        Where asked for: within `lengths` steps of each sample, with each variable of `trace` put into `traces`.
        """
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        state: Sequence[Tensor] | None = None,
        *,
        return_state: bool = False,
        trace: str | Sequence[str] = (),
        lengths: Tensor | None = None,
    ) -> Any:
        """Runs all time steps.

        Args:
            x: the input current, `[T, B, *features]`, in float32, float64, float16 or bfloat16; any strides.
            state: the hidden state to start from, a tuple of `[B, *features]` in the order of `state_names`; None for the initial
                state, or within `carry` for the state of the last call.
            return_state: return the hidden state after the last step too.
            trace: variables to return at every step as well, with their gradients: a state as it is after the step (`"v"`), or
                `"h"`, the charged potential before the reset; one name, or several.
            lengths: the number of steps of each sample, `[B]`, for sequences of different length that are padded to T. After its
                last step a sample's state stays as it was, its spikes and traces are 0, and no gradient comes from there.

        Shape:
            - x: `[T, B, *features]`
            - each state: `[B, *features]`, in float32 (float64 for float64 input)
            - output: that of x, in x's dtype
            - each trace: that of x, in the state's dtype

        Returns:
            The spikes (of a neuron that does not spike, its potential); with `return_state` or `trace` a tuple: the spikes, the
            state, then each trace.

        Raises:
            TypeError: for an input that is no dense tensor of an allowed dtype, or a state of another length.
            ValueError: for another shape, dtype or device than is allowed, or an unknown trace; the message names the argument.
        """
        return self.called(self.run, x, state, return_state, self.traced(trace), lengths)

    def traced(self, trace: str | Sequence[str]) -> tuple[str, ...]:
        """The names in `trace`, checked."""
        if not isinstance(trace, str | tuple | list):
            raise TypeError(f"trace must be a name or several, such as 'v', but got {trace!r}.")
        names = (trace,) if isinstance(trace, str) else tuple(trace)
        if unknown := [name for name in names if name not in self.trace_names]:
            raise ValueError(
                f"a trace must be one of {', '.join(map(repr, self.trace_names))}, but got {unknown[0]!r} (the output is "
                "returned anyway)."
            )
        return names

    def called(
        self,
        run: Callable[..., Any],
        x: Tensor,
        state: Sequence[Tensor] | None,
        return_state: bool,
        trace: tuple[str, ...],
        lengths: Tensor | None,
    ) -> Any:
        """What `forward` returns, by `run`, from and to the state that a provider holds."""
        check_input(x)
        provider = self.provider if state is None else None  # an explicit state takes precedence
        given = provider.take(self) if provider is not None else state
        names = self.state_names
        if given is not None and not (
            isinstance(given, tuple | list) and len(given) == len(names) and all(isinstance(z, Tensor) for z in given)
        ):
            came = f"{len(given)} values" if isinstance(given, tuple | list) else type(given).__name__
            wanted = f"a tuple of {len(names)} tensors ({', '.join(names)}), but got {came}."
            none = f"None or () for a layer with temporal='off', but got {came}; leave it out, or set temporal = 'on'."
            raise TypeError(f"state must be {wanted if names else none}")
        if self.padding is not None:
            lengths = self.padding.take(self, x, lengths)
        start = None if given is None else tuple(given)
        traces: dict[str, Tensor] = {}
        if lengths is not None:
            run = functools.partial(run, lengths=lengths)
        if trace:
            run = functools.partial(run, trace=trace, traces=traces)
        out, after = run(x, start, return_state or provider is not None)
        if provider is not None:
            out = provider.leave(self, after, out)
        more = (*((after,) if return_state else ()), *(traces[name] for name in trace))
        return (out, *more) if more else out

    def __getstate__(self) -> dict[str, Any]:
        ours = dict.fromkeys(("provider", "sink", "padding"))  # none belongs to a copy or a saved module
        return self.__dict__ | ours

"""Modules with a hidden state over time: how they are called, and what they accept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from tfexplore.nn.checks import State, check_input


class Stateful(nn.Module):
    """Base of modules with a hidden state over time: `Layer` and `Recurrent`.

    `carry` sets a state provider in `provider`, `record` a sink for traces in `sink`, `padded` the samples' lengths in `padding`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.provider: Any = None
        self.sink: Any = None
        self.padding: Any = None

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the hidden states, in the order of the state tuple."""
        raise NotImplementedError

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        """The spikes, and the state after the last step, which may be () without `want_state`."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        state: Sequence[Tensor] | None = None,
        *,
        return_state: bool = False,
        lengths: Tensor | None = None,
    ) -> Any:
        """Runs all time steps.

        Args:
            x: the input current, `[T, B, *features]`, in float32, float64, float16 or bfloat16; any strides.
            state: the hidden state to start from, a tuple of `[B, *features]` in the order of `state_names`; None for the initial
                state, or within `carry` for the state of the last call.
            return_state: return the hidden state after the last step too.
            lengths: the number of steps of each sample, `[B]`, for sequences of different length that are padded to T.

        Shape:
            - x: `[T, B, *features]`
            - each state: `[B, *features]`, in float32 (float64 for float64 input)
            - output: that of x, in x's dtype

        Returns:
            The spikes (of a neuron that does not spike, its potential), or with `return_state` the pair (spikes, state).

        Raises:
            TypeError: for an input that is no dense tensor of an allowed dtype, or a state of another length.
            ValueError: for another shape, dtype or device than is allowed; the message names the argument.
        """
        return self.called(self.run, x, state, return_state, lengths)

    def called(
        self,
        run: Callable[..., Any],
        x: Tensor,
        state: Sequence[Tensor] | None,
        return_state: bool,
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
            raise TypeError(f"state must be a tuple of {len(names)} tensors ({', '.join(names)}), but got {came}.")
        if self.padding is not None:
            lengths = self.padding.take(self, x, lengths)
        start, asked = None if given is None else tuple(given), {} if lengths is None else {"lengths": lengths}
        out, after = run(x, start, return_state or provider is not None, **asked)
        if provider is not None:
            out = provider.leave(self, after, out)
        return (out, after) if return_state else out

    def __getstate__(self) -> dict[str, Any]:
        ours = dict.fromkeys(("provider", "sink", "padding"))  # none belongs to a copy or a saved module
        return self.__dict__ | ours

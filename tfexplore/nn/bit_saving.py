"""Layers that save their input spikes as bits for the backward pass, a thirty-second of float32, with the same gradients.

The gradient of a weight needs the layer's input, so autograd keeps it from the forward pass to the backward pass. Of spikes a bit
each is enough. The operators are PyTorch's own, and in the backward pass they are given the same tensor again: same values, dtype
and strides, hence the same gradients to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.backends import bits as executed
from tfexplore.backends.bits import Layout, untraced
from tfexplore.data.bits import Packed, complaint, unpack
from tfexplore.machine.torch_private import is_recorded, is_transformed
from tfexplore.nn.wrappers import refuse_state


class BitSaving(nn.Module):
    """A stateless module that saves its input, spikes, as bits for the backward pass.

    What autograd saves of the input is packed: the input itself, a view of it, and a copy that autocast or another layout in
    memory makes. All else is saved as it is. Without gradients, or with frozen weights, nothing is saved, and the input is not
    looked at. Under `torch.compile` the module is a graph break: it runs eagerly, and saves bits. Under a transform of
    `torch.func` it is the module as it stands.

    Input that is not 0 and 1 is refused where it would be saved; on a GPU that check waits for the device, once a call. What
    `capture` replays, or a CUDA graph, cannot be checked: some calls before its recording are.

    Args:
        module: such as `nn.Linear(...)`, `nn.Conv1d(...)`, or `FoldTime(nn.Conv2d(...))`. Its names in the `state_dict` stay
            those that it has alone.

    Shape:
        - x: what the module takes, of 0 and 1; or a `Packed` tensor, which is unpacked for the forward pass (bool and uint8
          to float32), and whose own words are saved.
        - output: the module's

    Raises:
        ValueError: for a module with a hidden state; at the call, for input other than 0 and 1.

    Example:
        >>> import torch
        >>> from tfexplore.nn import BitSaving
        >>> layer = BitSaving(torch.nn.Linear(4, 2))
        >>> spikes = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
        >>> layer(spikes).sum().backward()
        >>> layer.module.weight.grad
        tensor([[0., 1., 1., 0.],
                [0., 1., 1., 0.]])
        >>> list(layer.state_dict())
        ['weight', 'bias']
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        refuse_state(module, "BitSaving")
        self.module = module
        self.register_state_dict_post_hook(without_own_name)
        self.register_load_state_dict_pre_hook(with_own_name)

    def forward(self, x: Tensor | Packed) -> Any:
        return untraced(saving)(self.module, x)


def saving(module: nn.Module, x: Tensor | Packed) -> Any:
    """module(x), what is saved of x packed."""
    if is_transformed():  # whose tensors have no memory to look at, and which take no hooks
        return module(unpack(x, as_float(x.dtype)) if isinstance(x, Packed) else x)
    call = Call(module, x)
    try:
        with torch.autograd.graph.saved_tensors_hooks(call.save, lambda saved: saved()):
            return module(call.spikes)
    finally:
        del call.spikes  # autograd keeps the hooks, and these would keep the input


class Call:
    """What is known of one call's input while the module runs."""

    def __init__(self, module: nn.Module, x: Tensor | Packed) -> None:
        self.packed = x if isinstance(x, Packed) else None
        self.spikes = unpack(x, as_float(x.dtype)) if isinstance(x, Packed) else x
        self.layout = x.layout if isinstance(x, Packed) else Layout(word=32)
        self.own = {storage_of(each) for each in (*module.parameters(), *module.buffers())}
        self.saved: dict[tuple[Any, ...], Callable[[], Tensor]] = {}

    def save(self, tensor: Tensor) -> Callable[[], Tensor]:
        """What gives a tensor again that autograd saves: from bits where it has the input's values, else itself."""
        if tensor.layout != torch.strided or not tensor.is_floating_point() or storage_of(tensor) in self.own:
            return unchanged(tensor)
        is_input = storage_of(tensor) == storage_of(self.spikes) and tensor.dtype == self.spikes.dtype
        if not is_input and tensor.numel() != self.spikes.numel():
            return unchanged(tensor)
        if is_input and self.packed is not None:
            packed, dtype, size = self.packed, tensor.dtype, tensor.shape
            strides, offset = tensor.stride(), tensor.storage_offset()
            return lambda: unpack(packed, dtype).as_strided(size, strides, offset)
        # the input may be asked for several times; a copy is another tensor each time
        key = (tensor.shape, tensor.stride(), tensor.storage_offset(), tensor._version)
        if is_input and key in self.saved:
            return self.saved[key]
        if is_recorded():  # the values cannot be looked at: the calls before have been
            return as_bits(tensor, self.layout)[0] if is_input else unchanged(tensor)
        again, wrong = as_bits(tensor, self.layout)
        if wrong:
            check(self.spikes, self.layout)
            return unchanged(tensor)  # of the input's size, and something else
        if is_input:
            self.saved[key] = again
        return again


def as_float(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.float32


def storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def as_bits(tensor: Tensor, layout: Layout) -> tuple[Callable[[], Tensor], Tensor]:
    """What gives the tensor again, of the same strides, from its bits; and whether it has values that these cannot hold."""
    size, strides, dtype = tensor.shape, tensor.stride(), tensor.dtype
    # of what is repeated, one
    single = tensor.detach()[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)]
    order = sorted(range(tensor.ndim), key=single.stride, reverse=True)
    lying = single.permute(order)  # as it lies in memory
    without_gaps, count, sizes = lying.is_contiguous(), lying.numel(), (single.shape, lying.shape)
    words, wrong = executed.pack(lying.reshape(1, -1, 1), layout, False)

    def again() -> Tensor:
        values = executed.unpack(words, count, layout, dtype)
        if without_gaps:
            return values.as_strided(size, strides)
        made = values.new_empty_strided(sizes[0], strides)
        made.permute(order).copy_(values.view(sizes[1]))
        return made.expand(size)

    return again, wrong


def unchanged(tensor: Tensor) -> Callable[[], Tensor]:
    """The tensor itself; as autograd does, it is refused where it has been changed in place since."""
    tensor = tensor.detach()  # else the module's output would keep its graph alive, and that the output
    version = tensor._version

    def again() -> Tensor:
        if tensor._version != version:
            raise RuntimeError(
                f"A tensor {list(tensor.shape)} that BitSaving's module saved for backward was changed in place since: version "
                f"{tensor._version} instead of {version}."
            )
        return tensor

    return again


def check(spikes: Tensor, layout: Layout) -> None:
    """Raises ValueError unless bits can hold the input."""
    if executed.pack(spikes.detach().reshape(1, -1, 1), layout, False)[1]:
        raise ValueError(
            f"BitSaving saves its input as bits: {complaint(spikes.detach(), layout.bits)}; leave this layer as it is."
        )


def without_own_name(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """The names of what is wrapped, as it has them alone: `weight` for `module.weight`."""
    for key in [key for key in state if key.startswith(f"{prefix}module.")]:
        state[prefix + key.removeprefix(f"{prefix}module.")] = state.pop(key)


def with_own_name(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """The reverse."""
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}module.{key.removeprefix(prefix)}"] = state.pop(key)

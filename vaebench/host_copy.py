"""Copies many small tensors from a GPU in one transfer: each transfer waits for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, NDArray]:
    """The values of tensors as arrays, bit for bit; those on one GPU are copied together."""
    copied = {name: tensor for name, tensor in tensors.items() if tensor.device.type != "cpu"}
    if not copied:
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    device = next(iter(copied.values())).device
    together = {name: tensor for name, tensor in copied.items() if tensor.device == device}
    found = dict(zip(together, unpack(pack(list(together.values())).cpu(), list(together.values())), strict=True))
    return {name: (found[name] if name in found else tensor.cpu()).numpy() for name, tensor in tensors.items()}


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """The bytes of tensors of any dtype and shape -> uint8 (number of bytes,), on the same device."""
    return torch.cat([tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in tensors])


def unpack(content: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `pack`: tensors with the dtypes and shapes of `like`."""
    parts = content.split([tensor.numel() * tensor.element_size() for tensor in like])
    # a copy of each part starts at an address that suits its dtype
    return [part.clone().view(tensor.dtype).reshape(tensor.shape) for part, tensor in zip(parts, like, strict=True)]

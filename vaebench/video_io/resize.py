"""From frames of any size to a clip: resized to cover `size`, antialiased, centre crop.

The resize stays in integers (uint8 in, uint8 out, 16-bit fixed-point weights, rounded after each of its two passes), as
Pillow's does: whole-number sums have one value in any order, so every processor, with or without vector units, gives the
same pixels.  Float sums do not, and a last bit decides how a pixel is rounded.  Sizes follow torchvision's `Resize` and
`CenterCrop`, which the field's scripts use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from vaebench.frame_size import Size, parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def clip(frames: Iterable[NDArray[np.uint8]], size: Size) -> Tensor:
    """uint8 frames (H, W, 3) -> uint8 (3, T, height, width).  One frame is held at full size at a time."""
    return torch.stack([fit(torch.from_numpy(frame), size) for frame in frames], dim=1)


def fit(frame: Tensor, size: Size) -> Tensor:
    """uint8 (H, W, 3) -> uint8 (3, height, width) of `size`: the smallest image that covers it, of which the middle is kept."""
    height, width = parse(size)
    tall, wide = covering(frame.shape[0], frame.shape[1], size)
    image = frame.permute(2, 0, 1)[None]  # a view: the kernel reads channels-last, as decoders write
    if (tall, wide) != frame.shape[:2]:
        image = F.interpolate(image, (tall, wide), mode="bilinear", antialias=True)
    top, left = round((tall - height) / 2), round((wide - width) / 2)
    return image[0, :, top : top + height, left : left + width].contiguous()


def covering(height: int, width: int, size: Size) -> tuple[int, int]:
    """Height and width of a frame after the resize: one side is that of `size`, the other at least as long."""
    tall, wide = parse(size)
    if tall * width >= wide * height:
        return tall, tall * width // height
    return wide * height // width, wide

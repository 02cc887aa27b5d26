"""From frames of any size to a clip: short side to `size`, antialiased, centre crop.

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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def clip(frames: Iterable[NDArray[np.uint8]], size: int) -> Tensor:
    """uint8 frames (H, W, 3) -> uint8 (3, T, size, size).  One frame is held at full size at a time."""
    return torch.stack([fit(torch.from_numpy(frame), size) for frame in frames], dim=1)


def fit(frame: Tensor, size: int) -> Tensor:
    """uint8 (H, W, 3) -> uint8 (3, size, size): the short side becomes `size`, the middle is kept."""
    height, width, _ = frame.shape
    short = min(height, width)
    tall, wide = int(size * height / short), int(size * width / short)
    image = frame.permute(2, 0, 1)[None]  # a view: the kernel reads channels-last, as decoders write
    if short != size:
        image = F.interpolate(image, (tall, wide), mode="bilinear", antialias=True)
    top, left = round((tall - size) / 2), round((wide - size) / 2)
    return image[0, :, top : top + size, left : left + size].contiguous()

"""From frames of any size to a clip: resized to cover `size`, centre crop.

`FILTERS` are the ways to resize; a protocol chooses one.  The default, "antialiased", stays in integers (uint8 in, uint8 out,
16-bit fixed-point weights, rounded after each of its two passes), as Pillow's does: whole-number sums have one value in any
order, so every processor, with or without vector units, gives the same pixels.  Float sums do not, and a last bit decides how a
pixel is rounded.  Sizes follow torchvision's `Resize` and
`CenterCrop`, which the field's scripts use.

    antialiased   bilinear with antialiasing, in integers
    float         bilinear with antialiasing in float32, not rounded: the result is float32 in 0..1 (WF-VAE, VidTok)
    bilinear      bilinear without antialiasing, as cv2.resize and decord do, rounded to the nearest integer
    lanczos       Lanczos with antialiasing, as Pillow's `Image.resize` (mediapy, and with it TokenBench)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from vaebench.frame_size import Size, parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def clip(frames: Iterable[NDArray[np.uint8]], size: Size, how: str = "antialiased") -> Tensor:
    """uint8 frames (H, W, 3) -> uint8 (3, T, height, width), or float32 in 0..1.  One frame is held at full size at a time.

    Args:
        how: one of FILTERS
    """
    return torch.cat(list(pieces(frames, size, how)), dim=1)


def pieces(frames: Iterable[NDArray[np.uint8]], size: Size, how: str = "antialiased") -> Iterator[Tensor]:
    """The frames of `clip`, (3, 1, height, width) each."""
    for frame in frames:
        yield fit(torch.from_numpy(frame), size, how).unsqueeze(1)


def fit(frame: Tensor, size: Size, how: str = "antialiased") -> Tensor:
    """uint8 (H, W, 3) -> (3, height, width) of `size`: the smallest image that covers it, of which the middle is kept."""
    height, width = parse(size)
    tall, wide = covering(frame.shape[0], frame.shape[1], size)
    image = frame.permute(2, 0, 1)[None]  # a view: the kernel reads channels-last, as decoders write
    if how == "float":
        image = image.float() / 255
    if (tall, wide) != frame.shape[:2]:
        image = FILTERS[how](image, (tall, wide))
    top, left = round((tall - height) / 2), round((wide - width) / 2)
    return image[0, :, top : top + height, left : left + width].contiguous()


def covering(height: int, width: int, size: Size) -> tuple[int, int]:
    """Height and width of a frame after the resize: one side is that of `size`, the other at least as long."""
    tall, wide = parse(size)
    if tall * width >= wide * height:
        return tall, tall * width // height
    return wide * height // width, wide


def _antialiased(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def _bilinear(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image.float(), size, mode="bilinear", antialias=False).round_().to(torch.uint8)


def _lanczos(image: Tensor, size: tuple[int, int]) -> Tensor:
    import numpy as np
    from PIL import Image

    pixels = Image.fromarray(np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()))
    resized = pixels.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]


# each takes (1, 3, H, W), uint8 or for "float" float32 in 0..1, and returns the same dtype at (height, width)
FILTERS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "antialiased": _antialiased,
    "float": _antialiased,
    "bilinear": _bilinear,
    "lanczos": _lanczos,
}

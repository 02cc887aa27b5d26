"""Resize frames to cover `size`, crop the centre, and stack them to a clip.

`FILTERS` are the available filters; a protocol chooses one.  The default, "antialiased", computes in integers as Pillow does
(uint8 input and output, 16-bit fixed-point weights, rounding after each of the two passes).  Integer sums do not depend on the
order of summation, so all processors give identical pixels.  Float sums differ in the last bit, which can change the rounding of
a pixel.  Sizes are those of torchvision's `Resize` and `CenterCrop`, which the scripts of the field use.

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
    """Resize and stack frames; only one frame at a time is in memory at full size.

    Args:
        frames: uint8 (H, W, 3) each
        size: height and width of the clip
        how: name of a filter in FILTERS

    Returns:
        uint8 (3, T, height, width), or float32 in 0..1 if `how` is "float"
    """
    return torch.cat(list(pieces(frames, size, how)), dim=1)


def pieces(frames: Iterable[NDArray[np.uint8]], size: Size, how: str = "antialiased") -> Iterator[Tensor]:
    """The frames of `clip`, (3, 1, height, width) each."""
    for frame in frames:
        yield fit(torch.from_numpy(frame), size, how).unsqueeze(1)


def fit(frame: Tensor, size: Size, how: str = "antialiased") -> Tensor:
    """uint8 (H, W, 3) -> (3, height, width): resized to the smallest image that covers `size`, then centre-cropped."""
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
    """Height and width of a frame after the resize: one side equals that of `size`, the other is at least as long."""
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


# (1, 3, H, W) -> (1, 3, height, width) of the same dtype: uint8, or for "float" float32 in 0..1
FILTERS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "antialiased": _antialiased,
    "float": _antialiased,
    "bilinear": _bilinear,
    "lanczos": _lanczos,
}

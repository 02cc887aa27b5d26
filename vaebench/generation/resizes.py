"""How published tools resize a frame to `size`, by name and exact to the pixel, beside `vaebench.video_io.resize`.

latte            Latte's loaders: bilinear without antialiasing, in floats; a video's short side first and then the middle,
                 an image's middle first (github.com/Vchitect/Latte at b27c24a1)
latte-tool       Latte's frames for FVD: the middle square, then Lanczos
styleganv-tool   StyleGAN-V's frames for FVD: Lanczos, then the middle (github.com/universome/stylegan-v at 3fecd69c)
cdfvd            cd-fvd's loader: short side rounded up, antialiased, in floats (songweige/content-debiased-fvd, a1e037ab)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vaebench.video_io import resize

Resize = Callable[[Tensor, int], Tensor]  # uint8 (H, W, 3) -> (3, size, size), uint8 or float32 in 0..255
NAMES = ("antialiased", "latte", "latte-tool", "styleganv-tool", "cdfvd")


def find(name: str, *, images: bool) -> Resize:
    """The resize called `name`, for frames of a video or for images.

    Raises:
        ValueError: unknown name
    """
    known = (resize.fit, latte_image if images else latte_video, latte_tool, styleganv_tool, cdfvd)
    if name not in NAMES:
        raise ValueError(f"no resize {name!r} (available: {', '.join(NAMES)})")
    return known[NAMES.index(name)]


def latte_video(frame: Tensor, size: int) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, size, size) in 0..255: the short side to `size`, then the middle."""
    image = frame.permute(2, 0, 1)[None].float()
    factor = size / min(image.shape[2:])  # itself the coordinates' scale, though 341.3 columns become 341
    return _middle(F.interpolate(image, scale_factor=factor, mode="bilinear")[0], size)


def latte_image(frame: Tensor, size: int) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, size, size) in 0..255: the middle square, then to `size`."""
    square = _middle(frame.permute(2, 0, 1), min(frame.shape[:2]))
    return F.interpolate(square[None].float(), (size, size), mode="bilinear")[0]


def latte_tool(frame: Tensor, size: int) -> Tensor:
    """uint8 (H, W, 3) -> uint8 (3, size, size)."""
    square = _middle(frame.permute(2, 0, 1), min(frame.shape[:2]))
    return _lanczos(square, size, size)


def styleganv_tool(frame: Tensor, size: int) -> Tensor:
    """uint8 (H, W, 3) -> uint8 (3, size, size)."""
    height, width, _ = frame.shape
    short = min(height, width)
    return _middle(_lanczos(frame.permute(2, 0, 1), int(size * height / short), int(size * width / short)), size)


def cdfvd(frame: Tensor, size: int) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, size, size) in 0..255."""
    height, width, _ = frame.shape
    short = min(height, width)
    tall, wide = math.ceil(height * size / short), math.ceil(width * size / short)
    image = F.interpolate(frame.permute(2, 0, 1)[None].float(), (tall, wide), mode="bilinear", antialias=True)[0]
    top, left = (tall - size) // 2, (wide - size) // 2
    return image[:, top : top + size, left : left + size]


def _middle(image: Tensor, size: int) -> Tensor:
    """(3, H, W) -> (3, size, size), odd margins rounded half to even as torchvision's `CenterCrop` does."""
    top, left = (round((side - size) / 2) for side in image.shape[1:])
    return image[:, top : top + size, left : left + size]


def _lanczos(image: Tensor, height: int, width: int) -> Tensor:
    """uint8 (3, H, W) -> uint8 (3, height, width), by Pillow."""
    from PIL import Image

    pixels = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    resized = np.array(pixels.resize((width, height), Image.Resampling.LANCZOS))
    return torch.from_numpy(resized).permute(2, 0, 1)

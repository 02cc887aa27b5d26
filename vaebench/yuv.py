"""RGB and the luma and chroma of video files: BT.709, limited range, 8 bits, chroma at half size (4:2:0).

The arithmetic is in float64: the rounding of float32 differs between machines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing this module does not import torch
    import torch

LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709: weights of red, green and blue


def to_luma(rgb: torch.Tensor) -> torch.Tensor:
    """float (3, ...) in 0..1 -> uint8 (...) luma, 16 (black) to 235 (white), on the CPU."""
    import torch

    return (16 + 219 * _luma(rgb.double().cpu())).round().to(torch.uint8)


def to_yuv(frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float (3, H, W) RGB in -1..1, H and W even -> uint8 luma (H, W) and chroma (2, H/2, W/2), on the CPU.

    Chroma is the mean of 2x2 pixels, so it lies in their centre.
    """
    import torch
    import torch.nn.functional as F

    rgb = (frame.double().clamp(-1, 1).cpu() + 1) / 2
    luma = _luma(rgb)
    red, _, blue = LUMA
    chroma = torch.stack([(rgb[2] - luma) / (2 * (1 - blue)), (rgb[0] - luma) / (2 * (1 - red))])  # Cb, Cr in -0.5..0.5
    chroma = F.avg_pool2d(chroma[None], 2)[0]
    return (16 + 219 * luma).round().to(torch.uint8), (128 + 224 * chroma).round().to(torch.uint8)


def to_rgb(luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_yuv`, with bilinear interpolation of chroma -> float32 (3, H, W) in -1..1, clamped."""
    import torch
    import torch.nn.functional as F

    y = (luma.double() - 16) / 219
    wide = F.interpolate((chroma.double()[None] - 128) / 224, size=y.shape, mode="bilinear", align_corners=False)[0]
    red, green, blue = LUMA
    b, r = y + 2 * (1 - blue) * wide[0], y + 2 * (1 - red) * wide[1]
    g = (y - red * r - blue * b) / green
    return (torch.stack([r, g, b]) * 2 - 1).clamp_(-1, 1).float()


def _luma(rgb: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.einsum("c,c...->...", torch.tensor(LUMA, dtype=torch.float64), rgb)

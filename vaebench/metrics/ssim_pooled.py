"""SSIM of VidTok: frames are first averaged over blocks of round(min(H, W) / 256) pixels, then scored as by `ssim`.

It equals `ssim` for frames whose short side is below 384 pixels; larger frames score higher, 0.04 at 512 pixels after JPEG
compression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from vaebench.features.validation import check
from vaebench.metrics.ssim import SSIM

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vaebench.video import Video


class PooledSSIM(SSIM):
    """
    >>> import torch
    >>> from vaebench.metrics.ssim import SSIM
    >>> reference = torch.rand(1, 3, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    >>> blurred = reference * 0.5 + 0.25
    >>> half = [F.avg_pool2d(video[:, :, 0], 2)[:, :, None] for video in (reference, blurred)]  # 256x256
    >>> bool(PooledSSIM().measure(reference, blurred) == SSIM().measure(*half))
    True
    """

    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, n, H, W) in 0..1, for both arguments -> float64 (B, n), the SSIM of each frame."""
        check(reference, reconstruction)
        block = max(1, round(min(reference.shape[-2:]) / 256))
        return super().frame_values(_averaged(reference, block), _averaged(reconstruction, block))


def _averaged(video: Video, block: int) -> Video:
    """(B, 3, T, H, W) -> (B, 3, T, H // block, W // block)."""
    batch, channels, frames, height, width = video.shape
    small = F.avg_pool2d(video.reshape(-1, 1, height, width), block)
    return small.view(batch, channels, frames, *small.shape[-2:])


def build(device: torch.device | str) -> PooledSSIM:
    return PooledSSIM()

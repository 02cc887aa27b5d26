"""PSNR of VidTok: 1e-8 is added to the MSE of each frame, so that an exact frame scores 80 dB; mean over frames, then over clips.

`psnr` has the floor of 8-bit rounding instead, 58.92 dB; below 50 dB the two agree to 0.005 dB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vaebench.metrics.psnr import PSNR, frame_mse

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.video import Video

EPSILON = 1e-8


class PSNREps8(PSNR):
    """
    >>> reference = torch.full((1, 3, 5, 8, 8), 100 / 255)
    >>> round(float(PSNREps8().measure(reference, reference)), 2)
    80.0
    >>> round(float(PSNREps8().measure(reference, reference + 4 / 255)), 2)  # as `psnr`
    36.09
    """

    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, n, H, W) in 0..1, for both arguments -> float64 (B, n), the PSNR of each frame in dB."""
        return -10 * torch.log10(frame_mse(reference, reconstruction).double() + EPSILON)


def build(device: torch.device | str) -> PSNREps8:
    return PSNREps8()

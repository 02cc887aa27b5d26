"""PSNR of TokenBench: of the RMSE over all frames of a clip in 8-bit levels, to which float32's epsilon is added; mean over clips.

It equals `psnr_pooled` for clips below 58.92 dB; an exact clip scores 186.6 dB and dominates the mean, which
`psnr_pooled` prevents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vaebench.features.validation import mean_over_clips
from vaebench.metric import FrameMetric
from vaebench.metrics.psnr import frame_mse
from vaebench.records import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

EPSILON = torch.finfo(torch.float32).eps


class TokenBenchPSNR(FrameMetric):
    """
    >>> reference = torch.full((1, 3, 2, 8, 8), 100 / 255)
    >>> reconstruction = reference + torch.tensor([2, 8]).view(1, 1, 2, 1, 1) / 255  # off by 2 of 255, then by 8
    >>> round(float(TokenBenchPSNR().measure(reference, reconstruction)), 2)
    32.82
    >>> round(float(TokenBenchPSNR().measure(reference, reference)), 1)
    186.6
    """

    unit = "dB"
    better: Better = "higher"
    version = 1
    per_clip = True

    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, n, H, W) in 0..1, for both arguments -> float64 (B, n), the mean squared error of each frame."""
        return frame_mse(reference, reconstruction).double()

    def combine(self, values: Tensor) -> Tensor:
        """Mean squared errors (B, T) -> (B,) in dB."""
        rmse = 255 * values.mean(dim=1).sqrt()
        return 20 * torch.log10(255 / (rmse + EPSILON))

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> dB."""
        return mean_over_clips(statistics)


def build(device: torch.device | str) -> TokenBenchPSNR:
    return TokenBenchPSNR()

"""PSNR of the MSE over all frames of a clip, averaged over clips, as for video codecs (TokenBench: `psnr_tokenbench`).

By Jensen's inequality it is never higher than `psnr`, the mean over frames: for a clip whose frames have a standard deviation
of 3 dB it is 1 dB lower.  The MSE has the same floor, the error of 8-bit rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaebench.features.validation import mean_over_clips
from vaebench.metric import FrameMetric
from vaebench.metrics.psnr import decibels, frame_mse
from vaebench.records import Better

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video


class PooledPSNR(FrameMetric):
    """
    >>> import torch
    >>> from vaebench.metrics.psnr import PSNR
    >>> reference = torch.full((1, 3, 2, 8, 8), 100 / 255)
    >>> reconstruction = reference + torch.tensor([2, 8]).view(1, 1, 2, 1, 1) / 255  # off by 2 of 255, then by 8
    >>> round(float(PooledPSNR().measure(reference, reconstruction)), 2)
    32.82
    >>> round(float(PSNR().measure(reference, reconstruction)), 2)
    36.09
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
        return decibels(values.mean(dim=1))

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> dB."""
        return mean_over_clips(statistics)


def build(device: torch.device | str) -> PooledPSNR:
    return PooledPSNR()

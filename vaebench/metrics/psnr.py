"""PSNR of each frame, averaged over frames, then over clips.

The MSE is at least 1/12 of a squared 8-bit level, the error of rounding: an exact frame scores 58.92 dB, not infinity, 80 or
100, so that a single exact frame cannot dominate the mean of a clip.  The mean over frames is the common definition in papers
on video VAEs; `psnr_pooled` is the alternative and is never higher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vaebench.features.validation import check, mean_over_clips
from vaebench.metric import FrameMetric
from vaebench.records import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

MSE_FLOOR = 1 / 12 / 255**2  # for values in 0..1: variance of a uniform error with a width of one 8-bit level


def decibels(mse: Tensor) -> Tensor:
    """Mean squared error of values in 0..1 -> float64 dB, at most 58.92."""
    return -10 * torch.log10(mse.double().clamp_min(MSE_FLOOR))


def frame_mse(reference: Video, reconstruction: Video) -> Tensor:
    """Two videos (B, 3, n, H, W) -> float32 (B, n), the mean squared error of each frame."""
    check(reference, reconstruction)
    return (reference - reconstruction).square_().mean(dim=(1, 3, 4))


class PSNR(FrameMetric):
    """
    >>> reference = torch.full((1, 3, 5, 8, 8), 100 / 255)
    >>> metric = PSNR()
    >>> statistics = metric.measure(reference, reference + 4 / 255)  # every value is off by 4 of 255
    >>> round(metric.reduce(statistics.numpy()), 2)
    36.09
    >>> round(metric.reduce(metric.measure(reference, reference).numpy()), 2)
    58.92
    """

    unit = "dB"
    better: Better = "higher"
    version = 1
    per_clip = True

    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, n, H, W) in 0..1, for both arguments -> float64 (B, n), the PSNR of each frame in dB."""
        return decibels(frame_mse(reference, reconstruction))

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> dB."""
        return mean_over_clips(statistics)


def build(device: torch.device | str) -> PSNR:
    return PSNR()

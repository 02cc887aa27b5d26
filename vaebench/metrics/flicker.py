"""Flicker: the difference between the frame-to-frame changes of reconstruction and reference, in 8-bit levels.

The mean of |(y[t+1] - y[t]) - (x[t+1] - x[t])| over pixels, channels and time.  Motion in the reference does not count, and
neither does a constant error (a shift of colour, a steady blur): only errors that change over time do.  The squared form is
the dtSSD of video matting (Erofeev et al. 2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaebench.features.validation import check, mean_over_clips
from vaebench.metric import FrameMetric
from vaebench.records import Better

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video


class Flicker(FrameMetric):
    """
    >>> import torch
    >>> reference = torch.full((1, 3, 4, 8, 8), 100 / 255)
    >>> lit = reference.clone()
    >>> lit[:, :, ::2] += 5 / 255  # every other frame is brighter by 5 levels
    >>> round(float(Flicker().measure(reference, lit)), 3)
    5.0
    >>> round(float(Flicker().measure(reference, reference + 5 / 255)), 3)  # a constant error does not flicker
    0.0
    """

    unit = "levels"  # of 255
    better: Better = "lower"
    version = 1
    per_clip = True
    min_frames = 2
    overlap = 1

    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, n, H, W) in 0..1, n >= 2, for both arguments -> float64 (B, n - 1) in 8-bit levels, one per frame pair."""
        check(reference, reconstruction, frames=self.min_frames)
        error = reconstruction - reference  # the difference of differences is the difference of errors
        change = (error[:, :, 1:] - error[:, :, :-1]).abs_()  # (B, 3, T-1, H, W)
        return 255 * change.mean(dim=(3, 4)).double().mean(dim=1)

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> 8-bit levels."""
        return mean_over_clips(statistics)


def build(device: torch.device | str) -> Flicker:
    return Flicker()

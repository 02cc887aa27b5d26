"""SSIM with a uniform window of 7x7 and the sample covariance, per frame, averaged over channels and frames, then over clips.

These are the defaults of scikit-image's `structural_similarity`, which TokenBench uses; borders of 3 pixels are excluded.  `ssim`
has the Gaussian window of the original paper; on JPEG-compressed frames it is 0.003 to 0.006 lower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from vaebench.features.validation import check, mean_over_clips
from vaebench.metric import FrameMetric
from vaebench.records import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

WINDOW = 7
SAMPLE = WINDOW**2 / (WINDOW**2 - 1)  # from the population covariance to that of a sample
C1, C2 = 0.01**2, 0.03**2  # for values in 0..1


class UniformSSIM(FrameMetric):
    """
    >>> x = torch.arange(32) / 255
    >>> reference = (x + x[:, None]).expand(1, 3, 2, 32, 32)  # a ramp of 0 to 62 levels
    >>> round(float(UniformSSIM().measure(reference, reference + 10 / 255)), 3)  # brighter by 10
    0.948
    >>> round(float(UniformSSIM().measure(reference, reference)), 3)
    1.0
    """

    unit = ""
    better: Better = "higher"
    version = 1
    per_clip = True

    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, n, H, W) in 0..1, H and W >= 7, for both arguments -> float64 (B, n), 1 for equal frames."""
        check(reference, reconstruction, side=WINDOW)
        frames = zip(
            reference.unbind(2), reconstruction.unbind(2), strict=True
        )  # one at a time: float64 maps are large
        return torch.stack([_ssim(x.double(), y.double()) for x, y in frames], dim=1)

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> mean SSIM."""
        return mean_over_clips(statistics)


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    """float64 (B, 3, H, W) in 0..1, twice -> (B,)."""

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, WINDOW, stride=1)

    mx, my = mean(x), mean(y)
    variances = SAMPLE * (mean(x * x + y * y) - mx * mx - my * my)
    covariance = SAMPLE * (mean(x * y) - mx * my)
    similar = (2 * mx * my + C1) * (2 * covariance + C2) / ((mx * mx + my * my + C1) * (variances + C2))
    return similar.mean(dim=(1, 2, 3))


def build(device: torch.device | str) -> UniformSSIM:
    return UniformSSIM()

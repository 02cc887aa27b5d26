"""FVD (Unterthiner et al. 2018): the Fréchet distance between I3D features of all references and all reconstructions.

It is a single distance between two sets of clips, with covariances over n - 1 and the features of StyleGAN-V's I3D in float64.
Its upward bias is about 1/n: compare values only for equal numbers of clips and frames.
(The script of WF-VAE uses batches of one clip, for which no covariance exists: see `i3d_l2`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaebench.features.frechet import frechet
from vaebench.features.i3d_torchscript import MIN_FRAMES, Extractor, extractor
from vaebench.metric import Metric
from vaebench.records import Better

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

FEW = 256  # with fewer clips, the bias is as large as the differences between VAEs


class FVD(Metric):
    """
    Args:
        i3d: extractor of I3D features; `reduce` does not use it

    >>> import numpy as np
    >>> features = np.random.default_rng(0).standard_normal((300, 5))
    >>> statistics = np.stack([features, features + 3], axis=1)  # (300, 2, 5): one covariance, means 3 apart in 5 features
    >>> round(FVD(i3d=None).reduce(statistics), 6)
    45.0
    """

    unit = ""
    better: Better = "lower"
    version = 1
    per_clip = False
    min_frames = MIN_FRAMES
    square = True  # tools differ in how they make other frames square: some stretch, some crop

    def __init__(self, i3d: Extractor) -> None:
        self.i3d = i3d

    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, T, H, H) in 0..1, T >= 9, for both arguments -> float64 (B, 2, 400) features."""
        return self.i3d.pair(reference, reconstruction)

    def measure_known(self, reference: Video, reconstruction: Video, digest: bytes) -> Tensor:
        """As `measure`, for a single clip; features of references are remembered by their digest."""
        return self.i3d.pair(reference, reconstruction, digest)

    def reduce(self, statistics: NDArray) -> float:
        """(N, 2, 400) -> FVD.

        Raises:
            ValueError: there are fewer than two clips
        """
        if len(statistics) < 2:
            raise ValueError(f"FVD compares two sets of clips and needs at least 2 clips, got {len(statistics)}")
        return frechet(statistics[:, 0], statistics[:, 1])

    def caution(self, n: int) -> str:
        """A warning about the bias if `n` is small; otherwise ""."""
        return (
            f"FVD of {n} clips is biased upwards; compare it only at equal n, and use {FEW} or more" if n < FEW else ""
        )


def build(device: torch.device | str) -> FVD:
    return FVD(extractor(device))

"""The Fréchet distance between VideoMAE features of references and reconstructions ("content-debiased" FVD, Ge et al. 2024).

The features of cd-fvd (`vaebench.features.videomae`) react to motion where I3D's hardly do.  The network sees 16 frames: a clip is
cut into windows of 16 consecutive frames from its start, a shorter rest is not used, and every window is a sample.  Covariances
are over n - 1 windows.  The upward bias is about 1/n: compare values only for equal numbers of clips and frames.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vaebench import weights
from vaebench.features import videomae
from vaebench.features.frechet import frechet
from vaebench.features.validation import check, full_precision
from vaebench.metric import Metric
from vaebench.records import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

WINDOW = 16  # frames
FEW = 256  # windows: with fewer, the bias is as large as the differences between VAEs


class VideoMAEFVD(Metric):
    """
    Args:
        features: float32 (N, 3, 16, H, W) in 0..1 -> (N, d); `reduce` does not use it

    >>> import numpy as np
    >>> features = np.random.default_rng(0).standard_normal((150, 2, 1, 5))
    >>> statistics = np.concatenate([features, features + 3], axis=2).transpose(0, 2, 1, 3)  # (150, 2, 2, 5): means 3 apart
    >>> round(VideoMAEFVD(None).reduce(statistics), 6)
    45.0
    """

    unit = ""
    better: Better = "lower"
    version = 1
    per_clip = False
    min_frames = WINDOW

    def __init__(self, features: Callable[[Tensor], Tensor]) -> None:
        self.features = features

    @torch.inference_mode()
    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, T, H, W) in 0..1, T >= 16, for both arguments -> float64 (B, 2, T // 16, 1408) features."""
        check(reference, reconstruction, frames=WINDOW)
        return torch.stack([self._windows(reference), self._windows(reconstruction)], dim=1)

    def _windows(self, video: Video) -> Tensor:
        count = video.shape[2] // WINDOW
        windows = [video[:, :, k * WINDOW : (k + 1) * WINDOW] for k in range(count)]
        with full_precision():
            return torch.stack([self.features(window).double().cpu() for window in windows], dim=1)

    def reduce(self, statistics: NDArray) -> float:
        """(N, 2, windows, 1408) -> the distance.

        Raises:
            ValueError: there are fewer than two windows
        """
        reference, reconstruction = (statistics[:, k].reshape(-1, statistics.shape[-1]) for k in (0, 1))
        if len(reference) < 2:
            raise ValueError(f"this distance needs at least 2 windows of {WINDOW} frames, got {len(reference)}")
        return frechet(reference, reconstruction)

    def caution(self, n: int) -> str:
        """A warning about the bias if `n` clips are few; otherwise ""."""
        if n >= FEW:
            return ""
        return f"the distance of {n} clips is biased upwards; compare it only at equal n, and use {FEW} or more"


def build(device: torch.device | str) -> VideoMAEFVD:
    network = _load(weights.verified("videomae_ssv2"), torch.device(device))
    return VideoMAEFVD(lambda video: network(videomae.prepared(video)))


@cache
def _load(file: Path, device: torch.device) -> videomae.VideoMAE:
    return videomae.load(file).to(device)

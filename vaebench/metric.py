"""A metric is two pure halves: a statistic per clip, and the reduction of all statistics to a number.

PSNR keeps one number per clip and reduces by mean; FVD keeps features per clip and reduces by Fréchet distance.  So
every statistic can be stored, resumed, sharded, re-reduced and resampled, and no metric touches the runner.
A metric is one module `vaebench/metrics/<name>.py` with `build(device) -> Metric`; another definition is another module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.records import Better
    from vaebench.video import Video


class Metric(Protocol):
    """`build` raises `vaebench.weights.Unavailable` where a weight file is missing: the score is then absent, with the reason.

    A metric whose score of a clip is a mean over frames, or over steps between them, may also offer
    `by_frame(reference, reconstruction) -> (B, T)`, and `measure` is its mean: the blockwise suite draws the curve.
    """

    unit: str  # "dB", "" for a pure number
    better: Better
    version: int  # raised when a number would change
    per_clip: bool  # statistics are scalars and `reduce` is their mean: a clip has a score of its own

    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, T, H, W) in 0..1 on the 8-bit grid, twice -> (B, ...) one statistic per clip."""
        ...

    def reduce(self, statistics: NDArray) -> float:
        """(N, ...) -> the number; ValueError where N is too small for it to mean anything."""
        ...

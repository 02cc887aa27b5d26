"""A metric is two pure halves: a statistic per clip, and the reduction of all statistics to a number.

PSNR keeps one number per clip and reduces by mean; FVD keeps features per clip and reduces by Fréchet distance.  So
every statistic can be stored, resumed, sharded, re-reduced and resampled, and no metric touches the runner.
A metric is one module `vaebench/metrics/<name>.py` with `build(device) -> Metric`; another definition is another module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    import torchmetrics
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.records import Better
    from vaebench.video import Video


class Metric(ABC):
    """`measure` and `reduce` are required; everything else has a default.

    `build` raises `vaebench.weights.Unavailable` where a weight file is missing: the score is then absent, with the reason.
    """

    unit: str = ""  # "dB"; "" for a pure number
    better: Better = "neither"
    version: int = 1  # raised when a number would change
    per_clip: bool = True  # statistics are scalars and `reduce` is their mean: a clip has a score of its own
    min_frames: int = 1  # of a clip; shorter clips are not measured

    @abstractmethod
    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """The statistic of each clip.

        Args:
            reference: float32 (B, 3, T, H, W) in 0..1 on the 8-bit grid, T >= `min_frames`
            reconstruction: the same shape and range

        Returns:
            (B, ...), one statistic per clip

        Raises:
            ValueError: two shapes, too few frames, or frames that are too small
        """

    @abstractmethod
    def reduce(self, statistics: NDArray) -> float:
        """(N, ...) statistics -> the score; ValueError where N is too small for it to mean anything."""

    def by_frame(self, reference: Video, reconstruction: Video) -> Tensor | None:
        """The curve behind a statistic: (B, T) scores of frames, or (B, T - 1) of steps, whose mean is `measure`.

        Arguments as of `measure`.  None (the default) where a clip's score is not a mean over time.
        """
        return None

    def caution(self, n: int) -> str:
        """What a reader must know of the score of `n` clips; "" (the default) where nothing."""
        return ""


def torchmetric(name: str, device: torch.device | str = "cpu") -> torchmetrics.Metric:
    """The metric `name` of `vaebench list metrics` as a `torchmetrics.Metric`, to log from a trainer.

    `update(preds, target)` takes float (B, 3, T, H, W) in 0..1, `compute()` gives the benchmark's score of all clips of all
    processes.  Call `update` per batch, not the metric itself, where one batch is too small for a score (FVD).

    Args:
        name: "psnr", "fvd", ...
        device: where the metric's network runs; clips are moved there

    Raises:
        ValueError: unknown name
        vaebench.weights.Unavailable: a file of weights is missing; the message says how to fetch it
    """
    from vaebench.torchmetric import TorchMetric  # torchmetrics takes a second to import

    return TorchMetric(name, device)

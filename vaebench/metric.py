"""The base class of metrics: `measure` returns a statistic per clip, `reduce` turns all statistics into a score.

PSNR has one number per clip and reduces them by the mean; FVD has features per clip and reduces them by the Fréchet distance.
Both functions are pure, so that statistics can be stored, resumed, sharded, reduced again and resampled.
A metric is a module `vaebench/metrics/<name>.py` with `build(device) -> Metric`.  Each definition has a module of its own.
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

    `build` raises `vaebench.weights.Unavailable` if a weight file is missing; the record then states why the score is unavailable.
    """

    unit: str = ""  # such as "dB"; "" for a dimensionless number
    better: Better = "neither"
    version: int = 1  # increased by every change of a score
    per_clip: bool = True  # statistics are scalars and `reduce` is their mean, so that each clip has a score
    min_frames: int = 1  # shortest clip that can be measured
    square: bool = False  # only defined for square frames

    @abstractmethod
    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """The statistic of each clip.

        Args:
            reference: float32 (B, 3, T, H, W) in 0..1 on the 8-bit grid, T >= `min_frames`
            reconstruction: the same shape and range

        Returns:
            (B, ...), one statistic per clip

        Raises:
            ValueError: the shapes differ, or the clips have too few frames or too small frames
        """

    def measure_known(self, reference: Video, reconstruction: Video, digest: bytes) -> Tensor:
        """`measure` of a single clip, (1, 3, T, H, W), whose reference has a digest, equal for equal references.

        A metric that overrides it may remember features of references, since every VAE of a run is compared with the same.
        """
        return self.measure(reference, reconstruction)

    @abstractmethod
    def reduce(self, statistics: NDArray) -> float:
        """(N, ...) statistics -> the score.

        Raises:
            ValueError: N is too small for the metric to be defined
        """

    def by_frame(self, reference: Video, reconstruction: Video) -> Tensor | None:
        """Scores over time: (B, T) per frame or (B, T - 1) per frame pair, whose mean over time is `measure`.

        The arguments are those of `measure`.  Returns None (the default) if the score of a clip is not a mean over time.
        """
        return None

    def caution(self, n: int) -> str:
        """A warning about the score of `n` clips, printed with the table; "" (the default) for no warning."""
        return ""


def torchmetric(name: str, device: torch.device | str = "cpu") -> torchmetrics.Metric:
    """A metric of `vaebench list metrics` as a `torchmetrics.Metric`, for logging during training.

    `update(preds, target)` takes float (B, 3, T, H, W) in 0..1, `compute()` returns the score of all clips of all
    processes, as in the benchmark.  If one batch is too small for a score (FVD), call `update`, not the metric itself.

    Args:
        name: such as "psnr" or "fvd"
        device: device of the metric's network; clips are moved to it

    Raises:
        ValueError: the name is unknown
        vaebench.weights.Unavailable: a weight file is missing; the message gives the command that downloads it
    """
    from vaebench.torchmetric import TorchMetric  # torchmetrics takes a second to import

    return TorchMetric(name, device)

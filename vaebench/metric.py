"""The base class of metrics: `measure` returns a statistic per clip, `reduce` turns all statistics into a score.

PSNR has one number per clip and reduces them by the mean; FVD has features per clip and reduces them by the Fréchet distance.
Both functions are pure, so that statistics can be stored, resumed, sharded, reduced again and resampled.
A metric of single frames derives from `FrameMetric`: suites score it window by window, however long the clip is.
A metric is a module `vaebench/metrics/<name>.py` with `build(device) -> Metric`.  Each definition has a module of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, final

from vaebench.video import WINDOW

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

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        order = [base for base in cls.__mro__ if "measure" in vars(base) or "measure_known" in vars(base)]
        if "measure_known" not in vars(order[0]):  # it would be that of a base, which does not call this `measure`
            cls.measure_known = Metric.measure_known  # type: ignore[method-assign]

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


class FrameMetric(Metric):
    """A metric of single frames, or of a few consecutive ones: `frame_values` and `combine` replace `measure`.

    A clip is always scored in windows of `vaebench.video.WINDOW` frames from frame 0 on, so that a clip that is decoded, encoded
    and scored piece by piece has the same score, bit for bit, as a clip in memory.
    """

    overlap: int = (
        0  # frames before a frame that its value depends on; each window starts with the last ones of the previous
    )

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        if not 0 <= cls.overlap < WINDOW:
            raise TypeError(f"{cls.__name__}: overlap={cls.overlap} is invalid: windows have {WINDOW} frames")
        for name in ("measure", "by_frame"):
            if getattr(cls, name) is not getattr(FrameMetric, name):  # also if a mixin defines it
                raise TypeError(
                    f"{cls.__name__} defines {name}, which window by window is never called: define frame_values and combine, "
                    "or derive from Metric to score whole clips"
                )

    @abstractmethod
    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """The values of consecutive frames.

        Args:
            reference: float32 (B, 3, n, H, W) in 0..1, n > `overlap`
            reconstruction: the same shape and range

        Returns:
            float64 (B, n - overlap): without values of the first `overlap` frames

        Raises:
            ValueError: the shapes differ, or there are too few frames or too small frames
        """

    def combine(self, values: Tensor) -> Tensor:
        """The values (B, T - overlap) of all frames of clips -> (B,), one statistic per clip: by default their mean."""
        return values.mean(dim=1)

    @final
    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, T, H, W) in 0..1, for both arguments -> (B, ...), one statistic per clip."""
        return self.combine(self._values(reference, reconstruction))

    @final
    def by_frame(self, reference: Video, reconstruction: Video) -> Tensor | None:
        """The arguments of `measure` -> float64 (B, T - overlap); None if the score of a clip is not the mean of these values."""
        is_mean = type(self).combine is FrameMetric.combine
        return self._values(reference, reconstruction) if is_mean else None

    def _values(self, reference: Video, reconstruction: Video) -> Tensor:
        import torch

        longest = max(reference.shape[2], reconstruction.shape[2], 1)  # `frame_values` refuses unequal shapes
        windows = [slice(max(0, start - self.overlap), start + WINDOW) for start in range(0, longest, WINDOW)]
        values = [
            self.frame_values(reference[:, :, window].contiguous(), reconstruction[:, :, window].contiguous())
            for window in windows
        ]
        return torch.cat(values, dim=1)


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

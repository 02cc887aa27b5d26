"""The squared distance between the I3D features of a clip and its reconstruction, averaged over clips.

The evaluation of WF-VAE prints this number as "FVD": `examples/eval.sh` uses a batch size of one, for which the Fréchet distance
has no covariance and is the distance of the means.  (PKU-YuanGroup/WF-VAE at d858bee,
`causalvideovae/eval/fvd/styleganv/fvd.py`.)  It is a paired distance, many times larger than the `fvd` of the same clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaebench.features.i3d_torchscript import MIN_FRAMES, Extractor, extractor
from vaebench.features.validation import mean_over_clips
from vaebench.metric import Metric
from vaebench.records import Better

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video


class I3DL2(Metric):
    """
    Args:
        i3d: extractor of I3D features

    >>> import torch
    >>> from types import SimpleNamespace
    >>> i3d = SimpleNamespace(pair=lambda a, b: torch.tensor([[[1.0, 2.0, 3.0], [1.0, 4.0, 0.0]]]))  # replaces the network
    >>> float(I3DL2(i3d).measure(None, None))  # 2^2 + 3^2
    13.0
    """

    unit = ""
    better: Better = "lower"
    version = 1
    per_clip = True
    min_frames = MIN_FRAMES
    square = True  # tools differ in how they make other frames square: some stretch, some crop

    def __init__(self, i3d: Extractor) -> None:
        self.i3d = i3d

    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, T, H, H) in 0..1, T >= 9, for both arguments -> float64 (B,)."""
        return _distance(self.i3d.pair(reference, reconstruction))

    def measure_known(self, reference: Video, reconstruction: Video, digest: bytes) -> Tensor:
        """As `measure`, for a single clip; features of references are remembered by their digest."""
        return _distance(self.i3d.pair(reference, reconstruction, digest))

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> mean squared distance."""
        return mean_over_clips(statistics)


def _distance(features: Tensor) -> Tensor:
    """(B, 2, 400) -> (B,), the squared distance."""
    return (features[:, 0] - features[:, 1]).square().sum(dim=1)


def build(device: torch.device | str) -> I3DL2:
    return I3DL2(extractor(device))

"""DISTS (Ding et al. 2020), per frame at its own size, averaged over frames, then over clips.

It compares statistics of VGG-16 features instead of features at the same place, so that another sample of the same texture is
close.  The authors' script scales the shorter side of larger images to 256 pixels first; here frames keep their size.

>>> import torch
>>> def network(a, b):  # replaces VGG-16: one distance per frame
...     return (a - b).square().mean(dim=(1, 2, 3))
>>> reference = torch.zeros(1, 3, 4, 16, 16)
>>> float(DISTS(network).measure(reference, reference + torch.tensor([0, 0, 0.5, 0.5]).view(1, 1, 4, 1, 1)))
0.125
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vaebench import weights
from vaebench.features import dists
from vaebench.features.extras import missing
from vaebench.features.validation import check, full_precision, mean_over_clips
from vaebench.metric import FrameMetric
from vaebench.records import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

PACKAGE = "DISTS_pytorch"  # whose file weights.pt is read; its code is not run


class DISTS(FrameMetric):
    """
    Args:
        network: float32 (N, 3, H, W) in 0..1, twice -> (N,) distances
    """

    unit = ""
    better: Better = "lower"
    version = 1
    per_clip = True

    def __init__(self, network: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.network = network

    @torch.inference_mode()
    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, n, H, W) in 0..1, H and W >= 16, for both arguments -> float64 (B, n), 0 for equal frames."""
        check(reference, reconstruction, side=16)
        batch, _, frames, height, width = reference.shape
        a, b = (video.transpose(1, 2).flatten(0, 1) for video in (reference, reconstruction))  # (B*T, 3, H, W)
        images = max((1 << 19 if a.device.type == "cpu" else 1 << 22) // (height * width), 1)
        with full_precision():
            pairs = zip(a.split(images), b.split(images), strict=True)
            distances = [self.network(x, y) for x, y in pairs]
        return torch.cat(distances).double().view(batch, frames)

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> mean DISTS."""
        return mean_over_clips(statistics)


def build(device: torch.device | str) -> DISTS:
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise missing(ModuleNotFoundError(name=PACKAGE))
    return DISTS(dists.load(Path(package.origin).with_name("weights.pt"), weights.verified("vgg16")).to(device))

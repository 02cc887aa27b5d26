"""VMAF v0.6.1 (Netflix), by the package vmaf-torch: 0 to 100 per frame, averaged over frames, then over clips.

VMAF predicts the opinion of viewers of compressed 1080p video on a television; on small frames it only ranks.  It sees luma alone
(BT.709, limited range, 8 bits), and its motion term reads the reference.  vmaf-torch computes in float32 what Netflix's libvmaf
computes in integers: on bundled clips, a frame differs by at most 0.12 at 256 pixels and 0.5 at 64 pixels, and a clip by less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from vaebench.features.extras import missing
from vaebench.features.validation import check, full_precision, mean_over_clips
from vaebench.metric import Metric
from vaebench.records import Better
from vaebench.yuv import to_luma

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

SMALLEST = 32  # pixels: the fourth scale has an eighth of the height and width


class VMAF(Metric):
    """
    Args:
        network: float32 luma (T, 1, H, W) in 0..255 of reference and reconstruction -> (T, 1) scores
        device: of the network

    >>> metric = VMAF(lambda a, b: 100 - (a - b).abs().mean(dim=(2, 3)), "cpu")  # replaces the network
    >>> float(metric.measure(torch.zeros(1, 3, 2, 32, 32), torch.ones(1, 3, 2, 32, 32)))  # black is 16, white is 235
    -119.0
    """

    unit = ""
    better: Better = "higher"
    version = 1
    per_clip = True

    def __init__(self, network: Callable[[Tensor, Tensor], Tensor], device: torch.device | str) -> None:
        self.network, self.device = network, device

    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, T, H, W) in 0..1, H and W >= 32, for both arguments -> float64 (B,), 0 to 100."""
        return self.by_frame(reference, reconstruction).mean(dim=1)

    @torch.inference_mode()
    def by_frame(self, reference: Video, reconstruction: Video) -> Tensor:
        """The arguments of `measure` -> float64 (B, T)."""
        check(reference, reconstruction, side=SMALLEST)
        with full_precision():
            scores = [
                self.network(*(to_luma(clip)[:, None].float().to(self.device) for clip in pair))[:, 0]
                for pair in zip(reference, reconstruction, strict=True)
            ]
        return torch.stack(scores).double()

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> 0 to 100."""
        return mean_over_clips(statistics)


def build(device: torch.device | str) -> VMAF:
    try:
        from vmaf_torch import VMAF as Network
    except ModuleNotFoundError as error:
        raise missing(error) from None
    return VMAF(Network(clip_score=True).to(device).eval(), device)

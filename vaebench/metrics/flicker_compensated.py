"""Motion-compensated flicker: how much the error changes along the motion of the reference, in 8-bit levels.

It is the warping error of Lai et al. (2018) of the error video e = y - x: the mean of |e[t+1](p + f(p)) - e[t](p)| over channels
and pixels p, with f the optical flow of the reference from frame t to frame t+1.  An error that moves with an object, such as a
blurred texture, does not count, though it counts in `flicker`, which compares pixels at the same place.  The warping error of the
reconstruction itself is not used: it would be smallest for a grey video.

The flow is scikit-image's TV-L1 (Zach et al. 2007) of the luma.  Pixels that it does not explain (occlusions, borders, fast
motion) are excluded: those where the warped next frame of the reference differs from the frame by more than 8 levels.  It takes
about half a second per pair of frames of 256 pixels on a CPU core.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaebench.features.extras import missing
from vaebench.features.validation import check, mean_over_clips
from vaebench.metric import Metric
from vaebench.records import Better
from vaebench.yuv import to_luma

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

    Flow = Callable[[NDArray, NDArray], NDArray]  # frames (H, W) in 0..1 -> (2, H, W): rows and columns to move

EXPLAINED = 8 / 255  # largest difference of a pixel of the reference and its warped successor, mean over channels
REMEMBERED = 16  # clips whose flow is kept, for the next VAE: 17 MB each at 33x256


class CompensatedFlicker(Metric):
    """
    Args:
        flow: of two frames; `flow(a, b)` moves each pixel of a to its place in b

    >>> still = CompensatedFlicker(lambda a, b: np.zeros((2, *a.shape)))  # replaces the optical flow
    >>> reference = torch.full((1, 3, 4, 8, 8), 100 / 255)
    >>> lit = reference.clone()
    >>> lit[:, :, ::2] += 5 / 255  # every other frame is brighter by 5 levels
    >>> round(float(still.measure(reference, lit)), 3)
    5.0
    """

    unit = "levels"  # of 255
    better: Better = "lower"
    version = 1
    per_clip = True
    min_frames = 2

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.known: dict[bytes, list[tuple[Tensor, Tensor]]] = {}  # digest of a clip -> grid and mask of each pair

    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, T, H, W) in 0..1, T >= 2, for both arguments -> float64 (B,) in 8-bit levels.

        Raises:
            ValueError: the flow explains no pixel of a pair of frames, as at a cut
        """
        return self.by_frame(reference, reconstruction).mean(dim=1)

    def by_frame(self, reference: Video, reconstruction: Video) -> Tensor:
        """The arguments of `measure` -> float64 (B, T - 1), one value per pair of consecutive frames."""
        check(reference, reconstruction, frames=self.min_frames)
        clips = zip(reference, reconstruction, strict=True)
        return torch.stack([self._of_clip(clip, other - clip) for clip, other in clips])

    def _of_clip(self, clip: Tensor, error: Tensor) -> Tensor:
        values = []
        for time, (grid, explained) in enumerate(self._remembered(clip)):
            change = (_warped(error[:, time + 1], grid.to(error.device)) - error[:, time]).abs().double().mean(dim=0)
            if not explained.any():
                raise ValueError(
                    f"the optical flow explains no pixel from frame {time} to frame {time + 1}, as at a cut: remove "
                    "flicker_compensated from metrics for these clips"
                )
            values.append(255 * change[explained.to(change.device)].mean())
        return torch.stack(values)

    def _remembered(self, clip: Tensor) -> list[tuple[Tensor, Tensor]]:
        stored = clip.mul(255).round_().to(torch.uint8).cpu().numpy()
        key = hashlib.blake2b(repr(stored.shape).encode() + stored.tobytes()).digest()
        if key not in self.known:
            if len(self.known) == REMEMBERED:
                del self.known[next(iter(self.known))]
            frames, luma = clip.cpu().unbind(1), to_luma(clip).numpy().astype(np.float32) / 255
            pairs = []
            for time in range(len(frames) - 1):
                grid = _grid(torch.from_numpy(np.asarray(self.flow(luma[time], luma[time + 1]), dtype=np.float32)))
                difference = (_warped(frames[time + 1], grid) - frames[time]).abs().mean(dim=0)
                pairs.append((grid, (difference <= EXPLAINED) & (grid.abs() <= 1).all(dim=-1)))
            self.known[key] = pairs
        return self.known[key]

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> 8-bit levels."""
        return mean_over_clips(statistics)


def _grid(flow: Tensor) -> Tensor:
    """float32 (2, H, W), rows and columns to move -> (H, W, 2), the x and y of `grid_sample` with aligned corners."""
    _, height, width = flow.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = rows + flow[0], columns + flow[1]
    return torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)


def _warped(frame: Tensor, grid: Tensor) -> Tensor:
    """(C, H, W) read at the places of `grid` (H, W, 2), bilinearly."""
    sampled = torch.nn.functional.grid_sample(frame[None], grid[None], padding_mode="border", align_corners=True)
    return sampled[0]


def build(device: torch.device | str) -> CompensatedFlicker:
    try:
        from skimage.registration import optical_flow_tvl1
    except ModuleNotFoundError as error:
        raise missing(error) from None
    return CompensatedFlicker(optical_flow_tvl1)

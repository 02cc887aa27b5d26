"""SSIM of each frame (Wang et al. 2004), averaged over channels and frames, then over clips.

The window is an 11x11 Gaussian with sigma 1.5; data range 1, population covariance, borders excluded.  These are the settings of
the original paper, and of scikit-image with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.  (torchmetrics 1.9
has the same window but includes the mirrored borders in its mean.)

The blur is a product with banded matrices, one block of rows or columns at a time.  No library is used because on one core
scikit-image takes 4.5 times and torchmetrics 10 times as long for a clip of 33x256x256 (tests/benchmarks/metrics.py).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from vaebench.features.validation import check, mean_over_clips
from vaebench.metric import FrameMetric
from vaebench.records import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

RADIUS, SIGMA = 5, 1.5
TAPS = 2 * RADIUS + 1
C1, C2 = 0.01**2, 0.03**2
BLOCK = 16  # outputs per band: larger blocks multiply more zeros, smaller blocks need more calls


class SSIM(FrameMetric):
    """
    >>> x = torch.arange(32) / 255
    >>> reference = (x + x[:, None]).expand(1, 3, 2, 32, 32)  # a ramp of 0 to 62 levels
    >>> round(float(SSIM().measure(reference, reference + 10 / 255)), 3)  # brighter by 10
    0.954
    >>> round(float(SSIM().measure(reference, reference)), 3)
    1.0
    """

    unit = ""
    better: Better = "higher"
    version = 1
    per_clip = True

    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, n, H, W) in 0..1, H and W >= 11, for both arguments -> float64 (B, n), 1 for equal frames."""
        check(reference, reconstruction, side=TAPS)
        height, width = reference.shape[-2:]
        a, b = reference.reshape(-1, height, width), reconstruction.reshape(-1, height, width)
        on_cpu = reference.device.type == "cpu"
        planes = max((3 << 18 if on_cpu else 1 << 23) // (height * width), 1)  # 30 MB of maps on a CPU, more on a GPU
        # float64 on a GPU: TF32, which may be enabled there, has 10 bits, too few for a variance
        dtype = torch.float32 if on_cpu else torch.float64
        means = [_ssim(x.to(dtype), y.to(dtype)) for x, y in zip(a.split(planes), b.split(planes), strict=True)]
        return torch.cat(means).double().view(reference.shape[:3]).mean(dim=1)

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> mean SSIM."""
        return mean_over_clips(statistics)


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    """(P, H, W) in 0..1, twice -> (P,) mean SSIM of each plane.

    Four blurs, computed from the sum and the difference of the planes, replace the usual five:
    2 cov = var(x + y)/2 - var(x - y)/2, and var x + var y = var(x + y)/2 + var(x - y)/2; likewise for the means.
    The sum is blurred as x + y - 1, since the rounding error of a variance is smallest near 0.
    The factors 1/2 cancel in the quotient, so C1 and C2 are doubled.  Arithmetic is in place because memory bandwidth limits it.
    """
    planes, height, width = x.shape
    maps = x.new_empty(4, height, planes, width)
    x, y = x.transpose(0, 1), y.transpose(0, 1)
    torch.add(x, y, out=maps[0]).sub_(1)
    torch.sub(x, y, out=maps[1])
    torch.mul(maps[:2], maps[:2], out=maps[2:])
    blurred = _blur(maps)  # (4, W - 10, H - 10, P)
    plus, minus, var_plus, var_minus = blurred.unbind()
    scratch = maps.flatten()[: plus.numel()].view_as(plus)
    var_plus.sub_(torch.mul(plus, plus, out=scratch))
    var_minus.sub_(minus.square_())
    plus.add_(1).square_()
    same = torch.sub(plus, minus, out=scratch).add_(2 * C1)
    both = minus.add_(plus).add_(2 * C1)
    same.mul_(torch.sub(var_plus, var_minus, out=plus).add_(2 * C2))
    both.mul_(var_plus.add_(var_minus).add_(2 * C2))
    return same.div_(both).permute(2, 1, 0).contiguous().mean(dim=(1, 2))


def _blur(maps: Tensor) -> Tensor:
    """(M, H, P, W) contiguous -> (M, W - 10, H - 10, P) contiguous, blurred along H and W without borders.

    Both products have the band matrix on the left and all other axes as columns on the right.
    """
    num, height, planes, width = maps.shape
    rows, columns = height - 2 * RADIUS, width - 2 * RADIUS
    down = maps.new_empty(rows, planes * width)
    across = maps.new_empty(num, columns, rows * planes)
    for source, target in zip(maps.flatten(2), across, strict=True):
        _along_first(source, out=down)
        _along_first(down.view(rows * planes, width).T, out=target)
    return across.view(num, columns, rows, planes)


def _along_first(lines: Tensor, *, out: Tensor) -> None:
    """(n, m) -> `out` (n - 10, m), blurred along the first axis, one block of outputs at a time."""
    for start in range(0, len(out), BLOCK):
        block = out[start : start + BLOCK]
        band = _band(len(block), lines.dtype, lines.device)
        torch.mm(band.T, lines[start : start + len(band)], out=block)


@cache
def _band(outputs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(outputs + 10, outputs): column k contains the eleven weights of the window that starts at k."""
    offsets = torch.arange(TAPS, dtype=torch.float64) - RADIUS
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    window /= window.sum()
    band = torch.zeros(outputs + 2 * RADIUS, outputs, dtype=torch.float64)
    for k in range(outputs):
        band[k : k + TAPS, k] = window
    return band.to(device=device, dtype=dtype)


def build(device: torch.device | str) -> SSIM:
    return SSIM()

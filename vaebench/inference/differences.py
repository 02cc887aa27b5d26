"""How far block-wise inference is from whole inference, and where: at the seams of tiles and chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from vaebench.suite import Statistics
    from vaebench.video import Latent, Video


def differences(whole: Video, blockwise: Video, latent: Latent, z: Latent, same: Video | None) -> Statistics:
    """Compare a block-wise reconstruction and its latent with those of whole inference.

    Args:
        whole: (1, 3, T, H, W), the reconstruction of whole inference
        blockwise: (1, 3, T, H, W), the reconstruction of block-wise inference
        latent: (1, c, t, h, w), of whole inference
        z: (1, c, t, h, w), of block-wise inference; NaN is returned for latents of another shape
        same: `latent` decoded by the block-wise decoder, if there is one

    Returns:
        maxima relative to the larger of 1 and the largest value; root mean squares; and mean squares by frame, row, column and
        time step, in which the seams of block-wise inference are visible
    """
    error = blockwise - whole
    square = error.square()
    steps = (error[:, :, 1:] - error[:, :, :-1]).square()  # flicker that whole inference does not have
    worst = relative(whole, blockwise)
    if same is not None:
        worst = max(worst, relative(whole, same[:, :, : whole.shape[2], : whole.shape[3], : whole.shape[4]]))
    comparable = latent.shape == z.shape
    values: dict[str, Any] = {
        "pixels_max": worst,
        "pixels_rms": float(square.mean().sqrt()),
        "latents_max": relative(latent, z) if comparable else float("nan"),
        "latents_rms": float((latent - z).square().mean().sqrt()) if comparable else float("nan"),
        "by_frame": square.mean(dim=(0, 1, 3, 4)),
        "by_row": square.mean(dim=(0, 1, 2, 4)),
        "by_column": square.mean(dim=(0, 1, 2, 3)),
        "by_step": steps.mean(dim=(0, 1, 3, 4)),
    }
    return {k: np.asarray(v.cpu().numpy() if isinstance(v, Tensor) else v) for k, v in values.items()}


def relative(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the larger of 1 and the largest value of `a`."""
    return float((a - b).abs().max() / max(1.0, float(a.abs().max())))

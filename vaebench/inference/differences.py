"""How far one way of running a VAE is from running it whole, and where: the seams of tiles and chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from vaebench.suite import Statistics
    from vaebench.video import Latent, Video


def differences(whole: Video, got: Video, latent: Latent, z: Latent, same: Video | None) -> Statistics:
    """How a block-wise reconstruction `got` and latent `z` differ from those of the whole; `same` decodes the whole's latent.

    Videos (1, 3, T, H, W), latents (1, c, t, h, w); maxima relative to the larger of 1 and the largest value.  The mean squares
    by frame, row, column and time step have their seams where block-wise inference has them.
    """
    error = got - whole
    square = error.square()
    steps = (error[:, :, 1:] - error[:, :, :-1]).square()  # flicker that the whole does not have
    worst = relative(whole, got)
    if same is not None:
        worst = max(worst, relative(whole, same[:, :, : whole.shape[2], : whole.shape[3], : whole.shape[4]]))
    comparable = latent.shape == z.shape
    found: dict[str, Any] = {
        "pixels_max": worst,
        "pixels_rms": float(square.mean().sqrt()),
        "latents_max": relative(latent, z) if comparable else float("nan"),
        "latents_rms": float((latent - z).square().mean().sqrt()) if comparable else float("nan"),
        "by_frame": square.mean(dim=(0, 1, 3, 4)),
        "by_row": square.mean(dim=(0, 1, 2, 4)),
        "by_column": square.mean(dim=(0, 1, 2, 3)),
        "by_step": steps.mean(dim=(0, 1, 3, 4)),
    }
    return {k: np.asarray(v.cpu().numpy() if isinstance(v, Tensor) else v) for k, v in found.items()}


def relative(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the larger of 1 and the largest value of `a`."""
    return float((a - b).abs().max() / max(1.0, float(a.abs().max())))

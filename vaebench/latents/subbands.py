"""Energy and entropy of the eight Haar sub-bands of a video or a latent (Figure 8 of WF-VAE, arXiv 2411.17459).

Most of the energy and the information of a video is in the low-pass band, where the energy flow of WF-VAE starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from wfvae.wavelet import analyse, haar_kernels_3d

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# the paper's names: h low-pass, g high-pass, along T, H, W
NAMES = ("hhh", "hhg", "hgh", "hgg", "ghh", "ghg", "ggh", "ggg")
BINS = 256
PIXELS = 8 * 0.3536  # largest coefficient of pixels in -1..1
LATENTS = 16.0  # largest coefficient of standardized latents with a bin of its own; bins have a width of 1/8


def causal(video: Tensor) -> Tensor:
    """(C, T, H, W) -> (C, 1 + T, H, W): the first frame counts twice, as in the transform of WF-VAE."""
    return torch.cat([video[:, :1], video], dim=1)


def middle_pair(frames: int) -> tuple[int, int]:
    """The two frames of the middle time step of a clip after `causal`, whose pairs are (0, 0), (1, 2), (3, 4), ..."""
    second = 2 * max(1, frames // 4) if frames > 2 else 0
    return max(0, second - 1), second


def coefficients(video: Tensor) -> Tensor:
    """float (C, T, H, W) -> float64 (8, T // 2, H // 2, W // 2, C) on the CPU: the sub-bands, in the order of `NAMES`.

    An odd last frame, row or column is left out.

    Raises:
        ValueError: the video is smaller than 2x2x2
    """
    if video.dim() != 4 or min(video.shape[1:]) < 2 or not video.numel():
        raise ValueError(f"sub-bands need a video (C, T, H, W) of at least 2x2x2 values, got {tuple(video.shape)}")
    frames = video.permute(1, 2, 3, 0).double().cpu()
    return analyse(frames[None], haar_kernels_3d().double())[0].unflatten(-1, (8, -1)).movedim(-2, 0)


def subbands(video: Tensor, reach: float) -> tuple[NDArray, NDArray]:
    """float (C, T, H, W) -> mean squared coefficient (8,) and histogram (8, 256) of each sub-band, in the order of `NAMES`.

    Both are means over coefficients, so that those of clips of one size can be averaged.  An odd last frame, row or column is
    left out.

    Args:
        reach: the histogram has 256 equal bins from -reach to reach; the outer bins also count everything beyond

    Raises:
        ValueError: the video is smaller than 2x2x2
    """
    bands = coefficients(video).flatten(1)
    index = ((bands + reach) * (BINS / (2 * reach))).long().clamp_(0, BINS - 1)
    counts = torch.stack([torch.bincount(band, minlength=BINS) for band in index])
    return bands.square().mean(dim=1).numpy(), (counts / bands.shape[1]).double().numpy()


def energy_share(energy: NDArray) -> NDArray:
    """(8,) mean squared coefficients -> shares of the energy.

    Raises:
        ValueError: there is no energy
    """
    if not energy.sum() > 0:
        raise ValueError("all coefficients are 0")
    return energy / energy.sum()


def entropy_bits(histogram: NDArray) -> NDArray:
    """(8, 256) shares of the bins -> (8,) entropy in bits per coefficient."""
    logs = np.log2(np.where(histogram > 0, histogram, 1))
    return np.abs((histogram * logs).sum(axis=1))

"""Energy and entropy of the eight Haar sub-bands of videos: Figure 8 of the paper.

Most of the energy and the information is in the low-pass band, where the energy flow starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from wfvae.wavelet import analyse, haar_kernels_3d

# the paper's names: h low-pass, g high-pass, along T, H, W
NAMES = ("hhh", "hhg", "hgh", "hgg", "ghh", "ghg", "ggh", "ggg")
BINS = 256


@dataclass(frozen=True)
class Subbands:
    """One value per sub-band, in the order of `NAMES`; pixels were in -1..1."""

    energy: tuple[float, ...]  # mean squared coefficient
    energy_share: tuple[float, ...]  # of the eight, sums to 1
    entropy_bits: tuple[
        float, ...
    ]  # per coefficient, of a histogram of 256 equal bins over the transform's whole range
    num_clips: int
    num_coefficients: int  # per sub-band


def subbands(clips: Iterable[Tensor]) -> Subbands:
    """Clips, float (B, 3, T, H, W) in -1..1 of any lengths and sizes -> their sub-bands, pooled over all coefficients.

    This is the causal transform of the model, in which the first frame counts twice.

    Raises:
        ValueError: there are no clips, or a clip is smaller than 2 x 2 pixels
    """
    kernels = haar_kernels_3d().double()
    reach = kernels.abs().flatten(1).sum(1).max().item()  # the largest coefficient that pixels in -1..1 can give
    squares = torch.zeros(8, dtype=torch.float64)
    counts = torch.zeros(8, BINS, dtype=torch.int64)
    num_clips = 0
    for clip in clips:
        if clip.dim() != 5 or min(clip.shape[3:]) < 2 or not clip.numel():
            raise ValueError(f"sub-bands need clips (B, C, T, H, W) of at least 2x2 pixels, got {tuple(clip.shape)}")
        num_clips += clip.shape[0]
        frames = torch.cat([clip[:, :, :1], clip], dim=2).permute(0, 2, 3, 4, 1).double().cpu()
        bands = analyse(frames, kernels).unflatten(-1, (8, -1)).movedim(-2, 0).flatten(1)  # (8, coefficients)
        squares += bands.square().sum(dim=1)
        index = ((bands + reach) * (BINS / (2 * reach))).long().clamp_(0, BINS - 1)
        counts += torch.stack([torch.bincount(band, minlength=BINS) for band in index])
    if not num_clips:
        raise ValueError("sub-bands need at least one clip, got none")
    total = int(counts[0].sum())
    energy = squares / total
    share = counts.double() / total
    entropy = -(share * share.clamp_min(1e-300).log2()).sum(dim=1)
    whole = energy.sum().clamp_min(1e-300)
    return Subbands(
        energy=tuple(energy.tolist()),
        energy_share=tuple((energy / whole).tolist()),
        entropy_bits=tuple(entropy.abs().tolist()),
        num_clips=num_clips,
        num_coefficients=total,
    )

"""Tier 0 of diffusability: statistics of a latent space without any training, in minutes on a CPU.

Computed from the posteriors of at most 1,024 windows of the cache:

    moments     mean and standard deviation by channel, of the aggregated posterior; dead channels; KL divergence by dimension
    channels    eigenvalues of the covariance of channels over positions; effective rank exp(-sum p ln p)
    spectrum    power of the orthonormal DCT-II over time, height and width; slope of log power over log frequency
    linear      noise-prediction error of the best denoiser that treats every channel and frequency separately

Sources: Skorokhodov et al. 2025 (arXiv 2502.14831, DCT spectra), Liu et al. 2025 (arXiv 2512.05394, few modes), Roy and Vetterli
2007 (effective rank).  These statistics are descriptive; they are not validated against trained models here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.fft import dctn
from torch import Tensor

from vaebench.generation.latent_cache import some_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.generation.latent_cache import Cache

MOST = 1024
DEAD = 0.01  # a dead channel has less than this fraction of the largest standard deviation
BATCH = 32


def statistics(cache: Cache, snr: NDArray) -> dict[str, NDArray]:
    """The statistics of a normalized cache, by name; `snr` (points,) are the signal-to-noise ratios of the linear denoiser."""
    rows = some_rows(len(cache), MOST)
    raw = replace(cache, scaling=None)
    sums: dict[str, Tensor] = {}
    power: NDArray | None = None
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        _accumulate(sums, raw.take(some)._replace(labels=None))
        normalized = cache.take(some).mean.double().numpy()
        squares = np.square(dctn(normalized, axes=(2, 3, 4), norm="ortho")).sum(0)
        power = squares if power is None else power + squares
    assert power is not None
    count = sums["count"]
    mean = sums["sum"] / count
    covariance = sums["products"] / count - torch.outer(mean, mean)
    noise = sums["noise"] / count
    eigenvalues = torch.linalg.eigvalsh(covariance).clamp(min=0).flip(0)
    spectrum = power / len(rows)  # (C, F, H, W), of the normalized means
    values = {
        "windows": np.array(len(rows)),
        "channel_mean": mean.numpy(),
        "channel_std": (covariance.diagonal().clamp(min=0) + noise).sqrt().numpy(),
        "posterior_variance": noise.numpy(),
        "eigenvalues": eigenvalues.numpy(),
        "effective_rank": np.array(effective_rank(eigenvalues)),
        "linear_loss": linear_loss(_without_mean(spectrum, cache, mean), snr),
        "space": radial(spectrum.mean((0, 1))),
        "time": spectrum.mean((0, 2, 3)),
    }
    if "kl" in sums:
        values["kl"] = (sums["kl"] / count).numpy()
    return values


def _accumulate(sums: dict[str, Tensor], batch: tuple[Tensor, Tensor | None, Tensor | None]) -> None:
    mean = batch[0].double().transpose(0, 1).flatten(1)  # (C, positions)
    sums_of_batch = {
        "count": torch.tensor(float(mean.shape[1])),
        "sum": mean.sum(1),
        "products": mean @ mean.T,
        "noise": torch.zeros(len(mean), dtype=torch.float64),
    }
    if batch[1] is not None:
        std = batch[1].double().transpose(0, 1).flatten(1).clamp(min=1e-7)
        sums_of_batch["noise"] = std.square().sum(1)
        sums_of_batch["kl"] = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).mean(0).sum()
    for name, value in sums_of_batch.items():
        sums[name] = sums.get(name, torch.zeros_like(value)) + value


def _without_mean(spectrum: NDArray, cache: Cache, mean: Tensor) -> NDArray:
    """The power spectrum minus the means of the channels, which a linear denoiser may know."""
    constant = mean if cache.scaling is None else cache.scaling.apply(mean.view(-1, 1, 1, 1)).flatten()
    power = spectrum.copy()
    size = math.prod(spectrum.shape[1:])
    power[:, 0, 0, 0] = np.maximum(power[:, 0, 0, 0] - size * np.square(constant.numpy()), 0)
    return power


def effective_rank(eigenvalues: Tensor) -> float:
    """Of (C,) eigenvalues: from 1 (all variance in one direction) to C (equal variance in all directions)."""
    share = eigenvalues / eigenvalues.sum()
    return float(torch.special.entr(share).sum().exp())


def linear_loss(power: NDArray, snr: NDArray) -> NDArray:
    """(points,) mean over frequencies of g S / (1 + g S): the error of the noise predicted by the best linear denoiser.

    White latents of unit variance give 0.275 on average over the linear schedule, steeper spectra less.
    """
    return np.array([np.mean(g * power / (1 + g * power)) for g in snr])


def radial(power: NDArray) -> NDArray:
    """(H, W) -> (2, rings): frequency as a fraction of the Nyquist frequency, and mean power, in rings without frequency 0."""
    height, width = power.shape
    radius = np.hypot(np.arange(height)[:, None] / height, np.arange(width)[None] / width)
    rings = min(height, width)
    ring = np.minimum((radius * rings).round().astype(int), rings)
    ids = [number for number in range(1, rings) if (ring == number).any()]
    return np.array([[radius[ring == n].mean() for n in ids], [power[ring == n].mean() for n in ids]])


def slope(frequency: NDArray, power: NDArray) -> float | None:
    """The exponent a of power ~ frequency ** a, by least squares in logarithms; None for fewer than 3 points with power."""
    some = power > 0
    if some.sum() < 3:
        return None
    return float(np.polyfit(np.log(frequency[some]), np.log(power[some]), 1)[0])

"""Correlation of neighbouring latents: SSVAE's local correlation, and the autocorrelation along time, rows and columns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from wfvae.objective import LCRConfig
from wfvae.regularizers import windows_correlation

if TYPE_CHECKING:
    from numpy.typing import NDArray

SSVAE = LCRConfig()  # windows of 2x2x2, Pearson, mean of first frame and other frames
FURTHEST = 32  # largest lag


def local_correlation(z: NDArray, config: LCRConfig = SSVAE) -> NDArray:
    """Standardized latent (C, t, h, w) -> (2,): local correlation of the first frame, and of the other frames (NaN if t = 1).

    The definition is that of SSVAE's regularizer (zai-org/SSVAE at 0b141f7, `regularizers/calc_local_corr.py`), with two
    additions: the statistics that standardize the channels are those of the set instead of those of a batch, and last frames,
    rows and columns that fill no window are left out, where SSVAE has an error.

    Raises:
        ValueError: the latent is smaller than a window
    """
    a, b, c = config.window
    _, t, h, w = z.shape
    z = z[:, : t - (t - 1) % a, : h - h % b, : w - w % c]
    if not z.size:
        raise ValueError(f"local correlation needs at least {b} x {c} positions, got {h} x {w}")
    found = windows_correlation(torch.from_numpy(z)[None], config)
    return np.array([found.image.item(), math.nan if found.video is None else found.video.item()])


def average(local: NDArray) -> float:
    """The mean of the two parts, as SSVAE weights them; of an image, the first."""
    return float(np.nanmean(local))


def products(z: NDArray, axis: int) -> NDArray:
    """Standardized latent (C, t, h, w) -> (3, lags): means over channels and over pairs of values `lag` = 1, 2, ... apart.

    The rows are the product of both values, the square of the first and the square of the second, so that means over clips
    describe a set.
    """
    z = np.moveaxis(z, axis, 0)
    pairs = [(z[:-lag], z[lag:]) for lag in range(1, min(len(z), FURTHEST + 1))]
    return np.array([[(a * b).mean(), (a * a).mean(), (b * b).mean()] for a, b in pairs]).reshape(-1, 3).T


def autocorrelation(products: NDArray) -> NDArray:
    """What `products` returns (3, lags) -> (lags,): correlation of values `lag` positions apart, from -1 to 1.

    An AR(1) field of coefficient a has a ** lag.

    Raises:
        ValueError: there is no power
    """
    product, first, second = products
    if not (first * second > 0).all():
        raise ValueError("all latents are equal: there is no power")
    correlation: NDArray = (product / np.sqrt(first * second)).clip(-1, 1)
    return correlation


def efold(autocorrelation: NDArray) -> float:
    """The lag at which the autocorrelation (lags,) first falls to 1/e, between lags by interpolation of its logarithm.

    Raises:
        ValueError: it stays above 1/e, or there is no lag
    """
    rho = np.concatenate([[1.0], autocorrelation])
    below = np.flatnonzero(rho <= math.exp(-1))
    if not len(below):
        raise ValueError(f"the autocorrelation stays above 1/e up to the largest lag, {len(rho) - 1}")
    after = int(below[0])
    high, low = rho[after - 1], rho[after]
    if low <= 0:  # no logarithm: a straight line
        return float(after - 1 + (high - math.exp(-1)) / (high - low))
    return float(after - 1 + (math.log(high) + 1) / (math.log(high) - math.log(low)))

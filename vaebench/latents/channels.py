"""Covariance of channels: how many directions of the channel space the latents use.

Every function of eigenvalues is unchanged by a scale of all channels, and of the raw covariance also by an orthogonal mixing of
channels.  Of the correlation matrix (standardized channels) only a permutation changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEAD = 0.01  # a dead channel has less than this fraction of the largest standard deviation


def covariance(mean: NDArray, products: NDArray) -> NDArray:
    """(C, C) from the mean (C,) and the mean outer product (C, C) of positions."""
    return products - np.outer(mean, mean)


def deviations(covariance: NDArray) -> NDArray:
    """(C,) standard deviations of the channels."""
    return np.sqrt(covariance.diagonal().clip(min=0))


def correlation(covariance: NDArray) -> NDArray:
    """(C, C) correlation matrix; the row and column of a constant channel are 0."""
    inverse = inverse_deviations(deviations(covariance))
    return covariance * np.outer(inverse, inverse)


def inverse_deviations(std: NDArray) -> NDArray:
    """1 / std (C,), and 0 for a constant channel."""
    alive = std > 1e-9 * max(float(std.max()), 1e-300)
    return np.where(alive, 1 / np.where(alive, std, 1), 0.0)


def spectrum(matrix: NDArray) -> NDArray:
    """(C,) eigenvalues of a covariance or correlation matrix, largest first."""
    return np.linalg.eigvalsh(matrix).clip(min=0)[::-1]


def shares(eigenvalues: NDArray) -> NDArray:
    """(C,) eigenvalues -> their shares of the variance.

    Raises:
        ValueError: there is no variance
    """
    total = eigenvalues.sum()
    if not total > 0:
        raise ValueError("all latents are equal: there is no variance")
    return eigenvalues / total


def participation_ratio(eigenvalues: NDArray) -> float:
    """(sum l)^2 / sum l^2: from 1 (all variance in one direction) to C (equal variance in all directions)."""
    return float(1 / np.square(shares(eigenvalues)).sum())


def effective_rank(eigenvalues: NDArray) -> float:
    """exp of the entropy of the shares (Roy and Vetterli 2007): from 1 to C."""
    share = shares(eigenvalues)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def k90(eigenvalues: NDArray) -> int:
    """The smallest number of components with 90 % of the variance."""
    return int(np.searchsorted(np.cumsum(shares(eigenvalues)), 0.9 - 1e-12)) + 1


def top1(eigenvalues: NDArray) -> float:
    """The share of the first component."""
    return float(shares(eigenvalues)[0])


def spread(std: NDArray) -> float:
    """Largest over smallest standard deviation of a channel.

    Raises:
        ValueError: a channel is constant
    """
    if not std.min() > 0:
        raise ValueError("a channel is constant")
    return float(std.max() / std.min())


def dead(std: NDArray) -> int:
    """The number of dead channels."""
    return int((std < DEAD * std.max()).sum())

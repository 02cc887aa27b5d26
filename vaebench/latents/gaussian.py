"""A Gaussian model of the latents: error of its best denoiser, code length, and rate at a tolerance.

A Gaussian field is white in the right basis: the DCT over time and space, and the eigenmodes of the channels.  Its power S there
decides everything in closed form.  These are statements about a linear model; a network learns more than that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-12  # power; less is rounding


def linear_loss(power: NDArray, snr: NDArray, weights: NDArray | float = 1.0) -> NDArray:
    """(points,) mean over frequencies of g S / (1 + g S): the error of the noise predicted by the best linear denoiser.

    White latents of unit variance give 0.275 on average over the linear schedule, steeper spectra less.

    Args:
        power: S, any shape
        snr: (points,) signal-to-noise ratios g
        weights: number of frequencies behind each value of `power`, broadcastable to it
    """
    return np.array([_mean(g * power / (1 + g * power), weights) for g in snr])


def mmse(power: NDArray, sigma: NDArray, weights: NDArray | float = 1.0) -> NDArray:
    """(points,) squared error of the best linear denoiser at noise `sigma`, relative to white latents of the same power.

    1 for a flat spectrum, less for any other.

    Raises:
        ValueError: there is no power
    """
    flat = _mean(power, weights)
    if not flat > 0:
        raise ValueError("all latents are equal: there is no power")
    snr = 1 / np.square(sigma)
    return linear_loss(power, snr, weights) / linear_loss(np.array(flat), snr)


def code_length(power: NDArray, weights: NDArray | float = 1.0) -> float:
    """Half the mean of log2 S, in bits per value: the entropy of the Gaussian minus that of white noise of unit variance.

    Raises:
        ValueError: a direction has no variance, so the code length is minus infinity
    """
    if not _used(power, weights).min() > SMALLEST:
        raise ValueError(
            "a frequency or an eigenmode has no variance over the set, so the code length is minus infinity"
        )
    return 0.5 * _mean(np.log2(np.maximum(power, SMALLEST)), weights)


def rate(power: NDArray, sigma: float, weights: NDArray | float = 1.0) -> float:
    """Mean of 1/2 log2(1 + S / sigma^2), in bits per value: the rate of a Gaussian channel with noise `sigma`."""
    return 0.5 * _mean(np.log2(1 + power / sigma**2), weights)


def _mean(values: NDArray, weights: NDArray | float) -> float:
    return float(np.average(values, weights=np.broadcast_to(weights, values.shape)))


def _used(power: NDArray, weights: NDArray | float) -> NDArray:
    return power[np.broadcast_to(weights, power.shape) > 0]

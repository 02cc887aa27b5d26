"""Random latents with known statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter


def white(*shape: int, seed: int = 0) -> NDArray:
    """White Gaussian noise of unit variance."""
    return np.random.default_rng(seed).normal(size=shape)


def ar1(shape: tuple[int, int, int, int], coefficients: tuple[float, float, float], seed: int = 0) -> NDArray:
    """(C, t, h, w): a separable AR(1) field of unit variance with these coefficients along t, h, w; channels are independent."""
    field = white(*shape, seed=seed)
    for axis, a in enumerate(coefficients, start=1):
        innovations = np.moveaxis(field, axis, 0) * np.sqrt(1 - a**2)
        innovations[0] /= np.sqrt(1 - a**2)  # the first value has the stationary variance
        field = np.moveaxis(lfilter([1], [1, -a], innovations, axis=0), 0, axis)
    return field

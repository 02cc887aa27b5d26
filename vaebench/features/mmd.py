"""Kernel video distance (KVD): the maximum mean discrepancy (MMD) of two sets of features with a cubic kernel.

It needs no covariance, and its expectation is 0 for samples of the same distribution of any size, so it suits small sets.
Sources: Binkowski et al. 2018 (KID), DIGAN (KVD).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating[Any]]


def kvd(a: Features, b: Features) -> float:
    """Squared MMD with the kernel (x.y / d + 1) ** 3, in float64, as in DIGAN.

    The estimate is unbiased, because it leaves out the kernel of a sample with itself; it can be negative.

    Args:
        a: real (n, d), n at least 2
        b: real (m, d), m at least 2

    Raises:
        ValueError: other shapes, or different numbers of features
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features are matrices (samples, features) of one width, got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < 2:
        raise ValueError(f"needs at least 2 samples on each side, got {len(a)} and {len(b)}")
    first, second = a.astype(np.float64), b.astype(np.float64)

    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    def within(x: NDArray[np.float64]) -> float:
        gram = kernel(x, x)
        return float((gram.sum() - gram.trace()) / (len(x) * (len(x) - 1)))

    return within(first) + within(second) - 2 * float(kernel(first, second).mean())

"""Kernel video distance: the maximum mean discrepancy of two sets of features under a cubic kernel.

Needs no covariance, and is 0 on average for two samples of one distribution, however few: the set distance of small runs.
Sources: Binkowski et al. 2018 (KID), DIGAN (KVD).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating[Any]]


def kvd(a: Features, b: Features) -> float:
    """Squared MMD of real (n, d) and (m, d) under (x.y / d + 1) ** 3, in float64, as DIGAN defines it.

    Unbiased, as the kernel of a sample with itself is left out: near 0, of either sign, for equal sets.
    ValueError: not matrices of one width, or fewer than two rows on a side.
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

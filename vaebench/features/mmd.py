"""Maximum mean discrepancy between two sets of features under a polynomial kernel: KVD and the distance of JEDi.

Needs no covariance, and its unbiased form is 0 on average for two samples of one distribution, however few: the
set distance of small runs. Sources: Binkowski et al. 2018 (KID), DIGAN (KVD), Luo et al. 2024 (JEDi, arXiv 2410.05203).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating[Any]]


def squared_mmd(a: Features, b: Features, *, degree: int, offset: float, unbiased: bool) -> float:
    """Squared MMD of real (n, d) and (m, d) under (x.y / d + offset) ** degree, in float64.

    Unbiased: the kernel of a sample with itself is left out, and the value can be negative; needs two rows on each side.
    ValueError: not matrices of one width, or too few rows.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features are matrices (samples, features) of one width, got {a.shape} and {b.shape}")
    least = 2 if unbiased else 1
    if min(len(a), len(b)) < least:
        raise ValueError(f"needs at least {least} samples on each side, got {len(a)} and {len(b)}")
    first, second = a.astype(np.float64), b.astype(np.float64)

    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x @ y.T / x.shape[1] + offset) ** degree

    def within(x: NDArray[np.float64]) -> float:
        gram = kernel(x, x)
        if unbiased:
            return float((gram.sum() - gram.trace()) / (len(x) * (len(x) - 1)))
        return float(gram.mean())

    return within(first) + within(second) - 2 * float(kernel(first, second).mean())


def kvd(a: Features, b: Features) -> float:
    """Kernel video distance as DIGAN defines it: cubic kernel, unbiased; near 0, of either sign, for equal sets."""
    return squared_mmd(a, b, degree=3, offset=1.0, unbiased=True)


def jedi(a: Features, b: Features) -> float:
    """The distance of JEDi over its own features: quadratic kernel without offset, biased, times 100."""
    return 100 * squared_mmd(a, b, degree=2, offset=0.0, unbiased=False)

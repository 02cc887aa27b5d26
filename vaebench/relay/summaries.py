"""Summaries of a curve over hops: loss per hop, and the number of hops until a loss of 3 dB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST = 2  # the fit leaves out hop 1, which is the loss of a single reconstruction
DROP = 3.0  # dB


def slope(values: NDArray) -> float:
    """(N,) values at hops 1 to N -> their change per hop: the least-squares line from hop 2; NaN with less than 3 hops.

    >>> slope(np.array([30.0, 29.0, 28.5, 28.0]))
    -0.5
    """
    if len(values) <= FIRST:
        return float("nan")
    hops = np.arange(FIRST, len(values) + 1, dtype=np.float64)
    y = np.asarray(values[FIRST - 1 :], dtype=np.float64)
    centred = hops - hops.mean()
    return float((centred * (y - y.mean())).sum() / np.square(centred).sum())


def hops_to_drop(psnr: NDArray, drop: float = DROP) -> float:
    """(N,) PSNR in dB at hops 1 to N -> the hop at which it is `drop` dB below that of hop 1, interpolated; NaN if it never is.

    >>> hops_to_drop(np.array([40.0, 38.0, 36.0]))
    2.5
    """
    limit = psnr[0] - drop
    for i in range(1, len(psnr)):
        if psnr[i] <= limit:
            return float(i + (psnr[i - 1] - limit) / (psnr[i - 1] - psnr[i]))
    return float("nan")

"""The posterior variance: KL divergence from the prior in bits, collapsed channels, share of noise.

q(z|x) = N(mean, variance) is compared with the prior N(0, 1) of the training objective.  VAEs without a posterior variance
(plain autoencoders, quantizers) have none of these scores.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLLAPSED = 0.01  # bits per value: a collapsed channel carries less
SMALLEST = 1e-14  # of the variance; smaller values are rounding of float16 and would decide the mean of the logarithm


def kl_bits(mean: NDArray, variance: NDArray) -> NDArray:
    """(C, ...) mean and variance -> (C,) KL divergence from N(0, 1) in bits per value, mean over positions."""
    variance = np.maximum(variance, SMALLEST)
    nats = 0.5 * (np.square(mean) + variance - 1 - np.log(variance))
    return nats.reshape(len(mean), -1).mean(1) / math.log(2)


def collapsed(kl: NDArray) -> float:
    """(C,) bits per value -> share of channels whose posterior is the prior."""
    return float((kl < COLLAPSED).mean())


def noise_share(noise: NDArray, covariance: NDArray) -> float:
    """Share of posterior noise in the variance of posterior samples, mean over channels.

    Args:
        noise: (C,) mean posterior variance
        covariance: (C, C) of the posterior means

    Raises:
        ValueError: a channel has neither variance nor noise
    """
    total = covariance.diagonal().clip(min=0) + noise
    if not total.min() > 0:
        raise ValueError("a channel is constant")
    return float((noise / total).mean())

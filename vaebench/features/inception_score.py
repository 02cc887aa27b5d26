"""Inception score of class probabilities, in the three forms that are in use; they differ by ten and more on one set.

exp(mean_i KL(p_i | mean p)), in float64, with 0 log 0 = 0: the official StyleGAN-V gives NaN as soon as one probability
rounds to zero. Sources: Saito et al. 2020 (TGAN-v2), StyleGAN-V `compute_isv` (github.com/universome/stylegan-v at
3fecd69c).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

Probabilities = NDArray[np.floating[Any]]


class SplitScore(NamedTuple):
    mean: float
    std: float  # over the splits, with the population's denominator as upstream


def _checked(probabilities: Probabilities, least: int) -> NDArray[np.float64]:
    if probabilities.ndim != 2 or len(probabilities) < least:
        raise ValueError(
            f"probabilities are (videos, classes) of at least {least} videos, got the shape {probabilities.shape}"
        )
    p = probabilities.astype(np.float64)
    if not (np.all(p >= 0) and np.allclose(p.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("each row of probabilities must be non-negative and sum to 1; apply a softmax to logits first")
    return p


def _score(p: NDArray[np.float64]) -> float:
    mean = p.mean(axis=0)
    return float(np.exp(xlogy(p, p).sum(axis=1).mean() - xlogy(mean, mean).sum()))


def is_tgan_1split(probabilities: Probabilities) -> float:
    """Of all videos (N, K) at once. TGAN-v2 reports mean and deviation of this over ten sets of 2,048 videos."""
    return _score(_checked(probabilities, 1))


def is_styleganv_10split(probabilities: Probabilities) -> SplitScore:
    """Over ten parts of one shuffled set (N, K), N at least 10; 2,048 in StyleGAN-V.

    Parts of 205 videos bias it downward: by a fifth near a score of 60.
    """
    p = _checked(probabilities, 10)
    np.random.RandomState(42).shuffle(p)  # the protocol's own order
    bounds = np.arange(11) * len(p) // 10
    scores = [_score(p[start:stop]) for start, stop in pairwise(bounds)]
    return SplitScore(float(np.mean(scores)), float(np.std(scores)))


def is_debiased(probabilities: Probabilities) -> float:
    """Of all videos (N, K), N at least 2, with the first-order bias of a finite N removed.

    ln IS_N is too low by 1/(2N) sum_k Var(p_k) / mean(p_k); the sample's own variances and means stand in.
    """
    p = _checked(probabilities, 2)
    mean = p.mean(axis=0)
    ratio = np.divide(p.var(axis=0, ddof=1), mean, out=np.zeros_like(mean), where=mean > 0)
    return float(_score(p) * np.exp(ratio.sum() / (2 * len(p))))

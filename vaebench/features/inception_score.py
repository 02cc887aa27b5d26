"""Inception score of class probabilities, in the three variants in use; on the same videos they differ by ten and more.

The score is exp(mean_i KL(p_i | mean p)), in float64, with 0 log 0 = 0; the official code of StyleGAN-V returns NaN if a
probability is rounded to zero.  Sources: Saito et al. 2020 (TGAN-v2), StyleGAN-V `compute_isv`
(github.com/universome/stylegan-v at 3fecd69c).
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
    std: float  # over the splits, divided by their number as in the official code


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
    """The score of all videos together, (N, K) -> float.  TGAN-v2 reports mean and deviation over ten sets of 2,048 videos."""
    return _score(_checked(probabilities, 1))


def is_styleganv_10split(probabilities: Probabilities) -> SplitScore:
    """Mean and deviation over ten splits of a shuffled set, (N, K) with N at least 10; StyleGAN-V uses N = 2,048.

    Splits of 205 videos bias the score downwards, by a fifth for a score of 60.
    """
    p = _checked(probabilities, 10)
    np.random.RandomState(42).shuffle(p)  # the order of the official code
    bounds = np.arange(11) * len(p) // 10
    scores = [_score(p[start:stop]) for start, stop in pairwise(bounds)]
    return SplitScore(float(np.mean(scores)), float(np.std(scores)))


def is_debiased(probabilities: Probabilities) -> float:
    """The score of all videos together, (N, K) with N at least 2, with its first-order bias removed.

    ln IS_N is too low by 1/(2N) sum_k Var(p_k) / mean(p_k), estimated with the variances and means of the sample.
    """
    p = _checked(probabilities, 2)
    mean = p.mean(axis=0)
    ratio = np.divide(p.var(axis=0, ddof=1), mean, out=np.zeros_like(mean), where=mean > 0)
    return float(_score(p) * np.exp(ratio.sum() / (2 * len(p))))

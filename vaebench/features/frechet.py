"""Fréchet distance between two sets of features, its noise floor and its standard error.

The distance of two Gaussians with means mu and covariances S is |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)).
Let A be the centred features of a set divided by sqrt(n - ddof), so that S_a = A^T A.  Then Tr (S_a S_b)^(1/2) is the nuclear norm
of A B^T.  This needs neither a covariance nor a matrix square root: it is exact to rounding, never complex, and valid for fewer
samples than features.  scipy's `sqrtm` and the eigenvalues of torchmetrics have a relative error of 5e-6 on 256 clips with 400
features and their reconstructions, and take 11 and 4 times as long.

Sources: Heusel et al. 2017 (FID), Unterthiner et al. 2019 (FVD).
The noise floor is the second-order expansion of the Bures distance around one shared Gaussian.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh, svdvals

Features = NDArray[np.floating[Any]]


class _Gaussian(NamedTuple):
    mean: NDArray[np.float64]  # (d,)
    root: NDArray[np.float64]  # (rows, d); root.T @ root is the covariance


def _checked(features: Features, least: int) -> NDArray[np.float64]:
    """Check features, real (n, d) with n >= `least`, and convert them to float64.

    Raises:
        ValueError: another shape, too few rows, or a value that is not finite
    """
    if features.ndim != 2:
        raise ValueError(f"features are a matrix (samples, features), got the shape {features.shape}")
    if len(features) < least:
        raise ValueError(
            f"a covariance needs at least {least} samples, got {len(features)}; "
            "the distance between single feature vectors is mean_distance, and it is not a Fréchet distance"
        )
    matrix = np.asarray(features, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} of {len(matrix)} feature vectors are not finite, the first in row {bad[0]}")
    return matrix


def _pair(a: Features, b: Features, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = _checked(a, least), _checked(b, least)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"the two sets have {first.shape[1]} and {second.shape[1]} features; use one extractor for both"
        )
    return first, second


def _gaussian(features: NDArray[np.float64], ddof: int) -> _Gaussian:
    mean = features.mean(axis=0)
    return _reduced(_Gaussian(mean, (features - mean) / np.sqrt(len(features) - ddof)))


def _reduced(gaussian: _Gaussian) -> _Gaussian:
    """The same Gaussian with at most d rows in `root`: an orthogonal factor on the left does not change the singular values."""
    mean, root = gaussian
    if len(root) > root.shape[1]:
        root = np.asarray(np.linalg.qr(root, mode="r"))
    return _Gaussian(mean, root)


def _distance(a: _Gaussian, b: _Gaussian) -> float:
    means = np.square(a.mean - b.mean).sum()
    traces = np.square(a.root).sum() + np.square(b.root).sum()
    cross = svdvals(a.root @ b.root.T).sum()
    return max(float(means + traces - 2.0 * cross), 0.0)  # equal sets cancel to about -1e-13 of the traces


def frechet(a: Features, b: Features, *, ddof: int = 1) -> float:
    """Fréchet distance of two sets of features, computed in float64, in squared feature units.

    Args:
        a: real (n, d), n at least 2
        b: real (m, d), m at least 2
        ddof: 1 divides covariances by n - 1 (WF-VAE, VideoGPT, DIGAN, TF-GAN), 0 by n (StyleGAN-V, cd-fvd)

    Raises:
        ValueError: fewer than two rows, different numbers of features, or a value that is not finite
    """
    first, second = _pair(a, b, least=2)
    return _distance(_gaussian(first, ddof), _gaussian(second, ddof))


def mean_distance(a: Features, b: Features) -> float:
    """Squared distance of the means of two sets of features, real (n, d) and (m, d).

    The Fréchet distance of sets with one clip each, whose covariances are zero.  It is reported under its own name: the
    reconstruction script of WF-VAE with batches of one clip calls the mean of these distances "FVD".

    Raises:
        ValueError: a set is empty, different numbers of features, or a value that is not finite
    """
    first, second = _pair(a, b, least=1)
    return float(np.square(first.mean(axis=0) - second.mean(axis=0)).sum())


def noise_floor(a: Features, b: Features) -> float:
    """Expected Fréchet distance of two sets of n and m samples of the same Gaussian, the one fitted to both sets together.

    It is (1/n + 1/m) (sum_i l_i + 1/2 sum_ij (1 + [i = j]) l_i l_j / (l_i + l_j)), where l are the eigenvalues of the pooled
    covariance.

    Args:
        a: real (n, d), n at least 2
        b: real (m, d), m at least 2

    Raises:
        ValueError: fewer than two rows, different numbers of features, or a value that is not finite
    """
    first, second = _pair(a, b, least=2)
    n, m = len(first), len(second)
    centred = np.concatenate([first - first.mean(axis=0), second - second.mean(axis=0)])
    values = np.square(svdvals(centred)) / (n + m - 2)
    values = values[values > 0]
    pairs = np.outer(values, values) / np.add.outer(values, values)
    return float((1 / n + 1 / m) * (values.sum() + 0.5 * (pairs.sum() + np.trace(pairs))))


def bootstrap(
    a: Features, b: Features, *, paired: bool = False, resamples: int = 200, seed: int = 0, ddof: int = 1
) -> NDArray[np.float64]:
    """Bootstrap of the Fréchet distance: both sets are resampled with replacement.

    The standard deviation of the result is the standard error of `frechet`.  Its mean is about one noise floor too large, because
    resampling adds noise: centre an interval on `frechet`, not on this mean.

    Args:
        a: real (n, d), n at least 2
        b: real (m, d), m at least 2
        paired: row i of both sets is the same clip, so both sets are resampled together; without it, the standard error of
            correlated sets is up to a hundred times too large
        resamples: number of resamples
        seed: random seed
        ddof: see `frechet`

    Returns:
        float64 (resamples,)

    Raises:
        ValueError: see `frechet`; or paired sets of different sizes
    """
    first, second = _pair(a, b, least=2)
    if paired and len(first) != len(second):
        raise ValueError(f"paired sets have one row per clip on each side, got {len(first)} and {len(second)} rows")
    rng = np.random.default_rng(seed)
    distances = []
    for _ in range(resamples):
        rows = np.bincount(rng.integers(len(first), size=len(first)), minlength=len(first))
        others = rows if paired else np.bincount(rng.integers(len(second), size=len(second)), minlength=len(second))
        distances.append(_distance_by_eigenvalues(_resampled(first, rows, ddof), _resampled(second, others, ddof)))
    return np.array(distances)


def _resampled(features: NDArray[np.float64], counts: NDArray[np.int64], ddof: int) -> _Gaussian:
    """The Gaussian of a resample in which row i occurs counts[i] times.  Rows that do not occur (about 37 %) are skipped."""
    drawn = counts > 0
    weights = counts[drawn].astype(np.float64)
    rows, total = features[drawn], weights.sum()
    mean = weights @ rows / total
    return _Gaussian(mean, (rows - mean) * np.sqrt(weights / (total - ddof))[:, None])


def _distance_by_eigenvalues(a: _Gaussian, b: _Gaussian) -> float:
    """`_distance` from the squared singular values, which is faster; falls back to `_distance` if it would lose precision.

    This happens if a feature is constant or linearly dependent: the root of a square below rounding has an error of up to 1e-8 of
    the largest singular value.
    """
    small, large = (a.root, b.root) if len(a.root) <= len(b.root) else (b.root, a.root)
    features = small.shape[1]
    if len(small) <= features:
        product = small @ large.T
        squared = product @ product.T
        rank = len(small) - 1  # rows are centred
    else:
        try:
            factor = np.linalg.cholesky(small.T @ small)
        except np.linalg.LinAlgError:  # singular
            return _distance(_reduced(a), _reduced(b))
        squared = factor.T @ (large.T @ large) @ factor
        rank = features
    squares = eigvalsh(squared, overwrite_a=True, check_finite=False)[-rank:]
    if rank == 0 or squares[0] <= len(squares) * np.finfo(np.float64).eps * squares[-1]:
        return _distance(_reduced(a), _reduced(b))
    means = np.square(a.mean - b.mean).sum()
    traces = np.square(a.root).sum() + np.square(b.root).sum()
    return max(float(means + traces - 2.0 * np.sqrt(squares).sum()), 0.0)

"""Fréchet distance between two sets of features, its noise floor and its standard error.

Between Gaussians fitted to two feature matrices it is |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)).
With A the centred rows of one set over sqrt(n - ddof), Tr (S_a S_b)^(1/2) is the nuclear norm of A B^T, so no
covariance is formed and no matrix square root is taken: exact to rounding, never complex, and right for fewer
samples than features.  That is why it is not scipy's `sqrtm` or the eigenvalues of torchmetrics: on 256 clips of 400 features
and their reconstructions these are off by 5e-6 of the distance and take 11 and 4 times as long.

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
    """Any real (n, d) -> float64 (n, d); ValueError for another shape, too few rows, or values not finite."""
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
    """With a root of at most d rows: an orthogonal factor on the left changes no singular value."""
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
    """Fréchet distance of real (n, d) and (m, d), at least 2 rows each, in squared feature units, in float64.

    `ddof` 1 divides covariances by n - 1 (WF-VAE, VideoGPT, DIGAN, TF-GAN), 0 by n (StyleGAN-V, cd-fvd).
    ValueError: fewer than two rows, different numbers of features, or a value that is not finite.
    """
    first, second = _pair(a, b, least=2)
    return _distance(_gaussian(first, ddof), _gaussian(second, ddof))


def mean_distance(a: Features, b: Features) -> float:
    """|mean a - mean b|^2 of real (n, d) and (m, d).

    All that is left of a Fréchet distance when each set is one clip, where both covariances vanish. It is
    reported under its own name: the reconstruction script of WF-VAE, run with batches of one, calls the mean
    of these "FVD".
    """
    first, second = _pair(a, b, least=1)
    return float(np.square(first.mean(axis=0) - second.mean(axis=0)).sum())


def noise_floor(a: Features, b: Features) -> float:
    """The Fréchet distance to expect of n and m samples when both sets come from one Gaussian, the pooled.

    (1/n + 1/m) (sum_i l_i + 1/2 sum_ij (1 + [i = j]) l_i l_j / (l_i + l_j)), with l the eigenvalues of the
    pooled covariance.
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
    """(resamples,) Fréchet distances of both sets drawn again with replacement.

    `paired`: row i of both sets is one clip, so one draw of rows serves both; two draws would take the correlation away and
    give a standard error up to a hundred times too large.  ValueError for paired sets of different sizes.

    Their standard deviation is the standard error of `frechet`.  Their mean lies about one noise floor above it, since a
    resample is one more draw: centre an interval on the value itself, not on these.
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
    """The Gaussian of row i taken counts[i] times, from the rows that were drawn: about 63 % of them."""
    drawn = counts > 0
    weights = counts[drawn].astype(np.float64)
    rows, total = features[drawn], weights.sum()
    mean = weights @ rows / total
    return _Gaussian(mean, (rows - mean) * np.sqrt(weights / (total - ddof))[:, None])


def _distance_by_eigenvalues(a: _Gaussian, b: _Gaussian) -> float:
    """`_distance` from the squares of the singular values, where these keep their digits; from `svdvals` where they do not.

    Squares below rounding (a feature that is constant or a sum of others) would each be wrong by up to 1e-8 of the largest.
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

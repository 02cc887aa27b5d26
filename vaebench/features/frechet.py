"""Fréchet distance between two sets of features, its noise floor, and its extrapolation to endless samples.

Between Gaussians fitted to two feature matrices it is |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)).
With A the centred rows of one set over sqrt(n - ddof), Tr (S_a S_b)^(1/2) is the nuclear norm of A B^T, so no
covariance is formed and no matrix square root is taken: exact to rounding, never complex, and right for fewer
samples than features.

Sources: Heusel et al. 2017 (FID), Unterthiner et al. 2019 (FVD), Chong and Forsyth 2020 (line in 1/N).
The noise floor is the second-order expansion of the Bures distance around one shared Gaussian.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import svdvals

Features = NDArray[np.floating[Any]]


class _Gaussian(NamedTuple):
    mean: NDArray[np.float64]  # (d,)
    root: NDArray[np.float64]  # (min(n, d), d); root.T @ root is the covariance


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
    root = (features - mean) / np.sqrt(len(features) - ddof)
    if len(root) > root.shape[1]:  # an orthogonal factor on the left changes no singular value: keep the small one
        root = np.linalg.qr(root, mode="r")
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


def debiased(a: Features, b: Features, *, ddof: int = 1) -> float:
    """`frechet` less its noise floor; near 0, and of either sign, for two sets of one distribution."""
    return frechet(a, b, ddof=ddof) - noise_floor(a, b)


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
        rows = rng.integers(len(first), size=len(first))
        others = rows if paired else rng.integers(len(second), size=len(second))
        distances.append(_distance(_gaussian(first[rows], ddof), _gaussian(second[others], ddof)))
    return np.array(distances)


def frechet_of_subsets(
    real: Features, fake: Features, subsets: Iterable[NDArray[np.integer[Any]]], *, ddof: int = 1
) -> NDArray[np.float64]:
    """The Fréchet distance of `real` (n, d) to `fake[subset]`, one for each array of row numbers."""
    first, second = _pair(real, fake, least=2)
    fixed = _gaussian(first, ddof)
    return np.array([_distance(fixed, _gaussian(_checked(second[rows], 2), ddof)) for rows in subsets])


def extrapolate(sizes: NDArray[np.integer[Any]], distances: NDArray[np.float64]) -> float:
    """The least-squares line through `distances` over 1 / `sizes`, at 0: the value of endless samples."""
    _, intercept = np.polyfit(1.0 / np.asarray(sizes, dtype=np.float64), distances, 1)
    return float(intercept)


def subset_sizes(smallest: int, largest: int, points: int = 15) -> NDArray[np.int32]:
    """`points` sizes from `smallest` to `largest` in equal steps, rounded down."""
    if not 2 <= smallest < largest:
        raise ValueError(f"an extrapolation needs 2 <= smallest < samples, got {smallest} and {largest} samples")
    return np.linspace(smallest, largest, points).astype(np.int32)


def frechet_infinity(
    real: Features,
    fake: Features,
    *,
    smallest: int = 512,
    points: int = 15,
    shuffles: int = 3,
    seed: int = 0,
    ddof: int = 1,
) -> float:
    """`frechet` extrapolated to infinitely many fakes (Chong and Forsyth 2020), averaged over shuffles.

    The bias of the finite real set stays: compare only over one fixed real set. ValueError if `fake` has
    no more than `smallest` rows.
    """
    rng = np.random.default_rng(seed)
    sizes = subset_sizes(smallest, len(fake), points)
    lines = [
        extrapolate(sizes, frechet_of_subsets(real, fake, [rng.permutation(len(fake))[:k] for k in sizes], ddof=ddof))
        for _ in range(shuffles)
    ]
    return float(np.mean(lines))

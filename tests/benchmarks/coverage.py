"""How often a "95 % interval" of a mean over clips contains the true mean: Student's t, which vaebench prints, and two bootstraps.

python tests/benchmarks/coverage.py --output results/benchmarks/interval_coverage.json

For each number of clips and each distribution of scores, many sets of clips are drawn and the intervals that contain the
distribution's mean are counted.  `percentile` is the percentile bootstrap, which vaebench printed before; `bootstrap_t`
studentizes every resample, which follows the skewness of the scores where there are enough of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vaebench.records import interval

CLIPS = (3, 8, 25, 100)
RESAMPLES = 2000
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray]
Ends = tuple[NDArray, NDArray]  # (draws,) lower and upper ends
DISTRIBUTIONS: dict[str, tuple[str, float, float, Draw]] = {  # formula, mean, deviation, how to draw it
    "normal": ("N(0, 1)", 0.0, 1.0, lambda rng, shape: rng.normal(size=shape)),
    # mean and deviation over clips as those of SSIM in results/reconstruction/bundle-33x256
    "ssim_like": ("Beta(8, 2)", 0.8, (0.16 / 11) ** 0.5, lambda rng, shape: rng.beta(8, 2, size=shape)),
    "exponential": ("Exp(1)", 1.0, 1.0, lambda rng, shape: rng.exponential(size=shape)),
    "lognormal": (
        "exp(N(0, 1))",
        np.e**0.5,
        float(np.sqrt((np.e - 1) * np.e)),
        lambda rng, shape: rng.lognormal(size=shape),
    ),
}


def student(scores: NDArray) -> Ends:
    """The interval of vaebench, by the function that every suite calls."""
    ends = np.array([interval(row)[1:] for row in scores], dtype=np.float64)
    return ends[:, 0], ends[:, 1]


def resampled(scores: NDArray) -> tuple[NDArray, NDArray]:
    """(draws, n) -> mean and standard error of each resample, (draws, RESAMPLES); one set of resamples for all draws."""
    n = scores.shape[1]
    picks = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    counts = np.stack([np.bincount(row, minlength=n) for row in picks]).T / n  # (n, RESAMPLES)
    means = scores @ counts
    variances = np.maximum(np.square(scores) @ counts - np.square(means), 0) * n / (n - 1)
    return means, np.sqrt(variances / n)


def percentile(scores: NDArray) -> Ends:
    low, high = np.percentile(resampled(scores)[0], [2.5, 97.5], axis=1)
    return low, high


def bootstrap_t(scores: NDArray) -> Ends:
    """Resamples of one clip repeated have no spread and count as endlessly far away."""
    means, errors = resampled(scores)
    centre = scores.mean(axis=1)
    far = np.where(means >= centre[:, None], np.inf, -np.inf)
    t = np.divide(means - centre[:, None], errors, out=far, where=errors > 1e-9)
    below, above = np.percentile(t, [2.5, 97.5], axis=1, method="nearest")
    error = scores.std(axis=1, ddof=1) / scores.shape[1] ** 0.5
    return centre - above * error, centre - below * error


METHODS = {"percentile": percentile, "student": student, "bootstrap_t": bootstrap_t}


def coverage(distribution: str, n: int, draws: int, seed: int) -> dict[str, dict[str, float | None]]:
    """For each method: the share of intervals that contain the mean, lie below it, lie above it; and their median half-width."""
    _, mean, deviation, draw = DISTRIBUTIONS[distribution]
    rng = np.random.default_rng([seed, n, list(DISTRIBUTIONS).index(distribution)])
    ends: dict[str, list[Ends]] = {name: [] for name in METHODS}
    for start in range(0, draws, 500):
        scores = draw(rng, (min(500, draws - start), n))
        for name, method in METHODS.items():
            ends[name].append(method(scores))
    found: dict[str, dict[str, float | None]] = {}
    for name, parts in ends.items():
        low, high = (np.concatenate(side) for side in zip(*parts, strict=True))
        half = float(np.median(high - low) / 2 / deviation)
        found[name] = {
            "coverage": float(np.mean((low <= mean) & (mean <= high))),
            "below": float(np.mean(high < mean)),
            "above": float(np.mean(low > mean)),
            "median_half_width": half if np.isfinite(half) else None,  # in deviations of one clip; null: endless
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    table = {name: {str(n): coverage(name, n, args.draws, args.seed) for n in CLIPS} for name in DISTRIBUTIONS}
    record = {
        "what": "share of the 95 % intervals of a mean over n clips that contain the true mean",
        "draws": args.draws,
        "seed": args.seed,
        "resamples": RESAMPLES,
        "standard_error": (0.95 * 0.05 / args.draws) ** 0.5,  # of a coverage of 0.95
        "distributions": {name: formula for name, (formula, *_) in DISTRIBUTIONS.items()},
        "coverage": table,
        "packages": {"numpy": np.__version__, "scipy": scipy.__version__},
    }
    for name, rows in table.items():
        for n, methods in rows.items():
            shown = "  ".join(f"{method} {found['coverage']:.3f}" for method, found in methods.items())
            print(f"{name:12s} n={n:>3s}  {shown}")
    if args.output:
        args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

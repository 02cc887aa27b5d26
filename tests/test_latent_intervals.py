"""Intervals of latent statistics against a full recomputation, and their coverage of a known correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fields import ar1, white
from vaebench.latents import correlation, curves, sets
from vaebench.latents.passes import Basis, first, second
from vaebench.latents.scores import LATENTS, scores
from vaebench.records import Score

# clips of one field with very different power and mean, as real clips have
FACTORS = (0.2, 0.5, 1.0, 1.2, 2.0, 4.0)


def clips(channels: int = 4, factors: tuple[float, ...] = FACTORS) -> list[dict[str, NDArray]]:
    found = []
    for seed, factor in enumerate(factors):
        field = ar1((channels, 5, 16, 16), (0.8, 0.7, 0.6), seed=seed) * factor
        shift = white(channels, 1, 1, 1, seed=100 + seed) * factor
        field[1] += 0.7 * field[0]
        found.append({"latent": field + shift, "rgb": field[:3]})
    return found


def scores_of(stored: list[dict[str, NDArray]]) -> dict[str, Score]:
    return scores(LATENTS, sets.described(stored), sets.without_groups(stored))


def test_standard_errors_are_those_of_a_full_recomputation_without_each_clip() -> None:
    stored = clips()
    n = len(stored)
    found = scores_of(stored)
    without = [scores_of(stored[:i] + stored[i + 1 :]) for i in range(n)]
    counted = [name for name, score in found.items() if score.stderr is not None]
    assert {"localcorr", "autocorr_t", "efold_x", "dct_lf", "gaussian_mmse", "skewness", "std", "top1"} <= set(counted)
    for name in counted:
        left = np.array([score[name].value for score in without])
        expected = math.sqrt((n - 1) / n * np.square(left - left.mean()).sum())
        assert found[name].stderr == pytest.approx(expected, rel=1e-6), name


def test_clips_of_different_power_and_one_correlation_have_a_small_standard_error() -> None:
    stored = [{**clip, "latent": factor * ar1((8, 9, 16, 16), (0.8, 0.7, 0.6), seed=seed)}
              for seed, (clip, factor) in enumerate(zip(clips(3), FACTORS, strict=True))]  # fmt: skip
    score = scores_of(stored)["autocorr_y"]
    assert score.value == pytest.approx(0.7, abs=0.05)
    assert score.stderr < 0.03  # of the mean product .46: the power of clips differs, not their correlation
    assert -1 <= score.low < score.high <= 1


def test_a_correlation_is_at_most_1_in_every_clip() -> None:
    stored = clips()
    still = np.repeat(white(4, 1, 16, 16, seed=9) * 10, 5, axis=1)
    stored.append({"latent": still, "rgb": still[:3]})
    for clip in sets.described(stored):
        values = curves.of_clip(clip | {"psnr": np.array(30.0)})
        for axis in "tyx":
            assert -1 <= values[f"autocorr_{axis}"] <= 1
    assert values["autocorr_t"] == pytest.approx(1)
    # three frames whose middle one is the largest: the mean product exceeds the mean power
    z = np.array([1.0, math.sqrt(2), 1.0]).reshape(1, 3, 1, 1)
    products = correlation.products(z, 1)
    assert products[0, 0] > np.square(z).mean()
    assert correlation.autocorrelation(products)[0] <= 1
    with pytest.raises(ValueError, match="there is no power"):
        correlation.autocorrelation(np.zeros((3, 2)))


def test_many_clips_are_left_out_in_groups() -> None:
    stored = clips(3, tuple(np.linspace(0.5, 2, 24)))
    others = sets.without_groups(stored, 10)
    assert len(others) == 10
    kept = [clip["latent"] for i, clip in enumerate(stored) if i % 10 != 3]
    basis = Basis.of({name: np.mean([first(z)[name] for z in kept], axis=0) for name in ("mean", "products")})
    np.testing.assert_allclose(others[3]["fourth"], np.mean([second(z, basis)["fourth"] for z in kept], axis=0))
    one_by_one = scores(LATENTS, sets.described(stored), sets.without_groups(stored, 24))
    grouped = scores(LATENTS, sets.described(stored), others)
    for name in ("autocorr_t", "dct_lf", "localcorr"):
        assert grouped[name].stderr == pytest.approx(one_by_one[name].stderr, rel=0.6), name
    assert grouped["std"].stderr == one_by_one["std"].stderr  # no basis: one clip at a time

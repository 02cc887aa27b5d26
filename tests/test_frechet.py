"""Fréchet distance against official implementations (goldens), closed forms and its own statistics."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.goldens_io import Golden, goldens
from vaebench.features.frechet import bootstrap, frechet, mean_distance, noise_floor

PAIRS = goldens(lambda m: m.get("kind") == "frechet")
SETS = [g for g in PAIRS if min(g.json("spec")["n"], g.json("spec")["m"]) > 1]
SINGLES = [g for g in PAIRS if g not in SETS]


def features(golden: Golden) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    tensors, spec = golden.tensors(), golden.json("spec")
    assert (tensors["real"].shape, tensors["fake"].shape) == ((spec["n"], spec["d"]), (spec["m"], spec["d"]))
    numbers = {key: value.item() for key, value in tensors.items() if value.ndim == 0}
    return tensors["real"].numpy(), tensors["fake"].numpy(), numbers


def scale(real: np.ndarray, fake: np.ndarray) -> float:
    """The size of the terms that cancel: traces and means, the yardstick of rounding."""
    return float(real.var(axis=0).sum() + fake.var(axis=0).sum() + mean_distance(real, fake))


def test_there_are_goldens() -> None:
    assert SETS
    assert SINGLES


@pytest.mark.parametrize("golden", SETS, ids=str)
@pytest.mark.parametrize(("ddof", "name"), [(0, "biased"), (1, "unbiased")])
def test_frechet_is_the_float64_and_the_forty_digit_reference(golden: Golden, ddof: int, name: str) -> None:
    real, fake, numbers = features(golden)
    got = frechet(real, fake, ddof=ddof)
    exact = 1e-9 * max(scale(real, fake), 1.0)
    assert got == pytest.approx(numbers[f"ref64_{name}_nuclear"], rel=1e-9, abs=exact)
    for key, value in numbers.items():
        if re.fullmatch(rf"mp\d+_{name}", key):  # computed with that many digits
            assert got == pytest.approx(value, rel=1e-12), key
    assert got == pytest.approx(numbers[f"eigh64_{name}"], rel=1e-6, abs=1e3 * exact)


@pytest.mark.parametrize("golden", SETS, ids=str)
def test_frechet_is_what_the_official_tools_print_within_their_own_precision(golden: Golden) -> None:
    real, fake, numbers = features(golden)
    rounding = 1e-6 * max(scale(real, fake), 1.0)
    assert frechet(real, fake, ddof=0) == pytest.approx(
        numbers["official_styleganv_featurestats_biased"], rel=1e-6, abs=rounding
    )
    unbiased = frechet(real, fake)
    assert unbiased == pytest.approx(numbers["official_wfvae_styleganv_unbiased"], rel=1e-6, abs=rounding)
    float32 = numbers["official_wfvae_videogpt_float32_unbiased"]
    assert unbiased == pytest.approx(float32, rel=5e-4, abs=100 * rounding)


@pytest.mark.parametrize("golden", SINGLES, ids=str)
def test_one_sample_has_a_mean_distance_and_no_frechet_distance(golden: Golden) -> None:
    real, fake, numbers = features(golden)
    assert mean_distance(real, fake) == pytest.approx(numbers["ref64_biased_nuclear"], rel=1e-12)
    assert mean_distance(real, fake) == pytest.approx(numbers["official_wfvae_styleganv_unbiased"], rel=1e-6)
    with pytest.raises(ValueError, match=r"at least 2 samples, got 1; .*mean_distance"):
        frechet(real, fake)


def gaussian(seed: int, n: int, d: int, spread: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * spread


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 24), st.integers(0, 1))
def test_frechet_is_symmetric_blind_to_rotation_and_zero_on_itself(n: int, m: int, d: int, ddof: int) -> None:
    a, b = gaussian(n, n, d), gaussian(m + 99, m, d, 2.0) + 1.0
    turn = np.linalg.qr(gaussian(7, d, d))[0]
    value = frechet(a, b, ddof=ddof)
    assert frechet(b, a, ddof=ddof) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert frechet(a @ turn, b @ turn, ddof=ddof) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert frechet(a, a, ddof=ddof) == pytest.approx(0.0, abs=1e-11 * d)


def test_a_shift_costs_its_square_and_a_stretch_the_square_of_the_change_in_deviation() -> None:
    a = gaussian(0, 200, 5)
    centred = a - a.mean(axis=0)
    assert frechet(a, a + 3.0) == pytest.approx(5 * 9.0)
    assert frechet(centred, 4.0 * centred) == pytest.approx(9.0 * np.trace(np.cov(a.T)))


@pytest.mark.parametrize("decades", [0.0, 2.0])
def test_noise_floor_is_the_mean_distance_of_two_samples_of_one_gaussian(decades: float) -> None:
    n, m, d = 256, 320, 24
    spread = np.logspace(0, -decades / 2, d)
    pairs = [(gaussian(2 * k, n, d) * spread, gaussian(2 * k + 1, m, d) * spread) for k in range(40)]
    distances = np.array([frechet(a, b) for a, b in pairs])
    floors = np.array([noise_floor(a, b) for a, b in pairs])
    error = distances.std() / np.sqrt(len(pairs))
    assert floors.mean() == pytest.approx(distances.mean(), abs=3 * error + 0.02 * distances.mean())
    assert abs((distances - floors).mean()) < 0.05 * distances.mean()


def test_bootstrap_spread_is_that_of_new_samples_and_its_mean_lies_a_floor_above() -> None:
    n, d, shift = 200, 8, 0.5
    values = np.array([frechet(gaussian(k, n, d), gaussian(k + 500, n, d) + shift) for k in range(60)])
    a, b = gaussian(900, n, d), gaussian(901, n, d) + shift
    resampled = bootstrap(a, b, resamples=100, seed=3)
    assert resampled.std() == pytest.approx(values.std(), rel=0.4)
    assert resampled.mean() - frechet(a, b) == pytest.approx(noise_floor(a, b), rel=0.5)
    assert np.array_equal(resampled, bootstrap(a, b, resamples=100, seed=3))


def clips_and_reconstructions(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 40) features of clips, and of reconstructions that keep 97 % of each, shift it by 0.15 and add noise."""
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(n, 40)) * np.logspace(0, 1, 40)
    return real, 0.97 * real + 0.15 + 0.3 * rng.normal(size=(n, 40))


@pytest.mark.parametrize("n", [64, 256])
def test_the_standard_error_of_paired_sets_is_that_of_new_clips_with_their_reconstructions(n: int) -> None:
    true = np.std([frechet(*clips_and_reconstructions(k, n)) for k in range(100)])
    pair = clips_and_reconstructions(1000, n)
    assert true / 2 < bootstrap(*pair, paired=True).std(ddof=1) < true * 2
    assert bootstrap(*pair).std(ddof=1) > 20 * true  # as if a clip had nothing to do with its reconstruction


def test_paired_sets_are_resampled_with_one_draw_and_others_with_two() -> None:
    a = gaussian(0, 30, 4)
    shifted = bootstrap(a, a + 1.0, paired=True, resamples=20)
    assert shifted == pytest.approx(np.full(20, 4.0))  # every resample of the pairs is a shift by 1 in 4 features
    apart = bootstrap(a, a + 1.0, resamples=20)
    assert apart.std() > 0.1
    with pytest.raises(ValueError, match="one row per clip on each side, got 30 and 29 rows"):
        bootstrap(a, a[:-1], paired=True)


def correlated(seed: int, n: int, d: int, decades: float) -> np.ndarray:
    """(n, d) Gaussian rows whose covariance has eigenvalues that span `decades` powers of ten."""
    turn = np.linalg.qr(gaussian(seed + 1, d, d))[0]
    return gaussian(seed, n, d) * np.logspace(0, -decades / 2, d) @ turn


@pytest.mark.parametrize(("n", "m", "d"), [(30, 30, 50), (40, 60, 30), (60, 200, 30), (200, 30, 40), (2, 3, 5)])
@pytest.mark.parametrize("decades", [0.0, 4.0, 12.0, 24.0])
@pytest.mark.parametrize("case", ["apart", "paired", "equal", "constant features"])
def test_a_resample_has_the_frechet_distance_of_its_rows(n: int, m: int, d: int, decades: float, case: str) -> None:
    a, paired = correlated(0, n, d, decades), case in ("paired", "equal")
    b = {"equal": a, "paired": 0.97 * a + 0.03 * correlated(7, n, d, decades)}.get(case, correlated(3, m, d, decades))
    if case == "constant features":
        a[:, ::2] = b[:, ::2] = 1.5
    rng, got = np.random.default_rng(0), bootstrap(a, b, paired=paired, resamples=5)
    for value in got:
        rows = rng.integers(n, size=n)
        others = rows if paired else rng.integers(m, size=m)
        rounding = 1e-10 * scale(a[rows], b[others])  # of the terms that cancel
        assert value == pytest.approx(frechet(a[rows], b[others]), rel=1e-10, abs=rounding)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros(3), np.zeros((2, 3)), r"matrix \(samples, features\), got the shape \(3,\)"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "3 and 2 features"),
        (
            np.array([[0.0, 1.0], [np.nan, 0.0]]),
            np.zeros((2, 2)),
            "1 of 2 feature vectors are not finite, the first in row 1",
        ),
    ],
)
def test_unusable_features_are_refused(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet(a, b)

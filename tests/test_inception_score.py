"""Inception score and kernel distances against their official implementations (goldens), and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.goldens_io import Golden, goldens
from vaebench.features.inception_score import is_debiased, is_styleganv_10split, is_tgan_1split
from vaebench.features.mmd import kvd


def numbers(golden: Golden) -> dict[str, float]:
    return {key: value.item() for key, value in golden.tensors().items() if value.ndim == 0}


@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "inception_score"), ids=str)
def test_every_form_is_the_official_one(golden: Golden) -> None:
    logits, expected = golden.tensors()["logits"], numbers(golden)
    exact = logits.double().softmax(1).numpy()
    assert is_tgan_1split(exact) == pytest.approx(expected["ref64_1split"], rel=1e-9)
    assert is_tgan_1split(exact) == pytest.approx(expected["tgan2_1split_mean"], rel=1e-9)
    parts = [is_tgan_1split(part) for part in np.split(exact, np.arange(1, 10) * len(exact) // 10)]
    assert np.mean(parts) == pytest.approx(expected["tgan2_10split_mean"], rel=1e-2)  # TGAN cuts remainders elsewhere
    stored = logits.softmax(1).numpy()  # float32, as the official detector returns it
    assert is_tgan_1split(stored) == pytest.approx(expected["ref64_1split"], rel=1e-6)
    split = is_styleganv_10split(stored)
    if math.isnan(expected["styleganv_10split_mean"]):  # a probability of zero, which float32 rounds to
        assert (stored == 0).any()
        assert split.mean == pytest.approx(is_styleganv_10split(exact).mean, rel=1e-6)
    else:
        assert split.mean == pytest.approx(expected["styleganv_10split_mean"], rel=1e-6)
        assert split.std == pytest.approx(expected["styleganv_10split_std"], rel=1e-5)
        assert is_tgan_1split(stored) == pytest.approx(expected["styleganv_1split"], rel=1e-6)


def predictions(num: int, classes: int, sharpness: float, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal((num, classes)) * sharpness
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True)


def test_sure_and_even_predictions_score_the_number_of_classes() -> None:
    sure = np.tile(np.eye(7), (30, 1))
    assert is_tgan_1split(sure) == pytest.approx(7)
    assert is_tgan_1split(np.full((20, 7), 1 / 7)) == pytest.approx(1)
    assert is_tgan_1split(np.tile(sure[:1], (20, 1))) == pytest.approx(1)


def test_debiasing_recovers_the_score_of_many_videos_from_few() -> None:
    truth = is_tgan_1split(predictions(100_000, 50, 4.0, seed=0))
    few = [predictions(200, 50, 4.0, seed=k) for k in range(1, 21)]
    raw, debiased = np.mean([is_tgan_1split(p) for p in few]), np.mean([is_debiased(p) for p in few])
    assert raw < 0.95 * truth
    assert debiased == pytest.approx(truth, rel=0.03)


def test_ten_parts_score_lower_than_the_whole() -> None:
    p = predictions(400, 50, 4.0, seed=5)
    assert is_styleganv_10split(p).mean < 0.9 * is_tgan_1split(p)


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (np.full((5, 4), 0.25), r"at least 10 videos, got the shape \(5, 4\)"),
        (np.zeros((20, 4)), "sum to 1; apply a softmax"),
        (np.zeros(20), r"got the shape \(20,\)"),
    ],
)
def test_what_is_no_set_of_probabilities_is_refused(p: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        is_styleganv_10split(p)


@pytest.mark.large
@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "mmd"), ids=str)
def test_kernel_distances_are_the_official_ones(golden: Golden) -> None:
    tensors, expected = golden.tensors(), numbers(golden)
    real, fake = tensors["real"].numpy(), tensors["fake"].numpy()
    assert kvd(real, fake) == pytest.approx(expected["digan_kvd_deg3_unbiased"], rel=1e-9)
    assert kvd(real, fake) == pytest.approx(expected["digan_kvd_float32_in"], rel=1e-5)


def test_kvd_of_one_distribution_is_zero_on_average_however_few_the_videos() -> None:
    rng = np.random.default_rng(1)
    values = [kvd(rng.standard_normal((8, 5)), rng.standard_normal((6, 5))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20
    assert min(values) < 0


def test_kvd_of_unusable_features_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 samples on each side, got 1 and 3"):
        kvd(np.zeros((1, 4)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"one width, got \(2, 4\) and \(2, 5\)"):
        kvd(np.zeros((2, 4)), np.zeros((2, 5)))

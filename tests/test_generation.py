"""Samples and their scores: seeds, frames, videos, distances beside their floors, inception scores beside those of reals."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import adapters
from tests.videos import pictures
from vaebench.features.frechet import bootstrap, frechet, noise_floor
from vaebench.generation import extractors, latent_cache, sampling
from vaebench.generation import scores as generation_scores
from vaebench.generation.latte.model import Latte, LatteConfig
from vaebench.generation.sampling import Sampling
from vaebench.store import Store


def test_distances_stand_beside_their_floor_and_interval() -> None:
    rng = np.random.default_rng(0)
    real, reconstructed, generated = rng.normal(size=(3, 300, 4)) + np.array([0, 0.1, 1.0])[:, None, None]
    scores = generation_scores.distances("i3d", real, reconstructed, generated, ddof=1)
    assert scores["fvd16"].value == frechet(real, generated)
    assert scores["fvd16_floor"].value == noise_floor(real, generated)
    assert scores["fvd16"].low < 4.0 < scores["fvd16"].high  # |1, 1, 1, 1|^2
    assert scores["fvd16_vs_rebuilt"].value < scores["fvd16"].value
    assert scores["rfvd16"].value < 0.1
    assert (
        scores["fvd16_debiased"].value
        == frechet(real, generated) - noise_floor(real, generated)
        < scores["fvd16"].value
    )
    assert scores["fvd16_debiased"].high - scores["fvd16_debiased"].low == pytest.approx(
        scores["fvd16"].high - scores["fvd16"].low
    )
    assert "rfvd16_debiased" not in scores  # paired sets
    biased = generation_scores.distances("i3d", real, reconstructed, generated, ddof=0)["fvd16"].value
    assert biased == frechet(real, generated, ddof=0) != scores["fvd16"].value
    one = generation_scores.distances("videomae_ssv2", real[:1], reconstructed[:1], generated[:1], ddof=1)
    assert one["fvd16_videomae_ssv2"].value is one["kvd16_videomae_ssv2"].value is None


def test_the_interval_of_reconstructions_is_that_of_pairs_and_those_of_samples_are_not() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(100, 4)) * 10
    reconstructed, generated = real + 1.0, rng.normal(size=(100, 4)) * 10
    scores = generation_scores.distances("i3d", real, reconstructed, generated, ddof=1)
    shift = scores["rfvd16"]
    assert (shift.value, shift.low, shift.high) == pytest.approx(
        (4.0, 4.0, 4.0), abs=1e-6
    )  # |1, 1, 1, 1|^2 in all resamples
    assert scores["fvd16_vs_rebuilt"].stderr == pytest.approx(bootstrap(reconstructed, generated).std(ddof=1))
    assert scores["fvd16"].stderr == pytest.approx(bootstrap(real, generated).std(ddof=1))


def test_a_standard_error_is_computed_once_for_the_same_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, reconstructed, generated = np.random.default_rng(0).normal(size=(3, 20, 4))
    calls: list[bool] = []
    monkeypatch.setattr(
        generation_scores,
        "bootstrap",
        lambda *a, paired, ddof: calls.append(paired) or bootstrap(*a, paired=paired, ddof=ddof),
    )
    store = Store(tmp_path / "standard_errors")
    first = generation_scores.distances("i3d", real, reconstructed, generated, ddof=1, store=store)
    assert calls == [False, False, True]
    assert generation_scores.distances("i3d", real, reconstructed, generated, ddof=1, store=store) == first
    assert len(calls) == 3
    assert first == generation_scores.distances("i3d", real, reconstructed, generated, ddof=1)
    calls.clear()
    generation_scores.distances("i3d", real, reconstructed, generated, ddof=0, store=store)
    generation_scores.distances("i3d", real, reconstructed, generated + 1e-9, ddof=1, store=store)
    assert calls == [False, False, True, False, False]  # the third pair is as before


def test_a_distance_has_no_negative_lower_end_and_its_excess_over_the_floor_has() -> None:
    real, reconstructed, generated = np.random.default_rng(1).normal(size=(3, 8, 1))
    scores = generation_scores.distances("i3d", real, reconstructed, generated, ddof=1)
    for name in ("fvd16", "fvd16_vs_rebuilt", "rfvd16"):
        assert scores[name].value < 1.96 * scores[name].stderr
        assert scores[name].low == 0
        assert scores[name].high == pytest.approx(scores[name].value + 1.96 * scores[name].stderr)
    assert scores["fvd16_debiased"].low == pytest.approx(scores["fvd16_debiased"].value - 1.96 * scores["fvd16"].stderr)
    assert scores["fvd16_debiased"].low < 0


def test_a_distance_of_two_videos_a_side_has_no_interval() -> None:
    real, reconstructed, generated = np.random.default_rng(1).normal(size=(3, 2, 4))
    for score in generation_scores.distances("i3d", real, reconstructed, generated, ddof=1).values():
        assert score.value is not None
        assert score.low is score.high is score.stderr is None


def test_inception_scores_of_samples_stand_beside_that_of_reals() -> None:
    rng = np.random.default_rng(0)
    generated, real = rng.dirichlet(np.full(101, 0.2), 40), np.eye(101)[np.arange(50)] * 0.9 + 0.1 / 101
    scores = generation_scores.inception_scores(generated, real)
    assert set(generation_scores.INCEPTION) < set(scores)
    assert scores["is_debiased_of_reals"].value > scores["is_debiased"].value > 1
    assert scores["is_debiased_of_reals"].n == 50
    assert set(generation_scores.inception_scores(generated, real[:9])) == set(generation_scores.INCEPTION)


def test_scored_frames_are_the_first_sixteen_on_the_grid_and_jpeg_is_pillows_75() -> None:
    video = torch.from_numpy(pictures(17)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    plain = extractors.to_frames(video, "none")
    assert plain.shape == (1, 3, 16, 48, 64)
    assert torch.equal((plain * 255).round().byte()[0].permute(1, 2, 3, 0), torch.from_numpy(pictures(17)[:16]))
    file = BytesIO()
    Image.fromarray(pictures(17)[3]).save(file, "JPEG", quality=75)
    through = extractors.to_frames(video, "jpeg75")[0, :, 3].mul(255).round().byte().permute(1, 2, 0)
    assert np.array_equal(through.numpy(), np.asarray(Image.open(file)))


def test_a_video_shows_the_samples_beside_each_other_and_leaves_the_rest_black(tmp_path: Path) -> None:
    video = torch.from_numpy(pictures(5, 33, 40)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    file = tmp_path / "samples.mp4"
    sampling.write_video(file, [video] * 4 + [-video])
    with av.open(str(file)) as container:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)
    assert shown.shape == (5, 66, 160, 3)
    expected = pictures(5, 33, 40).astype(int)
    assert np.abs(shown[:, :33, 120:] - expected).mean() < 6
    assert np.abs(shown[:, 33:, :40] - (255 - expected)).mean() < 6
    assert shown[:, 34:, 42:].mean() < 4
    assert not list(tmp_path.glob("*.part"))


def test_a_sample_has_its_own_seed_and_label() -> None:
    assert len({sampling.seed_of(0, number) for number in range(50)} | {sampling.seed_of(1, 0)}) == 51
    assert {sampling.label_of(0, number, 4) for number in range(50)} == {0, 1, 2, 3}


def test_samples_of_a_diverged_model_are_refused() -> None:
    model = Latte(LatteConfig(3, 1, 2, 2, 1, 2, 16, 2))
    torch.nn.init.constant_(model.final_layer.linear.bias, math.nan)
    scaling = latent_cache.published(adapters.find("pool/4x8x8"))
    with pytest.raises(ValueError, match=r"2 of 2 samples .* diverged"):
        sampling.generate(model, adapters.load("pool/4x8x8"), scaling, range(2), Sampling("2", "ddim", 1.0), seed=0)

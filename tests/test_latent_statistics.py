"""Tier 0: spectra, moments and linear losses of latents, against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.fft import idctn

from tests.latents import fake_cache
from vaebench.generation import latent_scores, latent_statistics
from vaebench.generation.latent_cache import Scaling
from vaebench.generation.latte.diffusion import linear
from vaebench.latents import gaussian, passes, spectrum
from vaebench.latents.jackknife import mean
from vaebench.latents.scores import LATENTS, scores
from vaebench.records import Score


def schedule_snr() -> np.ndarray:
    kept = linear().alphas_cumprod.numpy()
    return kept / (1 - kept)


def test_the_linear_denoiser_of_white_latents_has_the_closed_form_over_the_schedule() -> None:
    loss = gaussian.linear_loss(np.ones((3, 2, 4, 4)), schedule_snr())
    np.testing.assert_allclose(loss, linear().alphas_cumprod.numpy())
    assert loss.mean() == pytest.approx(0.275, abs=1e-3)


def coloured(exponent: float, count: int = 64, size: int = 16) -> torch.Tensor:
    """(count, 2, 4, size, size) noise whose DCT power falls as frequency ** exponent, in space."""
    radius = np.hypot(*np.mgrid[:size, :size])
    radius[0, 0] = 1
    coefficients = np.random.default_rng(0).normal(size=(count, 2, 4, size, size)) * radius ** (exponent / 2)
    return torch.from_numpy(idctn(coefficients, axes=(2, 3, 4), norm="ortho")).float()


@pytest.mark.parametrize("exponent", [0.0, -2.0])
def test_the_slope_of_a_spectrum_is_the_one_it_was_made_with(exponent: float) -> None:
    statistics = latent_statistics.statistics(fake_cache(coloured(exponent)), np.ones(1))
    assert spectrum.slope(*spectrum.radial(statistics["space"])) == pytest.approx(exponent, abs=0.1)
    assert spectrum.slope(np.arange(1, 4), statistics["time"][1:]) == pytest.approx(0, abs=0.1)
    with pytest.raises(ValueError, match="a slope needs 3 frequencies with power, got 2"):
        spectrum.slope(np.arange(1, 3), np.ones(2))


def test_the_linear_loss_of_noise_is_that_of_its_own_spectrum() -> None:
    latents = coloured(-2.0, count=600) + 3  # a constant that a linear denoiser may know
    radius = np.hypot(*np.mgrid[:16, :16])
    radius[0, 0] = 1
    true = np.broadcast_to(radius**-2.0, (2, 4, 16, 16))
    snr = np.array([0.1, 1.0, 100.0])
    statistics = latent_statistics.statistics(fake_cache(latents), snr)
    np.testing.assert_allclose(statistics["linear_loss"], gaussian.linear_loss(true, snr), rtol=0.02)


def scores_of(mean: torch.Tensor, std: torch.Tensor | None = None) -> dict[str, Score]:
    channels = mean.shape[1]
    scaling = Scaling(torch.zeros(channels, 1, 1, 1), torch.ones(channels, 1, 1, 1))
    return latent_scores.latent_scores(latent_scores.measured(replace(fake_cache(mean, std), scaling=scaling), 1000))


def test_kl_and_dead_channels_are_those_of_the_posteriors() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(50, 2, 1, 8, 8, generator=generator) * torch.tensor([0.6, 0.0]).view(2, 1, 1, 1)
    std = torch.tensor([0.8, 1e-3]).view(2, 1, 1, 1).expand_as(mean)
    found = scores_of(mean, std)
    alive = 0.5 * (0.36 + 0.64 - 1 - math.log(0.64))
    dead = 0.5 * (1e-6 - 1 - math.log(1e-6))
    assert found["kl_bits_per_element"].value == pytest.approx((alive + dead) / 2 / math.log(2), rel=0.01)
    assert found["kl_bits_per_pixel"].value == pytest.approx((alive + dead) * 64 / 1000 / math.log(2), rel=0.01)
    assert found["dead_channels"].value == 1
    assert found["slope_time"].value is None
    assert scores_of(mean)["kl_bits_per_element"].status == "not applicable"


def test_tier_0_and_the_latent_suite_have_the_same_statistics() -> None:
    latents = coloured(-1.0, count=6) + torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
    basis = passes.Basis.of(mean([passes.first(latent.numpy()) for latent in latents]))
    clips = [passes.first(latent.numpy()) | passes.second(latent.numpy(), basis) for latent in latents]
    of_suite, of_tier = scores(LATENTS, clips, ()), scores_of(latents)
    assert of_suite.keys() == of_tier.keys() - {"gaussian_loss"}
    for name, score in of_suite.items():
        if score.status == "ok":
            assert of_tier[name].value == pytest.approx(score.value), name
    assert sum(score.status == "ok" for score in of_suite.values()) > 25

"""Tier 0: spectra, moments and linear losses of latents, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import idctn

from tests.latents import fake_cache
from vaebench.generation import latent_scores, latent_statistics
from vaebench.generation.latte.diffusion import linear


def schedule_snr() -> np.ndarray:
    kept = linear().alphas_cumprod.numpy()
    return kept / (1 - kept)


def test_the_linear_denoiser_of_white_latents_has_the_closed_form_over_the_schedule() -> None:
    loss = latent_statistics.linear_loss(np.ones((3, 2, 4, 4)), schedule_snr())
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
    kept = latent_statistics.statistics(fake_cache(coloured(exponent)), np.ones(1))
    assert latent_statistics.slope(*kept["space"]) == pytest.approx(exponent, abs=0.1)
    assert latent_statistics.slope(np.arange(1, 4), kept["time"][1:]) == pytest.approx(0, abs=0.1)
    assert latent_statistics.slope(np.arange(1, 3), np.ones(2)) is None


def test_the_linear_loss_of_noise_is_that_of_its_own_spectrum() -> None:
    mean = coloured(-2.0, count=600) + 3  # a constant that a linear denoiser may know
    radius = np.hypot(*np.mgrid[:16, :16])
    radius[0, 0] = 1
    true = np.broadcast_to(radius**-2.0, (2, 4, 16, 16))
    snr = np.array([0.1, 1.0, 100.0])
    kept = latent_statistics.statistics(fake_cache(mean), snr)
    np.testing.assert_allclose(kept["linear_loss"], latent_statistics.linear_loss(true, snr), rtol=0.02)


def test_effective_rank_counts_the_directions_in_use() -> None:
    assert latent_statistics.effective_rank(torch.ones(5)) == pytest.approx(5)
    assert latent_statistics.effective_rank(torch.tensor([3.0, 0, 0])) == pytest.approx(1)


def test_moments_kl_and_dead_channels_are_those_of_the_aggregated_posterior() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(50, 2, 1, 8, 8, generator=generator) * torch.tensor([0.6, 0.0]).view(2, 1, 1, 1)
    std = torch.tensor([0.8, 1e-3]).view(2, 1, 1, 1).expand_as(mean)
    kept = latent_statistics.statistics(fake_cache(mean, std), np.ones(1))
    np.testing.assert_allclose(kept["channel_std"], [1.0, 1e-3], rtol=0.02)
    alive = 0.5 * (0.36 + 0.64 - 1 - math.log(0.64))
    dead = 0.5 * (1e-6 - 1 - math.log(1e-6))
    assert float(kept["kl"]) == pytest.approx((alive + dead) / 2, rel=0.01)
    scores = latent_scores.latent_scores(kept)
    assert scores["dead_channels"].value == 1
    assert scores["slope_time"].value is None

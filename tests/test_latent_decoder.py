"""Noise and masks on latents, against decoders with closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebench.latents import decoder

NOISE, MASKS = [0.01, 0.1, 0.4], [0.0, 0.5, 1.0]
SHAPE = (1, 6, 8, 48, 48)
ONE = (torch.zeros(6), torch.ones(6))
NONE = (torch.empty(0), torch.empty(0))


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """A decoder that maps the channels of each position to 3 colours."""
    return lambda latent: torch.einsum("dc,bcthw->bdthw", matrix, latent)


def curves(matrix: Tensor, latent: Tensor, scale: tuple[Tensor, Tensor] = ONE) -> dict[str, np.ndarray]:
    decode = linear(matrix)
    reference = decode(latent) + 0.02
    return decoder.curves(decode, reference, latent, scale, NOISE, MASKS, torch.Generator())


def test_the_noise_gain_of_a_linear_decoder_is_its_squared_norm_per_output() -> None:
    matrix = normal(3, 6, seed=1)
    latent = torch.zeros(SHAPE)
    gain = float(matrix.square().sum()) / 3
    assert curves(matrix, latent)["noise_gain"] == pytest.approx(gain, rel=0.05)
    std = torch.arange(1.0, 7)
    gain = float((matrix * std).square().sum()) / 3
    assert curves(matrix, latent, (torch.zeros(6), std))["noise_gain"] == pytest.approx(gain, rel=0.05)


def test_the_noise_curve_of_a_linear_decoder_is_a_line_in_decibels() -> None:
    matrix = 0.05 * normal(3, 6, seed=1)
    found = curves(matrix, normal(*SHAPE, seed=2))
    mse = float(matrix.square().sum()) / 3 / 4 * np.square(NOISE)  # of pixels in 0..1
    mse += 2 / 12 / 255**2  # both videos are rounded to 8 bits
    np.testing.assert_allclose(found["added_self"][1:], -10 * np.log10(mse[1:]), atol=0.15)
    assert found["added"][1] == pytest.approx(-10 * math.log10(mse[1] + 0.01**2), abs=0.15)
    assert (np.diff(found["added"]) < 0).all()


def test_mixed_noise_around_the_mean_of_constant_latents_is_added_noise() -> None:
    matrix = 0.05 * normal(3, 6, seed=1)
    mean = torch.full((6,), 0.5)
    found = curves(matrix, mean.view(1, 6, 1, 1, 1).expand(SHAPE), (mean, torch.ones(6)))
    np.testing.assert_allclose(found["mixed"], found["added"], atol=1e-3)
    shrunk = curves(matrix, normal(*SHAPE, seed=2))
    assert (shrunk["mixed"][1:] < shrunk["added"][1:] - 0.01).all()


def test_a_mask_of_nothing_changes_nothing_and_a_full_mask_decodes_the_mean() -> None:
    matrix = 0.2 * normal(3, 6, seed=1)
    latent = normal(*SHAPE, seed=2)
    mean = torch.linspace(-0.2, 0.2, 6)
    found = curves(matrix, latent, (mean, torch.ones(6)))
    assert found["masked"][0] == found["psnr"]
    flat = linear(matrix)(mean.view(1, 6, 1, 1, 1).expand(SHAPE))
    assert found["masked"][2] == pytest.approx(decoder.psnr(linear(matrix)(latent) + 0.02, flat))
    assert found["psnr"] > found["masked"][1] > found["masked"][2]


def test_the_curves_do_not_depend_on_the_scale_of_the_latents() -> None:
    matrix = 0.05 * normal(3, 6, seed=1)
    latent = normal(*SHAPE, seed=2)
    large = curves(matrix / 8, latent * 8, (torch.zeros(6), torch.full((6,), 8.0)))
    for name, values in curves(matrix, latent).items():
        np.testing.assert_allclose(large[name], values, atol=1e-3)


def test_without_noise_and_masks_only_the_reconstruction_is_decoded() -> None:
    calls = []

    def decode(latent: Tensor) -> Tensor:
        calls.append(latent)
        return latent[:, :3]

    latent = torch.zeros(SHAPE)
    assert decoder.curves(decode, latent[:, :3], latent, NONE, [], [], torch.Generator()).keys() == {"psnr"}
    assert len(calls) == 1


def test_a_crossing_is_interpolated_over_the_logarithm_of_the_level() -> None:
    levels = np.array([0.01, 0.1, 1.0])
    assert decoder.crossing(levels, np.array([50.0, 30.0, 10.0]), 40.0) == pytest.approx(10**-1.5)
    assert decoder.crossing(levels, np.array([50.0, 30.0, 10.0]), 30.0) == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"more than 1, the largest noise level"):
        decoder.crossing(levels, np.array([50.0, 45.0, 41.0]), 40.0)
    with pytest.raises(ValueError, match=r"less than 0\.01, the smallest noise level"):
        decoder.crossing(levels, np.array([39.0, 30.0, 10.0]), 40.0)

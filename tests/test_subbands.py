"""Sub-band statistics against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from wfvae.subbands import NAMES, subbands


def test_a_constant_video_has_all_its_energy_in_the_low_band_and_no_entropy() -> None:
    found = subbands([torch.full((1, 3, 5, 8, 8), 0.5)])
    assert found.energy_share[0] == 1.0
    assert found.energy[0] == pytest.approx((8 * 0.3536 * 0.5) ** 2)
    assert found.entropy_bits == (0.0,) * 8
    assert found.num_clips == 1
    assert found.num_coefficients == 3 * 3 * 4 * 4


@pytest.mark.parametrize(("name", "axis"), [("hhg", 4), ("hgh", 3)])
def test_a_grating_has_its_energy_in_the_band_of_its_axis(name: str, axis: int) -> None:
    shape = [1, 1, 1, 1, 1]
    shape[axis] = 8
    stripes = torch.tensor([1.0, -1.0]).repeat(4).view(shape).expand(1, 3, 5, 8, 8)
    assert subbands([stripes]).energy_share[NAMES.index(name)] == pytest.approx(1.0)


def test_flicker_has_its_energy_in_the_temporal_band() -> None:
    # frame 0 counts twice, then come pairs: -1 +1, -1 +1
    flicker = torch.tensor([0.0, -1.0, 1.0, -1.0, 1.0]).view(1, 1, 5, 1, 1).expand(1, 3, 5, 4, 4)
    assert subbands([flicker]).energy_share[NAMES.index("ghh")] == pytest.approx(1.0)


def test_entropy_of_two_equally_likely_values_is_one_bit() -> None:
    halves = torch.cat([torch.full((1, 3, 1, 4, 4), -0.5), torch.full((1, 3, 1, 4, 4), 0.5)], dim=4)
    found = subbands([halves])
    assert found.entropy_bits[0] == pytest.approx(1.0)


def test_energy_of_white_noise_is_its_variance_in_every_band_and_its_entropy_that_of_a_gaussian() -> None:
    noise = torch.randn(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.1
    found = subbands([noise[:, :, :, :, :32], noise[:, :, :, :, 32:]])
    assert found.num_clips == 2
    bin_width = 2 * 8 * 0.3536 / 256
    gaussian = 0.5 * math.log2(2 * math.pi * math.e * 0.1**2) - math.log2(bin_width)
    for band in range(1, 4):  # the frame that counts twice favours the bands without temporal high-pass
        assert found.energy[band] == pytest.approx(0.01, rel=0.5)
        assert found.entropy_bits[band] == pytest.approx(gaussian, abs=0.3)
    assert sum(found.energy_share) == pytest.approx(1.0)


def test_no_clip_and_a_clip_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        subbands([])
    with pytest.raises(ValueError, match=r"2x2 pixels, got \(1, 3, 1, 1, 8\)"):
        subbands([torch.zeros(1, 3, 1, 1, 8)])

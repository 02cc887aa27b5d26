"""Sub-band statistics against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from vaebench.latents.subbands import NAMES, PIXELS, causal, energy_share, entropy_bits, subbands


def test_a_constant_video_has_all_its_energy_in_the_low_band_and_no_entropy() -> None:
    energy, histogram = subbands(causal(torch.full((3, 5, 8, 8), 0.5)), PIXELS)
    assert energy_share(energy)[0] == 1.0
    assert energy[0] == pytest.approx((8 * 0.3536 * 0.5) ** 2)
    assert list(entropy_bits(histogram)) == [0.0] * 8
    with pytest.raises(ValueError, match="all coefficients are 0"):
        energy_share(0 * energy)


@pytest.mark.parametrize(("name", "axis"), [("hhg", 3), ("hgh", 2)])
def test_a_grating_has_its_energy_in_the_band_of_its_axis(name: str, axis: int) -> None:
    shape = [1, 1, 1, 1]
    shape[axis] = 8
    stripes = torch.tensor([1.0, -1.0]).repeat(4).view(shape).expand(3, 5, 8, 8)
    energy, _ = subbands(causal(stripes), PIXELS)
    assert energy_share(energy)[NAMES.index(name)] == pytest.approx(1.0)


def test_flicker_has_its_energy_in_the_temporal_band() -> None:
    # frame 0 counts twice, then come pairs: -1 +1, -1 +1
    flicker = torch.tensor([0.0, -1.0, 1.0, -1.0, 1.0]).view(1, 5, 1, 1).expand(3, 5, 4, 4)
    energy, _ = subbands(causal(flicker), PIXELS)
    assert energy_share(energy)[NAMES.index("ghh")] == pytest.approx(1.0)


def test_entropy_of_two_equally_likely_values_is_one_bit() -> None:
    halves = torch.cat([torch.full((3, 2, 4, 4), -0.5), torch.full((3, 2, 4, 4), 0.5)], dim=3)
    _, histogram = subbands(halves, PIXELS)
    assert entropy_bits(histogram)[0] == pytest.approx(1.0)


def test_energy_of_white_noise_is_its_variance_in_every_band_and_its_entropy_that_of_a_gaussian() -> None:
    noise = torch.randn(3, 8, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.1
    energy, histogram = subbands(noise, PIXELS)
    gaussian = 0.5 * math.log2(2 * math.pi * math.e * 0.1**2) - math.log2(2 * PIXELS / 256)
    assert energy == pytest.approx([0.01] * 8, rel=0.05)
    assert entropy_bits(histogram) == pytest.approx([gaussian] * 8, abs=0.05)


def test_statistics_of_clips_of_one_size_average_to_those_of_the_set() -> None:
    clip = torch.rand(3, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    whole, halves = subbands(clip, PIXELS), [subbands(half, PIXELS) for half in clip.split(8, dim=3)]
    for i in range(2):
        assert (halves[0][i] + halves[1][i]) / 2 == pytest.approx(whole[i])


def test_a_clip_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2x2x2 values, got \(3, 2, 1, 8\)"):
        subbands(torch.zeros(3, 2, 1, 8), PIXELS)

"""The truncated DCT and the identity: the transform is SciPy's, the inverse is exact, the latent has the promised size."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch

from adapters import dct, identity
from vaebench.vae import reconstruct
from vaebench.video import to_stored

COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def test_the_latent_is_what_scipy_finds_in_each_block():
    video = noise(2, 3, 8, 16, 24)
    vae = dct.load(dct.VARIANTS["16"], dtype=torch.float64)
    latent = vae.encode(video).mode().numpy()
    for t, h, w in ((0, 0, 0), (1, 1, 2)):
        block = video[1, :, 4 * t : 4 * t + 4, 8 * h : 8 * h + 8, 8 * w : 8 * w + 8].numpy()
        spectrum = scipy.fft.dctn(np.einsum("ac,cthw->athw", COLOURS, block), axes=(1, 2, 3), norm="ortho")
        expected = [spectrum[frequency] for frequency in dct.FREQUENCIES]
        np.testing.assert_allclose(np.abs(latent[1, :, t, h, w]), np.abs(expected), atol=1e-6)


@pytest.mark.parametrize("kept", [4, 16])
def test_kept_coefficients_come_back_exactly_and_the_rest_is_the_error(kept):
    vae = dct.load(dct.VARIANTS[str(kept)], dtype=torch.float64)
    latent = noise(1, kept, 2, 3, 2).float()
    torch.testing.assert_close(vae.encode(vae.decode(latent)).mode(), latent, atol=2e-6, rtol=0)
    video = noise(1, 3, 8, 24, 16).float()
    reconstruction, latent = reconstruct(vae, video)
    error = (video - reconstruction).square().sum()  # Parseval: what is not kept
    torch.testing.assert_close(error, video.square().sum() - latent.square().sum(), rtol=1e-5, atol=0)


def test_the_latent_is_as_large_as_a_learned_one_of_4x8x8():
    for kept in (4, 16):
        spec = dct.VARIANTS[str(kept)]
        assert spec.latent_shape((1, 3, spec.fit(33), 256, 256)) == (1, kept, 9, 32, 32)
        assert spec.tcpr == 256


def test_more_coefficients_keep_more_and_a_still_grey_clip_is_kept_whole():
    video = noise(1, 3, 8, 32, 32).cumsum(3).cumsum(4).float()
    errors = [(reconstruct(dct.load(spec), video)[0] - video).square().mean() for spec in dct.VARIANTS.values()]
    assert errors[1] < 0.8 * errors[0]
    grey = torch.full((1, 3, 5, 16, 16), 0.3)
    torch.testing.assert_close(reconstruct(dct.load(dct.VARIANTS["4"]), grey)[0], grey)


def test_a_colour_without_detail_is_kept_whole():
    flat = torch.tensor([0.9, -0.2, 0.4]).view(1, 3, 1, 1, 1).expand(1, 3, 4, 8, 8)
    torch.testing.assert_close(reconstruct(dct.load(dct.VARIANTS["16"]), flat)[0], flat)


def test_identity_is_the_identity_and_half_precision_moves_less_than_half_a_level():
    levels = torch.arange(256).div(127.5).sub(1).view(1, 1, 1, 16, 16).expand(1, 3, 2, 16, 16)
    exact = identity.load(identity.VARIANTS["pixels"])
    assert torch.equal(reconstruct(exact, levels)[0], levels)
    for dtype, most in ((torch.bfloat16, 0.25), (torch.float16, 1 / 32)):
        rounded = reconstruct(identity.load(identity.VARIANTS["pixels"], dtype=dtype), levels)[0]
        moved = (rounded - levels).abs().max() * 127.5
        assert most / 2 < moved <= most
        assert torch.equal(to_stored(rounded), to_stored(levels))

"""Definitions of published scripts against scikit-image, NumPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from vaebench.metrics import psnr, psnr_eps8, psnr_pooled, psnr_tokenbench, ssim, ssim_pooled, ssim_uniform7


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    """8-bit levels, uint8: a smooth video (B, 3, T, H, W) and the same with noise."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(shape, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(rough.flatten(0, 2)[:, None], 5, 1, 2).view(shape) * 255
    noisy = smooth + 30 * torch.randn(shape, generator=generator)
    return smooth.round().byte(), noisy.clamp(0, 255).round().byte()


@pytest.mark.parametrize("size", [(7, 7), (7, 30), (33, 40)])
def test_uniform_ssim_is_scikit_images_default(size: tuple[int, int]) -> None:
    reference, reconstruction = pair(2, 3, 2, *size)
    frames = zip(reference.transpose(1, 2).flatten(0, 1), reconstruction.transpose(1, 2).flatten(0, 1), strict=True)
    theirs = [structural_similarity(a.numpy(), b.numpy(), data_range=255, channel_axis=0) for a, b in frames]
    got = ssim_uniform7.build("cpu").by_frame(reference / 255, reconstruction / 255)
    assert got.flatten().tolist() == pytest.approx(theirs, abs=1e-6)


def test_uniform_ssim_refuses_frames_smaller_than_its_window() -> None:
    frames = torch.zeros(1, 3, 1, 6, 9)
    with pytest.raises(ValueError, match="at least 1 frame"):
        ssim_uniform7.build("cpu").measure(frames, frames)


@pytest.mark.parametrize(("side", "block"), [(200, 1), (383, 1), (385, 2), (700, 3)])
def test_pooled_ssim_averages_blocks_of_the_short_side_over_256(side: int, block: int) -> None:
    reference, reconstruction = (video[..., :side, : side + 10] / 255 for video in pair(1, 3, 1, 700, 710))
    small = [torch.nn.functional.avg_pool2d(video[:, :, 0], block)[:, :, None] for video in (reference, reconstruction)]
    expected = ssim.build("cpu").measure(*small)
    assert torch.equal(ssim_pooled.build("cpu").measure(reference, reconstruction), expected)


def test_tokenbench_psnr_is_that_of_float_levels_over_the_whole_clip() -> None:
    reference, reconstruction = pair(1, 3, 4, 16, 20)
    mse = ((reference.numpy().astype(np.float32) - reconstruction.numpy().astype(np.float32)) ** 2).mean()
    expected = 20 * np.log10(255 / (np.sqrt(mse) + np.finfo(np.float32).eps))
    got = psnr_tokenbench.build("cpu").measure(reference / 255, reconstruction / 255)
    assert float(got) == pytest.approx(float(expected), abs=1e-5)
    assert float(psnr_pooled.build("cpu").measure(reference / 255, reconstruction / 255)) == pytest.approx(float(got))
    exact = psnr_tokenbench.build("cpu").measure(reference / 255, reference / 255)
    assert float(exact) == pytest.approx(20 * np.log10(255 / np.finfo(np.float32).eps))


def test_eps8_psnr_adds_to_the_mse_of_each_frame() -> None:
    reference = torch.full((1, 3, 2, 8, 8), 0.5)
    reconstruction = reference + torch.tensor([0.0, 0.1]).view(1, 1, 2, 1, 1)
    got = psnr_eps8.build("cpu").by_frame(reference, reconstruction)
    assert got.flatten().tolist() == pytest.approx([80, -10 * np.log10(0.01 + 1e-8)], abs=1e-4)
    assert float(psnr.build("cpu").by_frame(reference, reconstruction)[0, 1]) == pytest.approx(
        float(got[0, 1]), abs=1e-4
    )

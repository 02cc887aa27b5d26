"""Metrics against closed forms, scikit-image, torchmetrics and the lpips package; what leaves them alone, what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vaebench import plugins
from vaebench.metrics import flicker, psnr, psnr_pooled, ssim

PIXELS = {"psnr": psnr, "psnr_pooled": psnr_pooled, "ssim": ssim, "flicker": flicker}


def grid(video: Tensor) -> Tensor:
    """Values in 0..1 -> on the 8-bit grid, as metrics get them."""
    return video.clamp(0, 1).mul(255).round().div(255)


def video(seed: int, *shape: int, noise: float = 0.0) -> Tensor:
    """A smooth video (B, 3, T, H, W) in 0..1 that moves, with noise if asked."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(shape, generator=generator)
    batch, channels, frames = shape[:3]
    smooth = torch.nn.functional.avg_pool2d(rough.flatten(0, 2)[:, None], 5, 1, 2).view(shape)
    drift = torch.linspace(0, 0.2, frames).view(1, 1, -1, 1, 1)
    assert (batch, channels) == shape[:2]
    return grid((smooth - 0.5) * 2 + 0.4 + drift + noise * torch.randn(shape, generator=generator))


def pair(*shape: int, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    reference = video(1, *shape)
    generator = torch.Generator().manual_seed(2)
    return reference, grid(reference + noise * torch.randn(shape, generator=generator))


def score(metric, reference: Tensor, reconstruction: Tensor) -> float:
    """Both halves."""
    return metric.reduce(metric.measure(reference, reconstruction).numpy())


# --- all -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "perfect"), [("psnr", 58.92), ("psnr_pooled", 58.92), ("ssim", 1.0), ("flicker", 0.0)]
)
def test_a_video_scores_the_best_value_against_itself(name: str, perfect: float) -> None:
    reference = video(3, 2, 3, 3, 16, 24)
    assert score(PIXELS[name].build("cpu"), reference, reference) == pytest.approx(
        perfect, abs=0.005 if perfect > 1 else 1e-6
    )


@pytest.mark.parametrize("name", PIXELS)
def test_a_batch_scores_as_its_clips_one_by_one(name: str) -> None:
    metric = PIXELS[name].build("cpu")
    reference, reconstruction = pair(3, 3, 4, 20, 28)
    together = metric.measure(reference, reconstruction)
    alone = torch.cat([metric.measure(a[None], b[None]) for a, b in zip(reference, reconstruction, strict=True)])
    assert together.shape == (3,)
    assert torch.allclose(together, alone, rtol=1e-6, atol=1e-7)
    assert metric.per_clip
    assert metric.reduce(together.numpy()) == pytest.approx(float(alone.mean()))


@pytest.mark.parametrize(("name", "curve"), [("psnr", 5), ("ssim", 5), ("flicker", 4)])
def test_the_score_of_a_clip_is_the_mean_of_its_frames_and_a_frame_is_scored_alone(name: str, curve: int) -> None:
    metric = PIXELS[name].build("cpu")
    reference, reconstruction = pair(2, 3, 5, 20, 28)
    reconstruction[:, :, 3] = reference[:, :, 3]  # one frame is exact
    frames = metric.by_frame(reference, reconstruction)
    assert frames.shape == (2, curve)
    assert torch.allclose(frames.mean(dim=1), metric.measure(reference, reconstruction))
    if name != "flicker":  # which scores the steps
        alone = metric.measure(reference[:, :, 3:4], reconstruction[:, :, 3:4])
        assert torch.allclose(frames[:, 3], alone)
        assert (frames[:, 3] == frames.max(dim=1).values).all()


@pytest.mark.parametrize("name", PIXELS)
def test_scores_do_not_depend_on_the_layout_in_memory_and_leave_the_videos_alone(name: str) -> None:
    metric = PIXELS[name].build("cpu")
    reference, reconstruction = pair(2, 3, 4, 16, 20)
    strided = reference.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    before = strided.clone(), reconstruction.clone()
    assert torch.allclose(metric.measure(strided, reconstruction), metric.measure(reference, reconstruction), rtol=1e-6)
    assert torch.equal(strided, before[0])
    assert torch.equal(reconstruction, before[1])


@pytest.mark.parametrize("name", PIXELS)
def test_more_noise_is_a_worse_score(name: str) -> None:
    metric = PIXELS[name].build("cpu")
    little, much = (score(metric, *pair(1, 3, 4, 24, 24, noise=n)) for n in (0.02, 0.08))
    assert little > much if metric.better == "higher" else little < much


@pytest.mark.parametrize("name", PIXELS)
def test_videos_of_two_shapes_are_refused_rather_than_broadcast(name: str) -> None:
    metric = PIXELS[name].build("cpu")
    reference, reconstruction = pair(1, 3, 4, 16, 16)
    with pytest.raises(ValueError, match=r"one shape .* got \(1, 3, 4, 16, 16\) and \(1, 3, 1, 16, 16\)"):
        metric.measure(reference, reconstruction[:, :, :1])
    with pytest.raises(ValueError, match="no clip"):
        metric.reduce(np.zeros(0))


def test_every_metric_is_found_by_its_name_and_says_unit_direction_and_version() -> None:
    found = plugins.names("metrics")
    assert set(PIXELS) <= set(found)
    for name in PIXELS:
        metric = plugins.find("metrics", name).build(torch.device("cpu"))
        assert metric.better in ("higher", "lower")
        assert isinstance(metric.unit, str)
        assert metric.version >= 1


# --- psnr ----------------------------------------------------------------------------------------------------------


def test_psnr_of_a_constant_error_is_the_closed_form() -> None:
    reference = torch.full((1, 3, 5, 8, 8), 100 / 255)
    off = reference + 4 / 255
    expected = 20 * math.log10(255 / 4)
    assert score(psnr.build("cpu"), reference, off) == pytest.approx(expected, abs=1e-4)
    assert score(psnr_pooled.build("cpu"), reference, off) == pytest.approx(expected, abs=1e-4)


def test_psnr_is_scikit_images_frame_by_frame() -> None:
    reference, reconstruction = pair(2, 3, 4, 17, 23)
    frames = [
        peak_signal_noise_ratio(
            reference[b, :, t].double().numpy(), reconstruction[b, :, t].double().numpy(), data_range=1
        )
        for b in range(2)
        for t in range(4)
    ]
    assert score(psnr.build("cpu"), reference, reconstruction) == pytest.approx(np.mean(frames), abs=1e-5)
    clips = [
        peak_signal_noise_ratio(reference[b].double().numpy(), reconstruction[b].double().numpy(), data_range=1)
        for b in range(2)
    ]
    assert score(psnr_pooled.build("cpu"), reference, reconstruction) == pytest.approx(np.mean(clips), abs=1e-5)


def test_one_exact_frame_counts_as_the_rounding_error_and_not_as_infinity() -> None:
    reference = torch.full((1, 3, 2, 8, 8), 100 / 255)
    reconstruction = reference.clone()
    reconstruction[:, :, 1] += 8 / 255
    exact, other = 10 * math.log10(12 * 255**2), 20 * math.log10(255 / 8)
    assert score(psnr.build("cpu"), reference, reconstruction) == pytest.approx((exact + other) / 2, abs=1e-4)
    pooled = other + 10 * math.log10(2)  # half the squared error
    assert score(psnr_pooled.build("cpu"), reference, reconstruction) == pytest.approx(pooled, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 0.3), min_size=2, max_size=6), st.integers(0, 1000))
def test_pooled_psnr_is_never_higher_than_the_frame_mean(spread: list[float], seed: int) -> None:
    reference = torch.full((1, 3, len(spread), 8, 8), 128 / 255)
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))
    reconstruction = grid(reference + noise * torch.tensor(spread).view(1, 1, -1, 1, 1))
    pooled, framewise = (score(m.build("cpu"), reference, reconstruction) for m in (psnr_pooled, psnr))
    assert pooled <= framewise + 1e-6


# --- ssim ----------------------------------------------------------------------------------------------------------


def skimage_ssim(reference: Tensor, reconstruction: Tensor) -> float:
    """The mean over frames of one clip (3, T, H, W), in float64."""
    return float(np.mean([
        structural_similarity(
            a.double().numpy(), b.double().numpy(), channel_axis=0, data_range=1,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for a, b in zip(reference.unbind(1), reconstruction.unbind(1), strict=True)
    ]))  # fmt: skip


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (42, 43), (43, 42), (75, 30), (96, 106)])
def test_ssim_is_scikit_images_gaussian_setting_at_every_size_of_the_blocks(size: tuple[int, int]) -> None:
    reference, reconstruction = pair(1, 3, 2, *size)
    expected = skimage_ssim(reference[0], reconstruction[0])
    assert score(ssim.build("cpu"), reference, reconstruction) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("level", [0, 3, 127, 252, 255])
def test_ssim_keeps_its_digits_on_flat_frames_at_the_ends_of_the_range(level: int) -> None:
    reference = torch.full((1, 3, 1, 32, 32), level / 255)
    generator = torch.Generator().manual_seed(0)
    reconstruction = grid(reference + torch.randn(reference.shape, generator=generator) * 0.004)
    expected = skimage_ssim(reference[0], reconstruction[0])
    assert score(ssim.build("cpu"), reference, reconstruction) == pytest.approx(expected, abs=5e-6)


def test_ssim_is_torchmetrics_where_the_window_fits() -> None:
    reference, reconstruction = pair(2, 3, 2, 40, 52)
    for clip in range(2):
        a, b = reference[clip].transpose(0, 1), reconstruction[clip].transpose(0, 1)  # (T, 3, H, W)
        mean, full = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
        expected = full[..., 5:-5, 5:-5].mean()  # its own mean counts the mirrored borders
        got = ssim.build("cpu").measure(reference[clip : clip + 1], reconstruction[clip : clip + 1])
        assert float(got) == pytest.approx(float(expected), abs=1e-5)
        assert float(got) != pytest.approx(float(mean), abs=1e-4)


def test_ssim_of_two_constants_is_the_luminance_term_alone() -> None:
    a, b = 0.2, 0.6
    reference = torch.full((1, 3, 1, 16, 16), a)
    expected = (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
    assert score(ssim.build("cpu"), reference, reference + (b - a)) == pytest.approx(expected, abs=1e-5)


def test_ssim_refuses_frames_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11x11 pixels, got 2 of 10x32"):
        ssim.build("cpu").measure(*pair(1, 3, 2, 10, 32))


@pytest.mark.gpu
@pytest.mark.parametrize("name", PIXELS)
def test_a_gpu_gives_the_scores_of_the_processor(name: str) -> None:
    reference, reconstruction = pair(2, 3, 3, 64, 48)
    metric = PIXELS[name].build("cuda")
    there = metric.measure(reference.cuda(), reconstruction.cuda()).cpu()
    assert torch.allclose(there, metric.measure(reference, reconstruction), rtol=1e-5, atol=2e-6)


# --- flicker -------------------------------------------------------------------------------------------------------


def test_a_constant_shift_of_colour_does_not_flicker() -> None:
    reference = video(5, 1, 3, 6, 16, 16) * 0.8
    shift = torch.tensor([0.1, -0.0, 0.05]).view(1, 3, 1, 1, 1)
    assert score(flicker.build("cpu"), reference, reference + shift) == pytest.approx(0, abs=1e-4)


def test_alternating_brightness_flickers_by_its_step() -> None:
    reference = torch.full((1, 3, 8, 8, 8), 100 / 255)
    lit = reference.clone()
    lit[:, :, ::2] += 5 / 255
    assert score(flicker.build("cpu"), reference, lit) == pytest.approx(5, abs=1e-4)


def test_flicker_is_read_on_the_time_axis_of_each_pixel() -> None:
    reference, reconstruction = pair(2, 3, 4, 9, 7)
    a, b = (np.diff(v.double().numpy(), axis=2) for v in (reference, reconstruction))
    expected = 255 * np.abs(b - a).mean(axis=(1, 2, 3, 4))
    assert flicker.build("cpu").measure(reference, reconstruction).numpy() == pytest.approx(expected, rel=1e-5)


def test_flicker_of_one_frame_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 2 frame\(s\) .* got 1 of 16x16"):
        flicker.build("cpu").measure(*pair(1, 3, 1, 16, 16))

"""Pixel and noise constants of adapters: the tiny networks against the library's model, fed as its pipelines feed it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaebench import plugins
from vaebench.video import to_model


def stored(frames: int, side: int) -> Tensor:
    """uint8 (1, 3, T, side, side) with every level from 0 to 255."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, 3, frames, side, side), generator=draw, dtype=torch.uint8)


def channels(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1, 1)


@torch.no_grad()
def test_minimax_h3_sees_and_gives_pixels_normalised_by_the_statistics_of_imagenet():
    vae, video = plugins.find("adapters", "minimaxh3").tiny(mode="native"), stored(22, 32)
    mean, std = channels(0.485, 0.456, 0.406), channels(0.229, 0.224, 0.225)
    expected = vae.model.encode((video.float() / 255 - mean) / std).latent_dist
    found = vae.encode(to_model(video))
    torch.testing.assert_close(found.mean, expected.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.logvar, expected.logvar, atol=1e-5, rtol=1e-5)
    zero_to_one = vae.model.decode(expected.mean).sample * std + mean
    torch.testing.assert_close((vae.decode(expected.mean) + 1) / 2, zero_to_one, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_kandinsky_6_sees_and_gives_pixels_divided_by_128():
    vae, video = plugins.find("adapters", "kandinsky6sr").tiny(mode="native"), stored(5, 32)
    expected = vae.model.encode(video.float() / 128 - 1).latent_dist
    found = vae.encode(to_model(video))
    torch.testing.assert_close(found.mean, expected.mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.logvar, expected.logvar, atol=1e-6, rtol=1e-5)
    levels = (vae.model.decode(expected.mean).sample + 1) * 128  # 0..255
    torch.testing.assert_close((vae.decode(expected.mean) + 1) * 127.5, levels, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("version", ["0.9.1", "0.9.5", "0.9.7"])
@pytest.mark.parametrize("way", ["", "-raw", "-t0"])
@torch.no_grad()
def test_ltx_decodes_at_its_timestep_with_its_share_of_noise(version: str, way: str):
    """timestep 0.05 and 2.5 % noise: mixed into the normalised latent; `-raw`: into the latent as it is; `-t0`: neither."""
    vae = plugins.find("adapters", "ltx").tiny(variant=version + way)
    draw = torch.Generator().manual_seed(1)
    mean, std = torch.randn(128, generator=draw), torch.rand(128, generator=draw) + 0.5
    vae.model.latents_mean.copy_(mean)
    vae.model.latents_std.copy_(std)
    latent = torch.randn(1, 128, 2, 2, 2, generator=draw)
    mean, std = mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)

    torch.manual_seed(0)
    if way == "-t0":
        expected = vae.model.decode(latent, temb=torch.tensor([0.0])).sample
    elif way == "-raw":
        mixed = 0.975 * latent + 0.025 * torch.randn(latent.shape)
        expected = vae.model.decode(mixed, temb=torch.tensor([0.05])).sample
    else:
        mixed = 0.975 * (latent - mean) / std + 0.025 * torch.randn(latent.shape)
        expected = vae.model.decode(mixed * std + mean, temb=torch.tensor([0.05])).sample
    torch.testing.assert_close(vae.decode(latent), expected, atol=2e-5, rtol=1e-5)


def test_minimax_h3_in_half_precision_keeps_the_values_of_what_stays_in_float32():
    family = plugins.find("adapters", "minimaxh3")
    exact, half = (family.tiny(dtype=dtype).model.state_dict() for dtype in (torch.float32, torch.bfloat16))
    kept = {name for name, value in half.items() if value.dtype == torch.float32}
    assert any(name.startswith("encoder.") for name in kept)
    assert not any(name.startswith("decoder.") and "norm" not in name and "scale" not in name for name in kept)
    for name in half:
        expected = exact[name] if name in kept else exact[name].bfloat16()
        assert torch.equal(half[name], expected), name

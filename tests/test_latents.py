"""The latent cache: encoded once, whatever is lost encoded again; and the scaling of what a model learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import adapters
from tests.latents import fake_cache
from tests.sources import build, cut
from vaebench.generation import latent_cache
from vaebench.vae import Posterior, VAESpec
from vaebench.video import to_model

CPU = torch.device("cpu")


class Counting:
    """Each latent is its block's mean, with a variance of its own, and encoding is counted."""

    def __init__(self) -> None:
        self.pool = adapters.load("pool/4x8x8")
        self.spec: VAESpec = self.pool.spec
        self.count = 0

    def encode(self, video: torch.Tensor) -> Posterior:
        self.count += 1
        mean = self.pool.encode(video).mean
        return Posterior(mean, mean.abs().add(0.1).log())

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.pool.decode(latent)


def test_what_is_encoded_stays_encoded_and_what_is_lost_is_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_cache, "SHARD", 3)
    found = cut(build("synthetic", num_frames=46))  # eight
    vae = Counting()
    cache = latent_cache.encode(vae, found, tmp_path, device=CPU)
    assert (len(cache), vae.count) == (8, 8)
    before = cache.take([7, 0])
    expected = vae.encode(to_model(found[7].load())[None]).mean
    torch.testing.assert_close(before.mean[:1], expected, rtol=1e-3, atol=1e-3)  # fp16
    torch.testing.assert_close(before.std[:1], (expected.abs() + 0.1).sqrt(), rtol=1e-3, atol=1e-3)
    vae.count = 0
    (tmp_path / "00001.safetensors").unlink()
    again = latent_cache.encode(vae, found, tmp_path, device=CPU, rank=1, world=2)
    assert vae.count == 3
    assert torch.equal(again.take([7, 0]).mean, before.mean)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("size", [0, 100, -1])
def test_a_damaged_shard_is_named_and_encoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(latent_cache, "SHARD", 3)
    found = cut(build("synthetic", num_frames=46))
    vae = Counting()
    before = latent_cache.encode(vae, found, tmp_path, device=CPU).take([3, 7]).mean
    shard, vae.count = tmp_path / "00001.safetensors", 0
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.warns(UserWarning, match=r"00001\.safetensors is damaged \(.*its windows are encoded again"):
        cache = latent_cache.encode(vae, found, tmp_path, device=CPU)
    assert vae.count == 3
    assert torch.equal(cache.take([3, 7]).mean, before)


def test_a_window_that_cannot_be_read_is_left_out_with_its_reason(sky: Path, tmp_path: Path) -> None:
    cache = latent_cache.encode(
        adapters.load("pool/4x8x8"), cut(build("skytimelapse", sky)), tmp_path / "c", device=CPU
    )
    assert len(cache) == 1
    assert "07_2: too short" in cache.left_out["07/07_2 0"]
    nothing = cut(build("skytimelapse", sky))[1:]
    with pytest.raises(ValueError, match=r"none of 1 windows could be encoded: .*too short"):
        latent_cache.encode(adapters.load("pool/4x8x8"), nothing, tmp_path / "d", device=CPU)


def test_measured_latents_have_mean_zero_by_channel_and_variance_one_with_the_posteriors() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(40, 3, 2, 4, 4, generator=generator) * torch.tensor([1.0, 2, 5]).view(3, 1, 1, 1) + 7
    std = torch.full_like(mean, 2.0)
    cache = fake_cache(mean, std)
    cache.scaling = latent_cache.measured(cache)
    batch = cache.take(range(40))
    assert batch.mean.mean((0, 2, 3, 4)).abs().max() < 1e-5
    total = batch.mean.transpose(0, 1).flatten(1).var(1, correction=0).mean() + batch.std.square().mean()
    assert total.item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(cache.scaling.undo(batch.mean), mean)


def test_published_scaling_is_the_specs_own() -> None:
    spec = replace(adapters.find("pool/4x8x8"), scale=(1.0, 2.0, 4.0), shift=0.5)
    scaling = latent_cache.published(spec)
    assert scaling.apply(torch.ones(1, 3, 1, 1, 1)).flatten().tolist() == [0.5, 1.0, 2.0]


def test_equal_latents_have_no_scale() -> None:
    with pytest.raises(ValueError, match="nothing to learn"):
        latent_cache.measured(fake_cache(torch.ones(4, 2, 1, 2, 2)))

"""SSVAE against the released code: outputs, keys, shapes, parameter counts, exact causality of both halves."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch

import adapters
from adapters import ssvae
from adapters._nets.ssvae import SSVAE, SSVAEConfig
from tests.goldens_io import Golden, goldens, manifests, rebuild
from vaebench.vae import reconstruct

# "new_shuffle" is another order of channels in the shortcuts, which no released network has
GOLDENS = goldens(
    lambda metadata: (
        "SSVAE Encoder3D" in metadata.get("what", "") and not json.loads(metadata["encoder_config"]).get("new_shuffle")
    )
)


def config_of(encoder: dict[str, Any], decoder: dict[str, Any]) -> SSVAEConfig:
    shared = ["ch", "ch_mult", "num_res_blocks", "z_channels"]
    assert [encoder[key] for key in shared] == [decoder[key] for key in shared]
    assert encoder["norm"] == decoder["norm"] == "rmsnorm"
    return SSVAEConfig(
        width=encoder["ch"],
        multipliers=tuple(encoder["ch_mult"]),
        res_blocks=encoder["num_res_blocks"],
        latent_channels=encoder["z_channels"],
        halve_time=tuple(encoder["temporal_upsample"]),
        double_time=tuple(decoder["temporal_upsample"]),
    )


@cache
def network(config: SSVAEConfig, dtype: torch.dtype, salt: str = "") -> SSVAE:
    model = SSVAE(config).to(dtype).eval().requires_grad_(False)
    model.load_state_dict(rebuild(model.state_dict(), salt))
    return model


def test_there_are_golden_files():
    assert GOLDENS


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_outputs_are_those_of_the_released_code(golden: Golden, dtype: torch.dtype):
    model = network(config_of(golden.json("encoder_config"), golden.json("decoder_config")), dtype, golden.salt)
    stored = golden.tensors(dtype)
    moments = model.encode(stored["x"])
    # stored is the float32 run of the released code, so it is as far from exact as the file says
    rounding = golden.json("fp32_vs_fp64_max_abs")
    found = {"moments": moments, "recon_from_mean": model.decode(stored["moments"].chunk(2, dim=1)[0])}
    assert found.keys() == stored.keys() - {"x"}
    for name, value in found.items():
        (stated,) = (error for key, error in rounding.items() if name.startswith(key))  # "recon" is of recon_from_mean
        atol = stated + (2e-5 if dtype == torch.float32 else 1e-6)
        torch.testing.assert_close(value, stored[name], rtol=0, atol=atol)


@pytest.mark.parametrize("path", manifests("manifest_ssvae_ch48.json"), ids=lambda path: path.name)
def test_keys_shapes_and_parameters_are_those_of_the_released_model(path):
    manifest = json.loads(path.read_text())
    config = config_of(manifest["config"]["encoder_config"], manifest["config"]["decoder_config"])
    with torch.device("meta"):
        model = SSVAE(config)
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == manifest["keys"]
    assert config == SSVAEConfig()
    for half in ("encoder", "decoder"):
        assert sum(p.numel() for p in getattr(model, half).parameters()) == manifest["params"][half]


@torch.no_grad()
def test_both_halves_are_exactly_causal():
    model = network(SSVAEConfig(width=4, latent_channels=6), torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 9, 32, 32, generator=generator, dtype=torch.float64)
    z = model.encode(x).chunk(2, dim=1)[0]
    video = model.decode(z)
    for frames, latents in ((1, 1), (5, 2)):
        torch.testing.assert_close(model.encode(x[:, :, :frames]).chunk(2, dim=1)[0], z[:, :, :latents])
        torch.testing.assert_close(model.decode(z[:, :, :latents]), video[:, :, :frames])


def test_every_parameter_gets_a_gradient():
    model = SSVAE(SSVAEConfig(width=4, latent_channels=6))
    x = torch.rand(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    moments = model.encode(x)
    (model.decode(moments.chunk(2, dim=1)[0]).square().sum() + moments.square().sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def video(frames: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, frames, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("mode", ssvae.VARIANTS["ch48"].modes)
def test_every_mode_keeps_the_promises_of_the_spec(mode):
    vae = adapters.load("ssvae/tiny", mode=mode)
    for frames, size in ((1, 16), (7, 20)):
        x = video(frames, size)
        reconstruction, _ = reconstruct(vae, x)
        assert reconstruction.shape == x.shape
        assert reconstruction.dtype == torch.float32
    whole = adapters.load("ssvae/tiny", mode="whole")
    assert torch.equal(vae.encode(video(5)).mean, whole.encode(video(5)).mean)


def test_an_unknown_mode_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"'tiled'.*whole, native"):
        adapters.load("ssvae/tiny", mode="tiled")


def test_later_frames_leave_earlier_latents_untouched():
    vae = adapters.load("ssvae/tiny")
    x = video(9)
    later = torch.cat([x[:, :, :5], video(4, seed=1)], dim=2)
    torch.testing.assert_close(vae.encode(later).mean[:, :, :2], vae.encode(x).mean[:, :, :2])
    assert vae.spec.causal


@pytest.mark.parametrize("path", manifests("manifest_ssvae_ch48.json"), ids=lambda path: path.name)
def test_the_released_checkpoint_loads_and_only_what_training_needs_is_dropped(path, tmp_path):
    manifest = json.loads(path.read_text())
    state = {key: torch.zeros(()).expand(shape) for key, shape in manifest["keys"].items()}  # a few kilobytes
    state |= {"mask_token": torch.zeros(1, 48, 1, 1, 1), "loss.logvar": torch.zeros(())}
    file = tmp_path / "ch48_256p_15w_512p_5w.ckpt"
    torch.save({"state_dict": state, "global_step": 50_000}, file)
    vae = adapters.load("ssvae/ch48", weights=str(tmp_path))
    assert sum(p.numel() for p in vae.model.parameters()) == vae.spec.parameters == manifest["params"]["total"]

    state["encoder.extra"] = state.pop("encoder.conv_in.conv.bias")
    torch.save({"state_dict": state}, file)
    with pytest.raises(ValueError, match=r"1 missing: encoder\.conv_in\.conv\.bias.*1 unexpected: encoder\.extra"):
        adapters.load("ssvae/ch48", weights=str(file))


@pytest.mark.parametrize("path", manifests("manifest_ssvae_ch48.json"), ids=lambda path: path.name)
def test_the_normalisation_is_the_published_one(path):
    manifest = json.loads(path.read_text())
    spec = ssvae.VARIANTS["ch48"]
    assert list(spec.shift) == manifest["latents_mean"]
    assert [1 / scale for scale in spec.scale] == pytest.approx(manifest["latents_std"], rel=1e-12)

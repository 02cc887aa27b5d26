"""Weights: the official layouts load strictly, and what is saved loads again, here and there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import wfvae
from tests.goldens_io import manifests
from wfvae import WFVAE, WFVAEConfig
from wfvae.checkpoint import save

CONFIG = WFVAEConfig(base_channels=4, latent_channels=2, encoder_flow_channels=4, decoder_flow_channels=4)


def same(a: WFVAE, b: WFVAE) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.fixture
def model() -> WFVAE:
    torch.manual_seed(0)
    return WFVAE(CONFIG)


@pytest.mark.parametrize("path", manifests("wfvae/manifests/wfvae_*.json"), ids=lambda path: path.stem)
def test_keys_shapes_and_counts_are_those_of_the_official_model(path: Path) -> None:
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = WFVAE(WFVAEConfig.from_official(manifest["config"]))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == manifest["tensors"]
    for part, expected in manifest["trainable_params"].items():
        trainable = sum(p.numel() for p in getattr(model, part).parameters() if p.requires_grad)
        assert trainable == expected


def test_config_survives_the_official_spelling_and_back() -> None:
    for config in (
        WFVAEConfig(),
        WFVAEConfig(temporal_compression=8, attention="legacy", norm="groupnorm"),
        CONFIG,
    ):
        official = config.to_official()
        assert "l1_dowmsample_block" in official  # sic
        assert WFVAEConfig.from_official(official) == config
    assert WFVAEConfig.from_official(WFVAEConfig(attention="none").to_official()).attention == "none"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "WFVAE2Model"}, "WFVAE2Model"),
        ({"latent_dims": 4}, "latent_dims"),
        ({"l1_dowmsample_block": "Conv"}, "no published WF-VAE"),
        ({"dropout": 0.1}, "dropout"),
        ({"attention_type": "Linear"}, "attention_type"),
        ({"norm_type": "rmsnorm"}, "rmsnorm"),
        ({"base_channels": 0}, "base_channels=0"),
    ],
)
def test_a_config_that_was_never_published_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WFVAEConfig.from_official({**CONFIG.to_official(), **change})


def test_what_is_saved_loads_again_from_folder_and_from_file(model: WFVAE, tmp_path: Path) -> None:
    save(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    for source in (tmp_path, tmp_path / "diffusion_pytorch_model.safetensors", str(tmp_path)):
        again = wfvae.load(source)
        assert again.config == CONFIG
        assert same(again, model)
    assert not again.training
    z = torch.randn(1, 2, 2, 1, 1)
    with torch.no_grad():
        assert torch.equal(again.decode(z), model.decode(z))


def test_an_official_training_checkpoint_gives_its_ema_or_its_raw_weights(
    model: WFVAE, tmp_path: Path
) -> None:
    raw = model.state_dict()
    averaged = {f"module.{key}": value + 1 for key, value in raw.items() if "wavelet_transform" not in key}
    checkpoint = {
        "current_step": 7,
        "state_dict": {"gen_model": raw, "dics_model": {"logvar": torch.zeros(())}},
        "ema_state_dict": averaged,
    }
    torch.save(checkpoint, tmp_path / "checkpoint-7.ckpt")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_official()))
    assert same(wfvae.load(tmp_path, ema=False), model)
    ema = wfvae.load(tmp_path).state_dict()
    for key, value in raw.items():
        assert torch.equal(ema[key], value if "wavelet_transform" in key else value + 1)
    torch.save(raw, tmp_path / "merged.ckpt")
    assert same(wfvae.load(tmp_path / "merged.ckpt", CONFIG), model)
    with pytest.raises(FileNotFoundError, match=r"checkpoint-7\.ckpt, merged\.ckpt"):
        wfvae.load(tmp_path)


def test_missing_extra_and_misshapen_keys_are_all_listed(model: WFVAE, tmp_path: Path) -> None:
    save(model, tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    del state["encoder.conv_out.conv.bias"]
    state["decoder.surprise"] = torch.zeros(1)
    state["decoder.conv_out.bias"] = torch.zeros(3)
    save_file(state, file)
    with pytest.raises(ValueError, match="does not hold the weights") as caught:
        wfvae.load(tmp_path)
    for part in (
        "1 missing: encoder.conv_out.conv.bias",
        "1 extra: decoder.surprise",
        "(3,), expected (24,)",
    ):
        assert part in str(caught.value)


def test_files_that_are_not_weights_are_refused_by_name(model: WFVAE, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        wfvae.load(tmp_path / "nowhere.ckpt")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        wfvae.load(tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=r"bad\.safetensors"):
        wfvae.load(tmp_path / "bad.safetensors", CONFIG)
    (tmp_path / "bad.ckpt").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"bad\.ckpt"):
        wfvae.load(tmp_path / "bad.ckpt", CONFIG)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        wfvae.load(tmp_path / "bad.ckpt")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Path("x")}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="cannot be read"):
        wfvae.load(tmp_path / "x.ckpt", CONFIG)

"""Released files through diffusers: read as published, strictly, and refused with the reason and the remedy where they are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

import adapters
from adapters import _diffusers, sd, vidtok, wan
from vaebench import plugins

FAMILIES = [name for name in plugins.names("adapters") if hasattr(plugins.find("adapters", name), "FAMILY")]


def small(family: _diffusers.Family) -> _diffusers.Family:
    """The family as if its release were its tiny network."""
    shrink = {
        name: {**family.configs.get(name, {}), **family.small, **family.small_for.get(name, {})}
        for name in family.variants
    }
    return replace(family, configs=shrink)


def publish(folder: Path, family: _diffusers.Family, variant: str, *, with_config: bool = True) -> Path:
    """What a repository of the release holds: the weights and the config.json, written here with random weights."""
    vae = family.tiny(variant=variant)
    if with_config:
        extra = {"_class_name": family.cls, "_diffusers_version": "0.30.0", "clip_output": True}
        (folder / "config.json").write_text(json.dumps({**family.configs[variant], **extra}))
    file = folder / Path(family.variants[variant].source.rpartition(":")[2]).name
    state = {key: value + 0.01 for key, value in vae.model.state_dict().items()}  # not what tiny() would draw
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": {**state, "loss.logvar": torch.zeros(1)}, "epoch": 3}, file)
    return file


@pytest.mark.parametrize("with_config", [True, False], ids=["config.json", "weights alone"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_published_folder_is_loaded_as_it_is(tmp_path, name, with_config):
    family = small(plugins.find("adapters", name).FAMILY)
    spec = next(iter(family.variants.values()))
    file = publish(tmp_path, family, spec.variant, with_config=with_config)
    if family.needs_config and not with_config:
        with pytest.raises(
            ValueError, match=r"safetensors: put the release's config\.json beside it: it holds the means"
        ):
            family.load(spec, weights=str(tmp_path))
        return
    vae = family.load(spec, weights=str(tmp_path))
    assert vae.spec.name == spec.name
    state = vae.model.state_dict()
    expected = {key: value + 0.01 for key, value in family.tiny(variant=spec.variant).model.state_dict().items()}
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)
    assert not any(parameter.requires_grad for parameter in vae.model.parameters())
    assert not vae.model.training
    assert file.is_file()


@pytest.fixture
def released(tmp_path) -> tuple[_diffusers.Family, Path]:
    family = small(sd.FAMILY)
    return family, publish(tmp_path, family, "ft-mse")


def rewrite(file: Path, change) -> None:
    from safetensors.torch import load_file

    state = load_file(file)
    change(state)
    save_file(state, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.conv_in.bias"), "1 missing: encoder.conv_in.bias"),
        (lambda s: s.update(surplus=torch.zeros(1)), "1 unexpected: surplus"),
        (lambda s: s.update({"encoder.conv_in.bias": torch.zeros(5)}), r"encoder.conv_in.bias \(5,\), expected \(8,\)"),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_a_file_that_differs_in_one_tensor_is_refused_with_its_name(released, change, message):
    family, file = released
    rewrite(file, change)
    with pytest.raises(ValueError, match=message):
        family.load(sd.FT_MSE, weights=str(file))


def test_the_config_beside_the_weights_counts_and_must_be_of_this_network(released):
    family, file = released
    config = json.loads((file.parent / "config.json").read_text())

    def load_with(**changes):
        (file.parent / "config.json").write_text(json.dumps({**config, **changes}))
        return family.load(sd.FT_MSE, weights=str(file))

    assert load_with(sample_size=64).model.tile_sample_min_size == 64
    assert load_with().spec.scale == 0.18215
    assert load_with(scaling_factor=0.7).spec.scale == 0.7
    assert load_with(_class_name="UNet2DConditionModel", sample_size=64).model.tile_sample_min_size == 256  # not read
    with pytest.raises(ValueError, match="describes another network"):
        load_with(latent_channels=16)
    for text, said in (("{", "is not JSON"), ("[]", "should hold a JSON object")):
        (file.parent / "config.json").write_text(text)
        with pytest.raises(ValueError, match=said):
            family.load(sd.FT_MSE, weights=str(file))


def test_a_pickle_and_a_broken_file_are_refused(released, tmp_path):
    family, file = released
    pickle = tmp_path / "weights.bin"
    torch.save({"state_dict": {"encoder.conv_in.bias": Path("/")}}, pickle)
    with pytest.raises(ValueError, match="contains Python objects other than tensors"):
        family.load(sd.FT_MSE, weights=str(pickle))
    torch.save({"state_dict": {"encoder.conv_in.bias": [1.0]}}, pickle)
    with pytest.raises(ValueError, match=r"holds a list under 'encoder\.conv_in\.bias', expected a state dict"):
        family.load(sd.FT_MSE, weights=str(pickle))
    torch.save({"loss.logvar": torch.zeros(1)}, pickle)
    with pytest.raises(ValueError, match="holds no tensors of a VAE"):
        family.load(sd.FT_MSE, weights=str(pickle))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        family.load(sd.FT_MSE, weights=str(file))


def test_a_user_checkpoint_is_recognised_by_its_tensors(tmp_path):
    family = small(wan.FAMILY)
    file = publish(tmp_path, family, "2.2", with_config=False).rename(tmp_path / "mine.safetensors")
    spec = family.spec_of(str(file))
    assert (spec.variant, spec.latent_channels, spec.spatial_compression) == (f"{tmp_path.name}-mine", 48, 16)
    assert (spec.source, spec.sha256, spec.reference) == ("", "", "user checkpoint")
    vae = family.load(spec, weights=str(file))
    assert vae.variant == "2.2"
    assert vae.encode(torch.zeros(1, 3, 5, 32, 32)).mode().shape == (1, 48, 2, 2, 2)


def test_the_config_of_a_users_checkpoint_is_refused_as_its_own_not_as_the_release(tmp_path):
    family = small(wan.FAMILY)
    file = publish(tmp_path, family, "2.2")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "base_dim": 16}))
    advice = "user checkpoints run in a released configuration only, of which wan/2.2 is the nearest"
    with pytest.raises(ValueError, match=f"describes another network than wan/2.2; {advice}"):
        family.load(family.spec_of(str(file)), weights=str(file))
    with pytest.raises(ValueError, match=r"another network than wan/2\.2; give weights that fit wan/2\.2"):
        family.load(wan.VARIANTS["2.2"], weights=str(file))


def test_the_published_names_of_vidtok_lead_to_its_variants(tmp_path):
    family = small(vidtok.FAMILY)
    file = publish(tmp_path, family, "kl-4", with_config=False)
    assert file.name == "vidtok_kl_causal_488_4chn.ckpt"
    assert family.spec_of(str(file)).latent_channels == 4


def test_half_precision_weights_are_cast_to_what_was_asked_for(released):
    family, file = released
    rewrite(file, lambda state: state.update({key: value.half() for key, value in state.items()}))
    assert family.load(sd.FT_MSE, weights=str(file)).model.dtype == torch.float32
    assert family.load(sd.FT_MSE, weights=str(file), dtype=torch.bfloat16).model.dtype == torch.bfloat16


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_without_its_weights_says_how_to_get_them(tmp_path, monkeypatch, name):
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    spec = next(iter(plugins.find("adapters", name).VARIANTS.values()))
    assert f"run `vaebench weights fetch {spec.name}`" in adapters.resolve(spec.name).unavailable
    assert adapters.resolve(f"{name}/tiny").unavailable == ""
    with pytest.raises(FileNotFoundError, match=f"run `vaebench weights fetch {spec.name}`"):
        adapters.load(spec.name)


def test_an_old_diffusers_is_named_with_the_version_to_install(monkeypatch):
    monkeypatch.setattr(_diffusers, "version", lambda _: "0.34.2")
    assert adapters.resolve("wan/2.1").unavailable.startswith(
        "wan/2.1 needs diffusers >= 0.38: pip install 'diffusers>=0.38'"
    )
    with pytest.raises(FileNotFoundError, match=r"installed: 0\.34\.2"):
        wan.tiny()

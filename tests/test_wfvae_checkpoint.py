"""Weights: the official layouts load strictly, and what is saved loads again, here and there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import adapters
import adapters.wfvae
import wfvae
from tests.goldens_io import manifests
from vaebench import weights
from vaebench.training.recipes import read_recipe
from vaebench.vae import StreamingVAE
from wfvae import WFVAE, WFVAEConfig
from wfvae.checkpoint import save

CONFIG = WFVAEConfig(base_channels=4, latent_channels=2, encoder_flow_channels=4, decoder_flow_channels=4)


def same(a: WFVAE, b: WFVAE) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


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
        ({"base_channels": "128"}, "another type.*base_channels='128'"),
        ({"scale": 0.18215}, r"another type.*scale=0\.18215"),
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


def test_an_official_training_checkpoint_gives_its_ema_or_its_raw_weights(model: WFVAE, tmp_path: Path) -> None:
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


WRAPPED = ("module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.module.{}")


@pytest.mark.parametrize("prefix", WRAPPED)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_prefixes_of_wrapping_modules_are_removed(model: WFVAE, tmp_path: Path, prefix: str, suffix: str) -> None:
    state = {prefix.format(key): value.contiguous() for key, value in model.state_dict().items()}
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": {"gen_model": state}}, file)
    assert same(wfvae.load(file, CONFIG), model)


def test_a_module_compiled_inside_the_model_is_read_and_a_key_that_comes_twice_is_refused(
    model: WFVAE, tmp_path: Path
) -> None:
    state = {key.replace("encoder.", "encoder._orig_mod.", 1): value for key, value in model.state_dict().items()}
    torch.save(state, tmp_path / "a.ckpt")
    assert same(wfvae.load(tmp_path / "a.ckpt", CONFIG), model)
    torch.save(
        state | {"module.encoder.conv_in.bias": torch.zeros(4), "encoder.conv_in.bias": torch.ones(4)},
        tmp_path / "b.ckpt",
    )
    with pytest.raises(ValueError, match=r"b\.ckpt holds encoder\.conv_in\.bias twice"):
        wfvae.load(tmp_path / "b.ckpt", CONFIG)


def test_haar_kernels_that_are_missing_are_filled_in_and_those_of_the_file_are_honoured(
    model: WFVAE, tmp_path: Path
) -> None:
    kernels = {key for key, _ in model.named_buffers()}
    trained = {key: value for key, value in model.state_dict().items() if key not in kernels}
    torch.save({"ema_state_dict": trained}, tmp_path / "a.ckpt")
    assert same(wfvae.load(tmp_path / "a.ckpt", CONFIG), model)
    torch.save(
        {key: value * 2 if key in kernels else value for key, value in model.state_dict().items()}, tmp_path / "b.ckpt"
    )
    state = wfvae.load(tmp_path / "b.ckpt", CONFIG).state_dict()
    assert all(torch.equal(state[key], 2 * value) for key, value in model.named_buffers())
    del trained["decoder.conv_out.bias"]
    torch.save(trained, tmp_path / "c.ckpt")
    with pytest.raises(ValueError, match=r"1 missing: decoder\.conv_out\.bias"):
        wfvae.load(tmp_path / "c.ckpt", CONFIG)


def split(model: WFVAE, folder: Path, suffix: str, index: bool) -> list[Path]:
    """The official layout in two shards."""
    (folder / "config.json").write_text(json.dumps(model.config.to_official()))
    state, weight_map = model.state_dict(), {}
    files = [folder / f"diffusion_pytorch_model-0000{i}-of-00002{suffix}" for i in (1, 2)]
    for i, file in enumerate(files):
        part = {key: state[key].contiguous() for key in list(state)[i::2]}
        weight_map |= dict.fromkeys(part, file.name)
        (save_file if suffix == ".safetensors" else torch.save)(part, file)
    if index:
        name = f"diffusion_pytorch_model{suffix}.index.json"
        (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return files


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards_are_read_together_by_folder_index_or_any_of_them(
    model: WFVAE, tmp_path: Path, suffix: str, index: bool
) -> None:
    files = split(model, tmp_path, suffix, index)
    for source in (tmp_path, *files, *tmp_path.glob("*.index.json")):
        assert same(wfvae.load(source), model)
        assert same(adapters.load(f"wfvae:{source}").model, model)
    name = f"wfvae:{tmp_path}"
    before = adapters.resolve(name).weights
    last = bytearray(files[1].read_bytes())
    last[-1] ^= 1
    files[1].write_bytes(last)
    assert adapters.resolve(name).weights != before
    files[1].unlink()
    for read in (lambda: wfvae.load(tmp_path), lambda: adapters.load(name), lambda: adapters.resolve(name).weights):
        with pytest.raises(FileNotFoundError, match=rf"in 2 files, of which 1 are missing: {files[1].name}; copy"):
            read()


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../b.safetensors"}}'])
def test_an_index_that_lists_no_files_beside_it_is_refused(tmp_path: Path, content: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(ValueError, match=r"index\.json should list the files of the weights"):
        wfvae.load(index, CONFIG)


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


@pytest.mark.parametrize("r", [4, 8])
def test_the_adapter_runs_a_checkpoint_of_ones_own_whole_and_streamed(r: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = WFVAE(replace(CONFIG, temporal_compression=r)).eval()
    save(model, tmp_path)
    name = f"wfvae:{tmp_path}"
    spec = adapters.find(name)
    assert (spec.temporal_compression, spec.latent_channels, spec.frames.stride) == (r, 2, r)
    assert adapters.resolve(name).weights != "none"
    video = torch.rand(1, 3, 1 + 5 * r, 8, 8) * 2 - 1
    whole, streamed = adapters.load(name), adapters.load(name, mode="streamed")
    with torch.no_grad():
        expected = model.encode(video).mean
        pixels = model.decode(expected)
    for vae in (whole, streamed):
        assert vae.encode(video).mean.requires_grad is False
        torch.testing.assert_close(vae.encode(video).mode(), expected, rtol=0, atol=2e-5)
        torch.testing.assert_close(vae.decode(expected), pixels, rtol=0, atol=2e-5)
    assert isinstance(whole, StreamingVAE)
    parts = list(whole.decode_stream(q.mean for q in whole.encode_stream(video.split(3, dim=2))))
    assert torch.is_grad_enabled()
    torch.testing.assert_close(torch.cat(parts, dim=2), pixels, rtol=0, atol=2e-5)


def test_the_spec_of_ones_own_has_its_parameters_and_its_normalisation(tmp_path: Path) -> None:
    config = replace(CONFIG, scale=(0.5, 0.25), shift=(0.0, 1.5))
    model = WFVAE(config)
    save(model, tmp_path)
    spec = adapters.find(f"wfvae:{tmp_path}")
    assert spec.parameters == sum(p.numel() for p in model.parameters())
    assert (spec.scale, spec.shift) == ((0.5, 0.25), (0.0, 1.5))
    (tmp_path / "config.json").write_text(json.dumps(replace(config, scale=(1.0,) * 4, shift=(0.0,) * 4).to_official()))
    spec = adapters.find(f"wfvae:{tmp_path}")
    assert (spec.scale, spec.shift) == (1.0, 0.0)
    (tmp_path / "config.json").write_text(json.dumps(replace(config, shift=(0.0, 1.0, 2.0)).to_official()))
    with pytest.raises(ValueError, match="3 values of shift for 2 latent channels"):
        adapters.find(f"wfvae:{tmp_path}")


def test_a_release_is_normalised_as_its_config_says(tmp_path: Path) -> None:
    model = WFVAE(replace(CONFIG, scale=(0.5, 0.25), shift=(0.0, 1.5)))
    save(model, tmp_path)
    count = sum(p.numel() for p in model.parameters())
    spec = replace(adapters.find("wfvae/l-16"), latent_channels=2, parameters=count)
    vae = adapters.wfvae.load(spec, weights=str(tmp_path))
    assert (spec.scale, spec.shift) == (0.18215, 0.0)
    assert (vae.spec.scale, vae.spec.shift) == ((0.5, 0.25), (0.0, 1.5))
    file = tmp_path / "config.json"
    stated = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in stated.items() if key not in ("scale", "shift")}))
    own = replace(spec, scale=0.5, shift=0.25)
    assert adapters.wfvae.load(own, weights=str(tmp_path)).spec == own


def test_another_network_does_not_run_under_the_name_of_a_release(model: WFVAE, tmp_path: Path) -> None:
    save(model, tmp_path)
    with pytest.raises(ValueError, match=r"config\.json describes another network than wfvae/l-16: run it as wfvae:"):
        adapters.load("wfvae/l-16", weights=str(tmp_path))


def test_a_checkpoint_that_cannot_stream_has_no_such_mode(tmp_path: Path) -> None:
    save(WFVAE(replace(CONFIG, attention="legacy")), tmp_path)
    assert adapters.find(f"wfvae:{tmp_path}").modes == ("whole", "native")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        adapters.find(f"wfvae:{tmp_path}/nowhere")


def test_the_released_variants_have_the_released_parameters() -> None:
    for name in ("l-16", "s-8", "m-32-8x8x8"):
        spec = adapters.find(f"wfvae/{name}")
        with torch.device("meta"):
            model = adapters.wfvae.load(spec, weights=weights.RANDOM, device="meta").model
        assert sum(p.numel() for p in model.parameters()) == spec.parameters
        assert model.config.latent_channels == spec.latent_channels
        assert model.config.temporal_compression == spec.temporal_compression


def test_loading_needs_none_of_the_modules_of_meta_tensors_and_compilers(tmp_path: Path) -> None:
    """Arithmetic on meta tensors makes torch import 900 modules, which took most of the time of loading."""
    save(WFVAE(WFVAEConfig(4, 2, 4, 1, 1, 1, 4, 4)), tmp_path)
    program = (
        "import sys, wfvae; wfvae.load(sys.argv[1]); print('sympy' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(wfvae.__file__).parents[1])
    assert done.stdout.split() == ["False", "False"]


def test_loaded_weights_lie_in_memory_as_those_of_a_new_model(tmp_path: Path) -> None:
    model = WFVAE(WFVAEConfig(4, 2, 4, 1, 1, 1, 4, 4))
    save(model, tmp_path)
    loaded = wfvae.load(tmp_path)
    for name, parameter in model.named_parameters():
        found = loaded.get_parameter(name)
        assert torch.equal(found, parameter)
        assert (found.stride(), found.dtype, found.requires_grad) == (parameter.stride(), torch.float32, True), name


@pytest.mark.parametrize("variant", ["s-4", "m-4", "l-4"])
def test_a_row_of_the_paper_without_weights_says_how_to_get_some(variant):
    vae = adapters.resolve(f"wfvae/{variant}")
    assert f"never released: train them with `vaebench train {variant}`" in vae.unavailable
    with pytest.raises(weights.Unavailable, match="never released"):
        vae.load()
    with torch.device("meta"):
        model = WFVAE(adapters.wfvae.config_of(vae.spec))
    assert sum(parameter.numel() for parameter in model.parameters()) == vae.spec.parameters
    assert {key: int(value) for key, value in read_recipe(variant)["model"].items()} == {
        "base_channels": model.config.base_channels,
        "latent_channels": model.config.latent_channels,
    }


def test_weights_of_ones_own_take_the_place_of_unreleased_ones(tmp_path, model):
    save(model, tmp_path)
    vae = adapters.resolve("wfvae/s-4", str(tmp_path))
    assert not vae.unavailable
    with pytest.raises(ValueError, match="describes another network than wfvae/s-4"):
        vae.load()

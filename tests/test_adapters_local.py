"""CV-VAE and Open-Sora 1.2 through the contract: modes, legal lengths, released files as published, refusals."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import adapters
from adapters import cvvae, odvae, opensora, ssvae
from adapters._local import OwnVAE
from adapters._nets.cvvae import published_name
from tests.goldens_io import draw
from vaebench import weights
from vaebench.vae import reconstruct

FAMILIES = {
    "cvvae/sd2.1": cvvae.tiny,
    "cvvae/sd3": lambda mode: cvvae.tiny(mode=mode, variant="sd3"),
    "opensora/1.2": opensora.tiny,
}


@cache
def vae_of(family: str, mode: str) -> OwnVAE:
    return FAMILIES[family](mode=mode)


def video(frames: int, height: int = 16, width: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("mode", ["whole", "native"])
@pytest.mark.parametrize("frames", [1, 5, 17, 18, 21])
@pytest.mark.parametrize("family", FAMILIES)
def test_as_many_frames_come_back_as_went_in(family, frames, mode):
    x = video(frames)
    y, latent = reconstruct(vae_of(family, mode), x)  # checks the latent's shape too
    assert y.shape == x.shape
    assert y.dtype == latent.dtype == torch.float32


@pytest.mark.parametrize("frames", [1, 17, 21, 33, 37, 49, 65, 69, 101])
@pytest.mark.parametrize("chunk", [0, 17])
def test_a_latent_of_open_sora_tells_how_many_frames_to_decode(frames, chunk):
    spec = opensora.replace(opensora.V12, frames_per_chunk=chunk)
    assert opensora.num_frames(spec, spec.latent_frames(frames)) == frames


def test_a_latent_that_no_legal_video_has_is_refused():
    spec = opensora.replace(opensora.V12, frames_per_chunk=17)
    with pytest.raises(ValueError, match="no video of 4k\\+1 frames has a latent of 10"):
        opensora.num_frames(spec, 10)


@pytest.mark.parametrize("family", FAMILIES)
def test_native_is_whole_within_one_block_and_differs_beyond_it(family):
    whole, native = vae_of(family, "whole"), vae_of(family, "native")
    one_block, two = (17, 21) if family.startswith("opensora") else (5, 9)
    torch.testing.assert_close(native.encode(video(one_block)).mean, whole.encode(video(one_block)).mean)
    assert not torch.allclose(native.encode(video(two)).mean, whole.encode(video(two)).mean, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_group_norm_makes_the_encoder_look_ahead_as_the_spec_says(family):
    vae, x = vae_of(family, "whole"), video(9)
    later = torch.cat([x[:, :, :5], -x[:, :, 5:]], dim=2)
    assert not vae.spec.causal
    assert not torch.equal(vae.encode(x).mean[:, :, :1], vae.encode(later).mean[:, :, :1])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_network_would_drop_silently_is_refused(family):
    vae = vae_of(family, "native")
    with pytest.raises(ValueError, match=r"takes 4k\+1 frames, got 8; pad to 9"):
        vae.encode(video(8))
    with pytest.raises(ValueError, match="multiples of 8, got 12x24"):
        vae.encode(video(5, height=12))


@pytest.mark.parametrize(("tiny", "multiple"), [(odvae.tiny, 8), (ssvae.tiny, 16)])
def test_od_vae_and_ssvae_refuse_it_too(tiny, multiple):
    with pytest.raises(ValueError, match=r"takes 4k\+1 frames, got 8; pad to 9"):
        tiny().encode(video(8, 16, 16))
    with pytest.raises(ValueError, match=f"multiples of {multiple}, got 12x16"):
        tiny().encode(video(5, 12, 16))


def test_user_checkpoints_have_different_names_and_never_taken_for_the_release(tmp_path):
    model = odvae.tiny().model
    for run in ("run a", "run b"):
        (tmp_path / run).mkdir()
        torch.save(model.state_dict(), tmp_path / run / "last.ckpt")
    names = [f"odvae:{tmp_path / 'run a' / 'last.ckpt'}", f"odvae:{tmp_path / 'run b' / 'last.ckpt'}"]
    assert [adapters.find(name).variant for name in names] == ["run_a-last", "run_b-last"]
    same = adapters.resolve(names[0]).label
    assert re.fullmatch(r"odvae/run_a-last-[0-9a-f]{6}", same)
    assert adapters.resolve(names[1]).label == same.replace(
        "run_a", "run_b"
    )  # the digits are of the content, which is equal
    (tmp_path / "run a" / "config.json").write_text("{}")  # the network is built from it
    assert adapters.resolve(names[0]).label != same
    (tmp_path / "run a" / "config.json").unlink()
    spec = adapters.find(names[0])
    assert (spec.source, spec.sha256, spec.reference) == ("", "", "user checkpoint")
    assert adapters.resolve(names[0]).unavailable == ""
    assert adapters.resolve(names[0]).weights == weights.digest(tmp_path / "run a" / "last.ckpt")
    with pytest.raises(
        ValueError, match=r"last\.ckpt does not fit ODVAE"
    ):  # it was read: a narrow one, without its config
        adapters.load(names[0])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "should hold a JSON object, got a list"),
        (json.dumps({"hidden_size": 32}), "has no 'hidden_size_mult'"),
        (
            json.dumps(
                {
                    "hidden_size": 32,
                    "hidden_size_mult": [1, 1, 1, 1],
                    "num_res_blocks": 1,
                    "embed_dim": 8,
                    "z_channels": 8,
                }
            ),
            r"a latent of 8 channels, that of odvae/\S+ has 4",
        ),
    ],
)
def test_the_config_beside_a_checkpoint_is_named_where_it_is_of_something_else(tmp_path, config, said):
    torch.save(odvae.tiny().model.state_dict(), tmp_path / "last.ckpt")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=rf"config\.json .*{said}"):
        adapters.load(f"odvae:{tmp_path / 'last.ckpt'}")


def test_a_user_folder_holds_one_file_of_weights(tmp_path):
    with pytest.raises(OSError, match=r"contains no \.safetensors"):
        adapters.find(f"odvae:{tmp_path}")
    (tmp_path / "a.ckpt").touch()
    assert adapters.find(f"odvae:{tmp_path}").variant == f"{tmp_path.parent.name}-{tmp_path.name}"
    (tmp_path / "b.pt").touch()
    with pytest.raises(OSError, match=r"contains a\.ckpt, b\.pt: give the path of the file"):
        adapters.find(f"odvae:{tmp_path}")
    with pytest.raises(OSError, match="gone does not exist"):
        adapters.find(f"odvae:{tmp_path}/gone")
    with pytest.raises(ValueError, match="pool has no weights, so it takes no checkpoint"):
        adapters.find(f"pool:{tmp_path}")


def test_a_label_names_the_end_of_the_path_and_the_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert adapters.resolve("wan/2.1").label == "wan/2.1"
    with pytest.raises(ValueError, match=r"pool/4x8x8 reads no weights: remove weights=mine\.safetensors"):
        adapters.resolve("pool/4x8x8", "mine.safetensors")
    # sha256 of "<sha256 of the file> <that of config.json, where there is one>"
    digits = hashlib.sha256(f"{hashlib.sha256(b'1').hexdigest()} ".encode()).hexdigest()[:6]
    Path("mine.safetensors").write_bytes(b"1")
    assert adapters.resolve("mochi", "mine.safetensors").label == f"mochi/1 ({tmp_path.name}-mine-{digits})"
    Path("here").mkdir()
    Path("here/model.ckpt").write_bytes(b"1")
    assert adapters.resolve("odvae:here/model.ckpt").label == f"odvae/here-model-{digits}"
    for run in ("a", "b"):  # where training puts every run's checkpoints, and the two ways to name one
        step = f"runs/{run}/checkpoints/step-00000200"
        Path(step).mkdir(parents=True)
        Path(f"{step}/diffusion_pytorch_model.safetensors").write_bytes(b"1")
        for name in (step, f"{step}/diffusion_pytorch_model.safetensors"):
            assert adapters.resolve(f"odvae:{name}").label == f"odvae/{run}-step-00000200-{digits}"
    with pytest.raises(weights.Unavailable, match="gone does not exist"):
        adapters.resolve("odvae:gone")


def test_a_long_path_gives_a_name_of_bounded_length(tmp_path):
    place = tmp_path / ("y" * 200)
    place.mkdir()
    (place / ("z" * 200 + ".ckpt")).write_bytes(b"1")
    assert len(adapters.resolve(f"odvae:{place}/{'z' * 200}.ckpt").label) == len("odvae/") + 60 + len("-123456")


def test_an_untrained_network_goes_by_the_name_it_was_asked_for():
    for name in ("odvae/tiny", "odvae/tiny-random", "wfvae/tiny-random"):
        assert adapters.find(name).name == adapters.load(name).spec.name == adapters.resolve(name).label == name


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_mode_names_the_known_ones(family):
    with pytest.raises(ValueError, match=r"no mode 'tiled' \(it has: whole, native\)"):
        FAMILIES[family](mode="tiled")


@pytest.mark.parametrize("family", FAMILIES)
def test_encoding_is_the_same_for_everyone_and_needs_no_gradient(family):
    first, second = FAMILIES[family](mode="whole"), FAMILIES[family](mode="whole")
    a, b = first.encode(video(5)), second.encode(video(5))
    assert torch.equal(a.mean, b.mean)
    assert not a.mean.requires_grad
    assert torch.equal(first.decode(a.mean), second.decode(a.mean))


@pytest.mark.parametrize("tiny", [cvvae.tiny, opensora.tiny])
def test_float16_warns_of_overflow_and_bfloat16_runs(tiny):
    with pytest.warns(UserWarning, match="overflow"):
        tiny(dtype=torch.float16)
    q = tiny(dtype=torch.bfloat16).encode(video(5))
    assert q.mean.dtype == torch.float32
    assert q.mean.isfinite().all()


def published(folder: Path, suffix: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """A released SD 2.1 file in the small: its keys, `suffix` as its format, and a config.json beside it."""
    small = {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "en_de_n_frames_a_time": 4}
    (folder / "config.json").write_text(json.dumps(small))
    model = cvvae.tiny().model
    state = {published_name(key, model.config): value for key, value in model.state_dict().items()}
    state = {key: draw(key, value.shape) for key, value in state.items()}
    file = folder / f"diffusion_pytorch_model{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    return file, state


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_released_file_loads_and_its_config_sets_the_blocks(tmp_path, suffix):
    file, state = published(tmp_path, suffix)
    whole, native = (cvvae.load(cvvae.SD21, weights=str(file), mode=mode) for mode in ("whole", "native"))
    assert torch.equal(whole.model.encoder.conv_in.weight, state["encoder.conv_in.weight"])
    assert not torch.allclose(whole.encode(video(9)).mean, native.encode(video(9)).mean, atol=1e-3)


def test_a_config_of_the_other_form_is_refused_with_both_latents(tmp_path):
    file, _ = published(tmp_path, ".safetensors")
    with pytest.raises(ValueError, match=r"latent of 4 channels, that of cvvae/sd3 has 16"):
        cvvae.load(cvvae.VARIANTS["sd3"], weights=str(file))


def test_a_file_of_the_other_form_is_refused_with_its_keys(tmp_path):
    file, _ = published(tmp_path, ".safetensors")
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"missing: .*encoder\.down_blocks"):
        cvvae.load(cvvae.VARIANTS["sd3"], weights=str(file))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_released_file_of_open_sora_loads_and_must_have_the_latent_normalisation_of_the_spec(
    tmp_path, monkeypatch, suffix
):
    model = opensora.tiny().model
    monkeypatch.setattr("adapters._nets.opensora.OpenSoraConfig", lambda: model.config)  # the released one is 1.6 GB
    state = {key: draw(key, value.shape) for key, value in model.state_dict().items()}
    state["scale"] = torch.tensor([3.85, 2.32, 2.33, 3.06]).view(1, 4, 1, 1, 1)
    state["shift"] = torch.tensor([-0.10, 0.34, 0.27, 0.98]).view(1, 4, 1, 1, 1)
    file = tmp_path / f"model{suffix}"
    write = save_file if suffix == ".safetensors" else torch.save
    write(state, file)
    vae = opensora.load(opensora.V12, weights=str(tmp_path) if suffix == ".safetensors" else str(file))
    assert torch.equal(vae.model.kl.quant_conv.weight, state["spatial_vae.module.quant_conv.weight"])
    torch.testing.assert_close(vae.model.shift.flatten(), torch.tensor(vae.spec.shift))
    torch.testing.assert_close(1 / vae.model.scale.flatten(), torch.tensor(vae.spec.scale))
    state["scale"] = state["scale"] * 2
    write(state, file)
    with pytest.raises(ValueError, match=r"has scale \[7\.6.*expected \[3\.85"):
        opensora.load(opensora.V12, weights=str(file))


@pytest.mark.parametrize("variant", ["sd2.1", "sd3"])
def test_a_user_checkpoint_of_cv_vae_is_recognised_by_its_tensors(tmp_path, variant):
    shapes = cvvae.OWN.expected_shapes(variant)
    torch.save({key: torch.zeros(shapes[key]) for key in shapes if key.endswith(".bias")}, tmp_path / "mine.ckpt")
    spec = adapters.find(f"cvvae:{tmp_path / 'mine.ckpt'}")
    assert (spec.latent_channels, spec.source) == (cvvae.VARIANTS[variant].latent_channels, "")


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_a_broken_file_is_one_clear_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        opensora.load(opensora.V12, weights=str(tmp_path / name))


def test_weights_that_are_not_here_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path))
    for load, spec in ((cvvae.load, cvvae.SD21), (opensora.load, opensora.V12)):
        with pytest.raises(FileNotFoundError, match=f"run `vaebench weights fetch {spec.name}`"):
            load(spec)

"""OD-VAE against the released code: whole and block-wise outputs, keys, shapes, parameter counts, chunk arithmetic."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch

import adapters
from adapters import odvae
from adapters._nets.odvae import ODVAE, RELEASED_BLOCKS, ODVAEConfig, Tiling, read_config, time_chunks
from tests.goldens_io import Golden, goldens, in_precisions, manifests, rebuild
from vaebench.vae import reconstruct

GOLDENS = goldens(lambda metadata: metadata.get("model") == "od_vae")
SMALL = {**RELEASED_BLOCKS, "hidden_size": 32, "hidden_size_mult": [1, 1, 1, 1], "num_res_blocks": 1}
SMALL |= {"embed_dim": 4, "z_channels": 4}
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-5}


@cache
def network(config: ODVAEConfig, dtype: torch.dtype, salt: str = "") -> ODVAE:
    model = ODVAE(config).to(dtype).eval().requires_grad_(False)
    model.load_state_dict(rebuild(model.state_dict(), salt))
    return model


def tiling_of(preset: dict) -> Tiling:
    return Tiling(
        size=preset["tile_sample_min_size"],
        latent_size=preset["tile_latent_min_size"],
        frames=preset["tile_sample_min_size_t"],
        latent_frames=preset["tile_latent_min_size_t"],
        overlap=preset["tile_overlap_factor"],
        shared=preset.get("tile_overlap_t", 1),
    )


def test_there_are_golden_files_of_whole_and_block_wise_runs():
    assert any("tilings" in golden.json("case") for golden in GOLDENS)
    assert any("tilings" not in golden.json("case") for golden in GOLDENS)


@torch.no_grad()
@pytest.mark.parametrize(("golden", "dtype"), in_precisions(GOLDENS), ids=str)
def test_outputs_are_those_of_the_released_code(golden: Golden, dtype: torch.dtype):
    model = network(read_config(golden.json("config")), dtype, golden.salt)
    stored = golden.tensors(dtype)
    found = {}
    if "moments" in stored:
        found["moments"] = model.encode(stored["x"])
        found["mode"] = found["moments"].chunk(2, dim=1)[0]
    if "rec" in stored:
        found["rec"] = model.decode(stored["z"])
    for name, preset in golden.json("case").get("tilings", {}).items():
        if f"moments_{name}" in stored:
            found[f"moments_{name}"] = model.encode(stored["x"], tiling_of(preset))
        if f"rec_{name}" in stored:
            found[f"rec_{name}"] = model.decode(stored["z"], tiling_of(preset))
    assert stored.keys() - {"x", "z"} == found.keys()
    for key, value in found.items():
        torch.testing.assert_close(
            value, stored[key], rtol=0, atol=TOLERANCE[dtype], msg=lambda m, key=key: f"{key}: {m}"
        )


@pytest.mark.parametrize("path", manifests("od_vae.json"), ids=lambda path: path.name)
def test_keys_shapes_and_parameters_are_those_of_the_released_model(path):
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = ODVAE(read_config(manifest["config"]))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == manifest["keys"]
    assert read_config(manifest["config"]) == ODVAEConfig()
    assert sum(p.numel() for p in model.parameters()) == manifest["param_counts"]["total"]


def test_a_config_of_another_network_is_refused_by_name():
    assert read_config(SMALL) == ODVAEConfig(width=32, multipliers=(1, 1, 1, 1), res_blocks=1)
    with pytest.raises(ValueError, match="encoder_attention': 'AttnBlock3D'"):
        read_config({**SMALL, "encoder_attention": "AttnBlock3D"})
    with pytest.raises(ValueError, match="hidden_size_mult"):
        read_config({**SMALL, "hidden_size_mult": [1, 2, 4]})


@pytest.mark.parametrize(
    ("length", "chunk", "reach", "expected"),
    [  # 33 frames, 9 latents: the cuts that the released loops make
        (33, 29, 0, [(0, 29), (28, 33)]),
        (9, 8, 0, [(0, 8), (7, 9)]),
        (33, 9, 4, [(0, 13), (8, 21), (16, 29), (24, 33)]),
        (9, 3, 1, [(0, 4), (2, 6), (4, 8), (6, 9)]),
        (9, 9, 4, [(0, 9)]),
        (1, 9, 4, [(0, 1)]),
    ],
)
def test_time_is_cut_as_published(length, chunk, reach, expected):
    assert time_chunks(length, chunk, reach) == expected


@torch.no_grad()
@pytest.mark.parametrize("preset", odvae.TILINGS)
def test_tiling_puts_every_chunk_where_it_belongs(preset, monkeypatch):
    """With a network that looks at one position only, block-wise is whole; at 256 pixels a residual tile of 32 is run too."""
    sizes = []

    def encode(x):
        sizes.append(x.shape[3])
        return torch.nn.functional.avg_pool2d(x[:, :1, ::4].flatten(1, 2), 8).unsqueeze(1)

    def decode(z):
        later = z[:, :, 1:].repeat_interleave(4, dim=2)
        video = torch.cat([z[:, :, :1], later], dim=2)
        return video.repeat_interleave(8, dim=3).repeat_interleave(8, dim=4)

    model = ODVAE(read_config(SMALL))
    monkeypatch.setattr(model, "_encode", encode)
    monkeypatch.setattr(model, "_decode", decode)
    size, latent_size, frames, latent_frames, shared = odvae.TILINGS[preset]
    tiling = Tiling(size, latent_size, frames, latent_frames, shared=shared)
    x = torch.rand(1, 3, 37, 256, 8, generator=torch.Generator().manual_seed(0))
    z = model.encode(x)
    torch.testing.assert_close(model.encode(x, tiling), z)
    torch.testing.assert_close(model.decode(z, tiling), model.decode(z))
    assert sizes[1:3] == ([256, 32] if size == 256 else [256, 256])


@torch.no_grad()
def test_a_tiling_that_holds_the_whole_video_changes_nothing():
    model = network(ODVAEConfig(width=32), torch.float32)
    x = torch.rand(1, 3, 5, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tiling = Tiling(size=32, latent_size=4, frames=9, latent_frames=3)
    moments = model.encode(x, tiling)
    assert torch.equal(moments, model.encode(x))
    z = moments.chunk(2, dim=1)[0]
    assert torch.equal(model.decode(z, tiling), model.decode(z))


def test_every_parameter_gets_a_gradient():
    model = ODVAE(ODVAEConfig(width=32, multipliers=(1, 1, 2, 2), res_blocks=1))
    x = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    moments = model.encode(x)
    (model.decode(moments.chunk(2, dim=1)[0]).square().sum() + moments.square().sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def video(frames: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, frames, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("mode", odvae.VARIANTS["1.2"].modes)
def test_every_mode_keeps_the_promises_of_the_spec(mode):
    vae = adapters.load("odvae/tiny", mode=mode)
    for frames in (1, 13, 35):  # 35 is padded to 37, longer than any chunk
        x = video(frames)
        reconstruction, _ = reconstruct(vae, x)
        assert reconstruction.shape == x.shape
        assert reconstruction.dtype == torch.float32


def test_only_the_tiled_modes_differ_from_whole():
    x = video(37)
    whole = adapters.load("odvae/tiny", mode="whole").encode(x).mean
    for mode in odvae.VARIANTS["1.2"].modes:
        same = torch.equal(adapters.load("odvae/tiny", mode=mode).encode(x).mean, whole)
        assert same == (mode in ("whole", "native"))


def test_an_unknown_mode_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"'streamed'.*osp12-save-memory"):
        adapters.load("odvae/tiny", mode="streamed")


def test_norms_over_time_make_the_encoder_look_ahead():
    vae = adapters.load("odvae/tiny")
    x = video(9)
    later = torch.cat([x[:, :, :5], video(4, seed=1)], dim=2)
    assert not torch.allclose(vae.encode(x).mean[:, :, :2], vae.encode(later).mean[:, :, :2])
    assert not vae.spec.causal


@pytest.mark.parametrize("layout", ["averaged", "generator", "plain", "flat"])
def test_all_layouts_of_the_released_checkpoint_load(layout, tmp_path):
    with torch.device("meta"):
        state = ODVAE(read_config(SMALL)).state_dict()
    state = rebuild(state)
    stale = {key: value * 0 for key, value in state.items()}
    contents = {
        "averaged": {
            "ema_state_dict": {"module." + key: value for key, value in state.items()},
            "state_dict": {"gen_model": stale},
        },
        "generator": {"ema_state_dict": {}, "state_dict": {"gen_model": state, "dis_model": stale}},
        "plain": {"state_dict": {**state, "loss.logvar": torch.zeros(())}, "epoch": 3},
        "flat": state,
    }
    torch.save(contents[layout], tmp_path / "checkpoint.ckpt")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    vae = adapters.load("odvae/1.2", weights=str(tmp_path))
    x = video(5)
    expected = network(read_config(SMALL), torch.float32).encode(x).chunk(2, dim=1)[0]
    assert torch.equal(vae.encode(x).mean, expected)


def test_a_checkpoint_that_does_not_fit_is_refused_with_its_keys(tmp_path):
    with torch.device("meta"):
        state = ODVAE(read_config(SMALL)).state_dict()
    state = rebuild(state)
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    del state["encoder.conv_in.bias"]
    state["decoder.up.9.block.0.norm1.weight"] = torch.zeros(32)
    state["post_quant_conv.conv.weight"] = torch.zeros(5, 4, 1, 1, 1)
    torch.save(state, tmp_path / "checkpoint.ckpt")
    with pytest.raises(
        ValueError,
        match=r"1 missing: encoder\.conv_in\.bias.*1 unexpected: decoder\.up\.9.*\(5, 4, 1, 1, 1\)",
    ):
        adapters.load("odvae/1.2", weights=str(tmp_path / "checkpoint.ckpt"))


@pytest.mark.parametrize("path", manifests("manifests/od_vae.json"), ids=lambda path: path.name)
def test_the_released_keys_load_without_a_config_beside_them(path, tmp_path):
    keys = json.loads(path.read_text())["keys"]
    state = {key: torch.zeros(()).expand(shape) for key, shape in keys.items()}  # a file of a few kilobytes
    torch.save(state, tmp_path / "checkpoint.ckpt")
    vae = adapters.load("odvae/1.2", weights=str(tmp_path))
    assert sum(p.numel() for p in vae.model.parameters()) == vae.spec.parameters == 239_189_991


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(OSError, match=r"checkpoint\.ckpt"):
        adapters.load("odvae/1.2", weights=str(tmp_path))

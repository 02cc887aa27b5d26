"""OD-VAE against the released code: whole and block-wise outputs, keys, shapes, parameter counts, piece arithmetic."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch

from adapters._nets.odvae import ODVAE, RELEASED_BLOCKS, ODVAEConfig, Tiling, pieces, read_config
from tests.goldens_io import Golden, goldens, manifests, rebuild

GOLDENS = goldens(lambda metadata: metadata.get("model") == "od_vae")
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-5}


@cache
def network(config: ODVAEConfig, dtype: torch.dtype) -> ODVAE:
    model = ODVAE(config).to(dtype).eval().requires_grad_(False)
    model.load_state_dict(rebuild(model.state_dict()))
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
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_outputs_are_those_of_the_released_code(golden: Golden, dtype: torch.dtype):
    model = network(read_config(golden.json("config")), dtype)
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
    released = {**RELEASED_BLOCKS, "hidden_size": 32, "hidden_size_mult": [1, 2, 4, 4], "num_res_blocks": 2}
    released |= {"embed_dim": 4, "z_channels": 4}
    assert read_config(released) == ODVAEConfig(width=32)
    with pytest.raises(ValueError, match="AttnBlock3D"):
        read_config({**released, "encoder_attention": "AttnBlock3D"})
    with pytest.raises(ValueError, match="hidden_size_mult"):
        read_config({**released, "hidden_size_mult": [1, 2, 4]})


@pytest.mark.parametrize(
    ("length", "piece", "reach", "expected"),
    [  # 33 frames, 9 latents: the cuts that the released loops make
        (33, 29, 0, [(0, 29), (28, 33)]),
        (9, 8, 0, [(0, 8), (7, 9)]),
        (33, 9, 4, [(0, 13), (8, 21), (16, 29), (24, 33)]),
        (9, 3, 1, [(0, 4), (2, 6), (4, 8), (6, 9)]),
        (9, 9, 4, [(0, 9)]),
        (1, 9, 4, [(0, 1)]),
    ],
)
def test_time_is_cut_as_published(length, piece, reach, expected):
    assert pieces(length, piece, reach) == expected


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
    model = ODVAE(ODVAEConfig(width=32)).requires_grad_(True)
    x = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    moments = model.encode(x)
    (model.decode(moments.chunk(2, dim=1)[0]).square().sum() + moments.square().sum()).backward()
    assert [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ] == []

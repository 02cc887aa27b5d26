"""CV-VAE against outputs of the official code: moments and reconstructions, whole and block-wise; keys; strict loading."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from torch import Tensor

from adapters._nets.checkpoint import load_strict
from adapters._nets.cvvae import CVVAE, SD3, Blocks, CVVAEConfig, published_name
from tests.goldens_io import Golden, draw, goldens, manifests

MODELS = ("cv_vae", "cv_vae_sd3")
GOLDENS = goldens(lambda metadata: metadata.get("model") in MODELS)


def config_of(released: dict) -> CVVAEConfig:
    if "ch" in released:
        channels = tuple(released["ch"] * multiple for multiple in released["ch_mult"])
        return CVVAEConfig(channels, released["z_channels"], released["num_res_blocks"])
    return CVVAEConfig(
        tuple(released["block_out_channels"]),
        released["out_channels"],
        released["layers_per_block"],
        sd3=True,
    )


def blocks_of(released: dict) -> Blocks:
    return Blocks(
        released["en_de_n_frames_a_time"], released["tile_spatial_size"], released["tile_overlap_ratio"]
    )


def shapes_of(model: CVVAE) -> dict[str, list[int]]:
    return {published_name(key, model.config): list(value.shape) for key, value in model.state_dict().items()}


@cache
def build(config: CVVAEConfig, dtype: torch.dtype) -> CVVAE:
    with torch.device("meta"):
        model = CVVAE(config)
    state = {key: draw(key, shape) for key, shape in shapes_of(model).items()}
    load_strict(model, state, "the goldens' weights", lambda key: published_name(key, config))
    return model.to(dtype)


def outputs(golden: Golden, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """Every (ours, theirs) pair of the file."""
    released = golden.json("config")
    model, blocks = build(config_of(released), dtype), blocks_of(released)
    tensors = golden.tensors(dtype)
    x = tensors["x"]
    if x.ndim == 4:  # an image is a video of one frame
        x, tensors["rec"] = x.unsqueeze(2), tensors["rec"].reshape(x.unsqueeze(2).shape)
    with torch.no_grad():
        moments = model.encode(x, blocks)
        ours = {
            "moments": moments,
            "mode": moments.chunk(2, dim=1)[0],
            "rec": model.decode(tensors["z"], blocks),
        }
        if "moments_direct" in tensors:
            ours |= {"moments_direct": model.encode(x), "rec_direct": model.decode(tensors["z"])}
    assert tensors.keys() - ours.keys() == {"x", "z"}
    return {name: (ours[name], tensors[name]) for name in ours}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-5)], ids=str)
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_outputs_are_those_of_the_official_code(golden, dtype, tolerance):
    for name, (ours, theirs) in outputs(golden, dtype).items():
        torch.testing.assert_close(
            ours, theirs, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_goldens_are_there():
    assert {golden.metadata["model"] for golden in GOLDENS} == set(MODELS)


RELEASED = {"cv_vae": CVVAEConfig(), "cv_vae_sd3": SD3}


@pytest.mark.parametrize("file", manifests("manifests/cv_vae*.json"), ids=lambda file: file.stem)
def test_the_released_network_has_the_keys_shapes_and_counts_of_the_manifest(file):
    manifest = json.loads(file.read_text())
    config = RELEASED[manifest["model"]]
    assert config_of(manifest["config"]) == config
    assert blocks_of(manifest["config"]) == Blocks()
    with torch.device("meta"):
        model = CVVAE(config)
    assert shapes_of(model) == manifest["keys"]
    parts = {"encoder": model.encoder, "decoder": model.decoder, "total": model}
    counts = {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}
    assert counts == manifest["param_counts"]

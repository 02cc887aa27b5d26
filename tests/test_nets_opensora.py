"""Open-Sora 1.2's VAE against outputs of the official code: both halves, whole and in pieces; keys; strict loading."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from torch import Tensor

from adapters._nets.checkpoint import load_strict
from adapters._nets.opensora import OpenSoraConfig, OpenSoraVAE
from tests.goldens_io import Golden, draw, goldens, in_precisions, manifests

TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-5}
GOLDENS = goldens(lambda metadata: metadata.get("model") == "open_sora_vae_v1_2")


def config_of(spatial: dict, temporal: dict) -> OpenSoraConfig:
    return OpenSoraConfig(
        tuple(spatial["block_out_channels"]),
        tuple(temporal["filters"] * multiple for multiple in temporal["channel_multipliers"]),
        num_blocks=temporal["num_res_blocks"],
        spatial_blocks=spatial["layers_per_block"],
        latent_channels=temporal["embed_dim"],
    )


@cache
def build(config: OpenSoraConfig, dtype: torch.dtype, salt: str) -> OpenSoraVAE:
    with torch.device("meta"):
        model = OpenSoraVAE(config)
    state = {key: draw(key, value.shape, salt) for key, value in model.state_dict().items()}
    load_strict(model, state, "the goldens' weights")
    return model.to(dtype)


def outputs(golden: Golden, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """Every (ours, theirs) pair of the file."""
    released = golden.json("config")
    model, piece = (
        build(config_of(released["vae_2d"], released["vae_temporal"]), dtype, golden.salt),
        released["micro_frame_size"],
    )
    tensors = golden.tensors(dtype)
    scale, shift = tensors["scale"], tensors["shift"]
    x, num_frames = tensors["x"], tensors["x"].shape[2]
    with torch.no_grad():
        moments = model.encode(x, piece, tensors.get("eps_spatial"))
        mean, logvar = moments.chunk(2, dim=1)
        z = mean + (0.5 * logvar).exp() * tensors["eps_temporal"] if "eps_temporal" in tensors else mean
        ours = {
            "spatial_moments": model.spatial_moments(x),
            "moments": moments,
            "mode": mean,
            "latent": (z - shift) / scale,
            "z_raw": tensors["z"] * scale + shift,
            "rec": model.decode(tensors["z"] * scale + shift, num_frames, piece),
        }
        if "moments_direct" in tensors:
            ours["moments_direct"] = model.encode(x, None)
            ours["latent_direct"] = (ours["moments_direct"].chunk(2, dim=1)[0] - shift) / scale
            ours["rec_direct"] = model.decode(tensors["z_direct"] * scale + shift, num_frames, None)
    return {name: (ours[name], tensors[name]) for name in ours}


@pytest.mark.parametrize(("golden", "dtype"), in_precisions(GOLDENS), ids=str)
def test_outputs_are_those_of_the_official_code(golden, dtype):
    # `latent` is divided by the scale of its channel; the recipe draws one of -0.016, which amplifies it 63 times
    smallest = float(golden.tensors()["scale"].abs().min())
    for name, (ours, theirs) in outputs(golden, dtype).items():
        latent = name.startswith("latent")
        rtol, atol = (1e-6 if latent else 0.0), TOLERANCE[dtype] / (min(1.0, smallest) if latent else 1)
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


def test_goldens_are_there():
    assert GOLDENS


@pytest.mark.parametrize("file", manifests("manifests/open_sora_vae_v1_2.json"), ids=str)
def test_the_released_network_has_the_keys_shapes_and_counts_of_the_manifest(file):
    manifest = json.loads(file.read_text())
    with torch.device("meta"):
        model = OpenSoraVAE(OpenSoraConfig())
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == manifest["keys"]
    kl, temporal = model.kl, model.temporal_vae
    ours = {
        "spatial_encoder(+quant_conv)": count(kl.encoder, kl.quant_conv),
        "spatial_decoder(+post_quant_conv)": count(kl.decoder, kl.post_quant_conv),
        "temporal_encoder(+quant_conv)": count(temporal.encoder, temporal.quant_conv),
        "temporal_decoder(+post_quant_conv)": count(temporal.decoder, temporal.post_quant_conv),
        "total": count(model),
    }
    assert ours == manifest["param_counts"]


def count(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())

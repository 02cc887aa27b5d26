"""CV-VAE against outputs of the official code: moments and reconstructions, whole and block-wise; keys; strict loading."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from torch import Tensor

from adapters._nets.checkpoint import load_strict
from adapters._nets.cvvae import CVVAE, SD3, Blocks, CVVAEConfig, published_name, read_config, tiled
from tests.goldens_io import Golden, draw, goldens, in_precisions, manifests

MODELS = ("cv_vae", "cv_vae_sd3")
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-5}
GOLDENS = goldens(lambda metadata: metadata.get("model") in MODELS)


def shapes_of(model: CVVAE) -> dict[str, list[int]]:
    return {published_name(key, model.config): list(value.shape) for key, value in model.state_dict().items()}


@cache
def build(config: CVVAEConfig, dtype: torch.dtype, salt: str) -> CVVAE:
    with torch.device("meta"):
        model = CVVAE(config)
    state = {key: draw(key, shape, salt) for key, shape in shapes_of(model).items()}
    load_strict(model, state, "the goldens' weights", lambda key: published_name(key, config))
    return model.to(dtype)


def outputs(golden: Golden, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """Every (ours, theirs) pair of the file."""
    released = golden.json("config")
    config = read_config(released)
    model = build(config, dtype, golden.salt)
    tensors = golden.tensors(dtype)
    x = tensors["x"]
    if x.ndim == 4:  # an image is a video of one frame
        x, tensors["rec"] = x.unsqueeze(2), tensors["rec"].reshape(x.unsqueeze(2).shape)
    with torch.no_grad():
        moments = model.encode(x, config.blocks)
        ours = {
            "moments": moments,
            "mode": moments.chunk(2, dim=1)[0],
            "rec": model.decode(tensors["z"], config.blocks),
        }
        if "moments_direct" in tensors:
            ours |= {"moments_direct": model.encode(x), "rec_direct": model.decode(tensors["z"])}
    assert tensors.keys() - ours.keys() == {"x", "z"}
    return {name: (ours[name], tensors[name]) for name in ours}


@pytest.mark.parametrize(("golden", "dtype"), in_precisions(GOLDENS), ids=str)
def test_outputs_are_those_of_the_official_code(golden, dtype):
    for name, (ours, theirs) in outputs(golden, dtype).items():
        torch.testing.assert_close(
            ours, theirs, rtol=0, atol=TOLERANCE[dtype], msg=lambda text, name=name: f"{name}: {text}"
        )


def test_goldens_are_there():
    assert {golden.metadata["model"] for golden in GOLDENS} == set(MODELS)


RELEASED = {"cv_vae": CVVAEConfig(), "cv_vae_sd3": SD3}


@pytest.mark.parametrize("file", manifests("manifests/cv_vae*.json"), ids=lambda file: file.stem)
def test_the_released_network_has_the_keys_shapes_and_counts_of_the_manifest(file):
    manifest = json.loads(file.read_text())
    config = RELEASED[manifest["model"]]
    assert read_config(manifest["config"]) == config
    with torch.device("meta"):
        model = CVVAE(config)
    assert shapes_of(model) == manifest["keys"]
    parts = {"encoder": model.encoder, "decoder": model.decoder, "total": model}
    counts = {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}
    assert counts == manifest["param_counts"]


def test_a_config_of_another_network_is_refused():
    with pytest.raises(ValueError, match=r"not the network of CV-VAE.*causal_decoder"):
        read_config({"ch": 32, "causal_decoder": True})


@pytest.mark.parametrize("config", [CVVAEConfig((32,) * 4), CVVAEConfig((32,) * 4, 16, sd3=True)], ids=["sd2.1", "sd3"])
def test_a_key_missing_extra_or_misshapen_is_an_error_that_lists_it(config):
    with torch.device("meta"):
        model = CVVAE(config)
    state = {key: torch.empty(shape) for key, shape in shapes_of(model).items()}
    last = "encoder.conv_norm_out.bias" if config.sd3 else "encoder.norm_out.bias"
    del state[last]
    state["encoder.extra"] = torch.zeros(1)
    state["decoder.conv_in.bias"] = torch.zeros(7)
    with pytest.raises(ValueError, match=r"somewhere\.bin does not fit CVVAE") as error:
        load_strict(model, state, "somewhere.bin", lambda key: published_name(key, config))
    text = str(error.value)
    assert f"1 missing: {last}" in text
    assert "1 unexpected: encoder.extra" in text
    assert "1 of another shape: decoder.conv_in.bias (7,), expected (32,)" in text


def test_tiles_are_cross_faded_from_above_then_from_the_left():
    """By the weights in closed form: a tile that only knows where it was cut shows how the pieces were mixed."""
    blocks = Blocks(frames=None, tile=72)  # stride 56, so 16 pixels are cross-faded: 2 of 9 latents
    cuts = iter(range(4))

    def run(x: Tensor) -> Tensor:  # the n-th tile is all n
        return torch.full((*x.shape[:3], x.shape[3] // 8, x.shape[4] // 8), float(next(cuts)))

    joined = tiled(run, blocks, blocks.tile, 1 / 8)(torch.zeros(1, 1, 1, 88, 104))[0, 0, 0]
    assert joined.shape == (11, 13)
    assert next(cuts, None) is None  # two rows of two tiles, and no residual ones
    ramp = torch.cat([torch.zeros(7), torch.tensor([0.0, 0.5]), torch.ones(4)])  # share of the later tile
    down, right = ramp[:11, None], ramp[None, :13]
    # tile 3 takes from tile 1, which has tile 0 mixed in already, and from tile 2
    one, two = right * 1, down * 2
    expected = (1 - right) * two + right * ((1 - down) * one + down * 3)
    expected[:7] = one
    torch.testing.assert_close(joined, expected)

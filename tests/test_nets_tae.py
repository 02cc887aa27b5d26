"""TAESD and TAEHV against the official code: outputs, keys, shapes, parameters; any cut of a stream; real weights."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import adapters
from adapters import taehv, taesd
from adapters._nets.taehv import TAEHV
from adapters._nets.taesd import TAESD
from tests.goldens_io import Golden, goldens, manifests, rebuild
from vaebench import plugins, weights
from vaebench.video import to_model, to_score
from vaebench.weights import github

FORMAT = "vaebench-tae-golden/1"
GOLDENS = goldens(
    lambda metadata: metadata.get("format") == FORMAT and metadata["model"] != "cross" and "weights" not in metadata
)
REAL = [  # the weights lie beside the golden files, where they are at all
    golden
    for golden in goldens(lambda metadata: metadata.get("format") == FORMAT and "weights" in metadata)
    if (golden.path.parents[4] / "weights" / "taef2_encoder.pth").is_file()
]
MANIFESTS = manifests("manifests/tae*.json")
IMAGE = {"taesd": "sd", "taesdxl": "sdxl", "taesd3": "sd3", "taef1": "flux1", "taef2": "flux2", "taesana": "sana"}


def build(model: str) -> TAESD | TAEHV:
    """The network of a released file, without the ending of its name."""
    return TAESD(taesd.config_of(IMAGE[model])) if model in IMAGE else TAEHV(taehv.config_of(model))


@cache
def network(model: str, dtype: torch.dtype, salt: str) -> nn.Module:
    net = build(model).to(dtype).eval().requires_grad_(False)
    net.load_state_dict(rebuild(net.state_dict(), salt))
    return net


def salt_of(golden: Golden) -> str:
    return golden.json("case")["salt"]


def test_there_are_golden_files_and_manifests():
    assert GOLDENS
    assert MANIFESTS


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_outputs_are_those_of_the_official_code(golden: Golden, dtype: torch.dtype):
    net = network(golden.metadata["model"], dtype, salt_of(golden))
    stored = golden.tensors(dtype)
    atol = 1e-6 if dtype == torch.float64 else 1e-4
    pixels = stored["pixels"].to(dtype) / 255
    torch.testing.assert_close(net.encode(pixels), stored["latent"], rtol=0, atol=atol)
    for source, name in (("latent", "rec"), ("z", "dec")):
        if name in stored:
            torch.testing.assert_close(net.decode(stored[source]), stored[name], rtol=0, atol=atol)
    if hasattr(net, "decode_stream"):  # TAEHV by the frames of one latent, which is the same
        torch.testing.assert_close(net.encode(pixels, chunk=1), stored["latent"], rtol=0, atol=atol)
        if "dec" in stored:
            torch.testing.assert_close(net.decode(stored["z"], chunk=1), stored["dec"], rtol=0, atol=atol)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_keys_shapes_parameters_and_sources_are_those_of_the_release(path: Path):
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = build(manifest["model"])
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    halves = ("encoder", "decoder")
    bare = {f"{half}.{key}": shape for half in halves for key, shape in manifest.get(half, {}).items()}
    assert found == manifest.get("state", bare)
    for half in halves:
        assert sum(p.numel() for p in getattr(model, half).parameters()) == manifest["parameters"][half]
    spec = taesd.VARIANTS[IMAGE[path.stem]] if path.stem in IMAGE else taehv.VARIANTS[path.stem]
    assert spec.parameters == sum(manifest["parameters"].values())
    assert spec.compression == "x".join(map(str, manifest["compression"]))
    assert spec.latent_channels == manifest["latent_channels"]
    assert [(file.path, file.commit) for file in github.parse(spec.source)] == [
        (name, manifest["official"]) for name in manifest["files"]
    ]
    assert {file.path: file.blob for file in github.parse(spec.source)} == manifest["git_blobs"]


@torch.no_grad()
@pytest.mark.parametrize(("name", "channels"), [("sd", 4), ("sd3", 16)])
def test_the_layout_of_the_hub_is_read(name: str, channels: int, tmp_path: Path):
    """diffusers' AutoencoderTiny, as madebyollin/taesd and its like on the Hub hold it."""
    from diffusers import AutoencoderTiny

    theirs = AutoencoderTiny(latent_channels=channels).eval()
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        parameter.normal_(std=0.05)
    save_file(theirs.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    ours = adapters.load(f"taesd/{name}", weights=str(tmp_path / "diffusion_pytorch_model.safetensors"))
    video = torch.rand(1, 3, 1, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent = ours.encode(video).mode()
    torch.testing.assert_close(latent[:, :, 0], theirs.encode(video[:, :, 0]).latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ours.decode(latent)[:, :, 0], theirs.decode(latent[:, :, 0]).sample, rtol=1e-4, atol=1e-4
    )


def latents_of(frames: int, rule: str) -> int:
    return 5 * -(-frames // 17) - 3 if rule == "chunks" else -(-frames // 4)


@pytest.mark.parametrize("variant", ["taew2_1", "taecvx", "taeh3", "taew2_2_super"])
@given(frames=st.integers(1, 24), cuts=st.lists(st.integers(1, 23), max_size=5))
@settings(max_examples=15, deadline=None)
@torch.no_grad()
def test_any_cut_of_a_stream_gives_the_whole(variant: str, frames: int, cuts: list[int]):
    net = taehv.tiny(variant=variant, dtype=torch.float64).model
    side = 8 * net.config.patch
    generator = torch.Generator().manual_seed(frames)
    x = torch.rand(1, 3, frames, side, 2 * side, generator=generator, dtype=torch.float64)
    latent = net.encode(x)
    assert latent.shape[2] == latents_of(frames, net.config.rule)
    found = torch.cat(list(net.encode_stream(cut(x, cuts))), dim=2)
    torch.testing.assert_close(found, latent, rtol=0, atol=1e-12)
    if variant == "taecvx" and latent.shape[2] % 2 == 0:
        assert net.decode(latent).shape[2] == 4 * latent.shape[2]
        with pytest.raises(ValueError, match=f"odd number of frames, got {latent.shape[2]}"):
            list(net.decode_stream(cut(latent, cuts)))
        return
    video = net.decode(latent)
    torch.testing.assert_close(torch.cat(list(net.decode_stream(cut(latent, cuts))), dim=2), video, rtol=0, atol=1e-12)


def cut(x: Tensor, at: list[int]) -> list[Tensor]:
    inside = sorted({place for place in at if place < x.shape[2]})
    return list(x.tensor_split(inside, dim=2))


def test_h3_refuses_a_number_of_latents_that_no_video_has():
    vae = taehv.tiny(variant="taeh3")
    with pytest.raises(ValueError, match=r"a latent has 5k\+2 frames, got 3"):
        vae.decode(torch.zeros(1, 24, 3, 1, 1))


@torch.no_grad()
def test_the_encoder_looks_ahead_to_the_end_of_the_frames_of_a_latent_and_no_further():
    for variant, ratio in (("taew2_1", 4), ("taeltx_2", 8)):
        net = taehv.tiny(variant=variant, dtype=torch.float64).model
        side = 8 * net.config.patch
        x = torch.rand(1, 3, 3 * ratio + 1, side, side, generator=torch.Generator().manual_seed(0)).double()
        before = net.encode(x)
        for frame in range(ratio, 3 * ratio):
            changed = x.clone()
            changed[:, :, frame] = 1 - changed[:, :, frame]
            moved = (net.encode(changed) - before).abs().amax(dim=(0, 1, 3, 4)) > 0
            assert moved.tolist()[: frame // ratio + 1] == [False] * (frame // ratio) + [True]


@torch.no_grad()
@pytest.mark.parametrize("golden", REAL, ids=str)
def test_the_real_weights_of_flux2_give_what_they_gave_the_official_code(golden: Golden):
    folder = str(golden.path.parents[4] / "weights")
    spec = taesd.VARIANTS["flux2"]
    digests = {file.name: weights.digest(file) for file in weights.find_all(spec.source, folder)}
    assert digests == golden.json("weights")
    vae = adapters.load("taesd/flux2", weights=folder)
    stored = golden.tensors()
    video = to_model(stored["pixels"])
    latent = vae.encode(video).mode()
    torch.testing.assert_close(latent, stored["latent"], rtol=0, atol=1e-4)
    reconstruction = vae.decode(latent)
    torch.testing.assert_close((reconstruction + 1) / 2, stored["rec"], rtol=0, atol=1e-4)
    for metric in ("psnr", "ssim"):
        measured = plugins.find("metrics", metric).build("cpu").measure(to_score(video), to_score(reconstruction))
        assert float(measured.mean()) == pytest.approx(float(golden.metadata[metric]), abs=2e-3)

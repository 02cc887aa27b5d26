"""Adapters through diffusers against the authors' own code: `whole` and `native` give the numbers of the release."""

from __future__ import annotations

import re
from ast import literal_eval

import pytest
import torch
from torch import Tensor

from adapters import cogvideox, hunyuanvideo, mochi
from adapters._diffusers import DiffusersVAE
from tests.goldens_io import Golden, in_precisions
from tests.originals import GOLDENS, adapter, tolerance

CASES = in_precisions(GOLDENS)
COMMITTED = {"cogvideox", "hunyuanvideo", "mochi", "wan"}  # below tests/goldens, so in every clone
NO_TILES_HERE = "allegro"  # its released tiles are of 24x320x320: 600 times the goldens' videos


def of(family: str, tensor: str = "") -> list[tuple[Golden, torch.dtype]]:
    return [
        (golden, dtype)
        for golden, dtype in CASES
        if golden.metadata["family"] == family and (not tensor or tensor in golden.tensors())
    ]


def encoded(golden: Golden, end: str = "") -> dict[str, Tensor]:
    """ "mean" and, where the network has one, "logvar" of the authors' encoder."""
    stored = golden.tensors()
    if "latent" in stored:
        return {"mean": stored["latent"]}
    if "mean" in stored:
        return {"mean": stored["mean"], "logvar": stored["logvar"].expand_as(stored["mean"])}
    return dict(zip(("mean", "logvar"), stored[f"moments{end}"].chunk(2, dim=1), strict=True))


def decoded(golden: Golden, end: str = "") -> Tensor:
    stored = golden.tensors()
    for name in (f"rec{end}", "rec", "rec_t0"):  # "rec_blocks" is only there where it differs
        if name in stored:
            return stored[name]
    raise AssertionError(f"{golden} holds no output of a decoder")


def differences(golden: Golden, vae: DiffusersVAE, *, encode: str = "", decode: str = "") -> dict[str, float]:
    """The largest difference of the mean, the log-variance and the video, each divided by its tolerance."""
    stored = golden.tensors()
    q, theirs = vae.encode(stored["x"]), encoded(golden, encode)
    pairs = {"mean": (q.mean, theirs["mean"])}
    if "logvar" in theirs:
        assert q.logvar is not None
        pairs["logvar"] = (q.logvar.expand_as(q.mean), theirs["logvar"])
    video = decoded(golden, decode)
    pairs["rec"] = (vae.decode(stored["z"]), video.clamp(-1, 1) if vae.spec.clamps else video)
    for ours, their in pairs.values():
        assert ours.shape == their.shape
    return {
        part: float((ours - their).abs().max()) / tolerance(golden, part, vae.dtype)
        for part, (ours, their) in pairs.items()
    }


@pytest.mark.parametrize("mode", ["whole", "native"])
@pytest.mark.parametrize(("golden", "dtype"), CASES, ids=str)
@pytest.mark.filterwarnings("ignore:.* in torch.float64")
def test_whole_and_native_are_the_authors_code(golden, dtype, mode):
    if golden.metadata["family"] == NO_TILES_HERE and mode == "native":
        pytest.skip("its tiles have a test of their own, with smaller ones")
    blocks = "_blocks" if mode == "native" else ""
    assert max(differences(golden, adapter(golden, dtype, mode), decode=blocks).values()) < 1


def test_goldens_are_there():
    assert {golden.metadata["family"] for golden in GOLDENS} >= COMMITTED


@pytest.mark.parametrize(("golden", "dtype"), of("mochi"), ids=str)
def test_diffusers_decodes_mochi_by_another_function(golden, dtype):
    """The mode of that name is the class of the library as it is; only the encoder is the authors'."""
    vae = adapter(golden, dtype, "diffusers")
    found = differences(golden, vae)
    assert max(found["mean"], found["logvar"]) < 1
    assert found["rec"] * tolerance(golden, "rec", dtype) > 1  # the videos have a deviation of 1 to 2
    z = golden.tensors(dtype)["z"]
    untouched = vae.family._build(vae.model.config)
    untouched.load_state_dict(vae.model.state_dict())
    with torch.no_grad():
        assert torch.equal(vae.decode(z), untouched.to(dtype).eval().decode(z).sample.float())


def test_a_single_image_of_mochi_is_decoded_from_its_latent_alone():
    """T = 1: after each expansion by r the authors keep the last of r frames, the library the last of all."""
    latent = torch.randn(1, 12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    ours, library = mochi.tiny().decode(latent), mochi.tiny(mode="diffusers").decode(latent)
    assert ours.shape == library.shape == (1, 3, 1, 16, 16)
    assert not torch.allclose(ours, library, atol=1e-3)
    longer = torch.cat([latent, torch.randn(1, 12, 2, 2, 2, generator=torch.Generator().manual_seed(1))], dim=2)
    torch.testing.assert_close(mochi.tiny().decode(longer)[:, :, :1], ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("golden", "dtype"), of("hunyuanvideo", "rec_tiled"), ids=str)
def test_the_tiles_of_hunyuanvideo_are_the_authors(golden, dtype):
    """Their code with tiles of 16 frames is `diffusers`; `native` has their 64, so it is theirs with other numbers."""
    found = differences(golden, adapter(golden, dtype, "diffusers"), encode="_tiled", decode="_tiled")
    assert max(found.values()) < 1
    whole = differences(golden, adapter(golden, dtype, "whole"), encode="_tiled", decode="_tiled")
    assert min(whole.values()) > 1000


def test_hunyuanvideo_native_cuts_time_above_64_frames_as_its_authors_do():
    whole, native = hunyuanvideo.tiny(), hunyuanvideo.tiny(mode="native")
    video = torch.rand(1, 3, 69, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent = whole.encode(video).mean
    one, two = (whole.encode(video[:, :, first : first + 65]).mean for first in (0, 48))
    cut = native.encode(video).mean
    assert not torch.allclose(cut, latent, atol=1e-3)
    torch.testing.assert_close(cut[:, :, :13], one[:, :, :13])  # up to the stride of 48 frames, the first tile
    ramp = torch.arange(4).view(1, 1, 4, 1, 1) / 4  # 16 frames are mixed: 4 latents
    torch.testing.assert_close(cut[:, :, 13:17], one[:, :, 13:] * (1 - ramp) + two[:, :, 1:5] * ramp)
    short = video[:, :, :61]
    assert torch.equal(native.encode(short).mean, whole.encode(short).mean)
    assert torch.equal(native.decode(latent[:, :, :16]), whole.decode(latent[:, :, :16]))
    model = native.model
    assert (model.tile_sample_min_height, model.tile_sample_stride_height) == (256, 192)


@pytest.mark.parametrize(("golden", "dtype"), of("cogvideox", "rec_blocks"), ids=str)
def test_diffusers_encodes_cogvideox_in_blocks_and_its_authors_do_not(golden, dtype):
    found = differences(golden, adapter(golden, dtype, "diffusers"), decode="_blocks")
    assert found["rec"] < 1
    assert found["mean"] * tolerance(golden, "mean", dtype) > 0.1


def test_cogvideox_native_encodes_as_whole_and_decodes_as_diffusers():
    video = torch.rand(1, 3, 25, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent = {mode: cogvideox.tiny(mode=mode).encode(video).mean for mode in ("whole", "native", "diffusers")}
    assert torch.equal(latent["native"], latent["whole"])
    assert not torch.allclose(latent["native"], latent["diffusers"], atol=1e-3)
    decoded = {mode: cogvideox.tiny(mode=mode).decode(latent["whole"]) for mode in ("whole", "native", "diffusers")}
    assert torch.equal(decoded["native"], decoded["diffusers"])
    assert not torch.allclose(decoded["native"], decoded["whole"], atol=1e-3)


@pytest.mark.parametrize(("golden", "dtype"), of("allegro", "rec_tiled"), ids=str)
def test_the_tiles_of_allegro_are_the_authors(golden, dtype):
    vae = adapter(golden, dtype, "native")
    note = re.search(r"kernel, stride = (\(.*?\)\))", golden.metadata["note"])
    assert note
    vae.model.kernel, vae.model.stride = literal_eval(note[1])
    assert max(differences(golden, vae, encode="_tiled", decode="_tiled").values()) < 1

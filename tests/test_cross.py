"""Two VAEs as one: the golden conversions of latents, what is refused, and the comparison with the encoder's own decoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import adapters
from adapters import _cross, flux2, taehv, taesd
from tests.goldens_io import Golden, goldens
from tests.test_nets_tae import network
from vaebench import cli, records
from vaebench.vae import FrameRule, VAESpec

GOLDENS = goldens(lambda metadata: metadata.get("model") == "cross")


def test_there_are_golden_files():
    assert GOLDENS


@torch.no_grad()
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_a_latent_of_the_parent_is_decoded_as_the_official_code_decodes_it(golden: Golden):
    tiny = golden.json("case")["tiny"]
    stored = golden.tensors(torch.float64)
    if "bn_mean" in stored:
        deviation = (stored["bn_var"] + golden.json("case")["eps"]).sqrt()
        spec = replace(
            adapters.find("flux2/dev"), shift=tuple(stored["bn_mean"].tolist()), scale=tuple((1 / deviation).tolist())
        )
        given = flux2.patches_as_channels(stored["z_raw"])
        latent = _cross.normalise_flux2(given, spec)
        torch.testing.assert_close(_cross.denormalise_flux2(latent, spec), given, rtol=0, atol=1e-12)
        assert adapters.find("taesd/flux2").latent_space == spec.latent_space
    else:
        spec = VAESpec("a", "b", 4, 8, stored["z_raw"].shape[1], causal=True)
        spec = replace(spec, scale=tuple(stored["scale"].tolist()), shift=tuple(stored["shift"].tolist()))
        latent = _cross.normalise(stored["z_raw"], spec)
        torch.testing.assert_close(_cross.denormalise(latent, spec), stored["z_raw"], rtol=0, atol=1e-12)
        parent = golden.json("case")["parent"]
        if parent in adapters.names():  # whose spec is what the golden file was made with
            own = _cross.normalise(stored["z_raw"], adapters.find(parent))
            torch.testing.assert_close(own, stored["z_tiny"], rtol=0, atol=1e-5)
            child = (taesd if tiny.startswith("taesd") else taehv).VARIANTS
            assert adapters.find(parent).latent_space in {child[v].latent_space for v in child}
    torch.testing.assert_close(latent, stored["z_tiny"], rtol=0, atol=1e-6)
    found = network(tiny, torch.float64, "").decode(latent)
    torch.testing.assert_close(found, stored["dec"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("names", [("wan/tiny", "taehv/tiny"), ("taehv/tiny", "wan/tiny")])
def test_the_decoder_reads_the_latent_of_the_encoder_in_its_own_scale(names: tuple[str, str]):
    encoder, decoder = map(adapters.load, names)
    cross = adapters.load("+".join(names))
    video = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent = cross.encode(video).mode()
    assert torch.equal(latent, encoder.encode(video).mode())
    shared = _cross.normalise(latent, encoder.spec)
    expected = decoder.decode(_cross.denormalise(shared, decoder.spec))
    torch.testing.assert_close(cross.decode(latent), expected)
    unconverted = decoder.decode(latent)
    assert (unconverted - expected).abs().max() > 1e-3  # a forgotten conversion is no error, but other pixels
    assert torch.equal(cross.own.decode(latent), encoder.decode(latent))
    assert cross.spec.name == "+".join(names)


def test_latents_of_cogvideox_are_exchanged_as_they_are():
    cross = _cross.resolve(adapters.resolve("cogvideox/5b"), adapters.resolve("taehv/taecvx"))
    vae = _cross.CrossVAE(cross.spec, adapters.load("cogvideox/tiny"), taehv.tiny(variant="taecvx"))
    latent = torch.randn(1, 16, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(vae.decode(latent), vae.decoder.decode(latent))


def test_two_vaes_without_a_common_latent_space_are_refused():
    with pytest.raises(
        ValueError, match=r"do not share a latent space \(wan/2\.1: wan-2\.1, taehv/taew2_2: wan-2\.2\)"
    ):
        adapters.resolve("wan/2.1+taehv/taew2_2")
    with pytest.raises(ValueError, match=r"do not share a latent space \(pool/4x8x8: unknown, taehv/"):
        adapters.resolve("pool/4x8x8+taehv/taew2_1")
    with pytest.raises(ValueError, match="is two VAEs: remove weights=x"):
        adapters.resolve("wan/2.1+taehv/taew2_1", "x")
    with pytest.raises(ValueError, match="taehv has no variant 'taew2_9'"):
        adapters.resolve("wan/2.1+taehv/taew2_9")


def test_every_parent_and_its_child_make_a_cross():
    pairs = [
        ("sd/ft-mse", "taesd/sd"), ("sd/xl", "taesd/sdxl"), ("sd/3", "taesd/sd3"), ("flux/1", "taesd/flux1"),
        ("flux2/dev", "taesd/flux2"), ("dcae/f32c32-sana", "taesd/sana"), ("hunyuanvideo/1.0", "taehv/taehv"),
        ("hunyuanvideo15/1.5", "taehv/taehv1_5_super"), ("wan/2.2", "taehv/taew2_2"), ("ltx2/2.0", "taehv/taeltx_2"),
    ]  # fmt: skip
    for parent, child in pairs:
        for name in (f"{parent}+{child}", f"{child}+{parent}"):
            assert adapters.find(name).name == name
    with pytest.raises(ValueError, match="share a latent space"):
        adapters.resolve("sd/xl+taesd/sd")


def test_flux2_gives_taesd_its_latent_in_patches():
    cross = adapters.resolve("flux2/dev+taesd/flux2")
    vae = _cross.CrossVAE(cross.spec, adapters.load("flux2/tiny"), taesd.tiny(variant="flux2"))
    video = torch.rand(1, 3, 2, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert vae.decode(vae.encode(video).mode()).shape == video.shape


def test_a_path_with_a_plus_is_a_path(tmp_path: Path):
    assert adapters._halves(f"odvae:{tmp_path}/a+b/last.ckpt") is None
    assert adapters._halves("wan/2.1+taehv/taew2_1") == ("wan/2.1", "taehv/taew2_1")


def test_a_cross_takes_the_lengths_that_both_take():
    h3 = adapters.find("minimaxh3/h3+taehv/taeh3")
    assert (h3.frames, h3.size_multiple, h3.latent_frames(22)) == (FrameRule(17, 5, 22), 16, 7)
    assert adapters.find("cogvideox/2b+taehv/taecvx").frames == FrameRule(8, 1)
    assert adapters.find("taehv/taeh3+minimaxh3/h3").frames == FrameRule(17, 5, 22)
    assert str(adapters.find("wan/2.1+taehv/taew2_1").frames) == "4k+1"
    assert str(adapters.find("sd/ft-mse+taesd/sd").frames) == "any"
    with pytest.raises(ValueError, match="no number of frames is legal for both"):
        _cross._common(FrameRule(4, 1), FrameRule(4, 0), "a+b")


def test_a_cross_says_what_is_missing_of_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    missing = adapters.resolve("sd/ft-mse+taesd/sd").unavailable
    assert "sd-vae-ft-mse" in missing
    assert "taesd_encoder.pth" in missing


def test_reconstruction_reports_the_loss_against_the_encoders_own_decoder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["data=synthetic", "clips=2", "num_frames=5", "size=32", "options.metrics=[psnr]"]
    names = ["taehv/tiny", "taehv/tiny+wan/tiny", "wan/tiny"]
    assert cli.main(["run", "--suite", "reconstruction", f"vaes=[{','.join(names)}]", "mode=whole", *words]) == 0
    found = {record.name: record.scores for record in records.read_all(tmp_path / "runs/results", "reconstruction")}
    loss = found["taehv/tiny+wan/tiny"]["psnr_vs_own_decoder"]
    expected = found["taehv/tiny+wan/tiny"]["psnr"].value - found["taehv/tiny"]["psnr"].value
    assert loss.value == pytest.approx(expected, abs=1e-6)
    assert loss.signed
    assert "psnr_vs_own_decoder" not in found["wan/tiny"]


@pytest.mark.usefixtures("measured_here")
def test_efficiency_reports_time_and_memory_of_decode_against_the_encoders_own(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["sizes=[32]", "frames=[5]", "max_seconds=0.1", "device=cpu"]
    assert cli.main(["run", "--suite", "efficiency", "vaes=wan/tiny+taehv/tiny", *words]) == 0
    (record,) = records.read_all(tmp_path / "runs/results", "efficiency")
    scores = {name.partition("@")[0]: score.value for name, score in record.scores.items()}
    assert 0 < scores["decode_s_vs_own_decoder"] < 10
    assert scores["decode_peak_bytes_vs_own_decoder"] > 0

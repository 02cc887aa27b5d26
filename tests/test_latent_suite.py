"""The latent suite through the command line and `evaluate`: what it reports, resumes, refuses and cannot know."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adapters
import vaebench
from vaebench import cli, records
from vaebench.latents.meanings import MEANINGS
from vaebench.latents.scores import LATENTS, of_decoder
from vaebench.vae import Posterior, VideoVAE

SMALL = ["num_frames=17", "size=64", "clips=3"]
QUICK = {"num_frames": 9, "size": 64, "clips": 3, "noise": [0.01, 0.4], "masks": [0.5]}
pytestmark = pytest.mark.usefixtures("elsewhere")


def run(*words: str) -> int:
    return cli.main(["run", "--suite", "latent", *SMALL, *words])


def record(name: str, folder: str = "runs/results") -> records.Record:
    (file,) = Path(folder, "latent").rglob(f"{name}.json")
    return records.read(file)


def load(name: str) -> VideoVAE:
    return adapters.resolve(name).load("")


class Changed:
    """A VAE with other latents: `change` after encoding, `undo` before decoding."""

    def __init__(self, vae: VideoVAE, change: Any, undo: Any) -> None:
        self.vae, self.spec, self.change, self.undo = vae, vae.spec, change, undo

    def encode(self, video: torch.Tensor) -> Posterior:
        return Posterior(self.change(self.vae.encode(video).mean))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(self.undo(latent))


def values(vae: VideoVAE) -> dict[str, float | None]:
    return {name: score.value for name, score in vaebench.evaluate(vae, "latent", **QUICK).scores.items()}


def test_the_record_of_an_orthonormal_codec_has_the_closed_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vaes=dct/8") == 0
    found = record("dct-8")
    assert found.setting == "bundle-17x64-first3"
    std = np.array(found.extra["channels"]["std"])
    # decoding is the transpose of an orthonormal matrix: 8 values for 768 pixel values of a block
    assert found.scores["noise_gain"].value == pytest.approx(np.square(std).sum() / 768, rel=0.03)
    assert found.scores["std"].value == pytest.approx(math.sqrt(np.square(std).mean()))
    assert sum(found.extra["eigenvalues"]["raw"]) == pytest.approx(np.square(std).sum())
    curve = found.extra["decoder"]
    mse = np.square(curve["noise"]) * np.square(std).sum() / 768 / 4
    assert curve["added_self"]["mean"][-1] == pytest.approx(
        -10 * math.log10(mse[-1]), abs=3
    )  # clipped at black and white
    assert len(curve["masked"]["mean"]) == 3
    assert found.scores["mask_loss_75"].value < found.scores["mask_loss_25"].value < 0
    score = found.scores["localcorr"]
    assert score.low < score.value < score.high
    assert score.n == 3
    for name in ("kl_bits_per_element", "kl_bits_per_pixel", "collapsed_channels", "noise_share"):
        assert found.scores[name].status == "not applicable"
        assert found.scores[name].note == "the VAE has no posterior variance"
    assert [score.metric for score in found.scores.values() if score.better != "neither"] == ["psnr"]
    printed = capsys.readouterr()
    assert "kl_bits_per_pixel bits" in printed.out
    assert "noise_share: the VAE has no posterior variance" in printed.err
    clips = records.read_clips(Path("runs/results"), found)
    assert np.mean([clip["localcorr"] for clip in clips.values()]) == pytest.approx(score.value)
    assert cli.main(["run", *SMALL, "vaes=dct/8", "metrics=psnr"]) == 0
    (file,) = Path("runs/results/reconstruction").rglob("dct-8.json")
    assert found.scores["psnr"].value == pytest.approx(records.read(file).scores["psnr"].value)


def test_shards_and_a_resumed_run_give_the_same_record() -> None:
    words = ["vaes=dct/4", "noise=0.1", "masks=[]"]
    assert run(*words, "runs=a", "results=a/r") == 0
    for shard in ("1/2", "0/2"):
        assert run(*words, "runs=b", "results=b/r", f"shard={shard}") == 0
    assert run(*words, "runs=b", "results=b/r2") == 0  # everything is stored
    first = record("dct-4", "a/r")
    assert first.setting == "bundle-17x64-first3-noise0.1-masks-none"
    for folder in ("b/r", "b/r2"):
        other = record("dct-4", folder)
        assert json.dumps(other.extra) == json.dumps(first.extra)
        assert other.scores == first.scores


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4)])
def test_a_run_with_other_calibration_clips_measures_noise_again(before: int, after: int) -> None:
    words = ["vaes=dct/4", "num_frames=5", "size=32", "noise=0.1", "masks=[]"]
    assert run(*words, f"clips={before}", "runs=kept", "results=kept/r1") == 0
    assert run(*words, f"clips={after}", "runs=kept", "results=kept/r2") == 0
    assert run(*words, f"clips={after}", "runs=fresh", "results=fresh/r") == 0
    assert record("dct-4", "kept/r2").scores == record("dct-4", "fresh/r").scores
    assert record("dct-4", "kept/r1").scores["noise_gain"] != record("dct-4", "fresh/r").scores["noise_gain"]


def test_without_noise_and_masks_stored_clips_serve_runs_of_any_length() -> None:
    words = ["vaes=dct/4", "num_frames=5", "size=32", "noise=", "masks=[]"]
    for clips in (2, 4):
        assert run(*words, f"clips={clips}", f"results=r{clips}") == 0
    assert record("dct-4", "r2").fingerprint == record("dct-4", "r4").fingerprint


def test_without_noise_and_masks_the_latents_are_described_and_decoded_once() -> None:
    assert run("vaes=dct/8", "num_frames=9", "noise=", "masks=[]") == 0
    found = record("dct-8")
    assert found.setting == "bundle-9x64-first3-noise-none-masks-none"
    assert found.scores["psnr"].value > 20
    assert not {"noise_gain", "sigma_3db", "rate_35db", "mask_loss_50"} & found.scores.keys()
    assert cli.main(["plot", "--format", "svg", "--only", "spectra"]) == 0
    assert cli.main(["plot", "--format", "svg", "--only", "noise_curves"]) == 2  # there is no curve


def test_scaling_shifting_and_permuting_latents_changes_no_standardized_score() -> None:
    vae = load("dct/8")
    before = values(vae)
    order = torch.tensor([3, 1, 0, 7, 6, 2, 5, 4])
    changed = Changed(vae, lambda z: 4 * z[:, order] + 2, lambda z: ((z - 2) / 4)[:, order.argsort()])
    after = values(changed)
    assert after.pop("std") == pytest.approx(4 * before.pop("std"))
    # the noise is another one after a permutation
    tolerances = {"noise_gain": 0.15, "sigma_3db": 0.1, "sigma_35db": 0.1, "rate_35db": 0.1, "mask_loss_50": 0.2}
    for name, value in before.items():
        expected = None if value is None else pytest.approx(value, rel=tolerances.get(name, 2e-4), abs=1e-5)
        assert after[name] == expected, name


def test_an_orthogonal_mixing_of_channels_keeps_raw_eigenvalues_and_loses_local_correlation_of_its_own() -> None:
    vae = load("dct/8")
    mixing = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    changed = Changed(
        vae, lambda z: torch.einsum("dc,bcthw->bdthw", mixing, z), lambda z: torch.einsum("dc,bdthw->bcthw", mixing, z)
    )
    before, after = values(vae), values(changed)
    for name in ("participation_ratio", "effective_rank", "k90", "top1", "std", "psnr"):
        assert after[name] == pytest.approx(before[name], rel=1e-4), name
    assert abs(after["participation_ratio_standardized"] - before["participation_ratio_standardized"]) > 0.1


def test_shuffled_positions_have_no_structure() -> None:
    vae = load("dct/8")
    order = torch.randperm(3 * 8 * 8, generator=torch.Generator().manual_seed(0))
    changed = Changed(
        vae,
        lambda z: z.flatten(2)[..., order].view(z.shape),
        lambda z: z.flatten(2)[..., order.argsort()].view(z.shape),
    )
    before, after = values(vae), values(changed)
    assert after["psnr"] == pytest.approx(before["psnr"])
    assert abs(after["autocorr_x"]) < abs(before["autocorr_x"]) / 2
    assert after["dct_lf"] < before["dct_lf"] - 0.1


def test_every_score_has_a_meaning_and_every_meaning_a_score() -> None:
    named = {*LATENTS, *of_decoder([0.1], [])} | {"mask_loss_N"}
    assert named == set(MEANINGS)


def test_the_help_lists_options_and_scores(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    assert "options of --suite latent:\n  noise: list[float] = 0.01,0.02," in text
    assert "scores of --suite latent:\n  Describes the latents" in text
    assert "  localcorr: local correlation of SSVAE" in text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["posterior=sample"], "the latent suite describes the posterior mean"),
        (["protocol=wfvae-paper"], "the latent suite has one protocol"),
        (["noise=0.2,0.1"], "noise=0.2,0.1 should be ascending numbers above 0"),
        (["noise=0"], "noise=0.0 should be ascending numbers above 0"),
        (["masks=0.5,1.5"], "masks=0.5,1.5 should be ascending numbers above 0, at most 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("vaes=dct/4", *words) == 2
    assert reason in capsys.readouterr().err


def test_non_finite_latents_fail_with_the_reason() -> None:
    vae = load("dct/4")
    with pytest.raises(ValueError, match="the latent has NaN or infinite values"):
        vaebench.evaluate(
            Changed(vae, lambda z: z * math.nan, lambda z: z), "latent", **QUICK | {"noise": [], "masks": []}
        )
    with pytest.raises(ValueError, match=r"none of the first 3 clips could be encoded: .*NaN or infinite"):
        vaebench.evaluate(Changed(vae, lambda z: z * math.nan, lambda z: z), "latent", **QUICK)


def test_scores_of_few_clips_say_how_many() -> None:
    for clips, text in ((1, "from 1 clip; use 64 or more"), (2, "from 2 clips; use 64 or more")):
        few = vaebench.evaluate(load("dct/8"), "latent", **QUICK | {"clips": clips, "noise": [], "masks": []})
        assert any(text in score.note for score in few.scores.values())


def test_constant_latents_give_a_record_with_reasons() -> None:
    vae = load("dct/4")
    found = vaebench.evaluate(Changed(vae, torch.zeros_like, lambda z: z), "latent", **QUICK)
    assert found.scores["participation_ratio"].note == "all latents are equal: there is no variance"
    assert found.scores["dct_lf"].status == "undefined"
    assert all(math.isfinite(score.value) for score in found.scores.values() if score.value is not None)
    json.dumps(found.extra, allow_nan=False)


def test_a_different_scale_of_the_noise_is_an_error() -> None:
    from vaebench.config import parse_run
    from vaebench.suites import latent

    suite = latent.build(parse_run(["noise=0.1", "masks=[]"], suite="latent"))
    stored = {"latent": np.zeros((2, 1, 2, 2)), "scale": np.zeros((2, 2))}
    with pytest.raises(ValueError, match="the noise of the decoder's curves has different scales"):
        suite.summarize({"a": stored, "b": stored | {"scale": np.ones((2, 2))}})
    with pytest.raises(ValueError, match="should have one shape"):
        suite.summarize({"a": stored, "b": stored | {"latent": np.zeros((2, 2, 2, 2))}})


def test_a_posterior_is_described_in_bits() -> None:
    vae = load("dct/8")

    class Gaussian(Changed):
        def encode(self, video: torch.Tensor) -> Posterior:
            mean = torch.zeros_like(vae.encode(video).mean)
            mean[:, 0] = 2.0 * torch.randn(mean[:, 0].shape, generator=torch.Generator().manual_seed(0))
            variance = torch.ones_like(mean)
            variance[:, 0] = 0.25
            return Posterior(mean, variance.log())

    found = vaebench.evaluate(Gaussian(vae, None, lambda z: z), "latent", **QUICK).scores
    per_value = 0.5 * (4 + 0.25 - 1 - math.log(0.25)) / math.log(2) / 8
    assert found["kl_bits_per_element"].value == pytest.approx(per_value, rel=0.1)
    assert found["kl_bits_per_pixel"].value == pytest.approx(per_value * 8 * 3 * 64 / (9 * 64 * 64), rel=0.1)
    assert found["collapsed_channels"].value == pytest.approx(7 / 8)
    assert found["noise_share"].value == pytest.approx((7 + 0.25 / 4.25) / 8, rel=0.02)
    assert replace(found["noise_share"]).better == "neither"

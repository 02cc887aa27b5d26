"""Diffusability, the suite from clip to record: every tier, resumed and sharded, with classes and without."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from PIL import Image

import adapters
from vaebench import cli, plugins, records, runner
from vaebench.config import RunConfig, parse_run
from vaebench.generation import diffusion_run, extractors, latent_cache, tiers
from vaebench.generation.latte.train import checkpoints
from vaebench.generation.sampling import Sampling
from vaebench.suites import diffusability
from vaebench.weights import Unavailable

pytestmark = pytest.mark.usefixtures("no_weights", "reset_accelerate")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoke tier, smaller still."""
    tier = tiers.TIERS["smoke"]
    train = replace(tier.train, steps=4, batch=2, checkpoint_every=2)
    tiny = replace(
        tier, shape=(2, 32, 2), train=train, sampling=Sampling("2", "ddim", 1.0), samples=3, windows=1, size=32
    )
    monkeypatch.setitem(tiers.TIERS, "smoke", tiny)


def run(*words: str) -> int:
    return cli.main(["run", "--suite", "diffusability", "tier=smoke", "device=cpu", *words])


def record(setting: str = "smoke-test-bundle-32px", name: str = "pool-4x8x8") -> records.Record:
    """`setting`: a pattern, as a folder of videos is named with what tells it from others of its name."""
    (file,) = Path("runs/results/diffusability").glob(f"{setting}/{name}.json")
    return records.read(file)


@pytest.mark.usefixtures("small")
def test_a_smoke_test_runs_from_clip_to_table_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vaes=[pool/4x8x8,dct/16]") == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "diffusability · smoke-test-bundle-32px"
    assert lines[1].split()[6] == "denoising_loss"
    assert "SMOKE TEST: a toy model, no evidence about the VAE" in said.err
    assert "absent: fvd16: unavailable: i3d_torchscript.pt is not here" in said.err
    found = record()
    assert found.extra["smoke_test"] is True
    assert found.scores["denoising_loss"].n == 2  # a quarter of eight clips
    assert "on 2 held-out videos" in found.scores["denoising_loss"].note
    assert len(found.extra["denoising_loss"]) == 16
    assert "fvd16" not in found.scores
    with Image.open("runs/results/diffusability/smoke-test-bundle-32px/pool-4x8x8.frames/samples.png") as sheet:
        size = sheet.size
    assert size == (4 * 32, 3 * 32)
    (on_the_way,) = Path("runs").glob(f"{found.extra['samples_video'].partition('/')[0]}/samples-0000002.mp4")
    assert on_the_way.with_suffix(".png").is_file()
    for file in (on_the_way, Path("runs") / found.extra["samples_video"]):
        with av.open(str(file)) as container:
            shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(shown) == 16
        assert shown[0].shape == (32, (4 if file == on_the_way else 3) * 32, 3)


@pytest.mark.usefixtures("small")
def test_a_finished_training_is_not_repeated_when_scores_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("vaes=[pool/4x8x8]") == 0
    before = record().scores
    for folder in Path("runs").glob("[0-9a-f]*"):
        if not folder.name.startswith("la"):
            shutil.rmtree(folder)
    monkeypatch.setattr(diffusion_run, "train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(latent_cache, "_encode_shard", lambda *_: pytest.fail("encoded again"))
    assert run("vaes=[pool/4x8x8]") == 0
    assert record().scores == before


@pytest.mark.usefixtures("small")
def test_an_interrupted_training_goes_on_from_its_checkpoint_to_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["tier=smoke", "vaes=[pool/4x8x8]", "device=cpu"]
    runner.run(parse_run([*words, "runs=whole", "results=whole"], suite="diffusability"))
    real_train, steps = diffusion_run.train, []

    def stopped(*arguments: Any) -> Iterator[Any]:
        for report in real_train(*arguments):
            steps.append(report.step)
            if report.step == 3 and steps == [1, 2, 3]:
                raise KeyboardInterrupt
            yield report

    monkeypatch.setattr(diffusion_run, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        runner.run(parse_run(words, suite="diffusability"))
    assert [file.stem for folder in Path("runs").glob("latte-*") for file in checkpoints(folder)] == ["0000002"]
    runner.run(parse_run(words, suite="diffusability"))
    assert steps == [1, 2, 3, 3, 4]
    whole = records.read(Path("whole/diffusability/smoke-test-bundle-32px/pool-4x8x8.json"))
    assert record().extra["denoising_loss"] == whole.extra["denoising_loss"]


@pytest.mark.usefixtures("small")
def test_shards_make_the_record_of_one_run_and_the_first_one_trains(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vaes=[pool/4x8x8]", "runs=one", "results=one") == 0
    assert run("vaes=[pool/4x8x8]", "shard=1/2") == 0
    assert "waiting for other shards" in capsys.readouterr().err
    assert run("vaes=[pool/4x8x8]", "shard=0/2") == 1  # the other's cases had failed: nothing was trained yet
    assert "run shard=0/n first" in capsys.readouterr().err
    assert run("vaes=[pool/4x8x8]", "shard=1/2") == 0
    one = records.read(Path("one/diffusability/smoke-test-bundle-32px/pool-4x8x8.json"))
    assert record().scores == one.scores


def test_tier_0_trains_nothing_and_takes_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion_run, "train", lambda *_: pytest.fail("trained"))
    words = ["run", "--suite", "diffusability", "tier=0", "size=32", "clips=3", "device=cpu", "vaes=[dct/4]"]
    assert cli.main(words) == 0
    found = record("tier0-bundle-32px-first3", "dct-4")
    assert next(iter(found.scores)) == "gaussian_loss"
    assert found.scores["effective_rank"].n == 3
    assert len(found.extra["latents"]["channels"]["std"]) == 4
    assert found.scores["localcorr"].value is not None
    assert found.scores["kl_bits_per_pixel"].status == "not applicable"


def means(name: str, device: torch.device) -> Any:
    """Stands in for a network: the mean colour and a little more of each clip; probabilities for the classifier."""
    if name == "c3d_ucf101":
        raise Unavailable("conv3d_deepnetA_ucf.npz is not here")
    return lambda video: video.double().mean((0, 2, 3, 4)).numpy()


@pytest.mark.usefixtures("small")
def test_ucf_is_learned_with_classes_and_scored_against_reals_and_rebuilt_reals(
    ucf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractors, "extractor", means)
    monkeypatch.setattr(diffusability.weights, "path", lambda file: ucf / "Archery/v_Archery_g01_c01.avi")
    words = ["vaes=[dct/16]", "data=ucf101", f"root={ucf}"]
    assert run(*words) == 0
    found = record("smoke-test-ucf101*-32px", "dct-16")
    assert found.scores["fvd16"].n == 3
    assert {"fvd16_floor", "fvd16_vs_rebuilt", "rfvd16", "kvd16", "kvd16_vs_rebuilt"} <= set(found.scores)
    assert found.scores["rfvd16"].value < found.scores["fvd16"].value
    assert found.absent["is_debiased"] == "unavailable: conv3d_deepnetA_ucf.npz is not here"
    checkpoint = torch.load(next(Path("runs").glob("latte-*/0000004.pt")), weights_only=True)
    assert checkpoint["ema"]["y_embedder.embedding_table.weight"].shape[0] == 3  # two classes and the null label
    assert run(*words, "covariance=biased", "real_selection=first2048", "frame_codec=jpeg75", "real_stride=1") == 0
    setting = "smoke-test-ucf101*-32px-real-selection-first2048-covariance-biased-frame-codec-jpeg75-real-stride-1"
    legacy = record(setting, "dct-16")
    assert legacy.scores["denoising_loss"] == found.scores["denoising_loss"]  # the same training
    assert legacy.scores["fvd16"].value != found.scores["fvd16"].value
    assert len(list(Path("runs").glob("latte-*"))) == 1
    assert run(*words, "real_resize=styleganv-tool") == 0
    other = record("smoke-test-ucf101*-32px-real-resize-styleganv-tool", "dct-16")
    assert other.scores["fvd16"].value != found.scores["fvd16"].value
    assert len(list(Path("runs").glob("latte-*"))) == 1
    assert run(*words, "frame_resize=latte") == 0  # learns other latents
    assert len(list(Path("runs").glob("latte-*"))) == 2


@pytest.mark.usefixtures("small")
def test_sky_is_learned_without_classes_and_short_scenes_are_left_out_and_said(
    sky: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractors, "extractor", means)
    monkeypatch.setattr(diffusability.weights, "path", lambda file: sky / "07/07_1/sky_frames_0.png")
    assert run("vaes=[pool/4x8x8]", "data=skytimelapse", f"root={sky}", "samples=2", "clip_frames=16") == 0
    found = record("smoke-test-skytimelapse_sky_train*-32px-samples-2-clip-frames-16")
    assert [line.split(":")[0] for line in found.extra["latents"]["left_out"]] == ["07/07_2 0"]
    assert "on training videos (none is held out)" in found.scores["denoising_loss"].note
    assert found.scores["fvd16"].value is None  # one real clip is left
    assert found.scores["fvd16"].note == "a Fréchet distance needs 2 videos per set"
    assert "only knows the classes of UCF-101" in found.absent["is_debiased"]


@pytest.mark.usefixtures("small")
def test_clips_of_one_recording_are_held_out_together(ucf: Path) -> None:
    suite = plugins.find("suites", "diffusability").build(
        parse_run(
            ["tier=smoke", "data=ucf101", f"root={ucf}", "device=cpu", "vaes=[pool/4x8x8]"], suite="diffusability"
        )
    )
    subject = suite.open(adapters.resolve("pool/4x8x8"))
    learned = {window.scene for window in subject.training_set.windows}
    measured = {window.scene for window in subject.evaluation_set.windows}
    assert measured
    assert not learned & measured
    assert not any(window.flipped for window in subject.evaluation_set.windows)
    assert subject.model_config.classes == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tier=3", "tier='3' is not one of 0, 1, 2, smoke"),
        ("features=[i3]", "no features i3"),
        (
            "num_frames=17",
            "the frames of a window for each VAE; set clip_frames",
        ),
        ("posterior=sample", "posterior=sample would change nothing"),
        ("interval=0", "interval=0 should be 1 or more"),
        (
            "frame_resize=latte",
            "frame_resize=latte would change nothing: only ucf101 and skytimelapse are resized in several ways",
        ),
        ("covariance=both", "covariance='both' is not one of unbiased, biased"),
    ],
)
def test_mistakes_are_one_line(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--suite", "diffusability", "vaes=[pool/4x8x8]", word]) == 2
    assert message in capsys.readouterr().err


def test_frames_that_a_vae_cannot_take_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vaes=[pool/4x8x8]", "clip_frames=17") == 1
    assert "pool/4x8x8 takes 4k frames" in capsys.readouterr().err


@pytest.mark.parametrize(("tier", "depth", "steps"), [("1", 12, 20_000), ("2", 24, 100_000)])
def test_the_tiers_are_latte_b_and_latte_l(tier: str, depth: int, steps: int) -> None:
    chosen = tiers.TIERS[tier]
    assert (chosen.shape[0], chosen.train.steps, chosen.samples) == (depth, steps, 2048)


def test_seventeen_frames_for_causal_vaes_and_sixteen_for_the_others() -> None:
    suite = plugins.find("suites", "diffusability").build(RunConfig(suite="diffusability"))
    frames = {name: suite._plan(adapters.find(name)).frames for name in ("pool/4x8x8", "wfvae/s-8", "sd/original")}
    assert frames == {"pool/4x8x8": 16, "wfvae/s-8": 17, "sd/original": 16}


@pytest.mark.parametrize(
    ("data", "words"), [("ucf101", "UCF-101 unpacked"), ("skytimelapse", "one split of SkyTimelapse")]
)
def test_missing_data_is_said_with_its_place_and_layout(
    data: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("vaes=[pool/4x8x8]", f"data={data}") == 2
    said = capsys.readouterr().err
    assert f"data={data} is not available without root=DIR: {words}" in said
    assert "https://" in said

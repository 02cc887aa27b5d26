"""Every preset runs from end to end on miniature data, with small networks of random weights."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.videos import pictures, write
from vaebench import cli, preset, records
from vaebench.generation import tiers

CLIP = ["num_frames=5", "size=32", "clips=1"]
COST = ["frames=5", "sizes=32", "dtypes=float32", "max_seconds=0.05"]
pytestmark = pytest.mark.usefixtures("no_weights", "reset_accelerate")


def run(name: str, *words: str) -> list[records.Record]:
    """The records of a preset that ran without a failure."""
    assert cli.main(["run", f"preset={name}", *words]) == 0
    return list(records.read_all(Path("runs/results")))


def drawn() -> set[str]:
    """The first word in the names of the figures."""
    return {file.stem.partition("-")[0] for file in Path("runs/results/plots").glob("*.png")}


def test_table_1_reads_webvid(tmp_path: Path):
    (tmp_path / "webvid/videos/000").mkdir(parents=True)
    write(tmp_path / "webvid/videos/000/7.mp4", pictures(6))
    with (tmp_path / "webvid.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["videoid", "page_dir", "contentUrl", "duration", "name"], ["7", "000", "", "", "x"]]
        )
    words = ["root=webvid", "manifest=webvid.csv", "vaes=cvvae/tiny,wfvae/tiny", *CLIP, "metrics=psnr,ssim"]
    made = run("wfvae-table1", *words)
    assert {record.name for record in made} == {"cvvae/tiny", "wfvae/tiny"}
    assert {record.config["protocol"] for record in made} == {"wfvae-paper"}
    assert all(str(record.data["name"]).startswith("webvid_webvid") for record in made)


def test_table_2_trains_a_latte_on_ucf101(ucf: Path, monkeypatch: pytest.MonkeyPatch):
    tier = tiers.TIERS["2"]
    train = replace(tier.train, steps=2, batch=2, warmup=1, checkpoint_every=2)
    small = replace(
        tier,
        shape=(2, 32, 2),
        train=train,
        sampling=replace(tier.sampling, steps="2"),
        samples=2,
        windows=1,
        held_out=0.25,
    )
    monkeypatch.setitem(tiers.TIERS, "2", small)
    (record,) = run("wfvae-table2", f"root={ucf}", "vaes=wfvae/tiny-random", "size=32")
    assert record.suite == "diffusability"
    assert record.scores["denoising_loss"].value is not None


def test_table_3_reads_kinetics_400_and_trained_checkpoints(tmp_path: Path, video: Path):
    for name in ("archery/abcdefghijk_000001_000011", "yoga/lmnopqrstuv_000002_000012"):
        (tmp_path / "val" / name).parent.mkdir(parents=True)
        shutil.copy(video, tmp_path / "val" / f"{name}.mp4")
    made = run(
        "wfvae-table3", "root=val", "vaes=wfvae/tiny,wfvae/tiny-random", "num_frames=5", "size=32", "metrics=psnr"
    )
    assert {record.scores["psnr"].n for record in made} == {2}


def test_table_5_compares_the_modes_of_each_vae():
    made = run(
        "wfvae-table5",
        "data=bundle",
        "vaes=wfvae/tiny,odvae/tiny",
        "num_frames=9",
        "size=32",
        "clips=1",
        "metrics=psnr",
    )
    modes = {
        r.name: {score.condition["mode"] for score in r.scores.values() if "mode" in score.condition} for r in made
    }
    assert "streamed" in modes["wfvae/tiny"]
    assert "tiled" in modes["odvae/tiny"]
    assert not any(str(mode).startswith("naive") for chosen in modes.values() for mode in chosen)


@pytest.mark.usefixtures("measured_here")
def test_figure_1_draws_quality_against_cost_of_the_same_shape():
    made = run("wfvae-figure1", "data=bundle", "vaes=wfvae/tiny", "num_frames=5", "clips=1", "metrics=psnr", *COST)
    assert [record.suite for record in made] == ["efficiency", "reconstruction"]
    assert drawn() == {"bubbles"}


@pytest.mark.usefixtures("measured_here")
def test_figure_4_is_one_command_that_resumes(capsys: pytest.CaptureFixture[str]):
    words = ["vaes=wfvae/tiny", *COST]
    assert cli.main(["run", "--suite", "efficiency", "preset=wfvae-figure4", *words]) == 0
    first = capsys.readouterr().out
    assert drawn() == {"cost_bars"}
    assert cli.main(["run", "--suite", "efficiency", "preset=wfvae-figure4", *words]) == 0  # nothing is measured again
    assert capsys.readouterr().out == first


def test_figure_7_trains_and_draws_the_curves(monkeypatch: pytest.MonkeyPatch):
    whole = preset.load("wfvae-figure7")
    monkeypatch.setattr(preset, "load", lambda name: replace(whole, train=[whole.train[0], whole.train[3]]))
    tiny = ["model.base_channels=8", "model.encoder_flow_channels=8", "model.decoder_flow_channels=8"]
    tiny += ["trainer.steps=2", "trainer.validate_every=1", "trainer.precision=no", "trainer.workers=0"]
    tiny += ["loss.perceptual=0", "device=cpu"]
    tiny += ["data.synthetic=1", "data.num_frames=5", "data.size=16", "validation.data=synthetic", "validation.clips=1"]
    tiny += ["validation.num_frames=5", "validation.size=16", "validation.metrics=psnr"]
    assert cli.main(["run", "preset=wfvae-figure7", *tiny]) == 0
    assert drawn() == {"training"}
    assert {path.parent.name for path in Path("runs/train/figure7").glob("*/scores.csv")} == {"s-4", "no-wl"}


def test_the_spectra_of_two_vaes_are_drawn():
    words = ["data=bundle", "vaes=ssvae/tiny,wfvae/tiny", "num_frames=9", "size=32", "clips=2", "noise=0.1", "masks=[]"]
    assert len(run("ssvae-spectra", *words)) == 2
    assert drawn() == {"spectra", "eigenspectra", "autocorrelation", "noise_curves"}


def test_long_video_runs_every_protocol_and_counts_tokens():
    words = ["vaes=wan/tiny", "window=33", "num_frames=5", "size=16", "hops=1", "clips=1"]
    made = run("long-video", *words)
    protocols = {score.condition["protocol"] for r in made if r.suite == "relay" for score in r.scores.values()}
    assert protocols == {
        "loop", "static", "ltx-first-frame", "ltx-latent", "skyreels-v2", "skyreels-v2-latent", "svi-film", "svi-shot",
    }  # fmt: skip
    assert drawn() == {"tokens", "drift"}


def test_a_run_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]):
    words = ["data=folder", "root=nowhere", "vaes=wan/tiny"]
    assert cli.main(["run", "preset=long-video", *words]) == 1
    captured = capsys.readouterr()
    assert "tokens · 480x832" in captured.out
    assert captured.err.count("vaebench: relay: nowhere: no such folder") == 4
    assert "no record in runs/results has the data for drift" in captured.err
    assert drawn() == {"tokens"}
    with pytest.raises(OSError, match="nowhere"):
        cli.main(["run", "preset=long-video", *words, "fail_fast=true"])


def test_a_checkpoint_that_is_not_trained_yet_is_named_and_the_other_vaes_run(capsys: pytest.CaptureFixture[str]):
    words = ["data=synthetic", "protocol=default", "metrics=psnr", *CLIP]
    assert cli.main(["run", "preset=wfvae-table3", *words, "vaes=wfvae:runs/train/s-4,pool/4x8x8"]) == 1
    captured = capsys.readouterr()
    assert "pool/4x8x8" in captured.out
    assert "not ready: wfvae:runs/train/s-4: runs/train/s-4 does not exist" in captured.err


def test_a_shard_leaves_the_figures_to_the_user(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", "preset=long-video", "--suite", "tokens", "vaes=wan/tiny", "shard=0/2"]) == 0
    assert "figures: run `vaebench plot --results runs/results`" in capsys.readouterr().err
    assert drawn() == set()

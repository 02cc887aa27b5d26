"""`vaebench train`: a run's folder is complete, it resumes to the same bits, and only one training writes to it."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

import adapters
from tests.trainings import SHORT, curve
from vaebench import cli, evaluation
from vaebench.records import Score
from vaebench.training import perceptual
from vaebench.training import run as training_run
from vaebench.training import start as training_start
from vaebench.training.config import Validation
from vaebench.training.run import parse, train
from vaebench.training.validation import sheet, validator
from wfvae import WFVAE, WFVAEConfig, start, state
from wfvae.schedule import TrainerConfig
from wfvae.trainer import Trainer


def test_a_run_leaves_logs_scores_samples_and_checkpoints_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(training_start, "CLIPS", 8)
    assert train("smoke", [*SHORT, "initial=wavelets", f"run={run}"]) == 0  # as the recipe has it
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert rows[0]["adversarial"] == ""
    assert float(rows[3]["adversarial_weight"]) > 0
    scores = list(csv.DictReader((run / "scores.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in scores] == [4]
    assert 5 < float(scores[0]["psnr"]) < 40
    assert (run / "samples" / "step-00000004.png").is_file()
    assert list((run / "tensorboard").iterdir())
    assert state.best(run) == state.checkpoint_folder(run, 4)
    assert adapters.load(f"wfvae:{state.best(run)}").spec.parameters == _count(parse("smoke", []).model)
    before, written = (run / "log.csv").read_text(), (run / "config.yaml").stat().st_mtime_ns
    monkeypatch.setattr(start, "carry_wavelets", lambda *_: pytest.fail("weights were initialized again"))
    assert train("smoke", [*SHORT, "initial=wavelets", f"run={run}"]) == 0  # finished: nothing to do
    assert (run / "log.csv").read_text() == before
    assert (run / "config.yaml").stat().st_mtime_ns == written


def test_a_resumed_run_forgets_what_was_logged_after_its_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*SHORT, f"run={run}", "validation.data="]
    train("smoke", words)
    whole = curve(run)
    (run / "checkpoints" / "step-00000004").rename(tmp_path / "lost")
    train("smoke", words)
    assert curve(run) == whole


def _count(config: WFVAEConfig) -> int:
    return sum(parameter.numel() for parameter in WFVAE(config).parameters())


def test_another_configuration_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    words = [*SHORT, f"run={tmp_path / 'run'}", "validation.data="]
    train("smoke", words)
    with pytest.raises(ValueError, match=r"\(trainer\.learning_rate=\S+ there, 0\.5 here\)"):
        train("smoke", [*words, "trainer.learning_rate=0.5", "trainer.steps=6"])


def test_a_run_that_began_with_the_old_names_of_settings_and_discriminator_goes_on(tmp_path: Path) -> None:
    words = [*SHORT, "validation.data=", "trainer.decay=constant"]
    train("smoke", [*words, f"run={tmp_path / 'new'}"])
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    file = tmp_path / "old" / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    old_names = {"batch": "batch_size", "accumulate": "gradient_accumulation_steps", "clip": "max_grad_norm"}
    for old, new in old_names.items():
        settings["trainer"][old] = settings["trainer"].pop(new)
    settings["description"] = "an earlier sentence"
    file.write_text(yaml.safe_dump(settings))
    for folder in state.checkpoints(tmp_path / "old"):
        content = torch.load(folder / state.TRAINING, weights_only=True)
        for key in ("discriminator", "discriminator_optimizer"):
            content[key.replace("discriminator", "critic")] = content.pop(key)
        torch.save(content, folder / state.TRAINING)
    with pytest.raises(ValueError, match=r"trainer\.max_grad_norm=1\.0 there, 0\.5 here"):
        train("smoke", [*words, f"run={tmp_path / 'old'}", "trainer.steps=6", "trainer.max_grad_norm=0.5"])
    for name in ("new", "old"):
        train("smoke", [*words, f"run={tmp_path / name}", "trainer.steps=6"])
    assert curve(tmp_path / "old") == curve(tmp_path / "new")
    assert len(curve(tmp_path / "old")) == 6
    assert yaml.safe_load(file.read_text())["trainer"]["max_grad_norm"] == 1.0


def test_a_run_that_was_moved_is_extended_with_more_workers_to_the_bits_of_the_longer_run(tmp_path: Path) -> None:
    words = [*SHORT, "validation.data=", "trainer.decay=constant"]  # a decay depends on the number of steps
    train("smoke", [*words, "trainer.steps=6", f"run={tmp_path / 'long'}"])
    train("smoke", [*words, f"run={tmp_path / 'old'}"])
    (tmp_path / "old").rename(tmp_path / "new")
    more = [f"run={tmp_path / 'new'}", "trainer.steps=6", "trainer.workers=1", "trainer.save_every=1", "trainer.keep=9"]
    train("smoke", [*words, *more])
    assert curve(tmp_path / "new") == curve(tmp_path / "long")
    assert [folder.name[-1] for folder in state.checkpoints(tmp_path / "new")] == ["2", "4", "5", "6"]
    assert "steps: 6" in (tmp_path / "new" / "config.yaml").read_text()


def test_a_second_training_in_a_folder_is_refused_while_the_first_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "smoke", *SHORT, f"run={tmp_path}", "validation.data="]
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, wfvae.processes as p\nwith p.locked(p.Path(sys.argv[1])): print(flush=True); input()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path} is in use by another training (process {holder.pid})" in said
    assert said.count("\n") == 1
    holder.kill()
    holder.communicate()
    assert (tmp_path / "lock").read_text() == f"{holder.pid}\n"  # it died, and its lock with it
    assert cli.main(words) == 0


def test_a_run_that_failed_before_its_first_checkpoint_leaves_the_folder_free(tmp_path: Path) -> None:
    words = [*SHORT, f"run={tmp_path / 'run'}", "validation.data="]
    with pytest.raises(OSError, match="no such folder"):
        train("smoke", [*words, "data.synthetic=0", "data.root=/nowhere"])
    assert train("smoke", words) == 0


@pytest.mark.parametrize("word", ["data.root=/nope", "data.manifest=clips.csv"])
def test_files_given_to_a_synthetic_recipe_are_refused(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "smoke", word, f"run={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line
    assert "set data.synthetic=0" in line
    assert not (tmp_path / "run").exists()


def test_missing_lpips_weights_name_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"vaebench weights fetch vgg16.*loss\.perceptual=0"):
        train("smoke", [*SHORT, f"run={tmp_path / 'run'}", "loss.perceptual=1.0"])


def test_a_later_stage_without_the_checkpoint_of_the_one_before_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"start_from=CHECKPOINT, such as .*random weights instead.*set refresh_discriminator=false"
    ):
        train("stage2", [f"run={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


def test_a_validation_that_cannot_run_is_refused_before_the_first_step(tmp_path: Path) -> None:
    for bad in ("num_frames=6", "size=20"):
        with pytest.raises(ValueError, match=r"1 \+ 4k frames and a size that is a multiple of 8"):
            train("smoke", [*SHORT, f"run={tmp_path}", f"validation.{bad}"])
    assert not (tmp_path / "log.csv").exists()


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("data.num_frames=24", r"takes clips of 1 \+ 4k frames, got data.num_frames=24"),
        ("data.shapes=[33x64,24x64]", r"takes clips of 1 \+ 4k frames, got data.shapes=\['33x64', '24x64'\]"),
        ("trainer.warmup=-5", r"trainer\.warmup should be at least 0, got -5"),
        ("loss.adaptive_limit=-1", r"loss\.adaptive_limit should be >= 0, got -1"),
        ("lcr.limit=-1", r"lcr\.limit should be >= 0, got -1"),
    ],
)
def test_settings_that_cannot_train_are_refused_by_name(word: str, answer: str) -> None:
    with pytest.raises(ValueError, match=answer):
        parse("smoke", [word])


def test_a_first_metric_without_a_value_gives_the_lowest_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "psnr": Score(None, "dB", "higher", 0, metric="psnr", status="undefined"),
        "ssim": Score(0.5, "", "higher", 1, metric="ssim"),
    }
    result = SimpleNamespace(pictures={}, record=SimpleNamespace(scores=found))
    monkeypatch.setattr(evaluation, "run", lambda *_: result)
    given = Validation(data="synthetic", clips=1, num_frames=5, size=32, metrics=["psnr", "ssim"])
    log = SimpleNamespace(scores=lambda *_: None)
    scores = validator(given, 4, log)(1, WFVAE(WFVAEConfig(4, 2, 4, 1, 1, 1, 4, 4)))
    assert scores == {"score": float("-inf"), "ssim": 0.5}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["data.root=.", "data.manifest=no.csv"], "no.csv: no such file; data.manifest= (empty) trains on all videos"),
        (["data.synthetic=1", "validation.manifest=no.csv"], "no.csv: no such file; validation.manifest= (empty)"),
        (["data.synthetic=1", "validation.data=folder"], "data=folder is not available without validation.root=DIR"),
        (["data.root=nowhere"], "nowhere: no such folder; data.root names"),
        (["data.root=nowhere", "data.manifest=m.csv"], "nowhere: no such folder; data.root names"),
        (
            ["data.root=.", "data.manifest=m.csv", "data.cache=memory"],
            "videos of data.manifest=m.csv (empty: all videos",
        ),
        (
            ["data.synthetic=1", "validation.data=folder", "validation.root=nowhere"],
            "nowhere: no such folder; validation.root=DIR",
        ),
    ],
)
def test_files_that_are_missing_are_reported_with_the_setting_that_names_them(
    words: list[str], answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.csv").write_text("file\na.mp4\n")
    assert cli.main(["train", "smoke", *SHORT, "data.synthetic=0", *words]) == 2
    assert answer in capsys.readouterr().err.splitlines()[-1]


def test_ctrl_c_says_from_which_step_the_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    words = ["train", "smoke", *SHORT, f"run={tmp_path}", "validation.data="]
    monkeypatch.setattr(training_run, "TrainingClips", stop)
    assert cli.main(words) == 130
    assert "\nstopped; there is no checkpoint yet: the same command starts again from" in capsys.readouterr().err
    monkeypatch.undo()
    assert cli.main(words) == 0
    assert capsys.readouterr().err.startswith(f"training to step 4; log: {tmp_path / 'log.csv'}\n")
    (tmp_path / "checkpoints" / "step-00000004").rename(tmp_path / "lost")
    monkeypatch.setattr(Trainer, "train", stop)
    assert cli.main(words) == 130
    newest = state.checkpoint_folder(tmp_path, 2)
    assert f"\nstopped; the same command resumes from {newest}\n" in capsys.readouterr().err


@pytest.mark.parametrize(("processes", "workers"), [("1", [0, 1, 2]), ("2", [0, 1, 1])])
def test_no_more_workers_are_started_than_there_are_cores(
    processes: str, workers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def stop(*_: object, config: TrainerConfig, **__: object) -> None:
        started.append(config.workers)
        raise KeyboardInterrupt

    monkeypatch.setattr(training_run, "Trainer", stop)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5}, raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)  # of torchrun
    for given in (0, 1, 4):
        words = [*SHORT, f"run={tmp_path / str(given)}", f"trainer.workers={given}", "validation.data="]
        assert cli.main(["train", "smoke", *words]) == 130
    assert started == workers


def test_lpips_is_computed_where_the_videos_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process has a GPU of its own, which it knows only once training begins."""
    network = torch.nn.Conv2d(3, 1, 8)
    pair = torch.nn.Module()
    pair.add_module("network", network)
    monkeypatch.setattr(pair, "forward", lambda a, b: network(a - b), raising=False)
    monkeypatch.setattr(perceptual.lpips, "package", lambda net: pair)
    monkeypatch.setattr(perceptual.lpips, "fill", lambda network, file: None)
    monkeypatch.setattr(perceptual.weights, "verified", lambda name: Path(name))
    distance = perceptual.lpips_loss()
    frames = torch.zeros(2, 3, 8, 8, device="meta")
    assert distance(frames, frames).shape == (2,)
    assert network.weight.device == frames.device


def test_a_run_killed_while_it_writes_its_only_checkpoint_anew_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, remove = state.checkpoint_folder(tmp_path, 4), state.shutil.rmtree
    state.write(folder, {}, {"w": torch.zeros(1)}, {"step": 4})

    def killed_once_it_is_removed(path: Path, ignore_errors: bool = False) -> None:
        if path.exists():
            remove(path)
            raise KeyboardInterrupt

    monkeypatch.setattr(state.shutil, "rmtree", killed_once_it_is_removed)
    with pytest.raises(KeyboardInterrupt):
        state.write(folder, {}, {"w": torch.ones(1)}, {"step": 4})
    assert state.checkpoints(tmp_path) == [folder]
    assert state.read(folder) == {"step": 4}


def test_a_sheet_shows_references_above_reconstructions() -> None:
    clip = np.zeros((2, 3, 4, 6, 3), np.uint8)
    clip[1] = 255
    image = sheet([clip, clip])
    assert image.shape == (3, 16, 18)
    assert not image[:, :4].any()
    assert image[:, 4:8].all()

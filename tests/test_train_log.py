"""What a training logs: tables, TensorBoard, Weights & Biases, samples and failed files."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainings import SHORT
from vaebench.training.log import RunLog
from vaebench.training.run import train
from vaebench.video_io import notes


def test_tensorboard_has_every_step_once_also_of_a_run_that_went_on(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    words = [*SHORT, f"run={run}", "validation.data="]
    train("smoke", words)
    (run / "checkpoints" / "step-00000004").rename(tmp_path / "lost")
    train("smoke", words)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("total")] == [1, 2, 3, 4]


def test_weights_and_biases_keeps_runs_apart_that_are_called_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    class Board:
        def log(self, values: dict[str, float], step: int) -> None: ...
        def finish(self) -> None: ...

    def init(**settings: object) -> Board:
        begun.append(str(settings["id"]))
        return Board()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for place in ("a", "a", "b"):
        train("smoke", [*SHORT, f"run={tmp_path / place / 'run'}", "validation.data=", "wandb=project"])
    assert begun[0] == begun[1] != begun[2]


def test_a_missing_logger_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("wandb", "torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    with pytest.raises(ValueError, match=r"wandb=project needs the package wandb: pip install wandb"):
        RunLog(tmp_path, 4, {}, "project").begin(0)
    notes.note.cache_clear()
    log = RunLog(tmp_path, 4, {})
    log.begin(0)
    log.step(1, {"total": 2.0})
    log.samples(1, torch.zeros(3, 8, 8))
    log.close()
    assert "tensorboard is not installed, values go to log.csv only" in capsys.readouterr().err
    assert (tmp_path / "log.csv").is_file()
    assert not (tmp_path / "tensorboard").exists()


def test_a_sample_is_the_bytes_of_the_sheet(tmp_path: Path) -> None:
    image = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    log = RunLog(tmp_path, 4, {})
    log.samples(1, image.float() / 255)
    with Image.open(tmp_path / "samples" / "step-00000001.png") as written:
        assert torch.equal(torch.from_numpy(np.array(written)).permute(2, 0, 1), image)


def test_a_file_that_fails_is_named_once_however_often_and_differently_it_fails(tmp_path: Path) -> None:
    for step in (0, 1):
        log = RunLog(tmp_path, 4, {})
        log.begin(step)
        log.failed(("a.mp4: damaged at frame 3", "s.tar:1.mp4: is empty", "a.mp4: damaged at frame 9"))
        log.failed(("a.mp4: damaged at frame 5",))
        log.close()
        assert (tmp_path / "failed.txt").read_text() == "a.mp4: damaged at frame 3\ns.tar:1.mp4: is empty\n"


def test_a_log_that_was_opened_and_never_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "log.csv").touch()
    log = RunLog(tmp_path, 4, {})
    log.begin(0)
    log.step(1, {"total": 2.0})
    log.close()
    assert (tmp_path / "log.csv").read_text() == "step,total\n1,2.0\n"


def test_a_row_that_a_killed_run_wrote_in_part_is_removed(tmp_path: Path) -> None:
    for cut in ("step,total\n1,2.0\n2,1.5\n", "step,total\n1,2.0\n2", "step,total\n1,2.0\n2,1.", "step,tot", ""):
        (tmp_path / "log.csv").write_text(cut)
        log = RunLog(tmp_path, 40, {})
        log.begin(20)
        log.step(21, {"total": 1.0})
        log.close()
        whole = [row + "\n" for row in cut.split("\n")[1:-1]]
        assert (tmp_path / "log.csv").read_text() == "".join(["step,total\n", *whole, "21,1.0\n"])


def test_a_run_killed_while_its_log_gets_a_new_column_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog(tmp_path, 4, {})
    log.begin(0)
    log.step(1, {"total": 2.0})
    before = (tmp_path / "log.csv").read_text()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerows", killed)
    with pytest.raises(KeyboardInterrupt):
        log.step(2, {"total": 1.0, "adversarial": 0.5})
    log.close()
    assert (tmp_path / "log.csv").read_text() == before

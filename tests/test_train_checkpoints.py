"""A finished training: which checkpoint stands for it, and what it prints and shows."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

import adapters
from tests.trainings import SHORT
from vaebench import cli
from vaebench.training.run import train
from wfvae import state


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best checkpoint is not its newest."""
    run = tmp_path_factory.mktemp("runs") / "a,b"
    assert train("smoke", [*SHORT, f"run={run}", "trainer.validate_every=2", "loss.adversarial=0"]) == 0
    state.mark_best(run, state.checkpoint_folder(run, 2).name)
    return run


@pytest.mark.parametrize("place", ["", "checkpoints", "checkpoints/best"])
def test_a_run_is_named_by_its_best_checkpoint(finished: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    best = f"wfvae:{state.checkpoint_folder(finished, 2)}"
    assert adapters.resolve(f"wfvae:{finished / place}").label == adapters.resolve(best).label
    assert adapters.find(f"wfvae:{finished / place}") == adapters.find(best)
    assert adapters.resolve(f"wfvae:{finished / place}").weights == adapters.resolve(best).weights
    monkeypatch.chdir(finished.parent)
    assert adapters.resolve(f"wfvae:{Path(finished.name, place)}").label == adapters.resolve(best).label
    assert "step-00000002" in adapters.resolve(best).label


def test_a_run_whose_best_checkpoint_is_unknown_or_lost_is_named_by_its_newest(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (2, 4):
        shutil.copytree(state.checkpoint_folder(finished, step), state.checkpoint_folder(run, step))
    newest = adapters.resolve(f"wfvae:{state.checkpoint_folder(run, 4)}").label
    assert adapters.resolve(f"wfvae:{run}").label == newest
    (run / "checkpoints" / "best").write_text("step-00000001\n")
    assert adapters.resolve(f"wfvae:{run}").label == newest


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints").mkdir()
    assert cli.main(["check", f"wfvae:{tmp_path}"]) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["wfvae/tiny", "weights=a,b"],
            "a,b is the folder of a training run: name it as wfvae:a,b, and remove weights=a,b",
        ),
        (
            ["wfvae:a,c"],
            "a,c does not exist: give the folder of a training run, a folder in the official layout, or a ",
        ),
        (["wfvae:."], ". is a folder of training runs: name one of them: wfvae:a,b\n"),
    ],
)
def test_a_run_that_is_named_in_a_wrong_way_is_told_the_right_one(
    words: list[str], said: str, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.parent)
    assert cli.main(["check", *words]) == 2
    assert said in capsys.readouterr().err
    name, *settings = words
    assert cli.main(["run", f'vaes="{name}"', *settings, "clips=1", "metrics=psnr"]) == 2
    assert said in capsys.readouterr().err


def test_a_training_ends_with_its_checkpoint_and_the_command_that_evaluates_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = [*SHORT, f"run={finished}", "trainer.validate_every=2", "loss.adversarial=0"]
    capsys.readouterr()
    assert train("smoke", again) == 0  # finished: it prints the same lines after the first one
    captured = capsys.readouterr()
    assert not captured.err
    done, samples, checkpoint, evaluate = captured.out.splitlines()
    assert done == "already at step 4; nothing to do (a larger trainer.steps continues the run)"
    assert samples.partition(": ")[2].strip() == str(finished / "samples" / "step-00000004.png")
    assert checkpoint.partition(": ")[2].strip() == str(state.best(finished))
    program, *words = shlex.split(evaluate.partition(": ")[2])
    assert program == "vaebench"
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words, "num_frames=5", "size=32", "clips=1", "metrics=psnr", "device=cpu"]) == 0
    assert adapters.resolve(f"wfvae:{finished}").label in capsys.readouterr().out


def test_tensorboard_shows_the_samples_of_each_validation(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    shown = events.Images("validation/samples")
    assert [event.step for event in shown] == [2, 4]
    with Image.open(finished / "samples" / "step-00000004.png") as kept:
        assert (shown[-1].width, shown[-1].height) == kept.size

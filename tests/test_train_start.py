"""A training that starts from other weights, and a flow that is closed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

import adapters
from tests.trainings import SHORT, curve
from vaebench import cli
from vaebench.data import bundle
from vaebench.training.recipes import RECIPES
from vaebench.training.run import train
from wfvae import WFVAE, WFVAEConfig, load, state
from wfvae.start import close_flow

WEIGHTS = RECIPES.parent / "weights"
BUNDLE = Path(bundle.__file__).with_suffix("")


def test_a_closed_flow_brings_nothing_in_and_nothing_out() -> None:
    torch.manual_seed(0)
    model = WFVAE(WFVAEConfig(4, 2, 4, 1, 1, 1, 4, 4))
    close_flow(model, [2])
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    found = model(video, sample_posterior=False)
    assert not found.decoder_w3.any()
    assert found.decoder_w2.any()
    found.video.sum().backward()
    closed = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {name for name in closed if "wavelet" not in name} == {
        name for name, _ in model.named_parameters() if "connect_l2" in name
    }
    with pytest.raises(ValueError, match="levels 1 and 2"):
        close_flow(model, [3])


def test_a_flow_that_was_open_in_the_stage_before_is_closed_in_the_next(tmp_path: Path) -> None:
    words = [*SHORT, "trainer.steps=1", "validation.data="]
    train("smoke", [*words, f"run={tmp_path / 'open'}"])
    first = state.checkpoints(tmp_path / "open")[-1]
    train("smoke", [*words, f"run={tmp_path / 'closed'}", f"start_from={first}", "without_flow=[2]"])
    before, after = (load(state.checkpoints(tmp_path / name)[-1]) for name in ("open", "closed"))
    assert before.encoder.connect_l2.weight.any()
    assert not after.encoder.connect_l2.weight.any()
    assert not after.decoder.connect_l2[-1].weight.any()
    assert after.encoder.connect_l1.weight.any()


TINY = [f"model.{name}={value}" for name, value in (
    ("base_channels", 16), ("encoder_flow_channels", 16), ("decoder_flow_channels", 16),
)]  # fmt: skip


def test_a_training_starts_from_the_built_in_model_by_name(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*SHORT, "trainer.steps=1", "trainer.learning_rate=1e-12", "loss.adversarial=0", "start_from=wfvae/tiny"]
    assert train("smoke", [*words, *TINY, f"run={run}"]) == 0
    described = json.loads((WEIGHTS / "tiny.json").read_text())
    built_in = load(WEIGHTS / "tiny.safetensors", WFVAEConfig.from_official(described)).state_dict()
    for name, value in load(state.checkpoints(run)[-1]).state_dict().items():
        torch.testing.assert_close(value, built_in[name], atol=1e-6, rtol=0)


def test_a_model_that_differs_from_the_weights_it_should_start_from_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "smoke", *SHORT, "start_from=wfvae/tiny", f"run={tmp_path / 'run'}"]) == 2
    _, line = capsys.readouterr().err.splitlines()  # after the line that names the log
    assert f"set {' '.join(TINY[:2])}, or start from weights with model.base_channels=8" in line


@pytest.mark.parametrize(
    ("given", "answer"), [("wfvae/tinny", "did you mean 'tiny'"), ("/nowhere", "/nowhere does not exist; give")]
)
def test_weights_to_start_from_that_do_not_exist_are_refused(
    given: str, answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        f"start_from={given}",
        "data.synthetic=0",
        "data.root=no-clips",
    ]  # reported before the clips that are missing
    assert cli.main(["train", "smoke", *SHORT, *words, f"run={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert answer in line
    assert not (tmp_path / "run").exists()


def test_the_built_in_model_is_fine_tuned_on_a_folder_of_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # outside the clone
    shutil.copytree(BUNDLE, "vids", ignore=lambda _, names: [name for name in names if not name.startswith("cars")])
    quick = ["trainer.steps=1", "trainer.workers=0", "validation.num_frames=5", "validation.size=64"]
    assert cli.main(["train", "tiny-finetune", "data.root=vids", *quick]) == 0
    assert "evaluate:   vaebench run vaes=wfvae:runs/train/tiny-finetune" in capsys.readouterr().out
    run = Path("runs/train/tiny-finetune")
    assert not (run / "failed.txt").exists()
    before = adapters.load("wfvae/tiny")
    assert adapters.load(f"wfvae:{run}").spec.parameters == before.spec.parameters
    ((step, psnr),) = list(csv.reader((run / "scores.csv").read_text().splitlines()))[1:]
    assert (step, float(psnr) > 20) == ("1", True)
    assert cli.main(["train", "tiny-finetune", "run=other"]) == 2
    assert "training needs data.root=DIR" in capsys.readouterr().err


def test_a_run_goes_on_without_the_weights_that_it_started_from(tmp_path: Path) -> None:
    words = [*SHORT, "trainer.steps=2", "validation.data=", "loss.adversarial=0"]
    train("smoke", [*words, f"run={tmp_path / 'first'}"])
    words += [f"run={tmp_path / 'second'}", f"start_from={tmp_path / 'first'}"]
    train("smoke", words)
    whole = curve(tmp_path / "second")
    (tmp_path / "first").rename(tmp_path / "lost")
    assert train("smoke", words) == 0
    assert curve(tmp_path / "second") == whole

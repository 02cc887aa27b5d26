"""Validation curves of trainings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vaebench import cli, plugins
from vaebench.training import plot


def test_scores_of_several_runs_are_drawn_against_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, level in (("a", 20.0), ("b", 25.0)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "scores.csv").write_text(f"step,psnr,ssim\n10,{level},0.5\n20,{level + 1},0.6\n")
    files = list(plot.draw([tmp_path / "runs"], tmp_path / "out", ("svg",)))
    assert [file.name for file in files] == ["training-psnr.svg", "training-ssim.svg"]
    text = files[0].read_text()
    assert all(word in text for word in ("PSNR [dB] (higher is better)", "training step", ">a<", ">b<"))
    assert "PSNR on the validation clips during training" in text
    assert "SSIM (higher is better)" in files[1].read_text()
    assert plot.read_scores(tmp_path / "runs" / "b") == ([10, 20], {"psnr": [25.0, 26.0], "ssim": [0.5, 0.6]})
    monkeypatch.chdir(tmp_path / "runs" / "b")
    (here, _) = plot.draw([Path()], tmp_path / "here", ("svg",))
    assert ">b<" in here.read_text()
    with pytest.raises(ValueError, match="no run with validation scores"):
        list(plot.draw([tmp_path / "out"], tmp_path / "out"))


def test_every_metric_is_drawn_with_the_unit_and_direction_of_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path))  # where there are no weights, of LPIPS and FVD for instance
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert plot.axis_label("flicker") == "FLICKER [levels] (lower is better)"
    assert plot.axis_label("lpips") == "LPIPS (lower is better)"
    assert plot.axis_label("psnr_pooled") == "PSNR_POOLED [dB] (higher is better)"
    assert all("is better)" in plot.axis_label(name) for name in plugins.names("metrics"))
    metric = SimpleNamespace(unit="", better="neither")
    plugin = SimpleNamespace(build=lambda device: metric)
    monkeypatch.setattr(plugins, "find", lambda kind, name: plugin)
    assert plot.axis_label("mine") == "MINE"


def test_a_metric_that_is_not_installed_is_drawn_by_its_name() -> None:
    assert plot.axis_label("someone_elses") == "someone_elses"


def test_runs_with_other_validation_settings_are_drawn_in_panels_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {
        "a": "num_frames: 9, size: 64, clips: 2",
        "b": "num_frames: 9, size: 64, clips: 2, samples: 1",  # the number of samples changes no score
        "c": "num_frames: 17, size: 128, data: folder, root: clips",
        "d": "",
    }
    for name, validation in settings.items():
        Path(name).mkdir()
        Path(name, "scores.csv").write_text("step,psnr\n10,20\n20,21\n")
        if validation:
            Path(name, "config.yaml").write_text(f"validation: {{{validation}}}\n")
    figures: dict[str, str] = {}
    for names in ("ab", "abcd"):
        assert cli.main(["plot", "--training", *names, "--out", names, "--format", "svg"]) == 0
        figures[names] = Path(names, "training-psnr.svg").read_text()
    titles = ("9x64x64, 2 clips of bundle", "17x128x128, all clips of folder", "unknown validation clips")
    assert [figures["abcd"].count(title) for title in titles] == [1, 1, 1]
    assert figures["abcd"].count("training step") == 3
    assert figures["ab"].count("training step") == 1
    assert not any(title in figures["ab"] for title in titles)

"""Presets: their content, which words reach which run, and what is refused.  `test_preset_runs` runs each of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import adapters
from vaebench import cli, plots, preset, published
from vaebench.config import parse_run
from vaebench.training.config import parse as parse_training
from vaebench.training.recipes import recipes

CHECKPOINT = "wfvae:runs/train/"


@pytest.mark.parametrize("name", preset.names())
def test_each_preset_names_known_vaes_settings_recipes_and_figures(name: str):
    chosen = preset.choose([f"preset={name}"])
    assert chosen.preset is not None
    for config in chosen.runs:
        for vae in config.vaes or []:
            assert vae in adapters.names() or vae.removeprefix(CHECKPOINT) in recipes()
    folders = [parse_training(recipe, words).run for recipe, *words in chosen.trainings]
    assert len(set(folders)) == len(folders)
    assert set(chosen.preset.figures) <= set(plots.figures())
    assert all("\n" not in text for text in (chosen.preset.about, chosen.preset.source, chosen.preset.needs))


@pytest.mark.parametrize("table", [1, 2])
def test_a_table_has_a_row_for_each_published_vae(table: int):
    rows = {(row.model, row.variant) for row in published.read() if row.source == f"arXiv:2411.17459 table {table}"}
    (config,) = preset.choose([f"preset=wfvae-table{table}"]).runs
    assert len(config.vaes or []) == len(rows)


def test_the_efficiency_figure_has_the_shapes_and_dtypes_of_the_paper():
    (config,) = preset.choose(["preset=wfvae-figure4"], suite="efficiency").runs
    assert config.options == {"frames": [33], "sizes": [256, 512, 768], "dtypes": ["float32", "bfloat16"]}
    assert {"wfvae/l-16", "odvae/1.2", "cogvideox/2b", "allegro/1.0"} <= set(config.vaes or [])


def test_a_preset_gives_the_settings_of_the_same_words_without_it():
    (config,) = preset.choose(["preset=wfvae-table3", "root=DIR", "clips=4"]).runs
    words = ["protocol=wfvae-paper", "data=kinetics400", "root=DIR", "clips=4", "num_frames=33", "size=256"]
    assert config == parse_run([*words, "vaes=" + ",".join(f"{CHECKPOINT}{size}-4" for size in "sml")])


def test_a_word_reaches_the_runs_whose_suite_uses_it():
    scored, measured = preset.choose(["preset=wfvae-figure1", "root=DIR", "frames=9", "sizes=64", "vaes=dct/4"]).runs
    assert (scored.root, measured.root) == ("DIR", "")
    assert "frames" not in scored.options
    assert measured.options["frames"] == [9]
    assert scored.options["sizes"] == measured.options["sizes"] == [64]
    assert scored.vaes == measured.vaes == ["dct/4"]


def test_a_suite_selects_the_runs_of_a_preset():
    assert [c.suite for c in preset.choose(["preset=long-video"]).runs] == ["tokens", *["relay"] * 4]
    assert [c.suite for c in preset.choose(["preset=long-video"], suite="tokens").runs] == ["tokens"]
    assert [c.suite for c in preset.choose(["preset=long-video", "suite=tokens"]).runs] == ["tokens"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["preset=wfvae-table4"], "no preset 'wfvae-table4'.*did you mean .*wfvae-table"),
        (["preset=wfvae-table1", "sise=64"], "no setting 'sise'"),
        (["preset=wfvae-table1", "clips=few"], "clips='few' should be a whole number"),
        (["preset=wfvae-table1", "--suite", "tokens"], "has no run of --suite tokens .it runs reconstruction"),
        (["preset=wfvae-table1", "--config", "a.yaml"], "give one of them"),
        (["preset=wfvae-figure4", "num_frames=9", "vaes=dct/4"], "num_frames=9 would change nothing"),
        (["preset=wfvae-figure7", "--suite", "efficiency"], "trains networks and runs no suite"),
        (["preset=long-video", "--format", "json"], "prints 5 tables"),
    ],
)
def test_what_a_preset_cannot_do_is_refused(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", *words]) == 2
    assert re.search(reason, capsys.readouterr().err)


def test_only_the_command_line_takes_a_preset(tmp_path: Path):
    (tmp_path / "run.yaml").write_text("preset: wfvae-table1\n")
    with pytest.raises(ValueError, match="only valid on the command line"):
        parse_run([], file=str(tmp_path / "run.yaml"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "expected either runs or train"),
        ({"runs": [{"suite": "tokens"}], "train": ["s-4"]}, "expected either runs or train"),
        ({"runs": [{"vaes": ["dct/4"]}]}, "each run should name its suite"),
        ({"runs": [{"suite": "tokens"}], "figure": []}, "no setting 'figure'"),
    ],
)
def test_an_invalid_file_is_refused_with_its_name(data: dict[str, object], reason: str):
    with pytest.raises(ValueError, match=f"preset mine: .*{reason}"):
        preset.parse("mine", {"about": "a", "source": "b", "needs": "c", **data})


def test_the_list_has_the_source_and_needs_of_each_preset(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["list", "presets"]) == 0
    text = capsys.readouterr().out
    assert all(f"{name}: {preset.load(name).about}\n" in text for name in preset.names())
    assert text.count("\n  source: ") == text.count("\n  needs: ") == len(preset.names())
    assert cli.main(["list"]) == 0
    assert f"presets: {', '.join(preset.names())}\n" in capsys.readouterr().out


def test_a_record_does_not_depend_on_the_preset_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "data=synthetic",
        "vaes=pool/4x8x8",
        "num_frames=4",
        "size=16",
        "clips=1",
        "metrics=psnr",
        "protocol=default",
    ]
    assert cli.main(["run", "preset=wfvae-table1", *words]) == 0
    (file,) = Path("runs/results").rglob("pool-4x8x8.json")
    first = json.loads(file.read_text())
    assert cli.main(["run", *words]) == 0
    again = json.loads(file.read_text())
    assert {k: v for k, v in first.items() if k != "created"} == {k: v for k, v in again.items() if k != "created"}

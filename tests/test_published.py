"""Published numbers: found by VAE and by model, and shown beside ours with what differs, never in one column."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

import adapters
from tests.records import record
from vaebench import cli, plot_style, plots, protocol, published, records
from vaebench.records import Score, by_key

PAPER = {"protocol": "wfvae-paper", "posterior": "", "dtype": "", "mode": ""}


def measured(name: str = "wfvae/l-16", *scores: Score, data: str = "panda70m_1a2b3c", **config: object):
    scores = scores or (Score(35.0, "dB", "higher", 8, metric="psnr"),)
    made = record("reconstruction", "clips-33x256", name, by_key(scores), config={**PAPER, **config})
    return replace(made, data={"name": data})


def panda(pairs: list[published.Beside]) -> published.Beside:
    (one,) = [pair for pair in pairs if (pair.dataset, pair.protocol) == ("Panda-70M", "wfvae-paper")]
    return one


def test_every_published_vae_has_an_adapter_and_rows():
    known = set(adapters.names())
    with published.NAMES.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["vae"] for row in rows} <= known
    for row in rows:
        assert published.read(model=row["model"], variant=row["variant"]), row


def test_the_metrics_of_a_reproduced_protocol_are_all_known():
    for name, same in published.SAME.items():
        assert {row.metric for row in published.read(protocol=name)} == set(same)
        of_protocol = set(protocol.load(name).metrics)
        assert set(same.values()) - {"fvd"} <= of_protocol  # VidTok publishes FVD without a script


def test_rows_are_found_by_variant_family_and_model():
    large = published.of_vae("wfvae/l-16")
    assert {(row.model, row.variant) for row in large} == {("WF-VAE", "L-16ch")}
    assert {row.variant for row in published.of_vae("wfvae")} > {"L-16ch", "L-4ch", "S-8"}
    assert published.of_vae("leanvae") == published.read(model="LeanVAE")
    with pytest.raises(ValueError, match="did you mean 'wfvae/l-16'"):
        published.of_vae("wfvae/l16")


def test_equal_choices_are_comparable_and_the_difference_is_here_minus_published():
    pair = panda(published.beside([measured()]))
    assert (pair.here, pair.published, pair.differs) == (35.0, 35.87, ())
    assert pair.difference == pytest.approx(35.0 - 35.87)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"protocol": "default"}, ("protocol",)),
        ({"data": "bundle"}, ("data set",)),
        ({"data": "p_1a2b3c"}, ("data set",)),  # a folder whose name begins that of the data set
        ({"data": "panda_mine_1a2b3c"}, ("data set",)),
        ({"data": "panda70m_mine_1a2b3c"}, ("data set",)),
        ({"data": "panda70m_1000_1a2b3c"}, ()),  # the manifest of `vaebench data pin panda70m-1000`
        ({"clips": 2}, ("clips",)),
        ({"num_frames": 17}, ("clip shape",)),
        ({"posterior": "mode"}, ("posterior",)),
        ({"posterior": "sample"}, ()),
        ({"dtype": "float32", "mode": "tiled"}, ("dtype", "mode")),
    ],
)
def test_every_choice_that_differs_is_named(change: dict, differs: tuple[str, ...]):
    assert panda(published.beside([measured(**change)])).differs == differs


@pytest.mark.parametrize(
    ("source", "name", "known"),
    [
        ("webvid", "webvid_results_10M_val_1a2b3c", True),
        ("folder", "webvid_1a2b3c", True),
        ("folder", "webvid_results_10M_val_1a2b3c", False),  # a folder of this name may contain anything
        ("folder", "w_e4356d", False),
        ("bundle", "bundle", False),
    ],
)
def test_a_data_set_is_known_by_its_source_or_whole_name(source: str, name: str, known: bool):
    made = measured()
    made = replace(made, data={"name": name}, config={**made.config, "data": source})
    (pair,) = [p for p in published.beside([made]) if (p.dataset, p.protocol) == ("WebVid-10M", "wfvae-paper")]
    assert ("data set" not in pair.differs) == known


def test_the_data_sets_of_sources_are_those_of_published_numbers():
    assert {name for names in published.DATA_SETS.values() for name in names} <= {
        row.dataset for row in published.read()
    }


def test_another_definition_of_a_metric_is_shown_and_named():
    pair = panda(published.beside([measured("wfvae/l-16", Score(34.0, "dB", "higher", 8, metric="psnr_pooled"))]))
    assert pair.differs == ("metric",)
    fvd = panda(published.beside([measured("wfvae/l-16", Score(0.9, "", "lower", 8, metric="fvd"))]))
    assert (fvd.published_metric, fvd.differs) == ("i3d_l2(paper:FVD)", ("metric",))


def test_conditions_changes_missing_values_and_user_checkpoints_have_no_published_number():
    scores = (
        Score(35.0, "dB", "higher", 8, metric="psnr", condition={"mode": "tiled"}),
        Score(-0.1, "dB", "higher", 8, metric="psnr_vs_own_decoder", signed=True),
        Score(None, "", "lower", 1, metric="fvd", status="too few clips"),
        Score(3.0, "levels", "lower", 8, metric="flicker"),
    )
    assert published.beside([measured("wfvae/l-16", *scores)]) == []
    mine = measured()
    assert published.beside([replace(mine, vae={**mine.vae, "name": "wfvae/l-16 (ft-1a2b3c)"})]) == []


def test_the_command_lists_rows_in_every_format(capsys: pytest.CaptureFixture[str]):
    for form in published.FORMATS:
        assert cli.main(["published", "wfvae/l-16", "--format", form]) == 0
        text = capsys.readouterr().out
        assert "35.87" in text
        if form == "csv":
            assert [row["value"] for row in csv.DictReader(io.StringIO(text))][4] == "35.87"
        if form == "json":
            assert json.loads(text)[4]["source"] == "arXiv:2411.17459 table 1"
    assert cli.main(["published", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(published.read())
    assert cli.main(["published", "nosuch"]) == 2
    assert "no published numbers of 'nosuch'" in capsys.readouterr().err


def test_a_run_prints_them_in_a_table_of_their_own_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    words = ["run", "vaes=pool/4x8x8", "num_frames=2", "size=16", "clips=1", "metrics=psnr"]
    assert cli.main([*words, "published=true"]) == 0
    said = capsys.readouterr()
    assert "published: no numbers of pool/4x8x8" in said.err
    monkeypatch.setattr(published, "_names", lambda: {"pool/4x8x8": [("WF-VAE", "L-16ch")]})
    assert cli.main([*words, "published=true"]) == 0
    ours, _, theirs = capsys.readouterr().out.partition("published numbers, not measured here")
    assert "35.87" not in ours
    row = next(line for line in theirs.splitlines() if "35.87" in line)
    assert "no: other protocol, data set, clips, clip shape" in row
    (file,) = tmp_path.glob("runs/results/reconstruction/*/*.json")
    assert "published" not in json.loads(file.read_text())["config"]
    assert cli.main(words) == 0
    assert "35.87" not in capsys.readouterr().out
    assert cli.main([*words, "published=true", "--format", "csv"]) == 2
    assert "use text or markdown" in capsys.readouterr().err


def test_a_run_prints_the_published_numbers_of_a_vae_that_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["run", "num_frames=2", "size=16", "clips=1", "metrics=psnr", "published=true"]
    for vaes, code in (("wfvae/l-16,ltx/0.9.5", 2), ("pool/4x8x8,wfvae/l-16", 1)):
        assert cli.main([*words, f"vaes={vaes}"]) == code
        said = capsys.readouterr()
        table = said.out.partition("published numbers of VAEs that were not run: wfvae/l-16")[2]
        assert "35.87" in table
        assert "gpu" not in table.lower()  # costs are not numbers of reconstruction
        assert ("published: no numbers of ltx/0.9.5" in said.err) == ("ltx" in vaes)
    assert cli.main([*words[:-1], "vaes=wfvae/l-16"]) == 2
    assert capsys.readouterr().out == ""


def test_the_figure_has_filled_markers_for_ours_and_hollow_ones_for_published_numbers(tmp_path: Path):
    made = measured()
    records.write(made, tmp_path, {})
    with plot_style.applied("screen"):
        ((stem, figure),) = plots.figures()["beside_published"](tmp_path, "screen")
    assert stem == "beside_published-clips-33x256"
    lines = figure.axes[0].lines
    filled = {float(line.get_xdata()[0]) for line in lines if line.get_markerfacecolor() != "none"}
    hollow = {float(line.get_xdata()[0]) for line in lines if line.get_markerfacecolor() == "none"}
    assert filled == {35.0}
    assert hollow == {row.value for row in published.of_vae("wfvae/l-16") if row.metric == "psnr"}
    texts = [text.get_text() for text in figure.legends[0].texts]
    assert texts[0] == "measured here, panda70m_1a2b3c, 33 frames of 256x256, protocol wfvae-paper"
    assert "published: wfvae-paper, Panda-70M" in texts


def test_a_table_of_records_has_them_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    records.write(measured(), tmp_path, {})
    assert cli.main(["table", str(tmp_path)]) == 0
    assert "35.87" not in capsys.readouterr().out
    assert cli.main(["table", str(tmp_path), "--published", "--format", "markdown"]) == 0
    ours, _, theirs = capsys.readouterr().out.partition("**published numbers, not measured here**")
    assert "35.00" in ours
    assert "35.87" not in ours
    assert "35.87" in theirs
    assert cli.main(["table", str(tmp_path), "--published", "--format", "latex"]) == 2
    assert "--published prints a second table" in capsys.readouterr().err

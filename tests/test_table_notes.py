"""Notes below tables: other metric code, clips of another shape than published ones, protocols of another version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.records import record
from vaebench import cli, protocol, records, table_notes
from vaebench.records import Record, Score, by_key


def made(name: str, psnr: str = "", flicker: str = "", created: str = "2026-01-01", **change: Any) -> Record:
    """A record with the digests of its two metrics; "" for none."""
    digests = {metric: digits for metric, digits in (("psnr", psnr), ("flicker", flicker)) if digits}
    scores = by_key(Score(1.0, "dB", "higher", 8, metric=metric) for metric in ("psnr", "flicker"))
    return replace(record("reconstruction", "s", name, scores), **{"digests": digests, "created": created, **change})


NEW, OLD = "11111111", "22222222"
GROUP = [
    made("toy/a", OLD, OLD, "2026-01-01T10:00:00+00:00"),
    made("toy/b", OLD, NEW, "2026-01-02T10:00:00+00:00"),
    made("toy/c", NEW, NEW, "2026-01-03T10:00:00+00:00"),
    made("toy/older"),  # without digests
]
OTHER_CODE = "scored by other metric code than the newest record, toy/c, so the values are not comparable"


def test_vaes_that_other_metric_code_scored_are_named_with_the_remedy():
    assert table_notes.notes(GROUP) == [
        f"psnr of toy/a, toy/b: {OTHER_CODE}: measure them again",
        f"flicker of toy/a: {OTHER_CODE}: measure it again",
    ]
    assert table_notes.notes(GROUP[::-1])[0].startswith("psnr of toy/b, toy/a: ")
    assert table_notes.notes(GROUP, ["flicker"]) == [f"flicker of toy/a: {OTHER_CODE}: measure it again"]
    assert table_notes.notes(GROUP[2:]) == []


def test_metrics_with_the_same_outdated_vaes_share_a_line():
    (line,) = table_notes.notes([GROUP[0], GROUP[2]])
    assert line.startswith("psnr, flicker of toy/a: ")


def test_metric_code_is_compared_within_a_table_alone():
    elsewhere = replace(GROUP[0], setting="other")
    assert table_notes.notes([elsewhere, GROUP[2]]) == []
    (line,) = table_notes.notes([elsewhere, replace(GROUP[2], setting="other"), replace(GROUP[2], setting="third")])
    assert line.startswith("reconstruction · other: psnr, flicker of toy/a: ")


def test_a_score_without_a_value_ranks_nothing():
    lost = by_key([Score(None, "dB", "higher", 8, metric="psnr", status="undefined")])
    assert table_notes.notes([replace(GROUP[0], scores=lost), GROUP[2]]) == []


def test_scores_that_are_derived_from_a_metric_depend_on_its_code():
    def relay(name: str, psnr: str, created: str) -> Record:
        scores = by_key([Score(1.0, "dB", "higher", 8, metric="psnr_last")])
        return made(name, psnr, created=created, suite="relay", scores=scores, columns=["psnr_last"])

    old, new = relay("toy/a", OLD, "2026-01-01"), relay("toy/c", NEW, "2026-01-02")
    assert table_notes.notes([old, new]) == [f"psnr of toy/a: {OTHER_CODE}: measure it again"]
    pooled = replace(old, digests={"psnr": OLD, "psnr_last": NEW})  # a metric of this name has code of its own
    assert table_notes.notes([pooled, replace(new, digests={"psnr": NEW, "psnr_last": NEW})]) == []


def test_records_of_the_same_second_have_the_same_note_in_any_order():
    group = [made("toy/a", OLD), made("toy/b", NEW), made("toy/c", NEW)]
    for order in (group, group[::-1]):
        (line,) = table_notes.notes(order)
        assert line.startswith("psnr of toy/a: ")


def test_the_note_about_the_published_shape_names_all_other_shapes_in_order():
    clip = protocol.load("vidtok").clip
    assert clip == "17x256"

    def of(*shapes: tuple[int, int]) -> list[str]:
        configs = [{"protocol": "vidtok", "num_frames": frames, "size": size} for frames, size in shapes]
        group = [record("reconstruction", "s", "toy/a", {}, config=config) for config in configs]
        return [line for line in table_notes.notes(group) if "published numbers" in line]

    said = "protocol vidtok: published numbers are of clips 17x256 (frames x size), these are of "
    many = [(frames, size) for frames in (17, 33) for size in (64, 128, 256)]
    assert of((17, 256)) == []
    assert of((17, 256), (33, 128)) == [f"{said}33x128"]
    assert of(*many) == of(*many[::-1]) == [f"{said}17x128, 17x64, 33x128, 33x256, 33x64"]


@pytest.mark.parametrize("words", [["table", "."], ["report", "--results", "."]])
def test_a_record_of_a_protocol_of_another_version_is_shown_with_a_note(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    files = {"codecs": {"ffv1": 1}, "lossless": True}
    unknown = made(
        "toy/a",
        config={"protocol": "of-2030", "num_frames": 33, "size": 256, "weights": ""},
        extra={"scored_from_files": files},
    )
    records.write(unknown, tmp_path, {})
    assert cli.main(words) == 0
    note = "protocol of-2030: unknown in this version of vaebench; its notes are not shown"
    captured = capsys.readouterr()
    assert note in (Path("report.html").read_text() if words[0] == "report" else captured.err)

import json
import os
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks import coverage
from vaebench import kept_pictures, records, table_notes, tables
from vaebench.records import Failure, Record, Score, by_key

RECORD = Record(
    suite="reconstruction",
    vae={"family": "pool", "variant": "4x8x8", "name": "pool/4x8x8", "temporal_compression": 4,
         "spatial_compression": 8, "latent_channels": 3, "weights": "none"},
    data={"name": "bundle"},
    config={"suite": "reconstruction"},
    setting="bundle-33x256",
    scores={"psnr": Score(23.456, "dB", "higher", 8, 1.0, 21.5, 25.5, metric="psnr"),
            "ssim": Score(0.71234, "", "higher", 8, metric="ssim")},
    absent={"lpips": "weights are not here"},
    failed=[Failure("bundle/x", "x.mp4", "cut short")],
    machine={},
    fingerprint="0" * 16,
    created="2026-01-01T00:00:00+00:00",
)  # fmt: skip


def test_a_record_and_its_clips_come_back_as_written(tmp_path: Path):
    clips = {"bundle/x": {"psnr": 20.5}, "bundle/y": {"psnr": 1 / 3}}
    file = records.write(RECORD, tmp_path, clips)
    assert file == tmp_path / "reconstruction" / "bundle-33x256" / "pool-4x8x8.json"
    assert records.read(file) == RECORD
    assert list(records.read_all(tmp_path)) == [RECORD]
    assert list(records.read_all(tmp_path, "efficiency")) == []
    assert records.read_clips(tmp_path, RECORD) == clips


def test_a_score_that_is_no_number_is_named_and_nothing_is_written(tmp_path: Path):
    for value in (float("nan"), float("inf")):
        broken = replace(RECORD, scores={**RECORD.scores, "fvd": Score(value, "", "lower", 8, metric="fvd")})
        with pytest.raises(ValueError, match="pool/4x8x8: fvd is NaN or infinite"):
            records.write(broken, tmp_path, {"bundle/x": {"psnr": 20.5}})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_clips_of_the_record_that_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clips = {"bundle/x": {"psnr": 20.5}}
    records.write(RECORD, tmp_path, clips)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        records.write(RECORD, tmp_path, {"bundle/x": {"psnr": 1.0}})
    assert records.read_clips(tmp_path, RECORD) == clips
    assert records.read(records.record_path(tmp_path, "reconstruction", "bundle-33x256", "pool/4x8x8")) == RECORD


def test_clips_of_an_earlier_run_do_not_outlive_it(tmp_path: Path):
    records.write(RECORD, tmp_path, {"bundle/x": {"psnr": 20.5}})
    records.write(RECORD, tmp_path, {})
    assert records.read_clips(tmp_path, RECORD) == {}


def sheets(*cases: str, grey: int = 0) -> dict[str, np.ndarray]:
    return {case: np.full((2, 3, 8, 8, 3), grey, np.uint8) for case in cases}


def test_pictures_of_another_run_are_never_missing_while_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = kept_pictures.folder(tmp_path, RECORD)
    kept_pictures.write_all(tmp_path, RECORD, sheets("a", "b", "c"))
    seen: list[list[str]] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda f: (seen.append(sorted(p.name for p in folder.glob("*.png"))), real(f)))
    kept_pictures.write_all(tmp_path, RECORD, sheets("a", grey=9))
    kept_pictures.write_all(tmp_path, RECORD, {})
    assert seen
    assert all(names == ["a.png", "b.png", "c.png"] for names in seen)
    assert [np.asarray(Image.open(folder / f"{case}.png")).max() for case in "abc"] == [9, 0, 0]
    assert len(list(folder.iterdir())) == 3


def test_runs_that_finish_at_once_all_write_their_pictures(tmp_path: Path):
    errors: list[BaseException] = []

    def finish(grey: int) -> None:
        try:
            for _ in range(20):
                kept_pictures.write_all(tmp_path, RECORD, sheets("a", "b", "c", grey=grey))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=finish, args=(grey,)) for grey in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(file.name for file in kept_pictures.folder(tmp_path, RECORD).iterdir()) == [
        "a.png",
        "b.png",
        "c.png",
    ]


def test_a_record_of_something_else_is_not_replaced(tmp_path: Path):
    file = records.write(RECORD, tmp_path, {"bundle/x": {"psnr": 20.5}})
    before = file.read_bytes()
    for change, field in (
        ({"vae": {**RECORD.vae, "weights": "1" * 64}}, "vae.weights is 'none', that of this run is '1111"),
        ({"vae": {**RECORD.vae, "name": "pool-4x8x8"}}, "vae.name is 'pool/4x8x8', that of this run is 'pool-4x8x8'"),
        ({"data": {"name": "other"}}, "data.name is 'bundle', that of this run is 'other'"),
    ):
        with pytest.raises(ValueError, match=f"{re.escape(str(file))} is a different result: its {field}"):
            records.write(replace(RECORD, **change), tmp_path, {})  # type: ignore[arg-type]
        assert file.read_bytes() == before
        assert file.with_suffix(".clips.csv").is_file()
    file.write_text("{")
    with pytest.raises(ValueError, match=r"is not a record of vaebench: .*; move or delete it, or choose another"):
        records.write(RECORD, tmp_path, {})
    assert file.read_text() == "{"


def test_pictures_of_another_record_are_not_taken_over(tmp_path: Path):
    file = records.write(RECORD, tmp_path, {})
    kept_pictures.write_all(tmp_path, RECORD, sheets("a"))
    other = replace(RECORD, vae={**RECORD.vae, "weights": "1" * 64})
    with pytest.raises(ValueError, match=r"move or delete it and its \.frames folder, or choose another"):
        records.write(other, tmp_path, {})
    file.unlink()
    with pytest.raises(
        ValueError, match=r"pool-4x8x8\.frames contains pictures of a deleted record: move or delete the folder"
    ):
        records.write(other, tmp_path, {})
    assert not file.exists()


def test_a_record_in_the_place_of_another_is_named(tmp_path: Path):
    file = records.write(RECORD, tmp_path, {})
    copy = tmp_path / "reconstruction" / "bundle-33x256-copy" / file.name
    copy.parent.mkdir()
    file.rename(copy)
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(copy))} is not at the path .* move it to {re.escape(str(file))}"
    ):
        list(records.read_all(tmp_path))


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (Score(4e-4, "", "higher", 8, 1e-4, 2e-4, 6e-4, signed=True, metric="psnr"), "+4.0e-04 ±2.0e-04"),
        (Score(-4e-4, "", "higher", 8, signed=True, metric="psnr"), "-4.0e-04"),
        (Score(0.25, "", "higher", 8, 0.1, 0.2, 0.3, signed=True, metric="psnr"), "+0.2500 ±0.0500"),
        (Score(0.0, "", "higher", 8, 0.0, 0.0, 0.0, signed=True, metric="psnr"), "0.0000 ±0.0000"),
        (Score(31.4, "dB", "higher", 2, 1.0, metric="psnr"), "31.40"),
        (Score(12.0, "", "lower", 8, 10.0, 0.0, 31.6, metric="psnr"), "12.00 (0 to 31.60)"),
        (Score(None, "s", "lower", 0, metric="encode_s", status="out of memory"), "OOM"),
        (None, "—"),
    ],
)
def test_a_small_change_keeps_its_sign_and_its_interval(score: Score | None, said: str):
    assert tables.show(score) == said


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1}'])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text: str):
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json is not a record"):
        records.read(file)


def test_the_fingerprint_ignores_the_order_of_keys_and_nothing_else():
    facts = {"a": 1, "b": {"c": [1, 2]}}
    assert records.fingerprint(facts) == records.fingerprint({"b": {"c": [1, 2]}, "a": 1})
    assert records.fingerprint(facts) != records.fingerprint({"a": 1, "b": {"c": [2, 1]}})


def test_the_interval_of_a_mean_is_students_by_hand():
    # mean 2.5, deviation sqrt(5/3), standard error sqrt(5/3)/2; t(0.975, 3 degrees of freedom) = 3.182446 (any table)
    stderr, low, high = records.interval(np.array([1.0, 2.0, 3.0, 4.0]))
    assert stderr == pytest.approx(0.6454972)
    assert (low, high) == pytest.approx((2.5 - 3.182446 * 0.6454972, 2.5 + 3.182446 * 0.6454972))


def test_two_clips_have_a_standard_error_and_no_interval_and_one_has_neither():
    assert records.interval(np.array([1.0, 3.0])) == (1.0, None, None)
    assert records.interval(np.array([1.0])) == (None, None, None)
    assert records.interval(np.array([1.0, 3.0, 5.0]))[1:] == pytest.approx(
        (3 - 4.968275, 3 + 4.968275)
    )  # t(2) = 4.302653


@pytest.mark.parametrize(("distribution", "least"), [("normal", 0.93), ("ssim_like", 0.91)])
def test_at_the_size_of_the_bundle_the_interval_contains_the_mean_as_often_as_it_says(distribution: str, least: float):
    found = coverage.coverage(distribution, n=8, draws=1000, seed=1)
    assert least <= found["student"]["coverage"] <= 0.97
    assert found["percentile"]["coverage"] < found["student"]["coverage"] - 0.03  # what it replaces


def test_the_committed_coverage_is_that_of_the_benchmark():
    record = json.loads((Path(__file__).parent.parent / "results/benchmarks/interval_coverage.json").read_text())
    assert list(record["coverage"]) == list(coverage.DISTRIBUTIONS)
    for rows in record["coverage"].values():
        assert list(rows) == ["3", "8", "25", "100"]
    assert all(rows["student"]["coverage"] >= 0.93 for rows in record["coverage"]["ssim_like"].values())


@pytest.mark.parametrize("form", tables.FORMATS)
def test_every_format_shows_value_interval_and_count(form: str):
    text = tables.render([RECORD], form)
    assert "pool/4x8x8" in text
    assert "23.456" in text if form in ("csv", "json") else "23.46" in text
    if form == "json":
        assert json.loads(text)[0]["scores"]["psnr"]["n"] == 8
    if form in ("text", "markdown"):
        assert "8 (1 failed)" in text
        assert "±2.00" in text


def test_the_best_row_stands_first_and_the_untrained_are_marked():
    better = replace(RECORD, vae={**RECORD.vae, "name": "toy/tiny", "weights": "random"},
                     scores={"psnr": Score(30.0, "dB", "higher", 8, metric="psnr")})  # fmt: skip
    table = tables.tabulate([RECORD, better])
    assert list(table["VAE"]) == ["toy/tiny (untrained)", "pool/4x8x8"]
    assert table["lpips"][0] == "—"
    assert any("random weights" in note for note in table_notes.notes([better]))


def test_a_score_that_could_not_be_had_has_a_column_of_dashes():
    lacking = replace(RECORD, absent={"lpips": "no weights", "fvd": "no weights"})
    table = tables.tabulate([lacking])
    assert list(table.columns[-3:]) == ["lpips", "fvd", "n"]
    assert list(table.iloc[0, -3:-1]) == ["—", "—"]


def test_a_caution_is_said_once_with_its_scores_and_names_its_vaes_where_it_is_not_about_all():
    def costs(name: str, **notes: str) -> records.Record:
        case = {"dtype": "float32", "frames": 5, "size": 64}
        scores = [
            Score(1.0, "s", "lower", 8, note=note, metric=metric, condition=case) for metric, note in notes.items()
        ]
        return replace(RECORD, vae={**RECORD.vae, "name": name}, scores=by_key(scores))

    rounded, all_of_them = "5x64 is run as 8x64, the next legal shape", "measured once"
    one = costs("toy/one", encode_s=rounded, decode_s=rounded, load_s=all_of_them)
    two = costs("toy/two", encode_s="", decode_s="", load_s=all_of_them)
    assert table_notes.notes([one, two]) == [f"encode_s, decode_s of toy/one: {rounded}", f"load_s: {all_of_them}"]

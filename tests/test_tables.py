"""The tidy frame of all scores, its import, and tables whose columns come from the records."""

import csv
import io
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import vaebench
from tests.records import record, write_toy_records
from vaebench import records, tables
from vaebench.records import Score, by_key


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_toy_records(folder)
    return folder


def test_the_frame_has_a_row_for_each_score_with_all_digits(root: Path):
    table = vaebench.results(root)
    expected = [
        (r.suite, r.name, s.metric, s.value) for r in records.read_all(root) for s in r.scores.values() if s.value
    ]
    rows = table[table["value"].notna() & (table["value"] != 0)]
    assert list(rows[["suite", "vae", "metric", "value"]].itertuples(index=False, name=None)) == expected
    assert len(table) == sum(len(r.scores) for r in records.read_all(root))


def test_conditions_and_the_spec_are_columns_to_select_and_pivot_by(root: Path):
    table = vaebench.results(str(root))
    times = table[(table["metric"] == "encode_s") & (table["condition.frames"] == 33)]
    wide = times.pivot(index="vae", columns="condition.size", values="value")
    assert wide.loc["toy-a/two"].to_dict() == {256: 1.0, 512: 2.0}
    assert math.isnan(wide.loc["toy-c/with-a-long-name", 512])
    (lost,) = times[times["status"] != "ok"].itertuples()
    assert (lost.vae, lost.status, lost.condition) == ("toy-c/with-a-long-name", "out of memory", "float32 33x512")
    changes = table[(table["suite"] == "blockwise") & (table["condition.mode"] == "independent-16")]
    assert list(changes["metric"].unique()) == ["psnr", "pixels_max"]
    assert (table["spatial_compression"] == 8).all()
    assert set(table["mode"]) == {"whole"}


def test_an_unavailable_metric_has_a_row_with_the_reason():
    made = replace(record("reconstruction", "s", "toy/a", {}), absent={"lpips": "no weights"})
    (row,) = tables.frame([made]).itertuples()
    assert (row.metric, row.status, row.note, row.n) == ("lpips", "unavailable", "no weights", 0)
    assert math.isnan(row.value)


def test_results_of_a_folder_without_records_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="no records in"):
        vaebench.results(tmp_path)


def test_import_vaebench_loads_neither_torch_nor_pandas_and_results_loads_pandas(root: Path):
    script = (
        "import sys, vaebench\n"
        "assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)\n"
        "import vaebench.records\n"
        f"print(len(vaebench.results({str(root)!r})))\n"
        "assert 'torch' not in sys.modules\n"
        "try: vaebench.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    count, error = done.stdout.splitlines()
    assert int(count) == len(vaebench.results(root))
    assert error == "module 'vaebench' has no attribute 'nothing'"


def test_csv_is_the_frame(root: Path):
    made = list(records.read_all(root))
    rows = list(csv.DictReader(io.StringIO(tables.render(made, "csv"))))
    table = tables.frame(made)
    assert [float(row["value"]) for row in rows if row["value"]] == list(table["value"].dropna())
    assert list(rows[0]) == list(table.columns)


def toy(columns: list[str]) -> records.Record:
    scores = [
        Score(float(i), "dB", "higher", 8, metric=name) for i, name in enumerate(("plugged_in", "psnr", "flicker"))
    ]
    return replace(record("outside_suite", "s", "toy/a", by_key(scores)), absent={"fvd": "no weights"}, columns=columns)


def test_columns_are_the_metrics_of_the_records_in_their_order():
    assert list(tables.tabulate([toy([])]).columns[4:-1]) == ["plugged_in dB ↑", "psnr dB ↑", "flicker dB ↑", "fvd"]


def test_a_suite_may_choose_the_columns_that_are_printed():
    assert list(tables.tabulate([toy(["flicker", "plugged_in", "fvd"])]).columns[4:-1]) == [
        "plugged_in dB ↑",
        "flicker dB ↑",
        "fvd",
    ]
    assert set(tables.frame([toy(["psnr"])])["metric"]) == {"plugged_in", "psnr", "flicker", "fvd"}


def test_latex_escapes_names_and_typesets_arrows():
    lines = tables.render([toy([])], "latex").splitlines()
    assert lines[0] == "% outside_suite · s"
    assert lines[1] == r"\begin{tabular}{lrrrrrrrr}"
    assert r"plugged\_in dB $\uparrow$" in lines[3]
    assert lines[5] == r"toy/a & 4x8x8 & 16 & 256 & 0.0000 & 1.000 & 2.000 & --- & 8 \\"


@pytest.mark.parametrize(("value", "status"), [(None, "ok"), (1.0, "out of memory"), (1.0, "unavailable")])
def test_a_value_and_another_status_exclude_each_other(value: float | None, status: records.Status):
    with pytest.raises(ValueError, match="if and only if"):
        Score(value, "", "lower", 1, metric="psnr", status=status)

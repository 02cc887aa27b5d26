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
from vaebench import cli, latex, records, tables
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
    assert lines[2] == r"\begin{tabular}{lrrrrrrrr}"
    assert r"$r_t \times r_s \times r_s$ & Chn & tcpr & plugged in [dB] $\uparrow$ & PSNR [dB] $\uparrow$" in lines[4]
    assert lines[6] == r"toy/a & $4\times8\times8$ & 16 & 256 & 0.0000 & 1.000 & 2.000 & --- & 8 \\"


@pytest.mark.parametrize(
    ("plain", "source"),
    [
        ("pool/4x8x8", "pool/4x8x8"),  # a name, not a product
        ("4x8x8", r"$4\times8\times8$"),
        ("wfvae/l-16 · float32 5x64", r"wfvae/l-16 $\cdot$ float32 $5\times64$"),
        ("-0.5140 ±0.5004", r"$-$0.5140 $\pm$0.5004"),
        ("+1.3e-04 ±2.8e-03", r"+$1.3\times10^{-4}$ $\pm2.8\times10^{-3}$"),
        ("-6.4e-07", r"$-6.4\times10^{-7}$"),
        ("50 % of $5 & #1_{a}~^\\", r"50 \% of \$5 \& \#1\_\{a\}\textasciitilde{}\textasciicircum{}\textbackslash{}"),
    ],
)
def test_cells_are_typeset(plain: str, source: str):
    assert latex.typeset(plain) == source


def competitors() -> list[records.Record]:
    def made(name: str, psnr: float, lpips: float, weights: str = "a") -> records.Record:
        scores = [Score(psnr, "dB", "higher", 8, metric="psnr"), Score(lpips, "", "lower", 8, metric="lpips")]
        return record("reconstruction", "s", name, by_key(scores), weights=weights)

    return [
        made("identity/pixels", 58.92, 0.0),
        made("toy/a", 31.001, 0.5),
        made("toy/b", 31.004, 0.25),  # shows the same 31.00 as toy/a
        made("toy/c", 30.0, 0.3),
        made("toy/tiny", 40.0, 0.1, "random"),
    ]


@pytest.mark.parametrize(
    ("form", "bold"),
    [("markdown", ["**31.00**", "**0.2500**"]), ("latex", [r"\textbf{31.00}", r"\textbf{0.2500}"])],
)
def test_best_values_are_bold_among_trained_vaes_and_equal_ones_share_it(form: str, bold: list[str]):
    text = tables.render(competitors(), form, best=True)
    assert text.count(bold[0]) == 2  # toy/a and toy/b
    assert text.count(bold[1]) == 1
    assert text.count("**" if form == "markdown" else r"\textbf") == (
        8 if form == "markdown" else 3
    )  # the heading is bold, too
    assert tables.render(competitors(), "text", best=True) == tables.render(competitors(), "text")


def test_the_help_says_which_rows_are_never_bold(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["table", "--help"])
    assert "identity, codecs and untrained VAEs do not compete" in " ".join(capsys.readouterr().out.split())


def test_a_value_without_competitors_is_not_bold():
    heading = 2  # marks
    assert tables.render(competitors()[:2], "markdown", best=True).count("**") == heading
    two = [replace(each, suite="blockwise", scores=by_key(  # one VAE per condition
        [Score(1.0 + i, "dB", "higher", 8, metric="psnr", condition={"mode": f"mode-{i}"})]
    )) for i, each in enumerate(competitors()[1:3])]  # fmt: skip
    assert tables.render(two, "markdown", best=True).count("**") == heading


def test_columns_are_chosen_in_their_order_in_every_format(root: Path, capsys: pytest.CaptureFixture[str]):
    made = competitors()
    assert list(tables.tabulate(made, ["lpips", "psnr"]).columns[4:]) == ["lpips ↓", "psnr dB ↑", "n"]
    for form in ("json", "csv"):
        text = tables.render(made, form, columns=["lpips"])
        assert "lpips" in text
        assert "psnr" not in text
    words = ["table", str(root), "--columns", "psnr", "--format", "csv"]
    assert cli.main(words) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["metric"] for row in rows} == {"psnr"}
    suites = {row["suite"] for row in rows}
    assert suites >= {"reconstruction", "blockwise"}
    assert "efficiency" not in suites  # it has no PSNR
    assert cli.main([*words, "--suite", "blockwise"]) == 0
    assert {row["suite"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))} == {"blockwise"}


def test_a_table_is_printed_from_a_folder_of_any_level_or_from_files(root: Path, capsys: pytest.CaptureFixture[str]):
    folder = root / "reconstruction" / "clips-33x256"
    printed = []
    for paths in ([root, "--suite", "reconstruction"], [folder.parent], [folder], sorted(folder.glob("*.json"))):
        assert cli.main(["table", *map(str, paths), "--format", "latex"]) == 0
        printed.append(capsys.readouterr().out)
    assert len(set(printed)) == 1
    assert r"\textbf{" in printed[0]


def test_published_numbers_are_in_a_table_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scores = {"psnr": Score(31.0, "dB", "higher", 8, metric="psnr")}
    file = records.write(record("reconstruction", "s", "wan/2.1", scores, weights="a"), tmp_path, {})
    words = ["table", str(file), "--format"]
    assert cli.main([*words, "markdown"]) == 0
    alone = capsys.readouterr().out
    assert cli.main([*words, "markdown", "--published"]) == 0
    both = capsys.readouterr().out
    assert both.startswith(alone)
    assert both.removeprefix(alone).startswith("\n**published numbers, not measured here**\n")
    assert "wan/2.1" in both.removeprefix(alone)
    assert cli.main([*words, "csv", "--published"]) == 2
    assert "--format csv cannot have: use text or markdown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["ROOT", "--suite", "reconstrution"], "no record of suite 'reconstrution'; did you mean 'reconstruction'?"),
        (["ROOT", "--columns", "pnsr"], "no metric 'pnsr'; did you mean 'psnr'?"),
        (["EMPTY"], "no records in"),
    ],
)
def test_a_table_that_cannot_be_printed_is_one_line_and_exit_code_2(
    words: list[str], said: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    places = {"ROOT": str(root), "EMPTY": str(tmp_path)}
    assert cli.main(["table", *(places.get(word, word) for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


@pytest.mark.parametrize(("value", "status"), [(None, "ok"), (1.0, "out of memory"), (1.0, "unavailable")])
def test_a_value_and_another_status_exclude_each_other(value: float | None, status: records.Status):
    with pytest.raises(ValueError, match="if and only if"):
        Score(value, "", "lower", 1, metric="psnr", status=status)


def test_a_record_that_is_named_twice_is_in_the_table_once(root: Path, capsys: pytest.CaptureFixture[str]):
    folder = root / "reconstruction" / "clips-33x256"
    assert cli.main(["table", str(folder)]) == 0
    once = capsys.readouterr().out
    twice = [str(folder / "toy-a-one.json"), str(folder), str(folder / ".." / "clips-33x256")]
    assert cli.main(["table", *twice]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(once.splitlines())


def test_the_default_protocol_and_the_setting_with_most_vaes_come_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    psnr = Score(30.0, "dB", "higher", 8, metric="psnr")

    def made(setting: str, name: str, n: int = 8, protocol: str = "default", suite: str = "reconstruction"):
        return record(suite, setting, name, {"psnr": replace(psnr, n=n)}, config={"protocol": protocol})

    given = [
        made("a-17x128-vidtok", "toy/a", protocol="vidtok"), made("a-17x128-vidtok", "toy/b", protocol="vidtok"),
        made("b-17x64", "toy/a"), made("c-33x64", "toy/a", n=25), made("d-33x256", "toy/a"), made("d-33x256", "toy/b"),
        made("e", "toy/a", suite="mine"),
    ]  # fmt: skip
    for one in given:
        records.write(one, tmp_path, {})
    assert cli.main(["table", str(tmp_path)]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if " · " in line]
    assert titles == [
        *("reconstruction · d-33x256", "reconstruction · c-33x64", "reconstruction · b-17x64"),
        *("reconstruction · a-17x128-vidtok", "mine · e"),
    ]
    assert cli.main(["report", "--results", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    places = [page.index(f"Table of reconstruction, {name}") for name in ("d-33x256", "c-33x64", "b-17x64", "a-17x128")]
    assert places == sorted(places)

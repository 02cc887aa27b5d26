"""Two results on the same clips: paired intervals by closed forms, refusals that name each difference, and the gate for CI."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from tests.records import record
from vaebench import cli, paired, records, regression
from vaebench.records import Failure, Score, by_key

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "results" / "reconstruction" / "bundle-33x256"
PSNR_A = [30.0, 25.0, 33.0, 28.0]
PSNR_B = [30.5, 25.0, 34.5, 27.5]  # B - A: +0.5, 0, +1.5, -0.5


def write(
    folder: Path,
    psnr: list[float],
    lpips: list[float] | None = None,
    fvd: float | None = None,
    **change: Any,
) -> Path:
    """Write the record of a made-up VAE on the clips c0, c1, ..., and return its file."""
    columns = {"psnr": psnr, **({"lpips": lpips} if lpips else {})}
    about = {"psnr": ("dB", "higher"), "lpips": ("", "lower")}
    scores = [
        Score(float(np.mean(values)), *about[name], len(psnr), *records.interval(np.array(values)), metric=name)
        for name, values in columns.items()
    ]
    if fvd is not None:
        scores.append(Score(fvd, "", "lower", len(psnr), metric="fvd"))
    config = {"clips": None, "protocol": "default", "options": {"keep": 1}, "vaes": ["toy/a"]}
    made = record("reconstruction", "clips-33x256", "toy/a", by_key(scores), config=config)
    given = {
        "data": {"name": "clips", "sha256": "d" * 64},
        "digests": {"psnr": "11111111", "lpips": "22222222"},
        **change,
    }
    clips = {f"c{i}": {name: values[i] for name, values in columns.items()} for i in range(len(psnr))}
    return records.write(replace(made, **given), folder, clips)


def compare(*words: object) -> int:
    return cli.main(["compare", *map(str, words)])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    lower_is_better = [0.10, 0.20, 0.30, 0.40]
    a = write(tmp_path / "a", PSNR_A, lower_is_better, fvd=12.0)
    b = write(tmp_path / "b", PSNR_B, [value - 0.01 for value in lower_is_better], fvd=10.0)
    return a, b


def test_the_change_has_the_interval_of_a_paired_t_test(pair: tuple[Path, Path]):
    psnr, lpips, fvd = paired.changes(*map(paired.read, pair))
    test = stats.ttest_rel(PSNR_B, PSNR_A).confidence_interval(0.95)
    assert (psnr.low, psnr.high) == pytest.approx((test.low, test.high), rel=1e-12)
    assert (psnr.a, psnr.b, psnr.change, psnr.n) == (29.0, 29.375, 0.375, 4)
    assert (psnr.won(), psnr.lost()) == (2, 1)  # and one clip is equal
    assert psnr.furthest(3) == ["c2", "c0", "c3"]
    assert psnr.verdict() == "no clear difference"
    # far narrower than the interval of either mean, because the spread is between clips
    assert psnr.high - psnr.low < 0.5 * (records.interval(np.array(PSNR_A))[2] - records.interval(np.array(PSNR_A))[1])
    assert (lpips.won(), lpips.lost(), lpips.verdict()) == (4, 0, "B is better")
    assert lpips.change == pytest.approx(-0.01)
    assert (fvd.a, fvd.b, fvd.low) == (12.0, 10.0, None)
    assert "score of the whole set" in fvd.reason


def test_a_comparison_is_antisymmetric(pair: tuple[Path, Path]):
    forward = paired.changes(*map(paired.read, pair))
    backward = paired.changes(*map(paired.read, reversed(pair)))
    for one, other in zip(forward, backward, strict=True):
        assert one.change == -other.change
        assert (one.won(), one.lost()) == (other.lost(), other.won())
        if one.low is not None:
            assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_two_committed_records_are_compared_as_in_their_files(capsys: pytest.CaptureFixture[str]):
    a, b = COMMITTED / "dct-16.json", COMMITTED / "wfvae-tiny.json"
    assert compare(a, b, "--format", "json") == 0
    shown = json.loads(capsys.readouterr().out)
    means = [records.read(file).scores["psnr"].value for file in (a, b)]
    psnr = shown["metrics"]["psnr"]
    assert (psnr["a"], psnr["b"], psnr["change"]) == pytest.approx((*means, means[1] - means[0]))
    assert psnr["b_wins"] == sum(clip["b"] > clip["a"] for clip in psnr["clips"].values())
    assert psnr["b_wins"] + psnr["a_wins"] == psnr["n"] == 8
    assert shown["gate"] is None
    assert compare(a, b) == 0
    captured = capsys.readouterr()
    assert "A: dct/16\nB: wfvae/tiny\nreconstruction · bundle, 33 frames of 256x256\n" in captured.out
    assert "note: not compared: lpips (no value in A and B), fvd (no value in A and B)" in captured.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"name": "clips", "sha256": "e" * 64}}, "the data are clips (sha256 dddddddddddd) in A"),
        ({"digests": {"psnr": "33333333"}}, "the code of the metric psnr is 11111111 in A and 33333333 in B"),
        ({"config": {"num_frames": 17, "size": 256}}, "num_frames is 33 in A and 17 in B"),
        ({"config": {"num_frames": 33, "size": 256, "clips": 2}}, "clips is unset in A and 2 in B"),
        (
            {"config": {"num_frames": 33, "size": 256, "protocol": "wfvae-paper"}},
            "protocol is default in A and wfvae-paper in B; posterior is mode in A and sample in B; dtype is float32 in A",
        ),
        ({"config": {"num_frames": 33, "size": 256, "mode": "tiled"}}, "mode is unset in A and tiled in B"),
        ({"suite": "blockwise"}, "the suite is reconstruction in A and blockwise in B"),
    ],
)
def test_results_that_cannot_be_compared_are_refused_and_the_difference_is_named(
    change: dict[str, Any], said: str, pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = write(tmp_path / "other", PSNR_B, **change)
    assert compare(pair[0], other) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    "config",
    [
        {"num_frames": 33, "size": 256, "posterior": "mode", "dtype": "float32"},  # the protocol's own choices
        {"num_frames": 33, "size": 256, "seed": 7},  # nothing is sampled
        {"num_frames": 33, "size": 256, "options": {"keep": ["worst:3"]}, "device": "cuda:1", "root": "/elsewhere"},
    ],
)
def test_settings_that_change_no_score_are_not_a_difference(
    config: dict[str, Any], pair: tuple[Path, Path], tmp_path: Path
):
    assert compare(pair[0], write(tmp_path / "other", PSNR_B, config=config)) == 0


def test_a_metric_with_other_code_does_not_matter_if_it_is_not_compared(pair: tuple[Path, Path], tmp_path: Path):
    digests = {"psnr": "11111111", "lpips": "99999999"}
    other = write(tmp_path / "other", PSNR_B, [0.1, 0.2, 0.3, 0.5], digests=digests)
    assert compare(pair[0], other) == 2
    assert compare(pair[0], other, "--columns", "psnr") == 0


def test_a_clip_list_of_another_run_is_refused(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    clips = pair[1].with_suffix(".clips.csv")
    clips.write_text(clips.read_text().replace("30.5", "31.5"))
    assert compare(*pair) == 2
    assert "a.clips.csv is of another run: its mean of psnr differs" in capsys.readouterr().err


def test_without_a_clip_list_the_values_are_shown_and_the_reason(pair: tuple[Path, Path]):
    pair[1].with_suffix(".clips.csv").unlink()
    psnr, *_ = paired.changes(*map(paired.read, pair))
    assert (psnr.a, psnr.b, psnr.low) == (29.0, 29.375, None)
    assert psnr.reason == "B has no .clips.csv beside its record"


@pytest.mark.parametrize("count", [1, 2])
def test_a_missing_clip_list_is_named_also_for_too_few_clips_for_an_interval(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    a, b = (write(tmp_path / name, PSNR_A[:count], fvd=9.0) for name in "ab")
    a.with_suffix(".clips.csv").unlink()
    assert compare(a, b) == 0
    captured = capsys.readouterr()
    psnr, fvd = [line for line in captured.out.splitlines() if line.startswith(("psnr", "fvd"))]
    assert psnr.endswith("  A has no .clips.csv beside its record")
    assert fvd.endswith("a score of the whole set: single clips have none")
    assert "note: only B has scores" not in captured.err
    b.with_suffix(".clips.csv").unlink()
    assert compare(a, b) == 0
    assert "A and B have no .clips.csv beside their records" in capsys.readouterr().out


def test_clips_that_differ_are_named_for_scores_of_the_whole_set_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    a, b = write(tmp_path / "a", PSNR_A[:3], fvd=9.0), write(tmp_path / "b", PSNR_B, fvd=9.0)
    assert compare(a, b, "--columns", "fvd") == 0
    assert "note: only B has scores of c3\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limit", "passes"),
    [
        (["--fail-below", "psnr=0.375"], True),  # the change is 0.375 dB: a limit that is just met passes
        (["--fail-below", "psnr=0.376"], False),
        (["--fail-below", "psnr=-0.05"], True),
        (["--fail-above", "lpips=0"], True),  # it drops by 0.01, which is an improvement
        (["--fail-above", "lpips=-0.02"], False),
        (["--fail-above", "fvd=0.5", "--fail-below", "psnr=-0.1"], True),
    ],
)
def test_the_gate_compares_candidate_minus_baseline_with_each_limit(
    limit: list[str], passes: bool, pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    xml = tmp_path / "gate.xml"
    words = [pair[1], "--baseline", pair[0], *limit, "--junit", xml, "--format", "json"]
    assert compare(*words) == (0 if passes else 1)
    shown = json.loads(capsys.readouterr().out)["gate"]
    assert shown["passed"] is passes
    suite = ElementTree.parse(xml).getroot()[0]
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) == (0 if passes else 1)
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == len(shown["checks"]) == 1 + len(limit) // 2


def test_a_worse_metric_fails_on_either_scale(pair: tuple[Path, Path]):
    a, b = reversed(pair)  # B is worse: PSNR -0.375 dB, LPIPS +0.01
    assert compare(b, "--baseline", a, "--fail-below", "psnr=-0.3") == 1
    assert compare(b, "--baseline", a, "--fail-above", "lpips=0.009") == 1
    assert compare(b, "--baseline", a, "--fail-above", "lpips=0.011", "--fail-below", "psnr=-0.4") == 0


def test_a_clip_that_the_candidate_lost_fails_the_gate(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lost = write(tmp_path / "lost", PSNR_B[:3], failed=[Failure("c3", "c3.mp4", "cannot be decoded")])
    assert compare(lost, "--baseline", pair[0], "--fail-below", "psnr=-5") == 1
    captured = capsys.readouterr()
    assert "FAIL: 1 of 4 clips have no score in the candidate: c3" in captured.out
    assert "note: only A has scores of c3; means are over the clips of both" in captured.err
    psnr, *_ = paired.changes(paired.read(pair[0]), paired.read(lost))
    assert (psnr.a, psnr.b, psnr.n) == (pytest.approx(np.mean(PSNR_A[:3])), pytest.approx(np.mean(PSNR_B[:3])), 3)


@pytest.mark.parametrize("without", [(0,), (1,), (0, 1)])
def test_a_lost_clip_fails_the_gate_also_without_clip_lists(
    without: tuple[int, ...], pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    failed = [Failure("c2", "c2.mp4", "cannot be decoded"), Failure("c3", "c3.mp4", "cannot be decoded")]
    files = pair[0], write(tmp_path / "lost", PSNR_B[:2], failed=failed)
    lists = [files[i].with_suffix(".clips.csv") for i in without]
    for file in lists:
        file.unlink()
    assert compare(files[1], "--baseline", files[0], "--fail-below", "psnr=-5") == 1
    captured = capsys.readouterr()
    assert "FAIL: different clips failed: none in the baseline and c2, c3 in the candidate" in captured.out
    assert "the numbers of clips differ in baseline and candidate: psnr 4 and 2" in captured.out
    assert all(str(file) in captured.out for file in lists)
    assert "pass: psnr changed" in captured.out
    who = (
        "A and B have no .clips.csv beside their records"
        if len(without) > 1
        else f"{'AB'[without[0]]} has no .clips.csv beside its record"
    )
    assert f"{who}; A is of 4 clips and B of 2" in captured.out
    assert "means are over" not in captured.err


def test_a_clip_whose_row_lacks_a_metric_is_named_and_fails_the_gate(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lpips = [0.09, 0.19, 0.29]
    clips = {f"c{i}": {"psnr": psnr, **({"lpips": lpips[i]} if i < 3 else {})} for i, psnr in enumerate(PSNR_B)}
    scores = [
        Score(float(np.mean(PSNR_B)), "dB", "higher", 4, metric="psnr"),
        Score(float(np.mean(lpips)), "", "lower", 3, metric="lpips"),
    ]
    made = replace(paired.read(pair[1]).record, scores=by_key(scores))
    lacking = records.write(made, tmp_path / "lacking", clips)
    assert compare(lacking, "--baseline", pair[0], "--fail-below", "psnr=-5") == 1
    captured = capsys.readouterr()
    assert "FAIL: 1 of 4 clips have no lpips in the candidate: c3" in captured.out
    assert "note: lpips: c3 has no score in B; means are over the other clips" in captured.err
    of_pairs = {change.key: change for change in paired.changes(paired.read(pair[0]), paired.read(lacking))}["lpips"]
    assert (of_pairs.a, of_pairs.b, of_pairs.n) == (pytest.approx(0.2), pytest.approx(0.19), 3)
    # what only the baseline lacks is no regression
    assert compare(pair[1], "--baseline", lacking, "--fail-below", "psnr=-5") == 0
    assert "note: lpips: c3 has no score in A" in capsys.readouterr().err
    list_of_clips = pair[1].with_suffix(".clips.csv")
    list_of_clips.write_text(list_of_clips.read_text().replace("c3,27.5,", "c3,,"))
    assert compare(*pair) == 2
    assert "its mean of psnr differs from the record's (no value for c3)" in capsys.readouterr().err


def test_a_refused_comparison_is_an_error_in_the_reports_of_the_gate(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other, xml = write(tmp_path / "other", PSNR_B, config={"num_frames": 17, "size": 256}), tmp_path / "gate.xml"
    words = [other, "--baseline", pair[0], "--fail-below", "psnr=-1", "--junit", xml, "--format", "json"]
    assert compare(*words) == 2
    captured = capsys.readouterr()
    shown = json.loads(captured.out)
    assert shown["gate"] == {"passed": False, "checks": []}
    assert "num_frames is 33 in A and 17 in B" in shown["error"]
    assert captured.err == f"vaebench: {shown['error']}\n"
    suite = ElementTree.parse(xml).getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["errors"]) == ("1", "0", "1")
    (error,) = suite.findall("testcase/error")
    assert error.attrib["message"] == shown["error"]


def test_without_clip_lists_the_gate_passes_on_equal_sets_of_clips(pair: tuple[Path, Path]):
    for file in pair:
        file.with_suffix(".clips.csv").unlink()
    assert compare(pair[1], "--baseline", pair[0], "--fail-below", "psnr=-5") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["A", "B", "--fail-below", "lpips=-0.01"],
            "lower lpips is better, so this limit would let every regression pass",
        ),
        (["A", "B", "--fail-above", "psnr=0.1"], "use --fail-below psnr=NUMBER, which fails on a drop"),
        (["A", "B", "--fail-below", "psnr"], "--fail-below psnr: expected METRIC=NUMBER"),
        (["A", "B", "--fail-below", "psnr=nan"], "expected METRIC=NUMBER"),
        (["A", "B", "--fail-below", "psnr=-1", "--fail-below", "psnr=-2"], "--fail-below psnr is given twice"),
        (["A", "B", "--fail-below", "ssim=-1"], "--fail-below ssim=-1: ssim has no value to compare"),
        (["A", "B", "--video"], "--video writes into a folder: add --out DIR"),
        (["A", "B", "--junit", "x.xml"], "add --fail-below or --fail-above"),
        (["A"], "expected two VAEs or records, A and B, or one and --baseline FILE"),
        (["A", "B", "--baseline", "A"], "expected two VAEs or records"),
        (["B", "--baseline", "dct/4"], "--baseline dct/4: expected the JSON file of a record"),
        (["A", "B", "size=64"], "size=64 would change nothing: A and B are records"),
        (["A", "nowhere.json"], "nowhere.json cannot be read: No such file"),
        (["nowhere.json", "dct/4"], "nowhere.json cannot be read: No such file"),
        (["dct/4", "nowhere.json"], "vaebench: nowhere.json cannot be read: No such file"),
        (
            ["..", ".."],
            ".. is a folder: give the JSON file of a record, or score folders of videos with `vaebench score`",
        ),
        (["A", "dct/9"], "dct has no variant '9'"),
        (["A", "dct/4", "size=64"], "size is 256 in A and 64 in B"),
        (["dct/4", "pool/4x8x8", "sizes=32,64"], "sizes=32,64: compare takes a single size, such as size=32"),
        (
            ["dct/4", "pool/4x8x8", "protocol=default,vidtok"],
            "compare takes a single protocol, such as protocol=default",
        ),
        (["dct/4", "pool/4x8x8", "metrics=psnr", "--columns", "ssim"], "the run has no score ssim (it has: psnr)"),
        (["dct/4", "pool/4x8x8", "metrics=psnr", "--fail-below", "ssim=-1"], "ssim has no value to compare"),
        (["dct/4", "pool/4x8x8", "--fail-above", "psnr=1"], "use --fail-below psnr=NUMBER"),
        (["dct/4", "wan/2.1"], "not ready: wan/2.1: "),
        (["A", "dct/4", "--columns", "ssim"], "A (toy/a) has no score ssim (it has: fvd, lpips, psnr)"),
        (["A", "B", "--suite", "relay"], "suite=relay would change nothing: A and B are records"),
        (["A", "dct/4", "vaes=dct/8"], "vaes=: name the VAEs to compare as A and B"),
        (["A", "B", "--columns", "pnsr"], "has no score pnsr; did you mean 'psnr'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2_before_anything_is_measured(
    words: list[str], said: str, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    (tmp_path / "cwd").mkdir()
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path / "no weights"))
    monkeypatch.chdir(tmp_path / "cwd")
    assert compare(*({"A": pair[0], "B": pair[1]}.get(word, word) for word in words)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
    assert list(Path().iterdir()) == []


def test_relays_are_compared_clip_by_clip_under_each_protocol():
    a, b = (paired.read(file) for file in sorted((ROOT / "results" / "relay").glob("*/*.json"))[:2])
    compared = {change.key: change for change in paired.changes(a, b)}
    for protocol in a.record.extra["protocols"]:
        for part in ("", "_floor", "_excess"):
            change = compared[f"psnr_last{part}@{protocol}"]
            assert change.clips.keys() == {clip for clip in a.clips if clip.endswith(f"@{protocol}")}
            assert change.n == a.record.scores[change.key].n
            of_both = [side.record.scores[change.key].value for side in (a, b)]
            assert (change.a, change.b) == pytest.approx(of_both, rel=1e-12)
    mean_curve = next(change for key, change in compared.items() if key.startswith("hops_to_3db"))
    assert "score of the whole set" in mean_curve.reason


def test_relays_of_a_run_have_paired_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    small = ["num_frames=17", "size=32", "clips=3", "hops=2", "protocols=loop,static"]
    assert compare("dct/4", "dct/16", "--suite", "relay", *small, "--format", "json") == 0
    shown = json.loads(capsys.readouterr().out)["metrics"]
    for key in ("psnr_last@static", "psnr_last_excess@static"):
        pairs = shown[key]["clips"]
        assert len(pairs) == 3
        test = stats.ttest_rel(*([pair[side] for pair in pairs.values()] for side in "ba")).confidence_interval(0.95)
        assert (shown[key]["low"], shown[key]["high"]) == pytest.approx((test.low, test.high))


def test_pictures_of_relays_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    a, b, *_ = sorted((ROOT / "results" / "relay").glob("*/*.json"))
    assert compare(a, b, "--out", tmp_path / "pictures") == 2
    assert "records of the suite relay do not have" in capsys.readouterr().err


def test_costs_state_why_they_have_no_interval():
    a, b, *_ = (paired.read(file) for file in sorted((ROOT / "results" / "efficiency").glob("*/*.json"))[:2])
    assert {change.reason for change in paired.changes(a, b)} == {"a cost: it is measured on no clips"}


def test_scores_of_generated_videos_state_why_they_have_no_interval():
    a, b, *_ = (paired.read(file) for file in sorted((ROOT / "results" / "diffusability").glob("*/*.json"))[:2])
    assert {change.reason for change in paired.changes(a, b)} == {"a score of sets of videos: single videos have none"}


def test_the_help_says_which_limits_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        compare("--help")
    words = " ".join(capsys.readouterr().out.split())
    assert (
        "--fail-above is refused for a metric where higher is better, and --fail-below where lower is better" in words
    )


def test_counts_of_tokens_state_why_they_have_no_interval():
    a, b, *_ = (paired.read(file) for file in sorted((ROOT / "results" / "tokens").glob("*/*.json")))
    assert {change.reason for change in paired.changes(a, b)} == {"an exact count: it is measured on no clips"}


def test_control_characters_in_a_name_leave_the_xml_readable():
    text = regression.junit([regression.Verdict("clips", False, "1 clip: a\x00\x1b<b>&")], "toy")
    failure = ElementTree.fromstring(text).find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.attrib["message"] == "1 clip: a??<b>&"


SMALL = ["num_frames=5", "size=32", "clips=3", "metrics=psnr,flicker"]


def test_vaes_are_measured_and_the_clips_that_differ_most_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert (
        compare("dct/4", "dct/16", *SMALL, "--columns", "psnr", "--out", "pictures", "--video", "--format", "json") == 0
    )
    captured = capsys.readouterr()
    assert "\ndct/4 and dct/16: again, for the pictures of the 3 clips that differ most\n" in captured.err
    shown = json.loads(captured.out)
    assert (shown["a"]["vae"], shown["b"]["vae"]) == ("dct/4", "dct/16")
    assert shown["metrics"].keys() == {"psnr"}
    assert shown["metrics"]["psnr"]["b_wins"] == 3  # sixteen coefficients contain the four
    assert len(shown["pictures"]) == len(list(Path("pictures").glob("*.png"))) == 3
    assert sorted(file for files in shown["pictures"].values() for file in files) == sorted(
        map(str, Path("pictures").iterdir())
    )
    assert len(list(Path("pictures").glob("*.mp4"))) == 3
    file = next(Path("runs/results/reconstruction").rglob("dct-4.json"))
    stored = {npz: npz.stat().st_mtime_ns for npz in Path("runs").rglob("*.npz")}
    # a VAE and a record: the VAE is measured with the settings of the record, and what is stored is not measured again
    assert compare("dct/16", "--baseline", file, "--fail-below", "psnr=0") == 0
    assert "pass: psnr changed by +" in capsys.readouterr().out
    assert {npz: npz.stat().st_mtime_ns for npz in Path("runs").rglob("*.npz")} == stored
    assert compare(file, "dct/4") == 2
    assert "the run of dct/4 would replace" in capsys.readouterr().err


def test_records_hold_the_code_of_their_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from vaebench.fingerprint import code

    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "vaes=dct/4", *SMALL]) == 0
    (made,) = records.read_all(Path("runs/results"))
    assert made.digests.keys() == {"psnr", "flicker"}
    assert made.digests["psnr"] == code(["vaebench.metrics.psnr"])["sha256"][:8]


def test_the_folder_of_the_junit_file_is_created(pair: tuple[Path, Path], tmp_path: Path):
    for folder, names, code in (("passed", pair, 0), ("refused", (pair[0], tmp_path / "none.json"), 2)):
        xml = tmp_path / folder / "sub" / "gate.xml"
        assert compare(*names, "--fail-below", "psnr=-9", "--junit", xml) == code
        assert ElementTree.parse(xml).getroot()[0].attrib["errors"] == ("0" if code == 0 else "1")


def test_fail_fast_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    words = ["dct/4", "dct/8", "num_frames=5", "size=32", "clips=1", "metrics=psnr"]

    def broken(*_: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr("vaebench.suites.reconstruction.decode_as", broken)
    assert compare(*words) == 2
    assert compare(*words, "fail_fast=true", "fail_fast=no") == 2
    with pytest.raises(ValueError, match="planted"):
        compare(*words, "fail_fast=true")

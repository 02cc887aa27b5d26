"""`vaebench run ... --dry-run`: what is ready, found and done, and the time left, which comes from stored times only."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vaebench import cli, plan, records
from vaebench.store import SECONDS, Store
from vaebench.suite import Case

SMALL = ["data=synthetic", "num_frames=4", "size=16", "metrics=psnr"]
pytestmark = pytest.mark.usefixtures("no_weights")


def dry_run(*words: str) -> int:
    return cli.main(["run", *words, "--dry-run"])


def rows(text: str) -> dict[str, list[str]]:
    """VAE -> its cells in the plan."""
    lines = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines())
    return {cells[0]: cells[1:] for cells in lines if len(cells) == 3}


def test_a_plan_counts_clips_and_finished_cases_and_writes_nothing(capsys: pytest.CaptureFixture[str]):
    assert dry_run(*SMALL, "vaes=pool/4x8x8,dct/4", "clips=3") == 0
    text = capsys.readouterr().out
    assert not Path("runs").exists()
    clips = re.search(r"clips: 3 of (\d+) in data=synthetic\n", text)
    assert clips is not None
    assert int(clips[1]) > 3
    assert rows(text) == {
        "VAE ready": ["cases done", "time left"], "pool/4x8x8": ["0/3", "unknown"], "dct/4": ["0/3", "unknown"],
    }  # fmt: skip
    assert "time left: unknown for pool/4x8x8, dct/4" in text


def test_the_time_left_is_that_of_stored_cases(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", *SMALL, "vaes=pool/4x8x8", "clips=2"]) == 0
    (file,) = Path("runs").rglob(SECONDS)
    times = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(seconds > 0 for _, seconds in times)
    file.write_text("".join(f"[{json.dumps(case)}, 60.000000]\n" for case, _ in times))
    capsys.readouterr()
    assert dry_run(*SMALL, "vaes=pool/4x8x8,dct/4", "clips=5") == 0
    text = capsys.readouterr().out
    assert rows(text)["pool/4x8x8"] == ["2/5", "3 min"]
    assert rows(text)["dct/4"] == ["0/5", "unknown"]
    assert "time left: 3 min, and unknown for dct/4" in text
    assert dry_run(*SMALL, "vaes=pool/4x8x8", "clips=2") == 0
    assert rows(capsys.readouterr().out)["pool/4x8x8"] == ["2/2", "0 s"]


def test_only_cases_with_the_same_parameters_tell_a_time():
    cases = [Case("a@5", params={"length": 5}), Case("b@5", params={"length": 5, "keep": True})]
    long = Case("a@9", params={"length": 9})
    assert plan.time_left([*cases, long], [cases[1]], {"a@5": 2.0, "a@9": 50.0}) == 2.0
    assert plan.time_left([*cases, long], [cases[1], long], {"a@5": 2.0}) is None
    assert plan.time_left([*cases, long], [], {}) == 0
    assert plan.time_left(cases, [cases[1]], {"b@5": 2.0}) is None  # the time of a case that has to be repeated


def test_missing_weights_have_their_remedy_and_size(capsys: pytest.CaptureFixture[str]):
    words = ["vaes=pool/4x8x8,wfvae/l-16,wfvae/s-4,wfvae:runs/train/s-4", "metrics=psnr,lpips", *SMALL[:-1]]
    assert dry_run(*words) == 1
    lines = {line.partition(": ")[2]: line for line in capsys.readouterr().out.splitlines()}
    released, recipe, checkpoint = (
        next(line for line in lines.values() if f"not ready: {name}:" in line)
        for name in ("wfvae/l-16", "wfvae/s-4", "wfvae:runs/train/s-4")
    )
    assert "vaebench weights fetch wfvae/l-16`" in released
    assert released.endswith("(317.1 M parameters: 1,268 MB if stored as float32)")  # the published file has 1.27 GB
    assert recipe.endswith("train them with `vaebench train s-4`, or pass weights=PATH")
    assert "runs/train/s-4 does not exist" in checkpoint
    assert "  missing weights: alexnet (alexnet-owt-7be5be79.pth, size unknown)" in lines.values()
    assert any(line.startswith("  absent: lpips: ") for line in lines.values())


def test_a_plan_without_the_data_still_tells_which_vaes_are_ready(capsys: pytest.CaptureFixture[str]):
    assert dry_run("preset=wfvae-table1", "vaes=pool/4x8x8,wfvae/l-16") == 2
    text = capsys.readouterr().out
    assert text.startswith("wfvae-table1: reconstruction of WF-VAE")
    assert "cannot run: data=webvid is not available without root=DIR" in text
    assert "VAE ready: pool/4x8x8\n" in text
    assert "not ready: wfvae/l-16" in text


def test_each_protocol_and_each_run_of_a_preset_has_its_part(capsys: pytest.CaptureFixture[str]):
    assert dry_run(*SMALL, "vaes=pool/4x8x8", "protocol=default,default-mp4v") == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if not line.startswith(" ")] == [
        "reconstruction · synthetic-4x16-psnr", "reconstruction · synthetic-4x16-default-mp4v-psnr",
    ]  # fmt: skip
    assert dry_run("preset=long-video", "data=synthetic", "num_frames=5", "size=16", "vaes=wan/tiny") == 0
    text = capsys.readouterr().out
    assert [line.partition(" · ")[0] for line in text.splitlines() if " · " in line] == ["tokens", *["relay"] * 4]
    assert "figures: tokens_over_duration, drift" in text


def test_a_training_preset_prints_its_commands(capsys: pytest.CaptureFixture[str]):
    assert dry_run("preset=wfvae-figure7") == 2  # without data
    assert "cannot run: training needs data.root=DIR" in capsys.readouterr().out
    assert dry_run("preset=wfvae-figure7", "data.root=my videos") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("vaebench train ")]
    assert lines[0].startswith("vaebench train s-4 run=runs/train/figure7/s-4 ")
    assert all(line.endswith("'data.root=my videos'") for line in lines)
    assert len(lines) == 13


def test_times_do_not_enter_the_statistics_and_survive_damage(tmp_path: Path):
    store = Store(tmp_path / "store")
    assert store.seconds() == {}
    store.put('a, "b"\n', {})
    for case, seconds in (('a, "b"\n', 1.5), ("c", 2.0), ('a, "b"\n', 0.25)):
        store.add_seconds(case, seconds)
    assert store.get('a, "b"\n') == {}
    with (store.folder / SECONDS).open("a") as file:
        file.write('["c", 1\n["cut')
    assert store.seconds() == {'a, "b"\n': 1.75, "c": 2.0}


def test_records_do_not_contain_the_time_of_cases():
    assert cli.main(["run", *SMALL, "vaes=pool/4x8x8", "clips=1"]) == 0
    (record,) = records.read_all(Path("runs/results"))
    assert "seconds" not in json.dumps(record.extra)
    assert set(record.scores) == {"psnr"}

"""Data presets: the clips they name, `vaebench data check` and `vaebench data pin`."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.sources import build, ids
from tests.videos import pictures, write, write_images
from vaebench import cli
from vaebench.video_io import manifest, presets
from vaebench.video_io.presets import PRESETS


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """33 frames of 64x48."""
    return write(tmp_path_factory.mktemp("short") / "a.mp4", pictures(33))


@pytest.fixture
def jcv(tmp_path: Path, short: Path) -> Path:
    """28 clips of MCL-JCV under three kinds of names, the fifth twice, and two files that belong to no clip."""
    folder = tmp_path / "jcv"
    (folder / "more").mkdir(parents=True)
    for number in range(1, 29):
        name = f"videoSRC{number:02d}_1920x1080_30.mp4" if number % 2 else f"more/videoSRC{number:02d}.mp4"
        shutil.copy(short, folder / name)
    for name in ("more/videoSRC05.mp4", "videoSRC31.mp4", "my_videoSRC29.mp4"):
        shutil.copy(short, folder / name)
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], list[str]]:
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


def test_a_preset_is_checked_by_the_names_of_its_clips(jcv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = run(capsys, "data", "check", "mcl-jcv", str(jcv))
    assert code == 1
    assert "hash not pinned: videoSRC01 (videoSRC01_1920x1080_30.mp4)" in lines
    assert "hash not pinned: videoSRC02 (more/videoSRC02.mp4)" in lines
    assert "missing: videoSRC29" in lines
    assert "ambiguous: videoSRC05: more/videoSRC05.mp4, videoSRC05_1920x1080_30.mp4" in lines
    assert lines[-1] == "mcl-jcv: 30 clips: 27 hash not pinned, 2 missing, 1 ambiguous"


def test_a_pinned_preset_is_a_manifest_that_another_folder_is_checked_against(
    jcv: Path, short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = tmp_path / "pin.csv"
    code, lines, reasons = run(capsys, "data", "pin", "mcl-jcv", str(jcv), str(pin))
    assert (code, lines) == (1, [f"{pin}: 27 clips"])
    assert f"not pinned: videoSRC30: no file below {jcv}" in reasons
    assert any("videoSRC05: several files" in reason for reason in reasons)
    rows = manifest.read(pin)
    assert rows[0].sha256 == hashlib.sha256(short.read_bytes()).hexdigest()
    assert [row.id for row in rows[:5]] == [f"videoSRC{n:02d}" for n in (1, 2, 3, 4, 6)]
    assert run(capsys, "data", "check", str(pin), str(jcv)) == (0, [f"{pin}: 27 clips: 27 as pinned"], [])
    (jcv / "more/videoSRC02.mp4").unlink()
    write(jcv / "videoSRC03_1920x1080_30.mp4", pictures(33, seed=1))
    code, lines, _ = run(capsys, "data", "check", str(pin), str(jcv))
    assert code == 1
    assert lines[0] == "missing: videoSRC02 (more/videoSRC02.mp4)"
    assert lines[1].startswith("changed: videoSRC03 (videoSRC03_1920x1080_30.mp4): sha256 ")
    assert f"expected {rows[0].sha256[:12]}..." in lines[1]
    assert lines[2] == f"{pin}: 27 clips: 25 as pinned, 1 missing, 1 changed"
    source = build("folder", jcv, manifest=str(pin))
    assert len(list(source)) == 27


def test_a_manifest_without_checksums_is_found_but_not_pinned(
    jcv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "given.csv"
    given.write_text("id,file\nx,more/videoSRC02.mp4\n")
    code, lines, _ = run(capsys, "data", "check", str(given), str(jcv))
    assert code == 0
    assert lines == ["hash not pinned: x (more/videoSRC02.mp4)", f"{given}: 1 clip: 1 hash not pinned"]


def test_clips_of_a_long_list_are_chosen_by_a_hash_of_seed_and_name() -> None:
    names = [str(number) for number in range(50)]
    chosen = presets.select(names, 5, seed=0)
    assert chosen == sorted(names, key=lambda name: hashlib.sha256(f"0 {name}".encode()).digest())[:5]
    assert presets.select(reversed(names), 5, seed=0) == chosen, "the order of the list does not matter"
    assert presets.select(names, 5, seed=1) != chosen
    absent = [name for name in names if name != chosen[0]]
    assert presets.select(absent, 4, seed=0) == chosen[1:]
    assert chosen == ["44", "38", "6", "34", "14"], "frozen (printf '0 44' | sha256sum): other groups chose the same"


def test_webvid_is_chosen_from_its_csv(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(presets.PRESETS, "webvid-1000", presets.Preset("a", "b.csv", count=3, column="videoid"))
    listed = tmp_path / "list.csv"
    listed.write_text("videoid,page_dir\n" + "".join(f"{number},x\n" for number in range(50)))
    (tmp_path / "videos/x").mkdir(parents=True)
    shutil.copy(short, tmp_path / "videos/x/38.mp4")
    words = ("data", "check", "webvid-1000", str(tmp_path), "--list", str(listed))
    code, lines, _ = run(capsys, *words)
    assert code == 1
    assert lines[:3] == ["hash not pinned: 38 (videos/x/38.mp4)", "missing: 44", "missing: 6"]
    code, _, errors = run(capsys, *words[:4])
    assert code == 2
    assert "add --list FILE, with b.csv" in errors[0]
    listed.write_text("videoid,page_dir\n1,x\n")
    code, _, errors = run(capsys, *words)
    assert "has 1 clip, 3 are to be chosen" in errors[0]
    assert code == 2


def test_panda_names_cuts_whichever_way_they_were_fetched(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = presets.Preset("a", "b.csv", count=3, column="videoID", cuts="timestamp")
    monkeypatch.setitem(presets.PRESETS, "panda70m-1000", chosen)
    listed = tmp_path / "list.csv"
    listed.write_text("videoID,timestamp\n_a-,\"['0','1']\"\nb,\"['2']\"\n")
    (tmp_path / "00000").mkdir()
    shutil.copy(short, tmp_path / "00000/7_1.mp4")
    (tmp_path / "00000/7_1.json").write_text(json.dumps({"url": "https://www.youtube.com/watch?v=_a-"}))
    shutil.copy(short, tmp_path / "b_0.mp4")
    code, lines, _ = run(capsys, "data", "check", "panda70m-1000", str(tmp_path), "--list", str(listed))
    assert code == 1
    assert sorted(lines[:3]) == [
        "hash not pinned: _a-_00001 (00000/7_1.mp4)",
        "hash not pinned: b_00000 (b_0.mp4)",
        "missing: _a-_00000",
    ]
    listed.write_text("videoID,timestamp\na,none\n")
    code, _, errors = run(capsys, "data", "check", "panda70m-1000", str(tmp_path), "--list", str(listed))
    assert code == 2
    assert "timestamp 'none' of a should be a list of cuts" in errors[0]


def test_tokenbench_is_read_from_its_list_of_paths(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(
        "# licence\n\n### driving\n0114.mov\n### views\nbike_2/aligned/cam01.mp4\nbike_3/aligned/cam01.mp4\n"
        "### robots\nkitchen/traj0/images0\n### web\nid,https://x,\"[('0', '1')]\"\n"
    )
    for name in ("bdd/0114.mov", "ego/bike_3/aligned/cam01.mp4", "kitchen/traj0/images0.mp4"):
        (tmp_path / "root" / name).parent.mkdir(parents=True)
        shutil.copy(short, tmp_path / "root" / name)
    code, lines, _ = run(capsys, "data", "check", "tokenbench", str(tmp_path / "root"), "--list", str(listed))
    assert code == 1
    assert lines == [
        "hash not pinned: 0114 (bdd/0114.mov)",
        "hash not pinned: bike_3/aligned/cam01 (ego/bike_3/aligned/cam01.mp4)",
        "hash not pinned: kitchen/traj0/images0 (kitchen/traj0/images0.mp4)",
        "missing: bike_2/aligned/cam01",
        "tokenbench: 4 clips: 3 hash not pinned, 1 missing",
    ]


def test_davis_reads_the_sequences_of_its_validation_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "JPEGImages/480p"
    for name in ("soapbox", "dog", "dog-agility"):  # the last is a sequence of the training set
        write_images(images / name, pictures(6, seed=len(name)))
    source = build("davis", images)
    assert ids(source) == ["dog", "soapbox"]
    assert (source.identity["clips"], source.identity["listed"]) == ("2", "30")
    assert source.identity["name"].startswith("davis_480p_")
    assert torch.equal(next(iter(source)).load(), next(iter(build("davis", images))).load())
    code, lines, _ = run(capsys, "data", "check", "davis-2017-val", str(tmp_path))
    assert code == 1
    assert "hash not pinned: dog (JPEGImages/480p/dog)" in lines
    assert lines[-1] == "davis-2017-val: 30 clips: 2 hash not pinned, 28 missing"
    assert run(capsys, "data", "pin", "davis-2017-val", str(tmp_path), str(tmp_path / "out.csv"))[0] == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="the images of DAVIS 2017 in one resolution"):
        build("davis", tmp_path / "empty")


def test_presets_are_listed_and_a_wrong_name_is_corrected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = run(capsys, "data")
    assert code == 0
    assert [line.split()[0] for line in lines] == list(PRESETS)
    for words, complaint in (
        (["check", "mcl-jvc", str(tmp_path)], "no data preset 'mcl-jvc'; did you mean 'mcl-jcv'"),
        (["check", "mcl-jvc", str(tmp_path / "no")], "no data preset 'mcl-jvc'"),
        (["check", "mcl-jcv", str(tmp_path / "no")], "no such folder"),
        (["check", str(tmp_path / "no.csv"), str(tmp_path)], "no.csv: No such file or directory; expected a CSV"),
        (["check", "mcl-jcv", str(tmp_path), "--list", "x"], "names its clips itself; remove --list"),
        (["pin", "mcl-jcv", str(tmp_path), str(tmp_path / "out.csv")], "videoSRC01.mp4 or videoSRC01_*.mp4"),
    ):
        code, _, errors = run(capsys, "data", *words)
        assert code == 2
        assert complaint in errors[-1]


def test_names_of_presets_are_distinct_and_complete() -> None:
    assert len(set(PRESETS["davis-2017-val"].names)) == 30
    assert PRESETS["mcl-jcv"].names[0::29] == ("videoSRC01", "videoSRC30")

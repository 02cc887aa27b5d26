"""Manifests: the CSV that pins a folder, written and read back, and its mistakes told by line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.sources import build, ids
from tests.videos import pictures, write
from vaebench import cli
from vaebench.video_io import manifest


def test_a_written_manifest_reads_back_and_pins_the_folder(tree: Path, tmp_path: Path) -> None:
    (tree / "broken.mp4").write_bytes(b"no video")
    pin = tmp_path / "pin.csv"
    written, left_out = manifest.write(tree, pin, num_frames=5)
    assert written == 4
    assert len(left_out) == 1
    assert "broken.mp4: cannot be decoded" in left_out[0]
    assert not list(tmp_path.glob("*.part"))
    source = build("folder", tree, manifest=str(pin))
    assert ids(source) == ["a b", "b", "sub/c", "sub/deep/d"]
    assert [clip.fps for clip in source] == [25.0] * 4
    assert all(clip.load().shape == (3, 5, 32, 32) for clip in source)


def test_a_file_that_is_not_the_pinned_one_is_refused_by_name(tree: Path, tmp_path: Path) -> None:
    pin = tmp_path / "pin.csv"
    manifest.write(tree, pin, num_frames=5)
    identity = build("folder", tree, manifest=str(pin)).identity
    write(tree / "b.mp4", pictures(8, seed=1))
    source = build("folder", tree, manifest=str(pin))
    assert source.identity == identity  # what is asked for has not changed
    with pytest.raises(ValueError, match=r"b\.mp4: is not the file that the manifest pins"):
        list(source)[1].load()


def test_start_frame_id_and_label_come_from_the_manifest(tree: Path, tmp_path: Path) -> None:
    pin = tmp_path / "pin.csv"
    pin.write_text("id,file,start,label\nlate,b.mp4,3,sky\nearly,b.mp4,,\n")
    late, early = build("folder", tree, manifest=str(pin))
    assert (late.id, late.label, early.id) == ("late", "sky", "early")
    assert torch.equal(late.load()[:, 0], early.load()[:, 3])


def test_a_manifest_needs_no_column_but_the_file(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "pin.csv").write_text(
        "\ufefffile\nsub/c.MOV\nb.mp4\n", encoding="utf-8"
    )  # with the mark that Excel writes
    assert ids(build("folder", tree, manifest=str(tmp_path / "pin.csv"))) == ["sub/c", "b"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("path\nb.mp4\n", "has no column 'file'"),
        ("file,strat\nb.mp4,0\n", "no column 'strat' in a manifest; did you mean 'start'"),
        ("file,start\nb.mp4,-1\n", "line 2: start '-1' should be a frame number"),
        ("file,fps\nb.mp4,fast\n", "line 2: fps 'fast' should be a number"),
        ("file,sha256\nb.mp4,abc\n", "line 2: sha256 'abc' should be 64"),
        ("file,frames\nb.mp4,many\n", "line 2: frames 'many' should be a number of frames"),
        ("file\nb.mp4\n/etc/a.mp4\n", "line 3: file '/etc/a.mp4' should be a path below the root"),
        ("file\n../a.mp4\n", "line 2: file '../a.mp4' should be"),
        (
            "file,id\nb.mp4,x\nsub/c.MOV,x\n",
            "2 clips are called 'x', with file 'b.mp4' and 'sub/c.MOV'; give each its own id",
        ),
        ("file,start\nb.mp4,0\nb.mp4,3\n", "2 clips are called 'b', with start 0 and 3"),
        ("file\n", "no clips; expected one row for each"),
        ("", "has no column 'file'"),
    ],
)
def test_a_mistake_in_a_manifest_is_told_with_its_line(tree: Path, tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "pin.csv").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        build("folder", tree, manifest=str(tmp_path / "pin.csv"))


def test_a_missing_or_binary_manifest_is_named(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"gone\.csv: No such file"):
        build("folder", tree, manifest=str(tmp_path / "gone.csv"))
    (tmp_path / "pin.csv").write_bytes(b"file\n\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"pin\.csv: is not UTF-8 text \(byte 0xff: invalid start byte\); save it as"):
        build("folder", tree, manifest=str(tmp_path / "pin.csv"))


def test_a_row_that_is_there_twice_is_read_once_and_noted(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = tmp_path / "pin.csv"
    pin.write_text("file,start\nsub/c.MOV,0\nb.mp4,1\nsub/c.MOV,0\n")
    assert ids(build("folder", tree, manifest=str(pin))) == ["sub/c", "b"]
    assert capsys.readouterr().err == f"note: {pin}: repeated rows are merged: 1 (the first: sub/c)\n"


def test_no_manifest_is_written_where_no_video_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(
        ValueError, match=r"no video below it has 33 frames that can be read; .*a\.mp4: cannot be decoded"
    ):
        manifest.write(tmp_path, tmp_path / "pin.csv")
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(ValueError, match="there is no video below it"):
        manifest.write(tmp_path, tmp_path / "pin.csv")
    assert not (tmp_path / "pin.csv").exists()


def test_a_short_video_is_left_out_with_a_remedy_that_the_command_has(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["manifest", str(tree), str(tmp_path / "pin.csv")]) == 2
    message = capsys.readouterr().err
    assert "too short" in message
    assert "use a longer video or leave it out" in message
    assert "num_frames" not in message
    assert cli.main(["manifest", str(tree), str(tmp_path / "pin.csv"), "num_frames=5"]) == 0
    assert len(manifest.read(tmp_path / "pin.csv")) == 4


def test_a_manifest_has_the_number_of_frames_and_the_command_names_the_shortest_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clips").mkdir()
    for name, count in (("long", 40), ("short", 35)):
        write(tmp_path / "clips" / f"{name}.mp4", pictures(count, 32, 32))
    pin = tmp_path / "pin.csv"
    assert cli.main(["manifest", str(tmp_path / "clips"), str(pin)]) == 0
    assert capsys.readouterr().out == f"{pin}: 2 clips; the shortest, short, has 35 frames\n"
    assert {row.id: row.frames for row in manifest.read(pin)} == {"long": 40, "short": 35}
    (tmp_path / "clips/long.mp4").unlink()
    assert cli.main(["manifest", str(tmp_path / "clips"), str(tmp_path / "one.csv")]) == 0
    assert ": 1 clip; the shortest, short, has 35 frames\n" in capsys.readouterr().out
    assert cli.main(["data", "check", str(tmp_path / "one.csv"), str(tmp_path / "clips")]) == 0
    assert ": 1 clip: 1 as pinned\n" in capsys.readouterr().out
    pin.write_text("\n".join(line for line in pin.read_text().splitlines() if "long" not in line))
    before = build("folder", tmp_path / "clips", manifest=str(pin)).identity
    pin.write_text("\n".join(line.rpartition(",")[0] for line in pin.read_text().splitlines()))  # of an earlier version
    assert {row.frames for row in manifest.read(pin)} == {0}
    assert build("folder", tmp_path / "clips", manifest=str(pin)).identity == before


def test_the_folder_of_the_manifest_is_created(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "sub" / "pin.csv"
    assert cli.main(["manifest", str(tree), str(out), "num_frames=5"]) == 0
    assert len(manifest.read(out)) == 4

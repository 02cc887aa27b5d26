"""Shards: clips inside tar files, listed one shard at a time, and tars that are broken."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from tests.sources import build, ids
from vaebench import cli, records


def pack(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file


def test_shards_give_the_pixels_of_the_files_inside(video: Path, tmp_path: Path) -> None:
    content = video.read_bytes()
    pack(tmp_path / "00001.tar", {"c.mp4": content, "c.json": b"{}"})
    pack(tmp_path / "00000.tar", {"a.txt": b"words", "a.mp4": content, "b.mp4": b"no video"})
    (tmp_path / "alone").mkdir()
    shutil.copy(video, tmp_path / "alone")
    source = build("shards", tmp_path)
    assert ids(source) == ["00000/a", "00000/b", "00001/c"]
    assert source.identity["shards"] == "2"
    clips = list(source)
    assert torch.equal(clips[2].load(), next(iter(build("folder", tmp_path / "alone"))).load())
    with pytest.raises(ValueError, match=r"00000\.tar:b\.mp4: cannot be decoded"):
        clips[1].load()


def test_shards_written_by_webdataset_are_read(video: Path, tmp_path: Path) -> None:
    from webdataset import TarWriter

    with TarWriter(str(tmp_path / "00000.tar")) as sink:
        sink.write({"__key__": "clip7", "mp4": video.read_bytes(), "txt": "words"})
    (clip,) = build("shards", tmp_path)
    assert clip.id == "00000/clip7"
    assert clip.load().shape == (3, 5, 32, 32)


def test_a_shard_is_listed_before_the_next_is_opened(video: Path, tmp_path: Path) -> None:
    pack(tmp_path / "00000.tar", {"a.mp4": video.read_bytes()})
    clips = iter(build("shards", pack(tmp_path / "00001.tar", {"b.mp4": video.read_bytes()}).parent))
    assert next(clips).id == "00000/a"
    (tmp_path / "00001.tar").unlink()
    with pytest.raises(ValueError, match=r"^00001\.tar: No such file or directory; make it readable or leave it out"):
        next(clips).load()


def test_two_videos_of_one_key_are_not_taken_for_one(video: Path, tmp_path: Path) -> None:
    content = video.read_bytes()
    pack(tmp_path / "0.tar", {"a.mp4": content, "a.json": b"{}", "a.webm": content, "a.avi": content, "b.mp4": content})
    first, second, shard = build("shards", tmp_path)
    assert [first.id, second.id, shard.id] == ["0/a", "0/b", "0.tar"]
    said = r"^0\.tar:a\.webm: an earlier video of this shard has its key; rename one of them \(and 1 more faults\)"
    with pytest.raises(ValueError, match=said):
        shard.load()


def test_what_macos_adds_to_a_shard_is_no_clip(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        "./k1.mp4",
        "._k1.mp4",
        "__MACOSX/._k1.mp4",
        "__MACOSX/k1.mp4",
        ".cache/k2.mp4",
        "sub/.k3.mp4",
        "../k4.mp4",
    ]
    pack(
        tmp_path / "0.tar",
        {name: video.read_bytes() for name in names} | {"k1.json": b"{}", "k1.M4X": b"", "x/y.json": b""},
    )
    assert [clip.file for clip in build("shards", tmp_path)] == ["0.tar:./k1.mp4", "0.tar:../k4.mp4"]
    said = f"note: {tmp_path}: files of other types are ignored: 3, of which 2 .json (0.tar:k1.json), 1 .m4x (0.tar:k1.M4X)\n"
    assert capsys.readouterr().err == said


def damage(file: Path, how: str, content: bytes) -> str:
    """What is left of a shard of two videos, of which the second begins at byte `second`; why it is refused."""
    whole = pack(file, {"a.mp4": content, "b.mp4": content}).read_bytes()
    second = 512 + -(-len(content) // 512) * 512
    pieces = {
        "inside a video": (whole[: second + 1000], r"it ends inside b\.mp4"),
        "inside a header": (whole[: second + 100], f"no member and no end mark at byte {second}"),
        "between two videos": (whole[:second], f"no member and no end mark at byte {second}"),
        "header damaged": (whole[:second] + b"\xff" * 512 + whole[second + 512 :], "no member and no end mark"),
        "size of a petabyte": (whole[:second] + huge_header("b.mp4") + whole[second + 512 :], r"it ends inside b\.mp4"),
    }
    left, reason = pieces[how]
    file.write_bytes(left)
    return reason


def huge_header(name: str) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = 10**15
    return member.tobuf(tarfile.GNU_FORMAT)


DAMAGE = ["inside a video", "inside a header", "between two videos", "header damaged", "size of a petabyte"]


@pytest.mark.parametrize("how", DAMAGE)
def test_the_whole_videos_of_a_damaged_shard_are_read_and_the_shard_is_named(
    how: str, video: Path, tmp_path: Path
) -> None:
    reason = damage(tmp_path / "00000.tar", how, video.read_bytes())
    pack(tmp_path / "00001.tar", {"c.mp4": video.read_bytes()})
    clips = {clip.id: clip for clip in build("shards", tmp_path)}
    assert list(clips) == ["00000/a", "00000.tar", "00001/c"]
    assert torch.equal(clips["00000/a"].load(), clips["00001/c"].load())
    with pytest.raises(
        ValueError, match=rf"^00000\.tar: is not a whole, uncompressed tar \({reason}.*; fetch it again"
    ):
        clips["00000.tar"].load()


def test_a_damaged_shard_does_not_stop_a_run(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    damage(Path("clips/0.tar"), "inside a video", video.read_bytes())
    pack(Path("clips/1.tar"), {"c.mp4": video.read_bytes()})
    Path("clips/2.tar").write_bytes(b"no tar" * 200)
    words = ["num_frames=5", "size=32", "metrics=[psnr]", "vaes=[pool/4x8x8]", "data=shards", "root=clips"]
    assert cli.main(["run", *words]) == 1
    (file,) = Path("runs/results/reconstruction").rglob("pool-4x8x8.json")
    record = records.read(file)
    assert record.scores["psnr"].n == 2
    assert [failure.file for failure in record.failed] == ["0.tar", "2.tar"]
    said = capsys.readouterr().err
    assert "failed: 0.tar: 0.tar: is not a whole, uncompressed tar (it ends inside b.mp4); fetch it again" in said
    assert "failed: 2.tar: 2.tar: is not a whole, uncompressed tar" in said


def test_a_shard_that_is_cut_off_after_it_was_listed_is_named(video: Path, tmp_path: Path) -> None:
    content = pack(tmp_path / "00000.tar", {"a.mp4": video.read_bytes()}).read_bytes()
    (clip,) = build("shards", tmp_path)
    (tmp_path / "00000.tar").write_bytes(content[:2000])
    with pytest.raises(ValueError, match=r"00000\.tar:a\.mp4: the shard ends before this clip does"):
        clip.load()


def test_compressed_shards_and_no_shards_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \.tar below it; root=DIR should name a folder of uncompressed"):
        build("shards", tmp_path)
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(ValueError, match=r"a\.tar\.gz is compressed: uncompress it"):
        build("shards", tmp_path)

"""Shards: clips inside tar files, listed one shard at a time, and tars that are broken."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from tests.sources import build, ids


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
    (tmp_path / "00001.tar").write_bytes(b"no tar" * 200)
    clips = iter(build("shards", tmp_path))
    assert next(clips).id == "00000/a"
    with pytest.raises(ValueError, match=r"00001\.tar: is not a whole, uncompressed tar"):
        next(clips)


def test_two_videos_of_one_key_are_refused_and_not_taken_for_one(video: Path, tmp_path: Path) -> None:
    pack(tmp_path / "00000.tar", {"a.mp4": video.read_bytes(), "a.json": b"{}", "a.webm": video.read_bytes()})
    with pytest.raises(ValueError, match=r"00000\.tar:a\.webm: an earlier video of this shard has its key"):
        list(build("shards", tmp_path))


def test_a_shard_that_is_cut_off_is_named(video: Path, tmp_path: Path) -> None:
    content = pack(tmp_path / "00000.tar", {"a.mp4": video.read_bytes()}).read_bytes()
    (tmp_path / "00000.tar").write_bytes(content[:2000])
    clips = iter(build("shards", tmp_path))
    with pytest.raises(ValueError, match=r"00000\.tar:a\.mp4: the shard ends before this clip does"):
        next(clips).load()
    with pytest.raises(ValueError, match=r"00000\.tar: is not a whole, uncompressed tar"):
        list(clips)


def test_compressed_shards_and_no_shards_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \.tar below it; root=DIR should name a folder of uncompressed"):
        build("shards", tmp_path)
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(ValueError, match=r"a\.tar\.gz is compressed: uncompress it"):
        build("shards", tmp_path)

"""Sources: which clips they list, what identifies them, and what they say when something is wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.sources import build, ids
from tests.videos import pictures, write
from vaebench import plugins
from vaebench.data import synthetic
from vaebench.video_io import file_source, manifest


def test_only_sources_are_listed_by_name() -> None:
    assert {
        "bundle",
        "folder",
        "synthetic",
        "webvid",
        "panda70m",
        "kinetics400",
        "ucf101",
        "skytimelapse",
        "shards",
    } <= set(plugins.names("data"))
    assert not [name for name in plugins.names("data") if name.startswith("_")]


# --- bundle -----------------------------------------------------------------------------------------------------------------


def test_the_bundle_has_eight_pinned_clips_with_their_licences() -> None:
    source = build("bundle")
    clips = list(source)
    assert len(clips) == 8
    assert source.identity["clips"] == "8"
    licences = (source.root / "LICENSES.md").read_text()
    for clip in clips:
        assert clip.load().shape == (3, 5, 32, 32)
        assert clip.fps > 0
        assert clip.id == f"bundle/{Path(clip.file).stem}"
        assert Path(clip.file).name in licences
    assert all(row.sha256 for row in source.rows)


def test_the_bundle_takes_no_root() -> None:
    with pytest.raises(ValueError, match="use data=folder root=DIR"):
        build("bundle", "somewhere")


# --- folder -----------------------------------------------------------------------------------------------------------------


def test_a_folder_is_listed_in_a_stable_order_without_what_is_no_video(tree: Path) -> None:
    source = build("folder", tree)
    assert ids(source) == ["a b", "b", "sub/c", "sub/deep/d"]
    assert ids(source) == ids(source)  # and again
    assert all(clip.load().shape == (3, 5, 32, 32) for clip in source)


def test_every_type_that_the_decoder_reads_is_listed_in_any_case(tmp_path: Path) -> None:
    written = {
        "libx264": ["mp4", "m4v", "mov", "mkv", "avi", "ts", "mts", "m2ts", "f4v", "3gp", "3g2"],
        "mpeg2video": ["mpg", "m2v", "vob", "mxf"],
        "mpeg1video": ["mpeg", "m1v"],
        "wmv2": ["wmv", "asf"],
        "mpeg4": ["nut"],
        "flv": ["flv"],
        "rv10": ["rm"],
        "rawvideo": ["y4m"],
        "libvpx": ["webm", "ivf"],
    }
    for codec, extensions in written.items():
        for extension in extensions:
            write(tmp_path / f"{extension}.{extension}", pictures(8), codec=codec)
    write(tmp_path / "gif.gif", pictures(8), codec="gif", pix_fmt="rgb8")
    (tmp_path / "mov.mov").rename(tmp_path / "qt.QT")
    (tmp_path / "avi.avi").rename(tmp_path / "divx.divx")
    shutil.copy(tmp_path / "mp4.mp4", tmp_path / "a.MOV")
    (tmp_path / "m4v.m4v").rename(tmp_path / "m4v.M4V")
    known = {extension for some in written.values() for extension in some} | {"gif", "qt", "divx"}
    assert {f".{extension}" for extension in known} == set(manifest.EXTENSIONS) - {
        ".dv",
        ".ogv",
    }  # no encoder for them
    clips = {clip.id: clip for clip in build("folder", tmp_path)}
    assert set(clips) == known - {"mov", "avi"} | {"a"}
    assert {clip.load().shape for clip in clips.values()} == {(3, 5, 32, 32)}


def test_files_of_other_types_are_counted_and_named_once(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "sub/README", "sub/b.mp5", ".hidden", "sub/.x.txt", "__MACOSX/b.mp5"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("no clip")
    assert len(ids(build("folder", tree))) == 4
    build("folder", tree)  # a run may build it more than once
    said = (
        "files of other types are ignored: 4, of which 2 .txt (a.txt), 1 .mp5 (sub/b.mp5), 1 no extension (sub/README)"
    )
    assert capsys.readouterr().err == f"note: {tree}: {said}\n"
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for number in range(8):
        (tree / f"a.{number}").touch()
    build("folder", tree)
    assert capsys.readouterr().err == ""  # the first process says it
    monkeypatch.setenv("RANK", "0")
    (tree / "one_more.0").touch()
    build("folder", tree)
    assert capsys.readouterr().err.endswith("1 .4 (a.4), and 5 more types\n")


def test_files_that_differ_in_their_ending_alone_keep_it(tree: Path) -> None:
    shutil.copy(tree / "b.mp4", tree / "b.mkv")
    assert ids(build("folder", tree))[:3] == ["a b", "b.mkv", "b.mp4"]


def test_a_link_back_up_the_tree_is_followed_once(tree: Path) -> None:
    (tree / "sub" / "loop").symlink_to(tree, target_is_directory=True)
    assert ids(build("folder", tree)) == ["a b", "b", "sub/c", "sub/deep/d"]


def test_listing_decodes_nothing(tree: Path) -> None:
    for file in tree.rglob("*.mp4"):
        file.write_bytes(b"no video at all")
    assert len(list(build("folder", tree))) == 4


def test_a_broken_clip_fails_alone(tree: Path) -> None:
    (tree / "b.mp4").write_bytes(b"no video at all")
    clips = {clip.id: clip for clip in build("folder", tree)}
    with pytest.raises(ValueError, match=r"b\.mp4: cannot be decoded"):
        clips["b"].load()
    assert clips["sub/c"].load().shape == (3, 5, 32, 32)


def test_a_short_clip_says_what_to_do(tree: Path) -> None:
    clip = next(iter(build("folder", tree, num_frames=9)))
    with pytest.raises(ValueError, match=r"a b\.mp4: too short: it has 8 frames.*lower num_frames"):
        clip.load()


def test_a_clip_that_vanishes_after_listing_is_named(tree: Path) -> None:
    clips = list(build("folder", tree))
    (tree / "b.mp4").unlink()
    with pytest.raises(OSError, match=r"b\.mp4: No such file"):
        clips[1].load()


def test_no_root_a_missing_root_and_an_empty_root_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data=folder is not available without root=DIR"):
        build("folder")
    with pytest.raises(OSError, match="gone: no such folder"):
        build("folder", tmp_path / "gone")
    (tmp_path / "notes.txt").touch()
    for files in ("notes.txt", "*.mp4"):
        with pytest.raises(OSError, match="root=DIR should name a folder, not files in it"):
            build("folder", tmp_path / files)
    with pytest.raises(ValueError, match=r"no clips; expected files ending in \.mp4"):
        build("folder", tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read every folder")
def test_a_folder_without_permission_is_named(tree: Path) -> None:
    (tree / "sub").chmod(0)
    try:
        with pytest.raises(OSError, match="sub: Permission denied; name a folder that can be read"):
            build("folder", tree)
    finally:
        (tree / "sub").chmod(0o755)


def test_a_folder_that_cannot_be_listed_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(OSError, match="sub: Permission denied; name a folder that can be read"):
        build("folder", tree)


# --- identity ---------------------------------------------------------------------------------------------------------------


def test_the_identity_is_of_the_clips_and_not_of_the_place(tree: Path, tmp_path: Path) -> None:
    first = build("folder", tree).identity
    shutil.copytree(tree, tmp_path / "else where")
    mark = first["sha256"][:6]
    assert build("folder", tmp_path / "else where").identity == {**first, "name": f"else_where_{mark}"}
    assert first["name"] == f"tree_{mark}"  # of which the folder of its results is named
    assert first["clips"] == "4"
    assert len(first["sha256"]) == 64


def test_two_folders_of_one_name_are_two_settings(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "tree"
    shutil.copytree(tree, other)
    assert build("folder", other).identity == build("folder", tree).identity  # the same clips in another place
    (other / "b.mp4").unlink()
    assert build("folder", other).identity["name"] != build("folder", tree).identity["name"]
    assert build("bundle").identity["name"] == "bundle"


def test_neither_a_clip_nor_its_error_tells_where_the_root_is(tree: Path, tmp_path: Path) -> None:
    (tree / "sub" / "c.MOV").write_bytes(b"no video at all")
    (tree / "b.mp4").unlink()
    (tmp_path / "pin.csv").write_text(f"file,sha256\nb.mp4,\nsub/c.MOV,\nsub/deep/d.mkv,{'0' * 64}\n")
    clips = list(build("folder", tree, manifest=str(tmp_path / "pin.csv")))
    assert [clip.file for clip in clips] == ["b.mp4", "sub/c.MOV", "sub/deep/d.mkv"]
    for clip, kind in zip(clips, (OSError, ValueError, ValueError), strict=True):
        with pytest.raises(kind) as caught:
            clip.load()
        assert str(caught.value).startswith(f"{clip.file}: ")
        assert str(tree) not in str(caught.value)


@pytest.mark.parametrize("change", ["other bytes", "longer", "renamed", "gone", "one more"])
def test_the_identity_changes_with_the_clips(tree: Path, change: str) -> None:
    before = build("folder", tree).identity["sha256"]
    file = tree / "b.mp4"
    content = file.read_bytes()
    if change == "other bytes":
        file.write_bytes(content[:-5] + b"!" + content[-4:])
    elif change == "longer":
        file.write_bytes(content + b"!")
    elif change == "renamed":
        file.rename(tree / "e.mp4")
    elif change == "gone":
        file.unlink()
    else:
        (tree / "e.mp4").write_bytes(content)
    assert build("folder", tree).identity["sha256"] != before


def test_a_long_file_is_known_by_its_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    content = bytearray(4 * file_source.ENDS)
    marks = {}
    for at in (0, file_source.ENDS - 1, len(content) // 2, len(content) - file_source.ENDS, len(content) - 1):
        content[at] ^= 1
        file.write_bytes(content)
        marks[at] = file_source.ends(file)
        content[at] ^= 1
    file.write_bytes(content)
    assert [at for at, mark in marks.items() if mark == file_source.ends(file)] == [
        len(content) // 2
    ]  # a manifest sees that too
    assert file_source.ends(tmp_path / "gone.mp4") == "missing"


# --- synthetic --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, motion in synthetic.MOTIONS.items() if not motion.square])
def test_a_synthetic_picture_moves_as_it_says(name: str) -> None:
    motion = synthetic.MOTIONS[name]
    clip = next(clip for clip in build("synthetic", num_frames=9) if clip.id == f"synthetic/{name}").load()
    down, right = motion.dy * 4, motion.dx * 4  # over four frames every motion is whole
    assert torch.equal(clip[:, 4], clip[:, 0].roll((int(down), int(right)), dims=(1, 2)))
    assert torch.equal(clip[:, 8], clip[:, 4].roll((int(down), int(right)), dims=(1, 2)))
    moved = any(not torch.equal(clip[:, 0], clip[:, t]) for t in range(1, 9))
    assert moved == bool(motion.dx or motion.dy)


def test_a_synthetic_square_moves_over_a_still_ground() -> None:
    clip = next(clip for clip in build("synthetic", num_frames=3) if clip.id == "synthetic/square").load()
    assert torch.equal(clip[:, 0, 8:22, 8:22], clip[:, 2, 10:24, 12:26])  # 2 right and 1 down per frame
    assert torch.equal(clip[:, 0, :, :8], clip[:, 2, :, :8])
    assert torch.equal(clip[:, 0, 28:], clip[:, 2, 28:])


def test_synthetic_pixels_are_pinned() -> None:
    assert build("synthetic").identity["sha256"] == "ebccdd160ce432716d51203d79ffc386f8c43b1e65774875e14ff51dd09aaf40"


def test_synthetic_takes_no_root() -> None:
    with pytest.raises(ValueError, match="reads no files"):
        build("synthetic", "somewhere")

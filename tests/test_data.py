"""Sources: which clips they list, what they pin, and what they say when something is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.videos import pictures, write
from vaebench import plugins
from vaebench.config import RunConfig
from vaebench.data import _files, _manifest, synthetic

SMALL = RunConfig(num_frames=5, size=32)


def build(data: str, root: Path | str = "", **settings: Any) -> Any:
    config = replace(SMALL, data=data, root=str(root), **settings)
    return plugins.find("data", data).build(config)


def ids(source: Iterable[Any]) -> list[str]:
    return [clip.id for clip in source]


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of 64x48."""
    return write(tmp_path_factory.mktemp("video") / "a.mp4", pictures(8))


@pytest.fixture
def tree(tmp_path: Path, video: Path) -> Path:
    """Four videos, and what is no clip."""
    root = tmp_path / "tree"
    for name in ("b.mp4", "sub/c.MOV", "sub/deep/d.mkv", "a b.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / name)
    for name in ("notes.txt", ".hidden.mp4"):
        (root / name).write_text("no clip")
    return root


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
    with pytest.raises(ValueError, match="say data=folder root=DIR"):
        build("bundle", "somewhere")


# --- folder -----------------------------------------------------------------------------------------------------------------


def test_a_folder_is_listed_in_a_stable_order_without_what_is_no_video(tree: Path) -> None:
    source = build("folder", tree)
    assert ids(source) == ["a b", "b", "sub/c", "sub/deep/d"]
    assert ids(source) == ids(source)  # and again
    assert all(clip.load().shape == (3, 5, 32, 32) for clip in source)


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
    with pytest.raises(ValueError, match=r"a b\.mp4: too short: it holds 8 frames.*lower num_frames"):
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
    with pytest.raises(ValueError, match=r"no clips; expected files ending in \.mp4"):
        build("folder", tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read every folder")
def test_a_folder_without_permission_is_named(tree: Path) -> None:
    (tree / "sub").chmod(0)
    try:
        with pytest.raises(OSError, match="sub: Permission denied; root=DIR"):
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
    with pytest.raises(OSError, match="sub: Permission denied; root=DIR"):
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
    content = bytearray(4 * _files.ENDS)
    marks = {}
    for at in (0, _files.ENDS - 1, len(content) // 2, len(content) - _files.ENDS, len(content) - 1):
        content[at] ^= 1
        file.write_bytes(content)
        marks[at] = _files.ends(file)
        content[at] ^= 1
    file.write_bytes(content)
    assert [at for at, mark in marks.items() if mark == _files.ends(file)] == [
        len(content) // 2
    ]  # a manifest sees that too
    assert _files.ends(tmp_path / "gone.mp4") == "missing"


# --- manifest ---------------------------------------------------------------------------------------------------------------


def test_a_written_manifest_reads_back_and_pins_the_folder(tree: Path, tmp_path: Path) -> None:
    (tree / "broken.mp4").write_bytes(b"no video")
    pin = tmp_path / "pin.csv"
    written, left_out = _manifest.write(tree, pin, num_frames=5)
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
    _manifest.write(tree, pin, num_frames=5)
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
        ("file\nb.mp4\n/etc/a.mp4\n", "line 3: file '/etc/a.mp4' should be a path below the root"),
        ("file\n../a.mp4\n", "line 2: file '../a.mp4' should be"),
        ("file,id\nb.mp4,x\nsub/c.MOV,x\n", "2 clips are called 'x'"),
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
    with pytest.raises(ValueError, match=r"pin\.csv: is not a CSV in UTF-8"):
        build("folder", tree, manifest=str(tmp_path / "pin.csv"))


def test_no_manifest_is_written_where_no_video_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"no video below it has 33 frames; .*a\.mp4: cannot be decoded"):
        _manifest.write(tmp_path, tmp_path / "pin.csv")
    assert not (tmp_path / "pin.csv").exists()


# --- data sets --------------------------------------------------------------------------------------------------------------


def place(video: Path, root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / name)
    return root


def table(file: Path, *rows: dict[str, str]) -> str:
    with open(file, "w", newline="") as text:
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def test_webvid_lists_the_clips_of_its_csv_that_are_on_disk(video: Path, tmp_path: Path) -> None:
    root = place(
        video,
        tmp_path / "webvid",
        "videos/000001_000050/31.mp4",
        "videos/000051_000100/7.mp4",
        "videos/x/99.mp4",
    )
    rows = [{"videoid": name, "contentUrl": "", "page_dir": "", "name": "a, b"} for name in ("7", "404", "31")]
    source = build("webvid", root, manifest=table(tmp_path / "results_10M_val.csv", *rows))
    assert ids(source) == ["7", "31"]
    assert source.identity["clips"] == "2"
    assert source.identity["listed"] == "3"
    assert source.identity["name"] == f"webvid_results_10M_val_{source.identity['sha256'][:6]}"
    assert next(iter(source)).load().shape == (3, 5, 32, 32)


def test_kinetics_takes_its_labels_from_csv_or_folder(video: Path, tmp_path: Path) -> None:
    names = ["abseiling/_4YTwq0-73Y_000109_000119.mp4", "zumba/abc_000000_000010.mp4"]
    root = place(video, tmp_path / "val", *names)
    assert [(clip.id, clip.label) for clip in build("kinetics400", root)] == [
        ("abseiling/_4YTwq0-73Y_000109_000119", "abseiling"),
        ("zumba/abc_000000_000010", "zumba"),
    ]
    row = {
        "label": "air drumming",
        "youtube_id": "_4YTwq0-73Y",
        "time_start": "109",
        "time_end": "119",
        "split": "val",
    }
    source = build("kinetics400", root, manifest=table(tmp_path / "val.csv", row))
    assert [(clip.id, clip.label) for clip in source] == [("_4YTwq0-73Y_000109_000119", "air drumming")]


def test_panda_names_its_clips_by_video_however_they_were_fetched(video: Path, tmp_path: Path) -> None:
    cuts = "[['0:00:01.0', '0:00:03.0'], ['0:00:05.0', '0:00:09.0']]"
    rows = [{"videoID": name, "url": "", "timestamp": cuts} for name in ("--a_B", "gone")]
    listing = table(tmp_path / "panda70m_testing.csv", *rows)
    fetched = place(video, tmp_path / "fetched", "00000/0000003_00000.mp4", "00000/0000003_00001.mp4")
    for file in fetched.rglob("*.mp4"):
        file.with_suffix(".json").write_text(json.dumps({"url": "https://www.youtube.com/watch?v=--a_B"}))
    by_hand = place(video, tmp_path / "by_hand", "--a_B_0.mp4", "--a_B_1.mp4")
    for root in (fetched, by_hand):
        source = build("panda70m", root, manifest=listing)
        assert ids(source) == ["--a_B_00000", "--a_B_00001"]
        assert source.identity["listed"] == "4"


@pytest.mark.parametrize("name", ["webvid", "panda70m", "kinetics400"])
def test_a_published_set_is_pinned_by_a_manifest_and_explains_its_layout(
    name: str, video: Path, tmp_path: Path
) -> None:
    root = place(video, tmp_path / "root", "one_0.mp4", "two_0.mp4")
    (tmp_path / "pin.csv").write_text("file\ntwo_0.mp4\n")
    assert ids(build(name, root, manifest=str(tmp_path / "pin.csv"))) == ["two_0"]
    assert ids(build(name, root)) == ["one_0", "two_0"]
    with pytest.raises(ValueError, match=f"data={name} is not available without root=DIR: .*https://"):
        build(name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"the layout expected is .*https://"):
        build(name, tmp_path / "empty")
    with pytest.raises(ValueError, match="has no column"):
        build(name, root, manifest=table(tmp_path / "other.csv", {"a": "b"}))


def test_ucf_reads_all_videos_or_a_published_split(video: Path, tmp_path: Path) -> None:
    odd = "HandstandPushups/v_HandStandPushups_g01_c01"
    root = place(
        video,
        tmp_path / "UCF-101",
        f"{odd}.avi",
        "Archery/v_Archery_g01_c01.avi",
        "Archery/v_Archery_g08_c01.avi",
    )
    everything = [(clip.id, clip.label) for clip in build("ucf101", root)]
    assert everything == [
        ("Archery/v_Archery_g01_c01", "Archery"),
        ("Archery/v_Archery_g08_c01", "Archery"),
        (odd, "HandstandPushups"),
    ]
    (tmp_path / "trainlist01.txt").write_text("Archery/v_Archery_g08_c01.avi 3\r\n" + f"{odd}.avi 37\r\n")
    split = build("ucf101", root, manifest=str(tmp_path / "trainlist01.txt"))
    assert [(clip.id, clip.label) for clip in split] == everything[1:]
    (tmp_path / "testlist01.txt").write_text("Archery/v_Archery_g09_c01.avi\n")
    clip = next(iter(build("ucf101", root, manifest=str(tmp_path / "testlist01.txt"))))
    with pytest.raises(OSError, match=r"v_Archery_g09_c01\.avi: No such file"):
        clip.load()
    with pytest.raises(OSError, match=r"gone\.txt: No such file"):
        build("ucf101", root, manifest=str(tmp_path / "gone.txt"))
    place(video, root, "stray.avi")
    with pytest.raises(ValueError, match=r"found stray\.avi; the layout expected is UCF-101"):
        build("ucf101", root)


def images(folder: Path, count: int, height: int = 40) -> Path:
    from PIL import Image

    folder.mkdir(parents=True)
    for number, pixels in enumerate(pictures(count, height, 64)):
        Image.fromarray(pixels).save(
            folder / f"sky_frames_{number}.png"
        )  # unpadded, as in the data set: 10 sorts before 2
    return folder


def test_skytimelapse_reads_folders_of_images_by_number(tmp_path: Path) -> None:
    images(tmp_path / "sky_train/07/07_1", 12)
    images(tmp_path / "sky_train/07/07_2", 3)
    long, short = build("skytimelapse", tmp_path / "sky_train", num_frames=12, size=40)
    assert (long.id, short.id) == ("07/07_1", "07/07_2")
    middle = pictures(12, 40, 64)[:, :, 12:52].transpose(3, 0, 1, 2)
    assert np.array_equal(long.load().numpy(), middle)
    with pytest.raises(ValueError, match="07_2: too short: it holds 3 frames, 12 were asked for"):
        short.load()
    before = build("skytimelapse", tmp_path / "sky_train").identity
    (tmp_path / "sky_train/07/07_1/sky_frames_3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"sky_frames_3\.png: is no image that can be read"):
        long.load()
    (tmp_path / "sky_train/07/07_1/sky_frames_0.png").write_bytes(b"no image")
    assert build("skytimelapse", tmp_path / "sky_train").identity != before


def test_skytimelapse_explains_its_layout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images below it; the layout expected is one split of SkyTimelapse"):
        build("skytimelapse", tmp_path)
    images(tmp_path / "a", 1)
    (tmp_path / "a" / "cover.png").touch()
    with pytest.raises(ValueError, match=r"cover\.png: has no frame number"):
        build("skytimelapse", tmp_path)


# --- shards -----------------------------------------------------------------------------------------------------------------


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
    webdataset = pytest.importorskip("webdataset", reason="webdataset belongs to the extra vaebench[train]")
    with webdataset.TarWriter(str(tmp_path / "00000.tar")) as sink:
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

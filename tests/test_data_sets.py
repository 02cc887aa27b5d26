"""The published data sets: the layouts they are found in, their clips and labels, what is said when something is missing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.sources import build, ids
from tests.videos import pictures, write_images


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
    for wrong in ("", "inf", "1:49"):
        broken = table(tmp_path / "broken.csv", {**row, "time_start": wrong})
        with pytest.raises(ValueError, match=f"Kinetics-400: time_start '{wrong}' and time_end '119' of _4YTwq0-73Y"):
            build("kinetics400", root, manifest=broken)


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


def test_skytimelapse_reads_folders_of_images_by_number(tmp_path: Path) -> None:
    write_images(tmp_path / "sky_train/07/07_1", pictures(12, 40))
    write_images(tmp_path / "sky_train/07/07_2", pictures(3, 40))
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
    write_images(tmp_path / "a", pictures(1, 40))
    (tmp_path / "a" / "cover.png").touch()
    with pytest.raises(ValueError, match=r"cover\.png: has no frame number"):
        build("skytimelapse", tmp_path)


def test_images_beside_a_folder_of_images_are_all_kept(tmp_path: Path) -> None:
    """Sorted by path, the frames of a folder may stand on both sides of another folder's."""
    write_images(tmp_path / "07", pictures(12, 40))
    write_images(tmp_path / "07" / "sky_frames_10", pictures(3, 40))
    found = {folder: len(names) for folder, names in build("skytimelapse", tmp_path).folders.items()}
    assert found == {"07": 12, "07/sky_frames_10": 3}

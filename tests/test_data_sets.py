"""The published data sets: the layouts they are found in, their clips and labels, what is said when something is missing."""

from __future__ import annotations

import csv
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sources import build, cut, ids
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


def test_a_row_that_a_published_csv_repeats_is_read_once(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = place(video, tmp_path / "webvid", "a/7.mp4", "a/8.mp4", "b/7.mp4")
    rows = [{"videoid": name, "name": text} for name, text in (("8", "x"), ("7", "one"), ("7", "other"), ("404", "y"))]
    source = build("webvid", root, manifest=table(tmp_path / "val.csv", *rows))
    assert [(clip.id, clip.file) for clip in source] == [("8", "a/8.mp4"), ("7", "a/7.mp4")]
    assert source.identity["listed"] == "3"
    notes = capsys.readouterr().err
    assert f"{tmp_path}/val.csv: repeated rows are merged: 1 (the first: 7)" in notes
    assert "files are ignored whose clip an earlier file holds: 1 (the first: b/7.mp4; a/7.mp4 is read)" in notes


def test_a_clip_that_a_published_csv_labels_in_two_ways_is_named(video: Path, tmp_path: Path) -> None:
    root = place(video, tmp_path / "val", "abc_000000_000010.mp4")
    row = {"label": "zumba", "youtube_id": "abc", "time_start": "0", "time_end": "10"}
    listing = table(tmp_path / "val.csv", row, {**row, "label": "yoga"})
    said = (
        r"val\.csv: 2 clips are called 'abc_000000_000010', with label 'zumba' and 'yoga'; .*remove one of the two rows"
    )
    with pytest.raises(ValueError, match=said):
        build("kinetics400", root, manifest=listing)


def test_panda_reads_the_row_of_a_long_video(video: Path, tmp_path: Path) -> None:
    """5,000 cuts in one field of 160,000 characters, above the default limit of Python's csv."""
    root = place(video, tmp_path / "panda", "long_3999.mp4", "short_0.mp4")
    cuts = [["0:00:01.000", "0:00:02.000"]]
    rows = [{"videoID": name, "timestamp": str(each)} for name, each in (("short", cuts), ("long", cuts * 5000))]
    source = build("panda70m", root, manifest=table(tmp_path / "p.csv", *rows))
    assert ids(source) == ["short_00000", "long_03999"]
    assert source.identity["listed"] == "5001"


def test_a_byte_order_mark_is_no_part_of_a_name(video: Path, tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"  # UTF-8 as many editors on Windows write it
    ucf = place(video, tmp_path / "UCF-101", "Archery/v_Archery_g01_c01.avi")
    (tmp_path / "testlist01.txt").write_bytes(mark + b"Archery/v_Archery_g01_c01.avi\r\n")
    assert ids(build("ucf101", ucf, manifest=str(tmp_path / "testlist01.txt"))) == ["Archery/v_Archery_g01_c01"]
    webvid = place(video, tmp_path / "webvid", "7.mp4")
    (tmp_path / "val.csv").write_bytes(mark + b"videoid\n7\n")
    assert ids(build("webvid", webvid, manifest=str(tmp_path / "val.csv"))) == ["7"]
    panda = place(video, tmp_path / "panda", "0000003_00000.mp4")
    (panda / "0000003_00000.json").write_bytes(mark + b'{"url": "https://www.youtube.com/watch?v=abc"}')
    (tmp_path / "p.csv").write_bytes(mark + b'videoID,timestamp\nabc,"[1]"\n')
    assert ids(build("panda70m", panda, manifest=str(tmp_path / "p.csv"))) == ["abc_00000"]


def test_a_split_that_repeats_a_line_or_is_not_utf8(video: Path, tmp_path: Path) -> None:
    root = place(video, tmp_path / "UCF-101", "Archery/v_Archery_g01_c01.avi")
    split = tmp_path / "trainlist01.txt"
    split.write_text("Archery/v_Archery_g01_c01.avi 3\n" * 2)
    assert ids(build("ucf101", root, manifest=str(split))) == ["Archery/v_Archery_g01_c01"]
    split.write_text("Archery/v_Archery_g01_c01.avi 3\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"trainlist01\.txt: is not UTF-8 text \(byte 0xff.*save it as UTF-8"):
        build("ucf101", root, manifest=str(split))


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
    name: str, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = place(video, tmp_path / "root", "one_0.mp4", "two_0.mp4")
    (tmp_path / "pin.csv").write_text("file\ntwo_0.mp4\n")
    assert ids(build(name, root, manifest=str(tmp_path / "pin.csv"))) == ["two_0"]
    assert not capsys.readouterr().err
    assert ids(build(name, root)) == ["one_0", "two_0"]
    assert f"every video below it is taken for a clip of {name}" in capsys.readouterr().err
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
    with pytest.raises(ValueError, match="07_2: too short: it has 3 frames, num_frames=12"):
        short.load()
    before = build("skytimelapse", tmp_path / "sky_train").identity
    (tmp_path / "sky_train/07/07_1/sky_frames_3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"sky_frames_3\.png: cannot be read as an image"):
        long.load()
    (tmp_path / "sky_train/07/07_1/sky_frames_0.png").write_bytes(b"no image")
    assert build("skytimelapse", tmp_path / "sky_train").identity != before


def test_two_skies_of_one_name_are_two_settings(tmp_path: Path) -> None:
    for place, seed in (("a", 0), ("b", 1)):
        write_images(tmp_path / place / "sky_train/07/07_1", pictures(6, 40, seed=seed))
    first, other = (build("skytimelapse", tmp_path / place / "sky_train").identity for place in ("a", "b"))
    assert first["name"] == f"skytimelapse_sky_train_{first['sha256'][:6]}" != other["name"]
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    assert build("skytimelapse", tmp_path / "c/sky_train").identity == first  # the same clips in another place
    write_images(tmp_path / "d/sky_train/07/07_1", np.concatenate([pictures(6, 40)[:3], pictures(6, 40, seed=2)[3:5]]))
    shutil.copy(tmp_path / "a/sky_train/07/07_1/sky_frames_5.png", tmp_path / "d/sky_train/07/07_1")
    assert build("skytimelapse", tmp_path / "d/sky_train").identity != first  # first and last image are the same


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("double", r"07: sky_frames_3\.jpg and sky_frames_3\.png have the same frame number; remove one of them"),
        ("size", r"07/sky_frames_3\.png: is 40x64, the frames before it are 64x40; replace it"),
        ("16 bit", r"07/sky_frames_3\.png: cannot be read as an image \(it has 16 bits per channel, 8 are expected"),
        ("16 bit colour", r"07/sky_frames_3\.png: cannot be read as an image \(it has 16 bits per channel, 8 are"),
        ("cmyk", r"07/sky_frames_3\.png: cannot be read as an image \(its colours are CMYK, RGB or grey is expected"),
        ("flipped bit", r"07/sky_frames_3\.png: cannot be read as an image \(broken PNG file"),
        ("cut", r"07/sky_frames_3\.png: cannot be read as an image"),
    ],
)
def test_a_sky_with_a_wrong_frame_is_refused_and_the_others_are_read(wrong: str, message: str, tmp_path: Path) -> None:
    for name in ("07", "08"):
        write_images(tmp_path / name, pictures(7, 40))
    file = tmp_path / "07/sky_frames_3.png"
    frame = Image.open(file).convert("RGB")
    if wrong == "double":
        frame.save(file.with_suffix(".jpg"))
    elif wrong == "size":
        frame.transpose(Image.Transpose.ROTATE_90).save(file)
    elif wrong == "16 bit":
        Image.fromarray(np.full((40, 64), 9000, np.uint16)).save(file)
    elif wrong == "16 bit colour":
        rows = (b"\0" + bytes(64 * 6)) * 40
        file.write_bytes(b"\x89PNG\r\n\x1a\n")
        head = struct.pack(">IIBBBBB", 64, 40, 16, 2, 0, 0, 0)
        with file.open("ab") as out:
            for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
                check = zlib.crc32(kind + content)
                out.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check))
    elif wrong == "cmyk":
        frame.convert("CMYK").save(file, "JPEG")
    else:
        content = bytearray(file.read_bytes())
        content[content.find(b"IDAT") + 40] ^= 1
        file.write_bytes(content[:-40] if wrong == "cut" else content)
    source = build("skytimelapse", tmp_path)
    bad, good = source
    with pytest.raises(ValueError, match=message):
        bad.load()
    assert good.load().shape == (3, 5, 32, 32)
    first, second = cut(source, frames=6, interval=1)  # as diffusability reads them
    with pytest.raises(ValueError, match=message):
        first.load()
    assert second.load().shape == (3, 6, 32, 32)


def test_a_sky_of_jpegs_and_of_grey_images_is_read(tmp_path: Path) -> None:
    grey, colour = pictures(5, 40)[..., 0], pictures(5, 40)
    for number in range(5):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(grey[number]).save(tmp_path / "a" / f"{number}.png")
        (tmp_path / "b").mkdir(exist_ok=True)
        Image.fromarray(colour[number]).save(tmp_path / "b" / f"{number}.JPG", quality=100, subsampling=0)
    flat, rich = build("skytimelapse", tmp_path, size=40)
    middle = grey[:, :, 12:52]
    assert np.array_equal(flat.load().numpy(), np.broadcast_to(middle, (3, *middle.shape)))
    difference = rich.load().numpy().astype(int) - colour[:, :, 12:52].transpose(3, 0, 1, 2)
    assert abs(difference).max() <= 4  # of 255 levels: the losses of JPEG at its best quality


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

"""Files that change between two runs: what is measured again, what the record's hash shows, and what it does not."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import adapters
from tests.sources import build
from tests.test_trained import PLAN
from tests.videos import pictures, write
from vaebench import cli, records
from vaebench.generation.diffusion_run import DiffusionRun
from vaebench.video_io import manifest

PADDED = 1 << 14  # bytes of every image, so that one can be replaced by another of its length
pytestmark = pytest.mark.usefixtures("elsewhere")


def psnr(data: str, store: str = "runs", **settings: str) -> float:
    """Of a fresh record, with what is in `store` taken from there."""
    words = [f"{key}={value}" for key, value in {"data": data, "root": "clips", **settings}.items()]
    out = f"results-{len(list(Path().glob('results-*')))}"
    quick = ["num_frames=17", "size=32", "vaes=[pool/4x8x8]", "metrics=[psnr]", f"runs={store}", f"results={out}"]
    assert cli.main(["run", *quick, *words]) == 0
    (file,) = Path(out).rglob("pool-4x8x8.json")
    value = records.read(file).scores["psnr"].value
    assert value is not None
    return value


def make_folder() -> Callable[[], None]:
    """17 uncompressed frames, each 4,608 bytes, of which one in the middle is inverted."""
    Path("clips").mkdir()
    file = write(Path("clips/a.avi"), pictures(17), codec="rawvideo")
    content = bytearray(file.read_bytes())
    frame = content.find(b"00dc", len(content) // 2) + 8

    def change() -> None:
        content[frame : frame + 4608] = bytes(255 - value for value in content[frame : frame + 4608])
        file.write_bytes(content)

    return change


def make_shards() -> Callable[[], None]:
    change_file = make_folder()
    video = Path("clips/a.avi").rename("a.avi")

    def pack() -> None:
        with tarfile.open("clips/0.tar", "w") as shard:
            member = shard.gettarinfo(video)
            member.mtime = 0
            with video.open("rb") as content:
                shard.addfile(member, content)

    def change() -> None:
        video.rename("clips/a.avi")
        change_file()
        Path("clips/a.avi").rename(video)
        pack()

    pack()
    return change


def save_padded(file: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(file, "PNG")
    file.write_bytes(file.read_bytes().ljust(PADDED, b"\0"))


def make_images() -> Callable[[], None]:
    folder = Path("clips/07/07_1")
    folder.mkdir(parents=True)
    for number, pixels in enumerate(pictures(18)):
        save_padded(folder / f"sky_{number}.png", pixels)
    return lambda: save_padded(folder / "sky_9.png", 255 - pictures(18)[9])


SOURCES = {"folder": make_folder, "shards": make_shards, "skytimelapse": make_images}


@pytest.mark.parametrize("data", SOURCES)
def test_a_change_in_the_middle_that_keeps_the_length_is_measured(data: str) -> None:
    change = SOURCES[data]()
    before, identity = psnr(data), build(data, "clips").identity
    assert psnr(data) == before
    change()
    assert build(data, "clips").identity == identity  # only the time of change shows this
    after = psnr(data)
    assert after == psnr(data, store="fresh") != before


@pytest.mark.parametrize("data", SOURCES)
def test_the_time_of_a_file_is_in_cache_keys_and_not_in_the_record(data: str, tmp_path: Path) -> None:
    SOURCES[data]()

    def state() -> tuple[dict[str, str], list[str], str]:
        source = build(data, "clips", num_frames=16)
        key = DiffusionRun(
            adapters.load("pool/4x8x8"), "", ["adapters.pool"], source, PLAN, tmp_path, torch.device("cpu")
        ).latents_key
        return source.identity, [clip.stamp for clip in source], key

    identity, stamps, key = state()
    assert (identity, stamps, key) == state()
    some = sorted(file for file in Path("clips").rglob("*.*") if file.is_file())[0]
    os.utime(some, ns=(0, 123))  # as a copy of the same bytes would have
    assert state()[0] == identity
    assert state()[1] != stamps
    assert state()[2] != key


def test_pinned_files_are_known_by_their_bytes_wherever_they_lie() -> None:
    bundle = build("bundle")
    assert {clip.stamp for clip in bundle} == {""}
    # that of the committed records
    assert bundle.identity["sha256"] == "fbb1e7200b4b998f83b8d6d7d39b0b1bafbc91982a4630e6e5118995276c8ead"


@pytest.mark.parametrize("lost", [Path.unlink, lambda file: file.write_bytes(b"")], ids=["missing", "empty"])
def test_a_pinned_file_that_is_lost_fails_although_its_scores_are_stored(
    lost: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder()
    write(Path("clips/b.avi"), pictures(17))
    manifest.write("clips", "pin.csv", num_frames=17)
    psnr("folder", manifest="pin.csv")
    lost(Path("clips/b.avi"))
    quick = ["num_frames=17", "size=32", "vaes=[pool/4x8x8]", "metrics=[psnr]", "runs=runs", "results=after"]
    assert cli.main(["run", "data=folder", "root=clips", "manifest=pin.csv", *quick]) == 1
    assert "b.avi: " in capsys.readouterr().err
    (file,) = Path("after").rglob("pool-4x8x8.json")
    record = records.read(file)
    assert record.scores["psnr"].n == 1
    assert [failure.case for failure in record.failed] == ["b"]


def test_other_frames_of_the_same_files_are_other_data(tmp_path: Path) -> None:
    """Ids, files, bytes and the name of the manifest are equal; only the identity of the data tells the two runs apart."""
    Path("clips").mkdir()
    digest = manifest.sha256(write(Path("clips/a.mkv"), pictures(25), codec="ffv1", pix_fmt="bgr0"))
    keys = []
    for start in (0, 8):
        Path(str(start)).mkdir()
        Path(f"{start}/pin.csv").write_text(f"file,start,sha256\na.mkv,{start},{digest}\n")
        source = build("folder", "clips", manifest=f"{start}/pin.csv")
        keys.append(
            DiffusionRun(
                adapters.load("pool/4x8x8"), "", ["adapters.pool"], source, PLAN, tmp_path, torch.device("cpu")
            ).latents_key
        )
    first, late = psnr("folder", manifest="0/pin.csv"), psnr("folder", manifest="8/pin.csv")
    assert late == psnr("folder", store="fresh", manifest="8/pin.csv") != first
    assert keys[0] != keys[1]

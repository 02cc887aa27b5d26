"""reader=decord gives the frames of PyAV bit by bit, or refuses the file."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.videos import pictures, write
from vaebench import cli, plugins
from vaebench.config import RunConfig
from vaebench.data import bundle
from vaebench.video_io import decode, decord_reader, file_source, manifest
from vaebench.video_io.manifest import Row

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("decord", reason="decord has no wheel for this machine")


def by_decord(file: Path, start: int, count: int) -> NDArray[np.uint8]:
    return np.stack(list(decord_reader.read(file, start, count)))


def by_pyav(file: Path, start: int, count: int) -> NDArray[np.uint8]:
    return np.stack(list(decode.read(file, start, count)))


@pytest.mark.parametrize("clip", sorted(file.name for file in bundle.ROOT.glob("*.mp4")))
@pytest.mark.parametrize(("start", "count"), [(0, 17), (50, 9)])
def test_the_frames_of_every_bundle_clip_are_bit_equal(clip: str, start: int, count: int) -> None:
    file = bundle.ROOT / clip
    assert np.array_equal(by_decord(file, start, count), by_pyav(file, start, count))


@pytest.mark.parametrize(("matrix", "full"), [(1, 1), (1, 2), (6, 1), (9, 1)])
def test_colour_follows_the_matrix_that_the_stream_names(tmp_path: Path, matrix: int, full: int) -> None:
    file = write(tmp_path / "a.mp4", pictures(12, 64, 96), colorspace=matrix, color_range=full)
    assert np.array_equal(by_decord(file, 0, 12), by_pyav(file, 0, 12))


def test_an_avi_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.avi", pictures(20), "mpeg4", options={"bf": "2"})
    with pytest.raises(ValueError, match=r"a\.avi: its packets do not prove the order .*; use reader=pyav"):
        by_decord(file, 0, 9)


@pytest.mark.parametrize(
    ("height", "width", "codec", "pix_fmt", "options"),
    [
        (64, 96, "libx264", "yuv420p10le", {}),
        (45, 61, "mpeg4", "yuv420p", {}),
        (64, 48, "libx264", "yuv420p", {}),
        (64, 96, "libx264", "yuv420p", {"flags": "+ilme+ildct", "x264-params": "tff=1"}),
    ],
    ids=["10 bits", "odd size", "narrow", "interlaced"],
)
def test_other_pixels_are_refused(
    tmp_path: Path, height: int, width: int, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    file = write(tmp_path / "a.mp4", pictures(12, height, width), codec, pix_fmt, options=options)
    with pytest.raises(
        ValueError, match=r"a\.mp4: decord('s frame 3 differs from PyAV's| cannot read it).*; use reader=pyav"
    ):
        by_decord(file, 3, 5)


def test_a_file_that_is_too_short_says_how_long_it_is(tmp_path: Path) -> None:
    file = write(tmp_path / "five.mp4", pictures(5, 64, 96))
    with pytest.raises(ValueError, match=r"five\.mp4: too short: it has 5 frames, but 33 are needed"):
        by_decord(file, 0, 33)


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(ValueError, match=r"a\.mp4: cannot be opened as video"):
        by_decord(tmp_path / "a.mp4", 0, 1)


def test_damage_is_kept_out_by_the_checksum(tmp_path: Path) -> None:
    file = write(tmp_path / "a.mp4", pictures(20, 64, 96))
    row = Row("a", "a.mp4", sha256=manifest.sha256(file))
    assert len(list(file_source.read_row(file, row, 9, "decord"))) == 9
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x55
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.mp4: is not the file that the manifest pins"):
        list(file_source.read_row(file, row, 9, "decord"))


def test_files_that_nothing_pins_are_refused(tree: Path) -> None:
    config = RunConfig(data="folder", root=str(tree), reader="decord")
    with pytest.raises(ValueError, match=r"a b\.mp4: reader=decord reads only files that a manifest pins by sha256"):
        plugins.find("data", "folder").build(config)


@pytest.mark.parametrize("data", ["shards", "skytimelapse", "synthetic"])
def test_a_source_that_decord_cannot_read_says_so(data: str, tmp_path: Path) -> None:
    root = "" if data == "synthetic" else str(tmp_path)
    with pytest.raises(ValueError, match="reader=decord does"):
        plugins.find("data", data).build(RunConfig(data=data, root=root, reader="decord"))


def test_without_decord_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(ValueError, match=r"needs the package decord \(pip install .*; or use reader=pyav"):
        bundle.build(RunConfig(reader="decord"))


def test_an_unknown_reader_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "reader=opencv"]) == 2
    assert "reader='opencv' is not one of auto, pyav, decord" in capsys.readouterr().err


def test_the_clips_of_a_run_are_those_of_pyav() -> None:
    def first(reader: str) -> object:
        return next(iter(bundle.build(RunConfig(num_frames=5, size=64, reader=reader)))).load()

    assert np.array_equal(first("decord"), first("pyav"))

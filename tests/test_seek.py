"""Frame `s` of a file is one picture, whether reading begins at 0 or at `s`; a seek is taken wherever packets prove it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.videos import pictures, write
from vaebench.video_io import decode, packets

COUNT = 72
SHORT = {"g": "12"}
# codec, options of its encoder, container, and whether a far start should be reached by a seek
KINDS = [
    ("libx264", {**SHORT, "bf": "2"}, "mp4", True),
    ("libx264", {**SHORT, "bf": "2"}, "mov", True),
    ("libx264", {**SHORT, "bf": "2"}, "mkv", True),
    ("libx264", {**SHORT, "bf": "0"}, "mp4", True),
    ("libx264", {**SHORT, "bf": "3", "x264-params": "open-gop=1:b-pyramid=normal"}, "mp4", True),
    ("libx264", {**SHORT, "bf": "2"}, "avi", False),
    ("libx264", {**SHORT, "bf": "2"}, "ts", False),
    ("libx265", {"x265-params": "log-level=none:keyint=12"}, "mp4", True),
    ("libx265", {"x265-params": "log-level=none:keyint=12"}, "mkv", True),
    ("mpeg4", SHORT, "mp4", True),
    ("mpeg4", {**SHORT, "bf": "2"}, "mp4", True),
    ("mpeg4", {**SHORT, "bf": "2"}, "avi", False),
    ("mpeg2video", {**SHORT, "bf": "2"}, "ts", False),
    ("libvpx", {**SHORT, "auto-alt-ref": "1", "lag-in-frames": "16"}, "webm", True),
    ("libvpx-vp9", {**SHORT, "auto-alt-ref": "1", "lag-in-frames": "16"}, "webm", True),
    ("ffv1", {}, "mkv", True),
    ("mjpeg", {}, "mov", True),
    ("gif", {}, "gif", False),
]


def encode(file: Path, codec: str, options: dict[str, str], frames: int = COUNT) -> Path:
    pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(codec, "yuv420p")
    return write(file, pictures(frames), codec, pix_fmt, options=options)


def copy(source: Path, target: Path, decode_order: bool = False) -> Path:
    """The packets of `source` in another container; with `decode_order` the time stamps forget the order of display."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size == 0:
                continue
            if decode_order:
                packet.pts = packet.dts
            packet.stream = stream
            new.mux(packet)
    return target


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each read decoded to reach its start, in the order of the reads."""
    skipped: list[int] = []
    entered = decode._entered

    def counted(*args):  # type: ignore[no-untyped-def]
        found = list(entered(*args))
        skipped.append(len(found))
        return iter(found)

    monkeypatch.setattr(decode, "_entered", counted)
    monkeypatch.setattr(decode, "SEEK_FROM", 1)
    return skipped


def check(file: Path, whole: np.ndarray, data: bytes | None = None) -> None:
    for start in (1, 11, 12, 13, 25, 50, len(whole) - 3):
        part = np.stack(list(decode.read(file, start, 3, data)))
        assert np.array_equal(part, whole[start : start + 3]), start


@pytest.mark.parametrize(("codec", "options", "ending", "seeks"), KINDS)
def test_a_frame_is_the_same_from_every_start(
    tmp_path: Path, decoded: list[int], codec: str, options: dict[str, str], ending: str, seeks: bool
) -> None:
    file = encode(tmp_path / f"a.{ending}", codec, options)
    whole = np.stack(list(decode.read(file, 0, decode.frame_count(file))))
    assert len(whole) == COUNT
    check(file, whole)
    check(Path("shard.tar/a"), whole, file.read_bytes())  # a member of a tar
    if "open-gop" in str(options):  # frames that refer to the group before are dropped after some seeks
        assert set(decoded) == {0, 3}
        assert decoded.count(3) >= 10
    else:
        assert decoded == [3 if seeks else 0] * 14  # every frame of a read comes from the seek, or none


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_time_stamps_in_decode_order_prove_nothing(tmp_path: Path, decoded: list[int], codec: str, ending: str) -> None:
    file = encode(tmp_path / "a.mp4", codec, {**SHORT, "bf": "2"})
    forged = copy(file, tmp_path / f"b.{ending}", decode_order=True)
    whole = np.stack(list(decode.read(forged, 0, decode.frame_count(forged))))
    assert len(whole) >= COUNT - 2  # mp4 does not show frames before time zero
    check(forged, whole)
    assert decoded == [0] * 7


def test_a_long_file_is_entered_at_the_key_frame_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encode(tmp_path / "a.mp4", "libx264", {**SHORT, "bf": "2"}, frames=300)
    targets: list[Fraction] = []

    def spy(frames):  # type: ignore[no-untyped-def]
        for frame in frames:
            targets.append(frame.time)
            yield frame

    monkeypatch.setattr(decode, "_agreed", lambda frames, *rest, agreed=decode._agreed: agreed(spy(frames), *rest))

    (pixels,) = decode.read(file, 250, 1)
    assert 238 / 25 <= targets[0] <= 250 / 25  # the key frame is at most 12 frames before
    assert len(targets) < 24
    monkeypatch.setattr(decode, "SEEK_FROM", 1000)
    assert np.array_equal(pixels, next(iter(decode.read(file, 250, 1))))


# --- how many frames there are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "options", "ending", "seeks"), KINDS)
def test_the_count_is_that_of_the_frames_that_can_be_read(
    tmp_path: Path, codec: str, options: dict[str, str], ending: str, seeks: bool
) -> None:
    file = encode(tmp_path / f"a.{ending}", codec, options)
    assert decode.frame_count(file) == COUNT
    assert decode.frame_count(Path("shard.tar/a"), file.read_bytes()) == COUNT
    with av.open(str(file)) as container:
        proven = packets.packets(container, container.streams.video[0])
    assert (proven is not None) == seeks  # an ordinary file is counted without decoding it


def test_a_file_that_is_cut_off_has_the_frames_that_are_left(tmp_path: Path) -> None:
    file = encode(tmp_path / "a.mkv", "libx264", {**SHORT, "bf": "2"})
    content = file.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(content[: len(content) // 2])
    count = decode.frame_count(cut)
    assert 0 < count < COUNT
    assert len(list(decode.read(cut, 0, count - 3))) == count - 3


def test_a_count_follows_the_file(tmp_path: Path) -> None:
    file = encode(tmp_path / "a.mp4", "libx264", SHORT, frames=9)
    assert decode.frame_count(file) == 9
    encode(file, "libx264", SHORT, frames=13)
    assert decode.frame_count(file) == 13

"""Frames of a video file, as the file shows them: the one place where a video is opened.

PyAV, with its threads, stopped after the last frame that is asked for.  A far start is reached by the index of packets and
one seek.  decord gives the same pixels for ordinary files (tests/test_decode.py holds the two together) but is slower from
every start (results/benchmarks/decode.json), returns damaged frames as good ones, and fails on narrow, odd-sized, 10-bit
and interlaced video, GIF and MPEG-TS; so it is a witness in the tests and no second path here.

What "as the file shows them" means:
    order     presentation order, every stored frame once: variable frame rate is neither filled nor thinned
    colour    to full-range RGB, 8 bits, by the matrix and range the stream names; BT.601 limited where it names none
    rotation  applied, and mirroring too; only multiples of 90 degrees exist in practice, others are refused
    pixels    the stored grid: sample aspect ratio is not applied, interlaced frames are not deinterlaced
    alpha     dropped: the colour planes as stored
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEEK_FROM = 48  # frames; below it, decoding from the first frame costs no more than the index and the seek
REORDER = 64  # packets; no codec stores a frame further than this from its place in time
ATTACHED_PIC = 0x400  # AV_DISPOSITION_ATTACHED_PIC, libavformat/avformat.h
LOOK_AHEAD = 16  # frames; a frame may refer to one shown this much later
REMEDY = "replace the file or leave it out"


def read(file: str | Path, start: int, count: int, data: bytes | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield frames `start` to `start + count - 1` of a video, each uint8 (H, W, 3) RGB in 0..255.

    `data` is the file's content where it is not on disk by itself (a member of a tar); `file` then only names it.
    OSError if the file is missing or unreadable; ValueError, naming file and reason, if it holds no video, is damaged
    within these frames, or is shorter.
    """
    if data is None:
        _check_readable(file)
    import av

    given = 0
    shape = None
    try:
        for frame in _sound(file, data, start, count):
            pixels = _rgb(frame, file)
            shape = shape or pixels.shape
            if pixels.shape != shape:
                raise ValueError(
                    f"{file}: the picture changes from {shape[1]}x{shape[0]} to {pixels.shape[1]}x{pixels.shape[0]} "
                    f"at frame {start + given}; cut the file there"
                )
            yield pixels
            given += 1
    except av.error.FFmpegError as reason:
        raise ValueError(
            f"{file}: cannot be decoded as video at frame {start + given} ({reason.strerror}); {REMEDY}"
        ) from None
    if given < count:
        end = f"holds {start + given} frames" if given else f"ends before frame {start}"
        raise ValueError(
            f"{file}: too short: it {end}, frames {start} to {start + count - 1} were asked for; "
            "lower num_frames or leave it out"
        )


def fps(file: str | Path) -> float:
    """The average frame rate that the header names; 0 where it names none.  Errors as `read`."""
    _check_readable(file)
    import av

    try:
        with av.open(os.fspath(file)) as container:
            return float(_video_stream(container, file, {}, "NONE").average_rate or 0)
    except av.error.FFmpegError as reason:
        raise ValueError(f"{file}: cannot be opened as video ({reason.strerror}); {REMEDY}") from None


def _check_readable(file: str | Path) -> None:
    try:
        size = os.stat(file).st_size
        if os.path.isdir(file):
            raise ValueError(f"{file}: is a folder, not a video; {REMEDY}")
        with open(file, "rb"):
            pass
    except OSError as reason:
        raise OSError(f"{file}: {reason.strerror}; {REMEDY}") from None
    if size == 0:
        raise ValueError(f"{file}: is empty (0 bytes); {REMEDY}")


def _video_stream(container: Any, file: str | Path, options: dict[str, str], threads: str) -> Any:
    if container.format.name.endswith("_pipe"):  # FFmpeg's readers of single images
        raise ValueError(f"{file}: is a still image ({container.format.name[:-5]}), not a video; {REMEDY}")
    streams = [s for s in container.streams.video if s.codec_context is not None and not _cover(s)]
    if not streams:
        raise ValueError(f"{file}: has no video stream that can be decoded; {REMEDY}")
    streams[0].thread_type = threads
    streams[0].codec_context.options = options
    return streams[0]


def _cover(stream: Any) -> bool:
    """Is this the picture on the sleeve of a sound file?"""
    return bool(stream.disposition.value & ATTACHED_PIC)


def _sound(file: str | Path, data: bytes | None, start: int, count: int) -> Iterator[Any]:
    """At most `count` decoded frames from the `start`-th, none of them damaged.

    FFmpeg paints over damage, differently with each number of threads, so it is told to stop at the first fault.  Where it
    stops over something that is not the picture (a malformed remark in the stream), the rest is decoded again, in one thread,
    painting allowed, and taken if neither it nor what it may refer to is marked as painted over.
    """
    import av

    given = 0
    try:
        for frame in islice(_decoded(file, data, start, {"err_detect": "explode"}, "FRAME"), count):
            yield frame
            given += 1
        return
    except av.error.FFmpegError:
        start, count = start + given, count - given
    frames: list[Any] = []
    damaged = False
    for index, frame in enumerate(islice(_decoded(file, data, 0, {}, "NONE"), start + count + LOOK_AHEAD)):
        damaged = frame.is_corrupt or (damaged and not frame.key_frame)
        if damaged and index >= start:
            raise ValueError(f"{file}: damaged at frame {index}; {REMEDY}")
        if start <= index < start + count:
            frames.append(frame)
    yield from frames


def _decoded(file: str | Path, data: bytes | None, start: int, options: dict[str, str], threads: str) -> Iterator[Any]:
    """Decoded frames from the `start`-th in presentation order, to the end."""
    import av

    def source() -> Any:
        return os.fspath(file) if data is None else io.BytesIO(data)

    if start >= SEEK_FROM:
        with av.open(source()) as container:
            frames = _entered(container, _video_stream(container, file, options, threads), start)
            if frames is not None:
                yield from frames
                return
    with av.open(source()) as container:
        yield from islice(container.decode(_video_stream(container, file, options, threads)), start, None)


def _entered(container: Any, stream: Any, start: int) -> Iterator[Any] | None:
    """Decoded frames from the `start`-th, reached by a seek; None where the file cannot be entered surely."""
    target = _time_of(container, stream, start)
    if target is None:
        return None
    container.seek(target, stream=stream)  # to the key frame before it, if the container knows where that is
    frames = container.decode(stream)
    frame = next(frames, None)
    if frame is None or frame.pts is None or frame.pts > target or not frame.key_frame:
        return None
    while frame is not None and frame.pts < target:
        frame = next(frames, None)
    return chain([frame], frames) if frame is not None and frame.pts == target else None


def _time_of(container: Any, stream: Any, start: int) -> int | None:
    """The time stamp of the `start`-th frame, from packets alone; None where they do not tell."""
    times: list[int] = []
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:  # the end of the file; a frame outside the edit list
            continue
        if packet.pts is None:
            return None
        times.append(packet.pts)
        if len(times) == start + REORDER:
            break
    if len(times) <= start or len(set(times)) < len(times):
        return None
    return sorted(times)[start]


def _rgb(frame: Any, file: str | Path) -> NDArray[np.uint8]:
    """A decoded frame -> uint8 (H, W, 3), turned the way it is meant to be seen."""
    import numpy as np

    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    # 3x3 of 16.16 numbers: a stored point (x, y) is shown at (a x + c y, b x + d y)  (ISO/IEC 14496-12, 6.2.2)
    a, b, _, c, d = (value / 65536 for value in struct.unpack("<5i", bytes(matrix)[:20]))
    if (abs(a), abs(b), abs(c), abs(d)) == (0, 1, 1, 0):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    elif (abs(a), abs(b), abs(c), abs(d)) != (1, 0, 0, 1):
        raise ValueError(f"{file}: is rotated by other than a multiple of 90 degrees; re-encode it upright")
    return np.ascontiguousarray(pixels[:: int(d), :: int(a)])

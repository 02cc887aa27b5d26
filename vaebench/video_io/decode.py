"""Frames of a video file by PyAV, as the file shows them.

PyAV, with its threads, stopped after the last frame that is asked for.  A far start is reached by one seek where the packets
prove which frame is which (`packets`) and decoding agrees, otherwise by decoding from the first frame.  decord gives the same
pixels for ordinary files (tests/test_decode.py compares the two) but is slower from every start of a large one
(results/benchmarks/decode.json), returns damaged frames as good ones, and fails on narrow, odd-sized, 10-bit and interlaced
video, GIF and MPEG-TS; `decord_reader` reads what it reads right.

What "as the file shows them" means:
    order     presentation order, every stored frame once: variable frame rate is neither filled nor thinned
    colour    to full-range RGB, 8 bits, by the matrix and range the stream names; BT.601 limited where it names none
    depth     more than 8 bits are reduced to 8, within one level
    HDR       refused (PQ, HLG): its values are not those of a screen; wide primaries (BT.2020) are not converted
    rotation  applied, and mirroring too, by multiples of 90 degrees; other angles are refused; scaling is not applied
    pixels    the stored grid: sample aspect ratio is not applied, interlaced frames are not deinterlaced
    alpha     dropped: the colour planes as stored
"""

from __future__ import annotations

import math
import os
import struct
from bisect import bisect
from collections.abc import Iterator
from functools import lru_cache
from itertools import count as numbers
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench.video_io.container import REMEDY, check_readable, opened, video_stream
from vaebench.video_io.packets import Packets, packets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEEK_FROM = 48  # frames; below it, decoding from the first frame costs no more than reading the packets and the seek
LOOK_AHEAD = 16  # frames; a frame may refer to one shown this much later
NEAR = 0.02  # of a unit vector, about one degree; players turn by such an angle as little
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273, table 3
LOWER = "lower num_frames or leave it out"  # remedy for a video that is too short
STRICT = {"err_detect": "explode"}  # stop at the first fault instead of concealing it


def read(
    file: str | Path,
    start: int,
    count: int,
    data: bytes | None = None,
    remedy: str = LOWER,
) -> Iterator[NDArray[np.uint8]]:
    """Yield frames `start` to `start + count - 1` of a video, each uint8 (H, W, 3) RGB in 0..255.

    `data` is the content of the file if it is not a file on disk (a member of a tar); `file` then only names it.
    `remedy` says how to fix a video that is too short.
    OSError if the file is missing or unreadable; ValueError, naming file and reason, if it holds no video, is damaged
    within these frames, or is shorter.
    """
    if data is None:
        check_readable(file)
    import av

    given = 0
    shape = None
    try:
        for frame in _frames(file, data, start, count):
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
        raise ValueError(f"{file}: too short: {_lack(start, count, given)}; {remedy}")


def _lack(start: int, count: int, given: int) -> str:
    """Why a video with `given` of the frames from `start` to `start + count - 1` is too short."""
    held = start + given
    end = f"it has {held} frame{'' if held == 1 else 's'}" if given else f"it ends before frame {start}"
    return f"{end}, but {f'frames {start} to {start + count - 1}' if start else count} are needed"


def fps(file: str | Path) -> float:
    """The average frame rate that the header names; 0 where it names none.  Errors as `read`."""
    check_readable(file)
    import av

    try:
        with opened(file) as container:
            return float(video_stream(container, file, {}, "NONE").average_rate or 0)
    except av.error.FFmpegError as reason:
        raise ValueError(f"{file}: cannot be opened as video ({reason.strerror}); {REMEDY}") from None


def frame_count(file: str | Path, data: bytes | None = None) -> int:
    """How many frames `read` can give: counted in packets where these prove it, else by decoding.  Errors as `read`.

    Headers are not used: edit lists, hidden frames, AVI and files that are cut off make their counts wrong.
    """
    if data is not None:
        return _count(file, data)
    stat = check_readable(file)
    return _count_once(os.fspath(file), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _count_once(file: str, size: int, mtime_ns: int) -> int:
    """The count of a file on disk, remembered while size and time of change are the same: every window asks for it."""
    return _count(file, None)


def _count(file: str | Path, data: bytes | None) -> int:
    import av

    try:
        with opened(file, data) as container:
            proven = packets(container, video_stream(container, file, {}, "NONE"))
            if proven is not None:
                return len(proven.times)
    except av.error.FFmpegError as reason:
        raise ValueError(f"{file}: cannot be opened as video ({reason.strerror}); {REMEDY}") from None
    total = 0
    try:
        for _ in _decoded(file, data, {}, "FRAME"):
            total += 1
    except av.error.FFmpegError as reason:
        if not total:
            raise ValueError(f"{file}: cannot be decoded as video at frame 0 ({reason.strerror}); {REMEDY}") from None
    return total


def _frames(file: str | Path, data: bytes | None, start: int, count: int) -> Iterator[Any]:
    """At most `count` decoded frames from the `start`-th, none of them damaged."""
    given: list[int] = []  # time stamps of the frames that were reached by a seek
    if start >= SEEK_FROM:
        for frame in _entered(file, data, start, count):
            yield frame
            given.append(frame.pts)
        if len(given) == count:
            return
    for index, frame in zip(numbers(start), _sound(file, data, start, count), strict=False):
        if index >= start + len(given):
            yield frame
        elif frame.pts != given[index - start]:
            raise ValueError(f"{file}: time stamps and pictures disagree at frame {index}; re-encode the file")


def _entered(file: str | Path, data: bytes | None, start: int, count: int) -> Iterator[Any]:
    """Frames from the `start`-th, reached by a seek; ends early, or at once, where they are not proven to be these frames."""
    import av

    try:
        with opened(file, data) as container:
            stream = video_stream(container, file, STRICT, "FRAME")
            proven = packets(container, stream, start + count + 2 * LOOK_AHEAD)
            if proven is None or len(proven.times) <= start:
                return
            entry = bisect(proven.entries, proven.times[start])
            if not entry:
                return
            container.seek(proven.entries[entry - 1], stream=stream)
            yield from _agreed(container.decode(stream), proven, start, count)
    except av.error.FFmpegError:
        return  # damaged: decoding from the first frame finds where


def _agreed(decoded: Iterator[Any], proven: Packets, start: int, count: int) -> Iterator[Any]:
    """Frames from the `start`-th, each after the next frame that is no B-frame agrees with `proven` too; ends at the first
    that does not.

    A frame that is missing after the seek, since it refers to frames before the entry, shows only in the frame that follows.
    """
    index = -1
    waiting: list[Any] = []
    end = start + count
    for frame in decoded:
        if index < 0:
            index = bisect(proven.times, frame.pts) - 1 if frame.pts in proven.entries else len(proven.times)
            if index > start or not frame.key_frame:
                return
        # two fields of an interlaced frame may be two packets, so that packets do not count frames
        if index >= len(proven.times) or frame.pts != proven.times[index] or frame.is_corrupt or frame.interlaced_frame:
            return
        if not _is_b(frame) or index == end + LOOK_AHEAD:
            yield from waiting
            waiting = []
            if index >= end:
                return
        if start <= index < end:
            waiting.append(frame)
        index += 1
    if index == len(proven.times):
        yield from waiting


def _sound(file: str | Path, data: bytes | None, start: int, count: int) -> Iterator[Any]:
    """The same frames by decoding from the first; ValueError where one is damaged.

    FFmpeg conceals damage, differently with each number of threads, so it is set to stop at the first fault.  Where it does not
    stop, it may still mark the frame.  If it stops over something that is not the picture (a malformed SEI message), the file is
    decoded again, in one thread, with concealment, and accepted if neither the frames nor what they may refer to are marked.
    """
    import av

    given = 0
    try:
        for frame in _unmarked(_decoded(file, data, STRICT, "FRAME"), file, start, count):
            yield frame
            given += 1
        return
    except av.error.FFmpegError:
        start, count = start + given, count - given
    frames: list[Any] = []
    damaged = False
    for index, frame in zip(range(start + count + LOOK_AHEAD), _decoded(file, data, {}, "NONE"), strict=False):
        damaged = frame.is_corrupt or (damaged and not frame.key_frame)
        if damaged and index >= start:
            raise _damaged(file, index)
        if start <= index < start + count:
            frames.append(frame)
    yield from frames


def _unmarked(decoded: Iterator[Any], file: str | Path, start: int, count: int) -> Iterator[Any]:
    """At most `count` frames from the `start`-th; ValueError before one that is marked as corrupt or refers to one that is.

    Frames refer back to a key frame at most; B-frames also refer to the next frame that is not a B-frame.
    """
    damaged = False
    waiting: list[Any] = []
    end = start + count
    for index, frame in enumerate(decoded):
        damaged = frame.is_corrupt or (damaged and not frame.key_frame)
        if damaged and index >= start:
            raise _damaged(file, min(index, end - 1))
        if start <= index < end:
            waiting.append(frame)
        if not _is_b(frame) or index == end + LOOK_AHEAD:
            yield from waiting
            waiting = []
        if index + 1 >= end and not waiting:
            return
    yield from waiting


def _damaged(file: str | Path, index: int) -> ValueError:
    return ValueError(f"{file}: damaged at frame {index}; {REMEDY}")


def _is_b(frame: Any) -> bool:
    from av.video.frame import PictureType

    return bool(frame.pict_type == PictureType.B)


def _decoded(file: str | Path, data: bytes | None, options: dict[str, str], threads: str) -> Iterator[Any]:
    """All frames in the decoder's order."""
    with opened(file, data) as container:
        yield from container.decode(video_stream(container, file, options, threads))


def _rgb(frame: Any, file: str | Path) -> NDArray[np.uint8]:
    """A decoded frame -> uint8 (H, W, 3), turned the way it is meant to be seen."""
    import numpy as np

    if transfer := HDR.get(int(frame.color_trc)):
        raise ValueError(
            f"{file}: is HDR video ({transfer}), which 8 bits cannot show; tone-map it first, for instance: ffmpeg -i IN -vf "
            "zscale=transfer=linear:npl=100,tonemap=hable,zscale=transfer=bt709:matrix=bt709:primaries=bt709:range=limited,"
            "format=yuv420p OUT"
        )
    kind, deep = frame.format, None
    if not kind.is_rgb and len(kind.components) >= 3 and kind.components[0].bits > 8:
        # from subsampled chroma of more than 8 bits, swscale makes white 253; in two steps it makes 255
        deep = frame.reformat(format="yuv444p16le")
    pixels: NDArray[np.uint8] = (deep or frame).to_ndarray(format="rgb24")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    # 3x3 of 16.16 numbers: a stored point (x, y) is shown at (a x + c y, b x + d y)  (ISO/IEC 14496-12, 6.2.2)
    a, b, _, c, d = (value / 65536 for value in struct.unpack("<5i", bytes(matrix)[:20]))
    across, down = math.hypot(a, b), math.hypot(c, d)
    if not across or not down:  # all zero in files of some muxers; it turns nothing
        return pixels
    turn = (a / across, b / across, c / down, d / down)
    if any(abs(value - round(value)) > NEAR for value in turn) or abs(round(turn[0])) != abs(round(turn[3])):
        raise ValueError(f"{file}: is rotated by other than a multiple of 90 degrees; re-encode it upright")
    a, b, c, d = (round(value) for value in turn)
    if a == 0:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[::d, ::a])

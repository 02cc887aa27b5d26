"""Frames of a video file by decord (`reader=decord`), where they are bit-equal to those of PyAV; any other file is refused.

decord gives wrong frames without an error in some files, so four conditions are checked:

    bytes    pinned by a manifest, whose writing decoded them strictly: decord returns damaged frames as good ones
    order    proven by the packets (`packets`): not AVI, no B-frames without time stamps
    count    decord finds as many frames as the packets show
    pixels   the first frame that is asked for is equal to PyAV's: 10 bits, odd sizes, interlacing and narrow video differ
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench.video_io import decode
from vaebench.video_io.container import check_readable, opened, video_stream
from vaebench.video_io.packets import packets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REMEDY = "use reader=pyav"
AT_ONCE = 8  # frames; the batch that decord copies at a time


def require() -> Any:
    """The package decord.

    Raises:
        ValueError: it is not installed
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import decord
    except (ImportError, OSError) as reason:
        raise ValueError(
            f"reader=decord needs the package decord (pip install 'vaebench[decord]', on Linux x86-64): {reason}; or {REMEDY}"
        ) from None
    return decord


def read(file: str | Path, start: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield frames `start` to `start + count - 1`, each uint8 (H, W, 3) RGB in 0..255, as `decode.read`.

    The caller has checked the sha256 of the file against a manifest.

    Raises:
        OSError: the file is missing or unreadable
        ValueError: decord is not installed, the file is shorter, or decord's frames are not proven equal to PyAV's
    """
    import numpy as np

    decord = require()
    check_readable(file)
    total = _proven(file)
    if total < start + count:
        yield from decode.read(file, start, count)  # raises the error with the frames that are missing
        raise AssertionError(f"{file}: {total} packets prove fewer frames than were decoded")
    try:
        reader = decord.VideoReader(
            os.path.abspath(file), num_threads=1
        )  # the runner reads clips in threads of its own
        frames = reader.get_batch([start]).asnumpy()
    except (decord.DECORDError, RuntimeError) as reason:
        raise ValueError(f"{file}: decord cannot read it ({str(reason).splitlines()[-1].strip()}); {REMEDY}") from None
    if len(reader) != total:
        raise ValueError(f"{file}: decord finds {len(reader)} frames, its packets show {total}; {REMEDY}")
    (expected,) = islice(decode.read(file, start, 1), 1)
    if not np.array_equal(frames[0], expected):
        raise ValueError(f"{file}: decord's frame {start} differs from PyAV's; {REMEDY}")
    for begin in range(start, start + count, AT_ONCE):
        yield from reader.get_batch(range(begin, min(begin + AT_ONCE, start + count))).asnumpy()


def _proven(file: str | Path) -> int:
    """How many frames the packets prove; ValueError where they do not prove the order."""
    import av

    try:
        with opened(file) as container:
            proven = packets(container, video_stream(container, file, {}, "NONE"))
    except av.error.FFmpegError as reason:
        raise ValueError(f"{file}: cannot be opened as video ({reason.strerror}); {REMEDY}") from None
    if proven is None:
        raise ValueError(f"{file}: its packets do not prove the order of frames that decord gives; {REMEDY}")
    return len(proven.times)

"""Read frames with decord (`reader=decord`) from files in which they are bit-identical to those of PyAV; other files are refused.

For some files decord returns wrong frames without an error, so four conditions are checked:

    bytes    the manifest pins the file.  It was decoded strictly when the manifest was written; decord does not detect damage.
    order    the packets prove the order of the frames (`packets`).  Excludes AVI and B-frames without time stamps.
    count    decord and the packets agree on the number of frames.
    pixels   the first requested frame equals PyAV's.  Differs for 10 bits, odd sizes, interlaced and narrow videos.
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
AT_ONCE = 8  # frames per call of decord


def require() -> Any:
    """Import decord.

    Raises:
        ValueError: decord is not installed
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
    """Yield the frames `start` to `start + count - 1`, each uint8 (H, W, 3) RGB in 0..255, like `decode.read`.

    The caller has checked the sha256 of the file against a manifest.

    Raises:
        OSError: the file is missing or unreadable
        ValueError: decord is not installed, the file is too short, or one of the conditions above is not met
    """
    import numpy as np

    decord = require()
    check_readable(file)
    total = _proven(file)
    if total < start + count:
        yield from decode.read(file, start, count)  # raises the error that states how many frames are missing
        raise AssertionError(f"{file}: {total} packets prove fewer frames than were decoded")
    try:
        reader = decord.VideoReader(
            os.path.abspath(file), num_threads=1
        )  # the runner already reads clips in parallel threads
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
    """The number of frames according to the packets.

    Raises:
        ValueError: the file cannot be opened, or its packets do not prove the order of the frames
    """
    import av

    try:
        with opened(file) as container:
            proven = packets(container, video_stream(container, file, {}, "NONE"))
    except av.error.FFmpegError as reason:
        raise ValueError(f"{file}: cannot be opened as video ({reason.strerror}); {REMEDY}") from None
    if proven is None:
        raise ValueError(f"{file}: its packets do not prove the order of frames that decord gives; {REMEDY}")
    return len(proven.times)

"""Open a video file (or its bytes) and select its video stream; files that are not videos are refused."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

ATTACHED_PIC = 0x400  # AV_DISPOSITION_ATTACHED_PIC, libavformat/avformat.h
LISTS = ("concat", "dash", "hls", "imf", "sdp")  # FFmpeg formats that are lists of other files
THREADS = (
    4  # of a decoder, on every machine: how many frames precede an error of a damaged file depends on their number
)
REMEDY = "replace the file or leave it out"


def opened(file: str | Path, data: bytes | None = None) -> Any:
    """Open a file, or the bytes `data` of a file, as a PyAV container.

    Args:
        file: path of the file; with `data`, its name for messages
        data: content of the file

    Raises:
        av.error.FFmpegError: FFmpeg cannot open it
        ValueError: it is a playlist or another list of files
    """
    import av

    # without "file:" FFmpeg reads 10:30.mp4 as a URL of the protocol 10
    container = av.open(f"file:{os.fspath(file)}" if data is None else io.BytesIO(data))
    if container.format.name in LISTS:
        container.close()
        raise ValueError(f"{file}: is a list of other files ({container.format.name}), not a video; {REMEDY}")
    return container


def video_stream(container: Any, file: str | Path, options: dict[str, str], threads: str) -> Any:
    """The first video stream of a container, with the decoder options and the thread type set.

    Raises:
        ValueError: it is a still image, or has no video stream that can be decoded
    """
    if container.format.name.endswith("_pipe"):  # FFmpeg formats of single images
        raise ValueError(f"{file}: is a still image ({container.format.name[:-5]}), not a video; {REMEDY}")
    streams = [s for s in container.streams.video if s.codec_context is not None and not _cover(s)]
    if not streams:
        raise ValueError(f"{file}: has no video stream that can be decoded; {REMEDY}")
    streams[0].thread_type = threads
    streams[0].codec_context.thread_count = THREADS
    streams[0].codec_context.options = options
    return streams[0]


def _cover(stream: Any) -> bool:
    """Whether the stream is the cover picture of an audio file."""
    return bool(stream.disposition.value & ATTACHED_PIC)


def check_readable(file: str | Path) -> os.stat_result:
    """Check that a file can be opened and is not empty.

    Raises:
        OSError: the file is missing or unreadable
        ValueError: it is a folder or empty
    """
    try:
        stat = os.stat(file)
        if os.path.isdir(file):
            raise ValueError(f"{file}: is a folder, not a video; {REMEDY}")
        with open(file, "rb"):
            pass
    except OSError as reason:
        raise OSError(f"{file}: {reason.strerror}; {REMEDY}") from None
    if stat.st_size == 0:
        raise ValueError(f"{file}: is empty (0 bytes); {REMEDY}")
    return stat

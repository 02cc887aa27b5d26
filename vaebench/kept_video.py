"""Reference and reconstruction of single clips as lossless video files: the pixels that the metrics saw.

Folders of a record: `<record>.video/reference/<clip>.mkv` and `<record>.video/reconstruction/<clip>.mkv`.  The codec is FFV1 in
RGB: every pixel survives, and FFmpeg, VLC and mpv play it.  Equal file names make the two folders comparable by other tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaebench import records
from vaebench.files import draft, file_name

if TYPE_CHECKING:
    from vaebench.records import Record

SIDES = ("reference", "reconstruction")
UNKNOWN_FPS = 24.0  # display rate of clips whose own rate is unknown


class Pair(NamedTuple):
    """Frames of a reference and its reconstruction."""

    frames: NDArray  # uint8 (2, T, H, W, 3), reference first
    fps: float  # 0 if unknown


def folder(root: Path, record: Record) -> Path:
    """The folder with the videos of a record."""
    return records.file_of(root, record).with_suffix(".video")


def write_all(root: Path, record: Record, videos: Mapping[str, Pair]) -> None:
    """Write both videos of each clip.

    Args:
        root: the results folder
        videos: clip id -> its frames

    Raises:
        OSError: a file cannot be written
    """
    for clip, pair in videos.items():
        for side, frames in zip(SIDES, pair.frames, strict=True):
            file = folder(root, record) / side / f"{file_name(clip)}.mkv"
            file.parent.mkdir(parents=True, exist_ok=True)
            with draft(file) as part:
                write(part, frames, pair.fps, {"title": clip, "comment": _origin(record)})


def _origin(record: Record) -> str:
    return f"vaebench {record.fingerprint}"


def read_all(root: Path, record: Record) -> dict[str, Pair]:
    """Clip id -> the frames of its two videos; {} if the record has none.

    Videos of another run than the record's, which their fingerprint tells, are skipped: their pixels have other scores.

    Raises:
        ValueError: a file is damaged, or the two videos of a clip differ in shape; the message names the file
    """
    clips = records.read_clips(root, record)
    return {clip: pair for clip in clips if (pair := read_clip(folder(root, record), record, clip))}


def read_clip(videos: Path, record: Record, clip: str) -> Pair | None:
    """The frames of the two videos of one clip in the folder `videos` of `record`; None if it has none.  As `read_all`."""
    reference, reconstruction = (videos / side / f"{file_name(clip)}.mkv" for side in SIDES)
    if not (reference.is_file() and reconstruction.is_file()):
        return None
    (real, fps, origin), (reconstructed, *_) = read(reference), read(reconstruction)
    if origin != _origin(record):
        return None
    if real.shape != reconstructed.shape:
        raise ValueError(f"{reconstruction} has the shape {reconstructed.shape}, its reference {real.shape}: "
                         "delete both and run the VAE again with keep_video=N")  # fmt: skip
    return Pair(np.stack([real, reconstructed]), fps)


def write(file: Path, frames: NDArray, fps: float, tags: Mapping[str, str] | None = None) -> None:
    """Write uint8 (T, H, W, 3) losslessly, with the tags "title" and "comment"."""
    import av

    with av.open(str(file), "w", format="matroska") as container:
        container.metadata.update({key: tag.encode("utf-8", "replace").decode() for key, tag in (tags or {}).items()})
        rate = Fraction(fps or UNKNOWN_FPS).limit_denominator(1001)
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"  # FFV1's own RGB: no conversion to YUV
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="bgr0")))  # only the order of bytes changes
        container.mux(stream.encode())


def read(file: Path) -> tuple[NDArray, float, str]:
    """Read a file of `write`: uint8 (T, H, W, 3), frames per second, and its comment.

    Raises:
        ValueError: the file is damaged or is not such a file; the message names it
    """
    import av

    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            if (codec := stream.codec_context.name) != "ffv1":
                raise ValueError(f"its codec is {codec}, expected ffv1")
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            fps = float(stream.average_rate or 0)
            comment = {key.lower(): tag for key, tag in container.metadata.items()}.get("comment", "")
        return np.stack(frames), fps, comment
    except (av.FFmpegError, ValueError, IndexError) as reason:
        remedy = "delete it and run the VAE again with keep_video=N"
        raise ValueError(f"{file} is not a video of keep_video: {reason}; {remedy}") from None

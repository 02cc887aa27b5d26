"""Kept frames of clips as lossless WebP, which every browser decodes to the stored pixels.

Sources are the videos of `keep_video=N` (every frame) and the pictures of `keep=N` (first, middle and last frame).  The page
gets the CRC-32 of the pixels of each video and compares it after decoding: some browsers alter the pixels of a canvas, so that
users cannot be tracked by them.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench import kept_pictures, kept_video, plot_style, records
from vaebench.files import file_name
from vaebench.records import Record
from vaebench.report import charts
from vaebench.titles import setting_title

EFFORT = {
    "method": 2,
    "quality": 50,
}  # of the lossless compression: a tenth larger than at full effort, in a fifth of the time


@dataclass
class Kept:
    """All kept clips of the page, and their frames."""

    clips: list[dict[str, Any]] = field(default_factory=list)
    films: dict[str, str] = field(default_factory=dict)  # id -> lines of base64, one WebP per frame


def collect(root: Path, everything: Sequence[Record], index: Mapping[int, int]) -> Kept:
    """Collect the kept frames of all records of the reconstruction suite.

    Raises:
        ValueError: a picture or video is invalid; the message names the file
    """
    kept = Kept()
    ids: dict[int, str] = {}  # CRC of the pixels -> id of the film, so that VAEs share their reference
    by_clip: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in sorted(everything, key=charts.order):
        if record.suite != "reconstruction":
            continue
        for clip, source, pair in _of_record(root, record):
            reference, reconstruction = (_film(frames, kept, ids) for frames in pair.frames)
            # a video and a picture of one clip have different frames, and VAEs of different data differ in their reference
            entry = by_clip.setdefault(
                (record.setting, clip, reference["film"]),
                {
                    "setting": record.setting,
                    "title": setting_title(record),
                    "clip": clip,
                    "source": source,
                    "fps": pair.fps,
                    "count": len(pair.frames[0]),
                    "height": pair.frames[0].shape[1],
                    "width": pair.frames[0].shape[2],
                    "reference": reference,
                    "vaes": [],
                },
            )
            vae = {"name": plot_style.vae_name(record), "record": index[id(record)], **reconstruction}
            entry["vaes"].append(vae)
    kept.clips = sorted(by_clip.values(), key=lambda entry: (entry["source"] != "video", -len(entry["vaes"])))
    return kept


def _of_record(root: Path, record: Record) -> Iterator[tuple[str, str, kept_video.Pair]]:
    """Yield clip, source and frames; a clip with a video does not need its picture."""
    videos = kept_video.read_all(root, record)
    for clip, pair in videos.items():
        yield clip, "video", pair
    names = {file_name(clip): clip for clip in records.read_clips(root, record)}
    for file in kept_pictures.of_record(root, record):
        clip = names.get(file.stem, file.stem)
        if clip not in videos:
            yield clip, "pictures", kept_video.Pair(kept_pictures.read(file, record.config.get("size") or 1), 0.0)


def _film(frames: NDArray, kept: Kept, ids: dict[int, str]) -> dict[str, Any]:
    """Add uint8 (T, H, W, 3) to the films of the page, unless it has them already."""
    crc = zlib.crc32(np.ascontiguousarray(frames).tobytes())
    if crc not in ids:
        ids[crc] = f"film-{len(ids)}"
        kept.films[ids[crc]] = "\n".join(base64.b64encode(_webp(frame)).decode() for frame in frames)
    return {"film": ids[crc], "crc": crc}


def _webp(frame: NDArray) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(content, "WEBP", lossless=True, exact=True, **EFFORT)
    return content.getvalue()

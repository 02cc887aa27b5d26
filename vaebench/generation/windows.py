"""Windows of videos: the clips that a generative model learns, sampled as Latte does (github.com/Vchitect/Latte at b27c24a1).

A window is `frames` frames at one interval from a random start, flipped or not before it is cropped and encoded.  It is a
function of the seed, the clip's name and its number, so every VAE of a run learns the same windows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaebench import frame_size
from vaebench.data.skytimelapse import Folders, frames_of
from vaebench.generation import resizes
from vaebench.generation.resizes import Resize
from vaebench.video_io import file_source
from vaebench.video_io.decode import frame_count
from vaebench.video_io.file_source import Files

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.data import VideoSource
    from vaebench.video_io.manifest import Row


@dataclass(frozen=True)
class Window:
    id: str  # "Archery/v_Archery_g01_c01 2 flipped"
    clip: str  # the id of the video
    scene: str  # shared by all clips that were cut from one recording
    label: str
    flipped: bool
    load: Callable[[], Tensor]  # uint8, or float32 in 0..255 where the resize is in floats: (3, frames, size, size);
    # ValueError or OSError naming the file, below the source's root, and the reason


def windows(
    source: VideoSource,
    *,
    frames: int,
    interval: int,
    per_clip: int,
    flips: bool,
    seed: int,
    clips: int | None = None,
    resize: str = "antialiased",
) -> list[Window]:
    """`per_clip` windows of every clip (of the first `clips`), with `flips` each of them twice: clip by clip, nothing decoded.

    Video files (UCF-101) are sampled as Latte samples them: evenly over the span, so that a short video is sampled more
    densely.  Folders of images (SkyTimelapse) are sampled at the exact interval and must be longer than the span.  Clips of
    other sources start at their first frame and are not resized again by `resize`, one of `resizes.NAMES`.
    """
    cut: list[Window] = []
    root = source.root if isinstance(source, Files | Folders) else Path()
    for name, label, at in list(_clips(source, frames, interval, resize))[:clips]:
        for number, flipped in product(range(per_clip), (False, True) if flips else (False,)):
            load = file_source.below(root, partial(at, partial(_drawn, f"{seed} {name} {number}"), flipped))
            own = f"{name} {number}{' flipped' if flipped else ''}"
            cut.append(Window(own, name, scene_of(source, name), label, flipped, load))
    return cut


def scene_of(source: VideoSource, clip: str) -> str:
    """UCF-101: the group in the name, v_Archery_g01_c01; SkyTimelapse: the recording, its folder; others: the clip itself."""
    if isinstance(source, Folders):
        return clip.rpartition("/")[0] or clip
    return re.sub(r"(_g\d+)_c\d+$", r"\1", clip)


Draw = Callable[[int], int]  # the largest start -> a start
Cut = Callable[[Draw, bool], "Tensor"]  # where to start, and whether to flip -> the window


def _drawn(key: str, most: int) -> int:
    """A number from 0 to `most`, the same at every call, so that a window that is loaded again has the same frames."""
    return random.Random(key).randint(0, most)


def _clips(source: VideoSource, frames: int, interval: int, resize: str) -> Iterator[tuple[str, str, Cut]]:
    """Id, label and window of every clip."""
    if isinstance(source, Files):
        fit = partial(_fit, resizes.find(resize, images=False), frame_size.side(source.size, SQUARE))
        for row in source.rows:
            yield (
                row.id,
                row.label,
                partial(_of_file, source.root / row.file, row, fit, source.reader, frames, interval),
            )
    elif isinstance(source, Folders):
        fit = partial(_fit, resizes.find(resize, images=True), frame_size.side(source.size, SQUARE))
        for folder, names in source.folders.items():
            yield folder, "", partial(_of_folder, source.root / folder, names, fit, frames, interval)
    else:
        for clip in source:
            yield clip.id, clip.label, partial(_from_start, clip.load, frames, interval)


SQUARE = "the published resizes make square frames"
Fit = Callable[["NDArray[np.uint8]", bool], "Tensor"]  # a frame (H, W, 3), flipped or not -> (3, size, size)


def _fit(resize: Resize, size: int, frame: NDArray[np.uint8], flipped: bool) -> Tensor:
    """Flip before cropping, as the official code does: margins of odd width differ by a pixel from side to side."""
    pixels = torch.from_numpy(frame)
    return resize(pixels.flip(1) if flipped else pixels, size)


def span(total: int, frames: int, interval: int, draw: Draw) -> tuple[int, int]:
    """First frame and end of a window; as in the official code, the very last start is never drawn."""
    begin = draw(max(0, total - frames * interval - 1))
    return begin, min(begin + frames * interval, total)


def spread(begin: int, end: int, frames: int) -> list[int]:
    """`frames` frames evenly over the span, both ends included: one step in a few is longer than the interval."""
    return np.linspace(begin, end - 1, frames, dtype=int).tolist()


def _of_file(
    path: Path, row: Row, fit: Fit, reader: str, frames: int, interval: int, draw: Draw, flipped: bool
) -> Tensor:
    total = frame_count(path) - row.start
    if total < frames:
        raise ValueError(f"{path}: too short: it has {total} frames, a window needs {frames}; leave it out")
    begin, end = span(total, frames, interval, draw)
    shown = {index - begin for index in spread(begin, end, frames)}
    decoded = file_source.read_row(path, replace(row, start=row.start + begin), end - begin, reader)
    return torch.stack([fit(frame, flipped) for number, frame in enumerate(decoded) if number in shown], dim=1)


def _of_folder(
    folder: Path, names: Sequence[str], fit: Fit, frames: int, interval: int, draw: Draw, flipped: bool
) -> Tensor:
    if len(names) <= frames * interval:
        raise ValueError(
            f"{folder}: too short: a window of {frames} frames at interval {interval} needs more than "
            f"{frames * interval} frames, it has {len(names)}; leave it out"
        )
    begin, end = span(len(names), frames, interval, draw)
    shown = frames_of(folder, names, slice(begin, end, interval))
    return torch.stack([fit(frame, flipped) for frame in shown], dim=1)


def _from_start(load: Callable[[], Tensor], frames: int, interval: int, draw: Draw, flipped: bool) -> Tensor:
    clip = load()
    if clip.shape[1] < (frames - 1) * interval + 1:
        raise ValueError(
            f"a window of {frames} frames at interval {interval} needs {(frames - 1) * interval + 1} frames, "
            f"the clip has {clip.shape[1]}"
        )
    shown = clip[:, : (frames - 1) * interval + 1 : interval]
    return shown.flip(-1) if flipped else shown

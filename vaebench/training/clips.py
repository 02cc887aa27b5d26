"""Training clips: random windows of the videos below a folder, in single files and in WebDataset shards.

The clip of an index (file, frames, crop, augmentation) is a function of the index, the seed and the list of files.  If a file
cannot be read, its name is noted and another file is drawn.  The list of files is stored (`data.index`), so the headers of a
shard are read once, as long as its size and modification time do not change; a video in a shard is read at its offset in that list.

Training clips are augmented and never used in an evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vaebench.data import synthetic
from vaebench.titles import counted
from vaebench.training.clip_files import Entry, entries
from vaebench.training.config import TrainingData
from vaebench.video import to_model
from vaebench.video_io import decode, manifest, tar
from wfvae.batches import Sample

TRIES = 32  # unreadable files in a row before the run stops


def shape_of(config: TrainingData, index: int, group: int, seed: int) -> tuple[int, int]:
    """(num_frames, size) of clip `index`; `group` consecutive clips are one batch and share one shape."""
    if not config.shapes:
        return config.num_frames, config.size
    generator = torch.Generator().manual_seed((seed + 1) * 0x85EBCA6B + index // group)
    return config.pairs[_draw(len(config.shapes), generator)]


class TrainingClips:
    """Random clips without end: `clips[index]` is a `Sample` of float32 (3, num_frames, size, size) in -1..1.

    Args:
        config: the settings `data.*`
        index: file that stores the list of videos
        seed: random seed
        group: clips in a batch of all processes; with `data.shapes` they share one shape

    Raises:
        ValueError: there are no videos, or (cache=memory) none can be read
        OSError: there is no such folder
    """

    def __init__(self, config: TrainingData, index: Path, seed: int = 0, group: int = 1) -> None:
        self.config, self.seed, self.group = config, seed, group
        entries_read, failed = ([], []) if config.synthetic == 1 else entries(config.root, config.manifest, index)
        self.entries: Sequence[Entry] = entries_read
        self.unreadable = tuple(failed)  # shards, and with cache=memory files, with reasons
        scenes: dict[str, list[Entry]] = {}
        for entry in self.entries:
            scenes.setdefault(entry.scene if config.by_scene else entry.name, []).append(entry)
        self.scenes = list(scenes.values())
        self.cached: dict[str, Tensor] = {}
        self.unchanged: set[str] = set()  # files whose sha256 has been checked against the manifest
        if config.cache == "memory":
            self._fill()

    def _fill(self) -> None:
        failed = []
        for entry in self.entries:
            frames, reason = self._all_frames(entry)
            if frames is None:
                failed.append(reason)
            else:
                self.cached[entry.name] = frames
        self.unreadable += tuple(failed)
        self.scenes = [[e for e in scene if e.name in self.cached] for scene in self.scenes]
        self.scenes = [scene for scene in self.scenes if scene]
        if self.entries and not self.scenes:
            manifest = self.config.manifest
            listed = f" of data.manifest={manifest} (empty: all videos below data.root)" if manifest else ""
            raise ValueError(
                f"none of the {len(self.entries)} training videos{listed} can be read; the first error: {failed[0]}"
            )

    def _all_frames(self, entry: Entry) -> tuple[Tensor | None, str]:
        try:
            return self._frames(entry, 0, self._length(entry), 1), ""
        except (OSError, ValueError) as reason:
            return None, _reason(entry, reason)

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed((self.seed + 1) * 0x9E3779B1 + index)
        num_frames, size = shape_of(self.config, index, self.group, self.seed)
        if self.config.synthetic and torch.rand((), generator=generator) < self.config.synthetic:
            return Sample(to_model(self._augment(self._synthetic(num_frames, size, generator), generator)))
        failed: list[str] = []
        while len(failed) < TRIES:
            scene = self.scenes[_draw(len(self.scenes), generator)]
            entry = scene[_draw(len(scene), generator)]
            try:
                frames = self._window(entry, num_frames, generator)
            except (OSError, ValueError) as reason:
                failed.append(_reason(entry, reason))
                continue
            return Sample(self._finish(frames, size, generator), tuple(failed))
        raise ValueError(f"{TRIES} training videos in a row cannot be read; the last error: {failed[-1]}")

    def _window(self, entry: Entry, num_frames: int, generator: torch.Generator) -> Tensor:
        """uint8 (3, num_frames, H, W): a random window of the video, its short side resized."""
        config = self.config
        stride = 1 + _draw(config.stride, generator) if config.dynamic_fps else config.stride
        cached = self.cached.get(entry.name)
        length = cached.shape[1] if cached is not None else self._length(entry)
        # of a short video, the largest stride that fits
        stride = max(1, min(stride, (length - 1) // max(num_frames - 1, 1)))
        span = (num_frames - 1) * stride + 1
        if length < span:
            raise ValueError(f"{entry.name}: too short: it has {counted(length, 'frame')}, but {span} are needed")
        start = _draw(length - span + 1, generator)
        if cached is not None:
            return cached[:, start : start + span : stride]
        return self._frames(entry, start, span, stride)

    def _frames(self, entry: Entry, start: int, count: int, stride: int) -> Tensor:
        frames = []
        for i, frame in enumerate(decode.read(self._path(entry), start, count, self._bytes(entry))):
            if i % stride == 0:
                frames.append(_short_side(torch.from_numpy(frame), self.config.side))
        return torch.stack(frames, dim=1)

    def _path(self, entry: Entry) -> Path:
        return Path(self.config.root, entry.file)

    def _bytes(self, entry: Entry) -> bytes | None:
        if not entry.member:
            return None
        return tar.content(self._path(entry), tar.Member(entry.member, entry.offset, entry.length))

    def _length(self, entry: Entry) -> int:
        path = self._path(entry)
        if entry.sha256 and entry.file not in self.unchanged and path.is_file():
            if manifest.sha256(path) != entry.sha256:
                raise ValueError(
                    f"{path}: is not the file that {self.config.manifest} pins (sha256); download it again"
                )
            self.unchanged.add(entry.file)
        return decode.frame_count(path, self._bytes(entry))

    def _finish(self, frames: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """uint8 (3, T, H, W) -> the crop, augmented: float32 (3, T, size, size) in -1..1."""
        height, width = frames.shape[2:]
        side = size
        if self.config.zoom > 1:
            largest = min(int(size * self.config.zoom), height, width)
            side = size + _draw(largest - size + 1, generator)
        if self.config.crop == "random":
            top, left = _draw(height - side + 1, generator), _draw(width - side + 1, generator)
        else:
            top, left = (height - side) // 2, (width - side) // 2
        frames = frames[:, :, top : top + side, left : left + side]
        if side != size:
            resized = F.interpolate(frames.transpose(0, 1), (size, size), mode="bilinear", antialias=True)
            frames = resized.transpose(0, 1)
        return to_model(self._augment(frames, generator))

    def _augment(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 (3, T, H, W), square -> the same shape, augmented."""
        if self.config.augment == "none":
            return frames
        if _draw(2, generator):
            frames = frames.flip(3)
        if self.config.augment == "flip":
            return frames
        if _draw(2, generator):
            frames = frames.flip(1)  # time
        if not _draw(4, generator):
            frames = frames.flip(2)
        if not _draw(4, generator):
            frames = frames.transpose(2, 3)
        if not _draw(8, generator):
            frames = frames[torch.randperm(3, generator=generator)]
        if _draw(2, generator):
            gain, shift = torch.rand(2, generator=generator)
            levels = torch.arange(256.0).sub(128).mul(0.6 + 0.7 * gain).add(128 + 60 * (shift - 0.5))
            frames = levels.round().clamp(0, 255).to(torch.uint8)[frames.long()]
        return frames

    def _synthetic(self, num_frames: int, size: int, generator: torch.Generator) -> Tensor:
        """uint8 (3, T, size, size): a moving pattern."""
        quarters = torch.randint(-12, 13, (2,), generator=generator)
        motion = synthetic.Motion(int(quarters[0]) / 4, int(quarters[1]) / 4, square=bool(_draw(2, generator)))
        return synthetic.render(motion, num_frames, size, _draw(1 << 30, generator))


def _reason(entry: Entry, reason: Exception) -> str:
    """An error message prefixed with the name of the video, which for a video in a shard is SHARD:MEMBER."""
    place, colon, why = str(reason).partition(": ")
    return f"{entry.name}: {why}" if colon and place.endswith((entry.file, entry.name)) else f"{entry.name}: {reason}"


def _draw(count: int, generator: torch.Generator) -> int:
    """A random integer in 0..count - 1."""
    return int(torch.randint(count, (), generator=generator))


def _short_side(frame: Tensor, short: int) -> Tensor:
    """uint8 (H, W, 3) -> uint8 (3, h, w) whose smaller side is `short`."""
    height, width, _ = frame.shape
    image = frame.permute(2, 0, 1)[None]
    if min(height, width) != short:
        size = (max(short, short * height // width), max(short, short * width // height))
        image = F.interpolate(image, size, mode="bilinear", antialias=True)
    return image[0]

"""Score reconstructions that were made elsewhere: two folders of videos, matched by file name, under any protocol.

    vaebench score --reference DIR --reconstruction DIR name=mine

The record has the suite, setting and metrics of `vaebench run data=folder root=REFERENCE`, so both kinds of rows share a table
if `num_frames` and `size` are equal.  Pixels are scored as the files store them: a lossy codec is part of the score.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vaebench import evaluation, frame_size, kept_pictures, kept_video, plugins, protocol, records, table_notes, tables
from vaebench import settings as parser
from vaebench.config import RunConfig, ScoreConfig
from vaebench.data import ListedSource
from vaebench.evaluation import Evaluation, NothingMeasured
from vaebench.fingerprint import fingerprint
from vaebench.frame_size import Size
from vaebench.machine import set_flags
from vaebench.options import ReconstructionOptions
from vaebench.outcome import Outcome, report
from vaebench.records import Failure, Record
from vaebench.suites.reconstruction import Reconstruction
from vaebench.vae import VAESpec, VideoVAE
from vaebench.video import Clip, to_model
from vaebench.video_io import decode, file_source, manifest, resize
from vaebench.video_io.container import opened, video_stream

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.data import VideoSource
    from vaebench.suite import Candidate, Case
    from vaebench.video import Latent, Video
    from vaebench.video_io.manifest import Row


LOSSLESS = {"ffv1", "ffvhuff", "huffyuv", "magicyuv", "png", "rawvideo", "utvideo"}
LISTED = 5  # names in a message


@dataclass(frozen=True)
class Folder:
    """A folder of videos; `rows` by id, which is the path below the folder without extension."""

    root: Path
    rows: Mapping[str, Row]
    remedy: str  # for a video that is too short

    @classmethod
    def of(cls, root: str, option: str, num_frames: int | None) -> Folder:
        """List the videos of a folder, whose first `num_frames` frames, or all, are scored.

        Raises:
            ValueError: the folder is missing or has no videos
        """
        path = Path(root)
        if not path.is_dir():
            raise ValueError(f"{option} {root}: no such folder")
        rows = {row.id: row for row in manifest.scan(path)}
        if not rows:
            raise ValueError(f"{option} {root}: no videos (files ending in {', '.join(manifest.EXTENSIONS)})")
        damaged = "it is damaged: write it again, or score the first N frames of both videos with num_frames=N"
        short = "lower num_frames, or write it again"
        return cls(path, rows, short if num_frames else damaged)

    @property
    def sha256(self) -> str:
        """One hash of the names and bytes of all videos."""
        return file_source.fingerprint((row.id, 0, manifest.sha256(self.root / row.file)) for row in self.rows.values())

    def load(self, row: Row, num_frames: int | None, size: Size | None, how: str) -> Tensor:
        """The first `num_frames` frames, or all, of a video: uint8 (3, T, H, W), resized and cropped if `size` is given.

        Args:
            how: one of `vaebench.video_io.resize.FILTERS`; "float" returns float32 in 0..1

        Raises:
            OSError: the file cannot be read
            ValueError: the file is damaged or too short
        """
        path = self.root / row.file
        count = num_frames or decode.frame_count(path)
        frames = file_source.read_row(path, row, count, remedy=self.remedy)
        if size:
            return resize.clip(frames, size, how)
        return torch.stack([torch.from_numpy(frame) for frame in frames]).permute(3, 0, 1, 2).contiguous()


class FromFiles(Reconstruction):
    """The reconstruction suite, whose reconstructions are read from a folder."""

    def __init__(self, config: RunConfig, asked: ScoreConfig, reconstructions: Folder) -> None:
        options = {name: getattr(asked, name) for name in ("metrics", "keep", "keep_video")}
        super().__init__(config, parser.build(ReconstructionOptions, options))
        # reconstructions in files have 8 bits already: `pixels` applies only to the reference
        self.of_files = replace(self.protocol, pixels="float32")
        self.asked, self.reconstructions = asked, reconstructions

    def setting(self, source: VideoSource) -> str:
        """As in `vaebench run` if frames and size are given; otherwise the name says that clips are scored as they are."""
        usual, shape = super().setting(source), f"{self.config.num_frames}x{self.config.size}"
        frames, size = self.asked.num_frames or "all", self.asked.size or "native"
        name = source.identity["name"]
        return f"{name}-{frames}x{size}{usual.removeprefix(f'{name}-{shape}')}"

    def open(self, candidate: Candidate) -> VideoVAE:
        return candidate.load()

    def _scored(self, pieces: Iterable[Video]) -> Iterator[Video]:
        return self.of_files.windows(pieces)

    def _reconstruct(self, vae: VideoVAE, frames: Tensor, case: Case) -> tuple[Video, Latent]:
        """The video of the clip's name, (1, 3, T, H, W) in -1..1 of the shape of `frames`, and an empty latent."""
        row = self.reconstructions.rows.get(case.id)
        if row is None:
            raise ValueError(
                f"no reconstruction: expected a video called {case.id} in {self.reconstructions.root.name}"
            )
        load = partial(self._load, row, tuple(frames.shape[2:]))
        reconstruction: Tensor = file_source.below(self.reconstructions.root, load)()
        return to_model(reconstruction.to(self.device)).unsqueeze(0), torch.empty(0)

    def _load(self, row: Row, shape: tuple[int, ...]) -> Tensor:
        """uint8 (3, *shape).  Raises ValueError if the file has other frames than the reference."""
        path, asked = self.reconstructions.root / row.file, self.asked
        if not asked.num_frames and (count := decode.frame_count(path)) != shape[0]:
            raise ValueError(
                f"{path} has {count} frames and its reference {shape[0]}: num_frames=N scores the first N frames of both"
            )
        frames = self.reconstructions.load(row, shape[0], None, self.protocol.resize)
        height, width = frames.shape[2:]
        least = frame_size.parse(asked.size or 1)
        if height < least.height or width < least.width:
            raise ValueError(f"{path} has frames of {width}x{height}, smaller than size={asked.size}: lower size")
        if asked.size:
            frames = self.reconstructions.load(row, shape[0], asked.size, self.protocol.resize)
        if tuple(frames.shape[1:]) != shape:
            raise ValueError(
                f"{path} has frames of {width}x{height} and its reference {shape[2]}x{shape[1]}: size=N resizes and crops both"
            )
        return frames


@dataclass(frozen=True)
class _Files:
    """A candidate without a network: its reconstructions are files."""

    spec: VAESpec
    weights: str
    name: str = ""
    config_sha256: str = ""
    code: Sequence[str] = ()

    @property
    def label(self) -> str:
        return self.spec.variant

    def load(self, mode: str = "", **_: Any) -> Any:
        return self  # only its spec is read: `FromFiles` calls neither encode nor decode


def score(reference: str, reconstruction: str, asked: ScoreConfig) -> tuple[Evaluation, Path]:
    """Score the videos of one folder against those of another, and write the record.

    Args:
        reference: folder with the original videos
        reconstruction: folder with videos of the same names

    Returns:
        the record with the scores of clips, and its file; missing, additional and unequal videos are in `record.failed`

    Raises:
        ValueError: a folder or setting is invalid, or no names match
        NothingMeasured: no clip could be scored; missing and additional videos are in its list too
        OSError: a folder cannot be read or written
    """
    set_flags(tf32=False, cudnn_benchmark=False)
    originals = Folder.of(reference, "--reference", asked.num_frames)
    mine = Folder.of(reconstruction, "--reconstruction", asked.num_frames)
    if not originals.rows.keys() & mine.rows.keys():
        raise ValueError(
            f"no video of {reconstruction} has the name of a video of {reference}: these have {_some(mine)} and {_some(originals)}"
        )
    config = RunConfig(
        data="folder", root=reference, num_frames=asked.num_frames or _longest(originals),
        size=asked.size or _not_square(originals) or 0,
        protocol=asked.protocol, device=asked.device, fail_fast=asked.fail_fast,
    )  # fmt: skip
    suite = FromFiles(config, asked, mine)
    identity = plugins.find("data", "folder").build(config).identity
    source = ListedSource(identity, list(_clips(originals, asked)))
    candidate = _Files(VAESpec("files", _name(asked, reconstruction), 1, 1, 3, causal=False), mine.sha256)
    vae = evaluation.vae_of(suite, candidate)
    record = records.record_path(Path(asked.results), suite.name, suite.setting(source), vae["name"])
    records.check_replaceable(record, vae, source.identity)  # now, because scores are not cached
    try:
        result = evaluation.run(suite, candidate, source)
    except NothingMeasured as error:
        raise NothingMeasured([*error.failed, *_additional(mine, originals)]) from error
    result.record = _of_files(result.record, asked, mine, originals)
    file = records.write(result.record, Path(asked.results), result.clips)
    kept_pictures.write_all(Path(asked.results), result.record, result.pictures)
    kept_video.write_all(Path(asked.results), result.record, result.videos)
    return result, file


def _name(asked: ScoreConfig, reconstruction: str) -> str:
    return asked.name or Path(reconstruction).resolve().name


def _some(folder: Folder) -> str:
    names = list(folder.rows)
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def _longest(folder: Folder) -> int:
    """Frames of the longest readable video, at least 1; unreadable ones fail when they are scored."""
    counts = [1]
    for row in folder.rows.values():
        try:
            counts.append(decode.frame_count(folder.root / row.file))
        except (OSError, ValueError):  # noqa: PERF203 (each file by itself)
            continue
    return max(counts)


def _not_square(folder: Folder) -> Size | None:
    """The size of the first readable video whose sides differ, for metrics that need square frames; None if there is none."""
    for row in folder.rows.values():
        try:
            frame = next(iter(file_source.read_row(folder.root / row.file, row, 1)))
        except (OSError, ValueError):
            continue
        if frame.shape[0] != frame.shape[1]:
            return frame_size.plain(f"{frame.shape[0]}x{frame.shape[1]}")
    return None


def _clips(folder: Folder, asked: ScoreConfig) -> Iterator[Clip]:
    how = protocol.load(asked.protocol).resize
    for row in folder.rows.values():
        load = partial(folder.load, row, asked.num_frames, asked.size, how)
        yield Clip(row.id, row.fps, file_source.below(folder.root, load), file=row.file)


def _additional(mine: Folder, originals: Folder) -> list[Failure]:
    """A failure for each reconstruction that has no reference."""
    reason = "no reference: this name is only in the folder of reconstructions"
    return [Failure(row.id, row.file, reason) for row in mine.rows.values() if row.id not in originals.rows]


def _of_files(record: Record, asked: ScoreConfig, mine: Folder, originals: Folder) -> Record:
    """The record, with what is known of files instead of what is known of a VAE."""
    unknown = ("temporal_compression", "spatial_compression", "latent_channels", "causal", "frames", "parameters")
    vae = {**record.vae, **dict.fromkeys(unknown), "modes": ["files"], "reference_mode": "files", "mode": "files"}
    codecs = _codecs(mine)
    files: dict[str, Any] = {
        "reference": {"name": originals.root.resolve().name, "sha256": record.data["sha256"], "videos": len(originals.rows)},
        "reconstruction": {"name": mine.root.resolve().name, "sha256": record.vae["weights"], "videos": len(mine.rows)},
        "codecs": codecs,
        "lossless": codecs.keys() <= LOSSLESS,  # False: a codec of the files may be part of the scores
    }  # fmt: skip
    facts = {"files": files, "settings": asdict(asked), "digests": record.digests}
    return replace(
        record,
        vae=vae,
        data={key: value for key, value in record.data.items() if key != "padded_to"},
        config={
            **record.config,
            "num_frames": asked.num_frames,
            "size": asked.size,
            "options": {"metrics": asked.metrics},
        },
        failed=[*record.failed, *_additional(mine, originals)],
        fingerprint=fingerprint(facts),
        extra={"scored_from_files": files},
    )


def _codecs(folder: Folder) -> dict[str, int]:
    """Codec -> the number of readable videos."""
    import av

    counts: Counter[str] = Counter()
    for row in folder.rows.values():
        path = folder.root / row.file
        try:
            with opened(path) as container:
                counts[video_stream(container, path, {}, "NONE").codec_context.name] += 1
        except (av.error.FFmpegError, OSError, ValueError):  # it fails when it is scored
            continue
    return dict(counts)


def command(reference: str, reconstruction: str, words: Sequence[str], form: str) -> int:
    """`vaebench score`: print the table, and what failed; returns the exit code."""
    asked = parser.parse(ScoreConfig, words)
    protocol.load(asked.protocol)
    if os.sep in asked.name:
        raise ValueError(f"name={asked.name} should be a name without {os.sep}")
    name = _name(asked, reconstruction)
    try:
        result, file = score(reference, reconstruction, asked)
    except NothingMeasured as error:
        report(Outcome(failed=[(name, failure) for failure in error.failed]))
        return 1
    print(tables.render([result.record], form, best=True), end="")
    for line in table_notes.notes([result.record]):
        print(line, file=sys.stderr)
    report(Outcome([result.record], failed=[(name, failure) for failure in result.record.failed]))
    print(f"record: {file}", file=sys.stderr)
    return int(bool(result.record.failed))

"""A source of clips that are files below a root: what folder, bundle, webvid, panda70m, kinetics400 and ucf101 share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.data import _decode, _frames, _manifest
from vaebench.video import Clip

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.config import RunConfig
    from vaebench.data._manifest import Row

ENDS = 1 << 14  # bytes read from either end of a file for its fingerprint


@dataclass
class Files:
    """A `VideoSource` of rows below `root`."""

    identity: dict[str, str]
    root: Path
    rows: Sequence[Row]
    num_frames: int
    size: int

    def __iter__(self) -> Iterator[Clip]:
        for row in self.rows:
            path = self.root / row.file
            load = partial(load_row, path, row, self.num_frames, self.size)
            yield Clip(id=row.id, fps=row.fps, load=load, file=str(path), label=row.label)


def source(name: str, root: Path, rows: Sequence[Row], config: RunConfig, listed: int | None = None) -> Files:
    """The source of these rows.  `listed`: how many clips the data set has, where only those on disk are in `rows`."""
    _manifest.unique(rows, root)
    identity = {"name": name, "sha256": fingerprint(root, rows), "clips": str(len(rows))}
    if listed is not None:
        identity["listed"] = str(listed)
    return Files(identity, root, rows, config.num_frames, config.size)


def load_row(path: Path, row: Row, num_frames: int, size: int) -> Tensor:
    """uint8 (3, num_frames, size, size).  OSError or ValueError naming file and reason."""
    if row.sha256 and path.is_file():  # a missing file is named by the decoder
        found = _manifest.sha256(path)
        if found != row.sha256:
            raise ValueError(
                f"{path}: is not the file that the manifest pins (sha256 {found[:12]}..., expected {row.sha256[:12]}...); "
                "fetch it again, or write a new manifest"
            )
    return _frames.clip(_decode.read(path, row.start, num_frames), size)


def fingerprint(root: Path, rows: Sequence[Row]) -> str:
    """One hash of what decides the pixels: every clip's id, start frame, and bytes.

    The bytes stand as the sha256 that a manifest pins, which is checked when the clip is loaded.  Where nothing is pinned they
    stand as the length and the first and last 16 KiB, so that a folder of 100,000 videos is known in a minute: in mp4, mov,
    mkv, webm and avi those ends hold the index with the length of every frame, so re-encoding or cutting shows.  A change of
    the middle that keeps the length does not; a manifest shows that too.
    """
    digest = hashlib.sha256()
    for row in rows:
        content = row.sha256 or _ends(root / row.file)
        digest.update(f"{row.id}\0{row.start}\0{content}\n".encode())
    return digest.hexdigest()


def _ends(file: Path) -> str:
    try:
        with open(file, "rb") as content:
            length = os.fstat(content.fileno()).st_size
            head = content.read(ENDS)
            content.seek(max(ENDS, length - ENDS))
            return f"{length} {hashlib.sha256(head + content.read(ENDS)).hexdigest()}"
    except OSError:  # its clip says so when it is loaded
        return "missing"


def need_root(config: RunConfig, what: str) -> Path:
    """The folder that `root=` names.  ValueError with the layout expected if it is not given, OSError if it is not there."""
    if not config.root:
        raise ValueError(f"data={config.data} is not available without root=DIR: {what}")
    root = Path(config.root)
    if not root.is_dir():
        raise OSError(f"{root}: no such folder; root=DIR should name {what}")
    return root

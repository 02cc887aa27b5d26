"""A source of clips that are files below a root: what all sources that read video files share."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vaebench import protocol
from vaebench.frame_size import Size
from vaebench.video import Clip
from vaebench.video_io import decode, decord_reader, manifest, notes, resize
from vaebench.video_io.manifest import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.config import RunConfig

ENDS = 1 << 14  # bytes read from either end of a file for its fingerprint
MISSING = "missing"  # stamp of a file that is not there: its clip is loaded, which names the file


@dataclass
class Files:
    """A `VideoSource` of rows below `root`."""

    identity: dict[str, str]
    root: Path
    rows: Sequence[Row]
    num_frames: int
    size: Size
    reader: str = "auto"  # as `RunConfig.reader`
    resize: str = "antialiased"  # one of `resize.FILTERS`

    def __iter__(self) -> Iterator[Clip]:
        for row in self.rows:
            yield clip_of(
                self.root,
                partial(read_row, self.root / row.file, row, self.num_frames, self.reader),
                self.size,
                self.resize,
                id=row.id,
                fps=row.fps,
                file=row.file,
                label=row.label,
                stamp=_stamp(self.root, row),
            )


def _stamp(root: Path, row: Row) -> str:
    """The stamp of a row's file; none for pinned bytes, which are checked when they are read, unless the file is lost."""
    found = stamp(root / row.file)
    return "" if row.sha256 and found != MISSING and not found.startswith("0 ") else found


def source(
    name: str, root: Path, rows: Sequence[Row], config: RunConfig, listed: int | None = None, fixed: bool = False
) -> Files:
    """The source of these rows.  `listed`: how many clips the data set has, where only those on disk are in `rows`.

    `fixed`: the name is complete; otherwise digits of the hash of the clips are added to it (`marked`).
    ValueError if two different rows have one id, or for reader=decord if a row is not pinned or decord is missing.
    """
    if config.reader == "decord":
        decord_reader.require()
        if unpinned := next((row for row in rows if not row.sha256), None):
            raise ValueError(
                f"{unpinned.file}: reader=decord reads only files that a manifest pins by sha256, since decord does not report "
                "damage; write one with `vaebench manifest`, or use reader=pyav"
            )
    rows = manifest.distinct(rows, config.manifest or root)
    contents = ((row.id, row.start, row.sha256 or ends(root / row.file)) for row in rows)
    sha256 = fingerprint(contents)
    identity = {"name": name if fixed else marked(name, sha256), "sha256": sha256, "clips": str(len(rows))}
    if listed is not None:
        identity["listed"] = str(listed)
    return Files(identity, root, rows, config.num_frames, config.size, config.reader, resize_of(config))


def resize_of(config: RunConfig) -> str:
    """The resize that the protocol of the run chooses, one of `resize.FILTERS`."""
    return protocol.load(config.protocol).resize


def published(
    config: RunConfig,
    layout: str,
    columns: Sequence[str],
    expand: Callable[[dict[str, str]], Iterable[tuple[str, str]]],
    name_of: Callable[[Path, str], str] = lambda _, file: PurePosixPath(file).stem,
    label_of: Callable[[str], str] = lambda _: "",
) -> Files:
    """A data set that is published as a CSV and fetched clip by clip, so that what is on disk is seldom all of it.

    `expand` turns a row of the data set's own CSV into the (name, label) of each of its clips, `name_of` a file below the
    root into the name of its clip.  The clips are those of the CSV that are on disk, in its order, and the identity says how
    many it lists.  A manifest of ours in place of the CSV pins the clips instead; without either every video is read, with
    the label that `label_of` finds in its path.
    """
    root = need_root(config, layout)
    listed = None
    if not config.manifest:
        rows = [replace(row, label=label_of(row.file)) for row in manifest.scan(root)]
    elif manifest.is_manifest(config.manifest):
        rows = manifest.read(config.manifest)
    else:
        wanted = [clip for row in manifest.table(config.manifest, columns) for clip in expand(row)]
        on_disk = _by_name(root, name_of)
        rows = [Row(name, on_disk[name], label=label) for name, label in wanted if name in on_disk]
        listed = len(set(wanted))
    if not rows:
        where = f"{root}, of the {listed} that {config.manifest} lists" if listed else config.manifest or str(root)
        raise ValueError(f"no clip of data={config.data} is in {where}; the layout expected is {layout}")
    if not config.manifest:
        notes.note(f"{root}: every video below it is taken for a clip of {config.data}, as no manifest lists the clips")
    return source(named(config.data, Path(config.manifest).stem), root, rows, config, listed)


def _by_name(root: Path, name_of: Callable[[Path, str], str]) -> dict[str, str]:
    """Name of a clip -> its file; of two files, the first in the order of their paths."""
    on_disk: dict[str, str] = {}
    twice: list[str] = []
    for row in manifest.scan(root):
        name = name_of(root, row.file)
        if on_disk.setdefault(name, row.file) != row.file:
            twice.append(f"{row.file}; {on_disk[name]} is read")
    if twice:
        notes.note(f"{root}: files are ignored whose clip an earlier file holds: {len(twice)} (the first: {twice[0]})")
    return on_disk


def clip_of(
    root: Path,
    read: Callable[[], Iterator[NDArray[np.uint8]]],
    size: Size,
    how: str,
    *,
    id: str,
    file: str,
    fps: float = 0.0,
    label: str = "",
    stamp: str = "",
) -> Clip:
    """A clip that can be loaded whole and streamed.  Its errors name files relative to the root.

    Args:
        root: folder of the data
        read: decodes the frames of the clip one by one, uint8 (H, W, 3) each
        size: height and width of the clip
        how: one of `resize.FILTERS`
    """
    frames = partial(_read_below, f"{root}{os.sep}", read) if root != Path() else read
    load, stream = partial(_whole, frames, size, how), partial(_pieces, frames, size, how)
    return Clip(id=id, fps=fps, load=load, stream=stream, file=file, label=label, stamp=stamp)


def _read_below(root: str, read: Callable[[], Iterator[NDArray[np.uint8]]]) -> Iterator[NDArray[np.uint8]]:
    try:
        yield from read()
    except (OSError, ValueError) as reason:
        raise _relative(reason, root) from None


def _whole(read: Callable[[], Iterator[NDArray[np.uint8]]], size: Size, how: str) -> Tensor:
    return resize.clip(read(), size, how)


def _pieces(read: Callable[[], Iterator[NDArray[np.uint8]]], size: Size, how: str) -> Iterator[Tensor]:
    return resize.pieces(read(), size, how)


def read_row(
    path: Path, row: Row, num_frames: int, reader: str = "auto", remedy: str = decode.LOWER
) -> Iterator[NDArray[np.uint8]]:
    """The frames (H, W, 3) of a row as decoded.  OSError or ValueError naming file, reason and, for a short one, `remedy`."""
    if row.sha256 and path.is_file():  # a missing file is named by the decoder
        actual = manifest.sha256(path)
        if actual != row.sha256:
            raise ValueError(
                f"{path}: is not the file that the manifest pins (sha256 {actual[:12]}..., expected {row.sha256[:12]}...); "
                "fetch it again, or write a new manifest"
            )
    if reader == "decord":
        return decord_reader.read(path, row.start, num_frames)
    return decode.read(path, row.start, num_frames, remedy=remedy)


def fingerprint(contents: Iterable[tuple[str, int, str]]) -> str:
    """One hash of what decides the pixels: every clip's id, start frame, and bytes.

    The bytes are given by the sha256 that a manifest pins, which is checked when the clip is loaded.  Where nothing is pinned
    they are given by the length and the first and last 16 KiB, so that hashing 100,000 videos takes a minute: in mp4, mov,
    mkv, webm and avi those ends hold the index with the length of every frame, so the hash shows re-encoding and cutting.
    It does not show a change of the middle that keeps the length; a manifest does.  It is the same for a copy of the files,
    which `stamp` is not: caches are keyed by both.
    """
    digest = hashlib.sha256()
    for name, start, content in contents:
        digest.update(f"{name}\0{start}\0{content}\n".encode())
    return digest.hexdigest()


def stamp(file: Path) -> str:
    """Size and time of change of a file, or `MISSING`."""
    try:
        status = os.stat(file)
        return f"{status.st_size} {status.st_mtime_ns}"
    except OSError:
        return MISSING


def ends(file: Path) -> str:
    """Length and hash of both ends of a file, or `MISSING`."""
    try:
        with open(file, "rb") as content:
            length = os.fstat(content.fileno()).st_size
            head = content.read(ENDS)
            content.seek(max(ENDS, length - ENDS))
            return f"{length} {hashlib.sha256(head + content.read(ENDS)).hexdigest()}"
    except OSError:
        return MISSING


def named(*parts: str) -> str:
    """A name for the record, of which the folder of its results is made; two lists of one data set get two names."""
    return "_".join(re.sub(r"[^A-Za-z0-9._]+", "_", part) for part in parts if part)


def marked(name: str, sha256: str) -> str:
    """`clips_1a2b3c`: two folders called clips have two settings, so that their records are in two folders."""
    return f"{name}_{sha256[:6]}"


def below(root: Path, load: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`load`, whose errors name files relative to the root, because errors go into records, which contain no absolute paths.

    OSError or ValueError, as `load` raises them.
    """
    return partial(_load_below, f"{root}{os.sep}", load) if root != Path() else load


def _load_below(root: str, load: Callable[[], Tensor]) -> Tensor:
    try:
        return load()
    except (OSError, ValueError) as reason:
        raise _relative(reason, root) from None


def _relative(reason: OSError | ValueError, root: str) -> OSError | ValueError:
    kind = OSError if isinstance(reason, OSError) else ValueError
    return kind(str(reason).replace(root, ""))


def refuse_decord(config: RunConfig, why: str) -> None:
    """ValueError for reader=decord with a source that it cannot read."""
    if config.reader == "decord":
        raise ValueError(f"reader=decord does not apply to data={config.data}: {why}; use reader=auto")


def need_root(config: RunConfig, what: str) -> Path:
    """The folder that `root=` names.

    Raises:
        ValueError: no root is given; the message states the layout expected
        OSError: there is no such folder
    """
    if not config.root:
        raise ValueError(f"data={config.data} is not available without root=DIR: {what}")
    root = Path(config.root).expanduser()
    if root.is_file() or (not root.exists() and any(sign in root.name for sign in "*?[")):
        raise OSError(f"{root}: root=DIR should name a folder, not files in it")
    if not root.is_dir():
        raise OSError(f"{root}: no such folder; root=DIR should name {what}")
    return root

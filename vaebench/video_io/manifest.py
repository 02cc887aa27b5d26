"""Manifests: a CSV file that pins clips in a folder: their files, first frames and checksums.

    id,file,start,fps,sha256,label,frames

`file` is relative to the folder and the only required column.  `id` defaults to the path without its extension, `start` to 0 and
`fps` to 0 (unknown).  Without `sha256` the bytes are not checked.  `label` is the class, for sources with classes.
`frames` is the number of frames of the file, 0 if unknown.
Some damaged files decode to wrong pixels without an error (results/benchmarks/decode_fuzz.json); only a checksum detects them.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import TextIO

from vaebench.files import draft
from vaebench.plugins import did_you_mean
from vaebench.video_io import notes

# extensions of videos, in upper or lower case; the decoder detects the format from the content
# fmt: off
EXTENSIONS = (
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".gif", ".mpg", ".mpeg", ".m1v", ".m2v", ".vob", ".ts",
    ".mts", ".m2ts", ".mxf", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".dv", ".rm", ".y4m", ".ivf", ".nut",
)
# fmt: on
# Panda-70M lists all cuts of a video in one field; the default limit of csv is 131,072 characters
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Row:
    """One clip."""

    id: str
    file: str  # relative to the root, with forward slashes
    start: int = 0  # first frame
    fps: float = 0.0
    sha256: str = ""  # of the file
    label: str = ""
    frames: int = 0  # of the file; 0 if unknown


COLUMNS = [f.name for f in fields(Row)]


@contextmanager
def opened(file: str | Path, expected: str) -> Iterator[TextIO]:
    """Open a text file that the user named, such as a manifest; UTF-8 with or without a byte order mark.

    Args:
        expected: what the file should be, for messages

    Raises:
        OSError: the file cannot be read
        ValueError: it is not UTF-8, or is not a CSV
    """
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            yield text
    except OSError as reason:
        raise OSError(f"{file}: {reason.strerror}; expected {expected}") from None
    except UnicodeDecodeError as reason:
        wrong = reason.object[reason.start]
        raise ValueError(f"{file}: is not UTF-8 text (byte 0x{wrong:02x}: {reason.reason}); save it as UTF-8") from None
    except csv.Error as reason:
        raise ValueError(f"{file}: cannot be read as CSV ({reason}); expected {expected}") from None


def table(file: str | Path, need: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV with at least the columns `need`.

    Raises:
        OSError: the file cannot be read
        ValueError: it is not a CSV, or a column is missing
    """
    columns = _header(file)
    lacking = [column for column in need if column not in columns]
    if lacking:
        raise ValueError(f"{file}: has no column {lacking[0]!r}; its columns are: {', '.join(columns)}")
    with opened(file, "a CSV") as text:
        return list(csv.DictReader(text, restkey="", restval=""))


def _header(file: str | Path) -> list[str]:
    with opened(file, "a CSV") as text:
        return next(csv.reader(text), [])


def is_manifest(file: str | Path) -> bool:
    """Whether a CSV is a manifest, and not the list that a data set is published with."""
    return "file" in _header(file)


def read(file: str | Path) -> list[Row]:
    """Read the rows of a manifest, in their order.

    Raises:
        OSError: the file cannot be read
        ValueError: it is not a manifest; the message names the first invalid line
    """
    rows: list[Row] = []
    for line, given in enumerate(table(file, ["file"]), start=2):
        for column in given:
            if column not in COLUMNS:
                hint = did_you_mean(str(column), COLUMNS)
                raise ValueError(f"{file}: no column {column!r} in a manifest{hint} (there are: {', '.join(COLUMNS)})")
        rows.append(_row(given, f"{file}, line {line}"))
    return distinct(rows, file)


def _row(given: dict[str, str], where: str) -> Row:
    path = PurePosixPath(given["file"].strip())
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{where}: file {given['file']!r} should be a path below the root")
    start, rate, sha256, frames = (given.get(name, "").strip() for name in ("start", "fps", "sha256", "frames"))
    if start and not start.isdecimal():
        raise ValueError(f"{where}: start {start!r} should be a frame number, 0 or more")
    if frames and not frames.isdecimal():
        raise ValueError(f"{where}: frames {frames!r} should be a number of frames, 0 or more")
    if sha256 and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise ValueError(f"{where}: sha256 {sha256!r} should be 64 hexadecimal digits")
    try:
        seconds = float(rate or 0)
    except ValueError:
        raise ValueError(f"{where}: fps {rate!r} should be a number") from None
    name = given.get("id", "").strip() or path.with_suffix("").as_posix()
    label = given.get("label", "").strip()
    return Row(name, path.as_posix(), int(start or 0), seconds, sha256.lower(), label, int(frames or 0))


def distinct(rows: Iterable[Row], where: str | Path) -> list[Row]:
    """Merge equal rows and keep their order; a note counts the merged rows.

    Raises:
        ValueError: two different rows have the same id, by which results are stored
    """
    known: dict[str, Row] = {}
    repeated: list[str] = []
    for row in rows:
        first = known.setdefault(row.id, row)
        if first is row:
            continue
        if first != row:
            name = next(column for column in COLUMNS if getattr(first, column) != getattr(row, column))
            raise ValueError(
                f"{where}: 2 clips are called {row.id!r}, with {name} {getattr(first, name)!r} and {getattr(row, name)!r}; "
                "give each its own id, or remove one of the two rows"
            )
        repeated.append(row.id)
    if repeated:
        notes.note(f"{where}: repeated rows are merged: {len(repeated)} (the first: {repeated[0]})")
    return list(known.values())


def scan(root: str | Path) -> list[Row]:
    """List all videos below a folder, sorted by path; a note counts the files of other types.

    The id of a clip is its path without the extension, or with it if two files differ only in their extension.

    Raises:
        OSError: a folder is missing or cannot be read
    """
    files = sorted(walk(root, EXTENSIONS))
    bare = [PurePosixPath(file).with_suffix("").as_posix() for file in files]
    times = Counter(bare)
    return [Row(name if times[name] == 1 else file, file) for name, file in zip(bare, files, strict=True)]


def hidden(path: str) -> bool:
    """Whether a path is hidden, or was added to an archive by macOS (`._a.mp4`, `__MACOSX/`)."""
    parts = PurePosixPath(path).parts
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)


def is_video(file: str) -> bool:
    """Whether a file has the extension of a video."""
    return file.lower().endswith(EXTENSIONS)


def walk(root: str | Path, extensions: tuple[str, ...]) -> Iterator[str]:
    """Yield the files below `root` with one of these extensions, relative to `root` and with forward slashes.

    Links to folders are followed once.  Hidden files are skipped; a note counts the other files that are skipped.

    Raises:
        OSError: a folder is missing or cannot be read
    """

    def refuse(reason: OSError) -> None:
        raise OSError(f"{reason.filename}: {reason.strerror}; name a folder that can be read")

    ignored = notes.Ignored()
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link back up the tree
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not hidden(name))
        for name in files:
            if hidden(name):
                continue
            path = (Path(folder) / name).relative_to(root).as_posix()
            if name.lower().endswith(extensions):
                yield path
            else:
                ignored.add(path)
    ignored.print(root)


def write(
    root: str | Path, out: str | Path, num_frames: int = 33, rows: Iterable[Row] | None = None
) -> tuple[int, list[str]]:
    """Write a manifest of the videos below `root`.  Damaged and too short files are left out.

    Args:
        root: folder with the videos
        out: CSV file to write
        num_frames: frames to decode of each clip
        rows: the clips to pin, without checksums; None: all videos below `root`

    Returns:
        the number of clips in the manifest, and the reason for each clip that was left out

    Raises:
        OSError: `root` cannot be read
        ValueError: no clip is left; no file is written
    """
    from vaebench.video_io import decode

    kept: list[Row] = []
    left_out: list[str] = []
    for row in scan(root) if rows is None else rows:
        path = Path(root) / row.file
        try:
            for _ in decode.read(path, row.start, num_frames, remedy="use a longer video or leave it out"):
                pass
            kept.append(replace(row, fps=decode.fps(path), sha256=sha256(path), frames=decode.frame_count(path)))
        except (OSError, ValueError) as reason:
            left_out.append(str(reason))
    if not kept:
        if not left_out:
            raise ValueError(f"{root}: there is no video below it")
        raise ValueError(f"{root}: no video below it has {num_frames} frames that can be read; {left_out[0]}")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with draft(Path(out)) as part, part.open("w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "fps": round(row.fps, 6)} for row in kept)
    return len(kept), left_out


def sha256(file: str | Path) -> str:
    """The sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

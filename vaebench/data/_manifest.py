"""A manifest: a CSV that pins which clips of a folder are read, from which frame, and what their bytes are.

    id,file,start,fps,sha256,label

`file` is relative to the folder and the only column that must be there.  `id` defaults to the path without its ending,
`start` to 0, `fps` to 0 (unknown); without `sha256` the bytes are not checked; `label` is the class, in sources that have classes.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

from vaebench.plugins import did_you_mean

EXTENSIONS = (".mp4", ".webm", ".avi", ".mkv", ".mov", ".gif")


@dataclass(frozen=True)
class Row:
    """One clip."""

    id: str
    file: str  # relative to the root, with forward slashes
    start: int = 0  # first frame
    fps: float = 0.0
    sha256: str = ""  # of the file
    label: str = ""


COLUMNS = [f.name for f in fields(Row)]


def table(file: str | Path, need: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV with at least the columns `need`.  OSError if unreadable, ValueError if it is no such table."""
    columns = _header(file)
    lacking = [column for column in need if column not in columns]
    if lacking:
        raise ValueError(f"{file}: has no column {lacking[0]!r}; its columns are: {', '.join(columns)}")
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            return list(csv.DictReader(text, restkey="", restval=""))
    except (csv.Error, UnicodeDecodeError) as reason:
        raise ValueError(f"{file}: is not a CSV in UTF-8 ({reason})") from None


def _header(file: str | Path) -> list[str]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            return next(csv.reader(text), [])
    except OSError as reason:
        raise OSError(f"{file}: {reason.strerror}; manifest=FILE should name a CSV") from None
    except (csv.Error, UnicodeDecodeError) as reason:
        raise ValueError(f"{file}: is not a CSV in UTF-8 ({reason})") from None


def is_manifest(file: str | Path) -> bool:
    """Is this a manifest of ours, rather than the CSV that a data set is given out with?"""
    return "file" in _header(file)


def read(file: str | Path) -> list[Row]:
    """The rows of a manifest, in its own order.  ValueError naming the line of the first mistake."""
    rows: list[Row] = []
    for line, given in enumerate(table(file, ["file"]), start=2):
        for column in given:
            if column not in COLUMNS:
                hint = did_you_mean(str(column), COLUMNS)
                raise ValueError(f"{file}: no column {column!r} in a manifest{hint} (there are: {', '.join(COLUMNS)})")
        rows.append(_row(given, f"{file}, line {line}"))
    unique(rows, file)
    return rows


def _row(given: dict[str, str], where: str) -> Row:
    path = PurePosixPath(given["file"].strip())
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{where}: file {given['file']!r} should be a path below the root")
    start, rate, sha256 = (given.get(name, "").strip() for name in ("start", "fps", "sha256"))
    if start and not start.isdecimal():
        raise ValueError(f"{where}: start {start!r} should be a frame number, 0 or more")
    if sha256 and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise ValueError(f"{where}: sha256 {sha256!r} should be 64 hexadecimal digits")
    try:
        seconds = float(rate or 0)
    except ValueError:
        raise ValueError(f"{where}: fps {rate!r} should be a number") from None
    name = given.get("id", "").strip() or path.with_suffix("").as_posix()
    return Row(name, path.as_posix(), int(start or 0), seconds, sha256.lower(), given.get("label", "").strip())


def unique(rows: Iterable[Row], where: str | Path) -> None:
    """ValueError if two clips share an id, by which their results are kept."""
    name, times = max(Counter(row.id for row in rows).items(), key=lambda item: item[1], default=("", 0))
    if times > 1:
        raise ValueError(f"{where}: {times} clips are called {name!r}; give each its own id")


def scan(root: str | Path) -> list[Row]:
    """Every video below a folder, sorted by path; hidden files are passed over.

    An id is the path without its ending; files that differ in nothing but the ending keep it.  OSError naming the folder
    that is missing or cannot be read.
    """
    files = sorted(walk(root, EXTENSIONS))
    bare = [PurePosixPath(file).with_suffix("").as_posix() for file in files]
    times = Counter(bare)
    return [Row(name if times[name] == 1 else file, file) for name, file in zip(bare, files, strict=True)]


def walk(root: str | Path, extensions: tuple[str, ...]) -> Iterable[str]:
    """Paths below `root`, relative to it and with forward slashes, of the files that end so; links are followed once."""

    def refuse(reason: OSError) -> None:
        raise OSError(f"{reason.filename}: {reason.strerror}; root=DIR should name a folder that can be read")

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link back up the tree
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and name.lower().endswith(extensions):
                yield (Path(folder) / name).relative_to(root).as_posix()


def write(
    root: str | Path, out: str | Path, num_frames: int = 33, rows: Iterable[Row] | None = None
) -> tuple[int, list[str]]:
    """Pin the videos below `root` in a manifest `out`: how many it holds, and the reasons for those left out.

    Each file is decoded over its first `num_frames` and hashed; one that is damaged or shorter is left out, with its reason.
    `rows` (from a source that lists its clips in its own way) replaces the scan.  ValueError, and no file, if none is left.
    """
    from vaebench.data import _decode

    kept: list[Row] = []
    left_out: list[str] = []
    for row in scan(root) if rows is None else rows:
        path = Path(root) / row.file
        try:
            for _ in _decode.read(path, row.start, num_frames):
                pass
            kept.append(Row(row.id, row.file, row.start, _decode.fps(path), sha256(path), row.label))
        except (OSError, ValueError) as reason:
            left_out.append(str(reason))
    if not kept:
        raise ValueError(
            f"{root}: no video below it has {num_frames} frames" + "".join(f"; {left_out[0]}" for _ in left_out[:1])
        )
    part = Path(f"{out}.part")  # so that a manifest is whole or absent
    with open(part, "w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "fps": round(row.fps, 6)} for row in kept)
    os.replace(part, out)
    return len(kept), left_out


def sha256(file: str | Path) -> str:
    """Of a file's bytes, read piece by piece."""
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while piece := content.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()

"""The list of training videos: files and WebDataset shards below a folder, or the files of a manifest."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from vaebench.files import draft
from vaebench.video_io import file_source, manifest, notes, tar

COLUMNS = ["stamp", "member", "offset", "length"]  # of an index; the header of the first column, the file, is the root


@dataclass(frozen=True)
class Entry:
    """One video: a file below the root, or bytes `offset` to `offset + length` of a shard."""

    file: str
    scene: str
    member: str = ""
    offset: int = 0
    length: int = 0
    sha256: str = ""  # of the file, where a manifest pins it

    @property
    def name(self) -> str:
        return f"{self.file}:{self.member}" if self.member else self.file


# (file, stamp) -> its videos; the stamp is "" for a single file or a damaged shard
Listing = dict[tuple[str, str], list[Entry]]


def entries(folder: str, listing: str, index: Path) -> tuple[list[Entry], list[str]]:
    """The videos of `data.root` or `data.manifest` in a fixed order, and the damaged shards with reasons.

    Args:
        folder: `data.root`
        listing: `data.manifest`
        index: file that stores the list; shards that have not changed since are not opened again

    Raises:
        ValueError: there are no videos, or `index` lists another folder
        OSError: there is no such folder or manifest
    """
    root = Path(folder)
    if not root.is_dir():
        raise OSError(f"{root}: no such folder; data.root names one with videos or WebDataset shards (.tar)")
    if listing:
        if not Path(listing).exists():
            raise OSError(f"{listing}: no such file; data.manifest= (empty) trains on all videos below data.root")
        rows = manifest.read(listing)
        if not rows:
            raise ValueError(f"{listing}: lists no video")
        return [Entry(row.file, row.label or row.id, sha256=row.sha256) for row in rows], []
    if not folder:
        raise ValueError("training needs data.root=DIR, a folder of videos or of WebDataset shards (.tar)")
    stored = _read_index(index, root)
    current: Listing = {}
    failed: list[str] = []
    ignored = notes.Ignored()
    for file in sorted(manifest.walk(root, (*manifest.EXTENSIONS, ".tar"))):
        if not file.lower().endswith(".tar"):
            current[file, ""] = [Entry(file, file)]
            continue
        stamp = file_source.stamp(root / file)
        if (file, stamp) in stored:
            current[file, stamp] = stored[file, stamp]
            continue
        videos, fault = _scan_shard(root / file, file, ignored)
        current[file, "" if fault else stamp] = videos  # without a stamp, the next run opens a damaged shard again
        failed += [fault] if fault else []
    ignored.print(root)
    videos = [entry for in_file in current.values() for entry in in_file]
    if not videos:
        reason = f"; {failed[0]}" if failed else ""
        raise ValueError(
            f"{root}: holds no video ({', '.join(manifest.EXTENSIONS)}) and no shard (.tar) with one{reason}"
        )
    if current != stored:
        before = {entry for in_file in stored.values() for entry in in_file}
        new, gone = len(set(videos) - before), len(before - set(videos))
        if before and (new or gone):
            notes.note(f"{root} has changed since {index} was written: new or moved videos: {new}, removed: {gone}")
        _write_index(index, root, current)
    return videos, failed


def _write_index(index: Path, root: Path, listing: Listing) -> None:
    index.parent.mkdir(parents=True, exist_ok=True)
    with draft(index) as part, part.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow([json.dumps(str(root.resolve())), *COLUMNS])
        for (file, stamp), videos in listing.items():
            writer.writerows([file, stamp, e.member, e.offset, e.length] for e in videos or [Entry(file, "")])


def _read_index(index: Path, root: Path) -> Listing:
    """Reads what `_write_index` wrote; {} if there is no file, or another version wrote it.

    Raises:
        ValueError: it lists another folder
    """
    stored: Listing = {}
    if not index.is_file():
        return stored
    with index.open(newline="", encoding="utf-8") as text:
        rows = csv.reader(text)
        head = next(rows, [])
        if head[1:] != COLUMNS:
            return stored
        if head[0] != json.dumps(str(root.resolve())):
            raise ValueError(
                f"{index} lists {json.loads(head[0])}, not {root}; remove it, or set data.index to another file"
            )
        for file, stamp, member, offset, length in rows:
            videos = stored.setdefault((file, stamp), [])
            if member:
                videos.append(Entry(file, f"{file}:{member}", member, int(offset), int(length)))
            elif not stamp and not file.lower().endswith(".tar"):
                videos.append(Entry(file, file))
    return stored


def _scan_shard(path: Path, relative: str, ignored: notes.Ignored) -> tuple[list[Entry], str]:
    """The videos of a tar in the WebDataset layout, and the error if it is damaged, else ""."""
    videos: list[Entry] = []
    fault = ""
    try:
        for name, offset, length in tar.members(path):
            if manifest.is_video(name):
                videos.append(Entry(relative, f"{relative}:{name}", name, offset, length))
            else:
                ignored.add(f"{relative}:{name}")
    except (OSError, ValueError) as reason:
        fault = str(reason).replace(str(path), relative)
    return videos, fault

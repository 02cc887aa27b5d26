"""The files of a training, listed: videos and WebDataset shards below a folder, or the files of a manifest."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from vaebench.files import draft
from vaebench.video_io import file_source, manifest, notes, tar

COLUMNS = ["stamp", "member", "offset", "length"]  # of an index; the first column, the file, is headed by the root


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


# a file and, if it is a shard without damage, its stamp -> the videos in it
Listing = dict[tuple[str, str], list[Entry]]


def entries(folder: str, listing: str, index: Path) -> tuple[list[Entry], list[str]]:
    """The videos of `data.root` and `data.manifest` in a fixed order, and the shards that are damaged, with the reason.

    The list is kept at `index`: a shard that has not changed since is not opened again.
    """
    if listing:
        rows = manifest.read(listing)
        if not rows:
            raise ValueError(f"{listing}: lists no video")
        return [Entry(row.file, row.label or row.id, sha256=row.sha256) for row in rows], []
    if not folder:
        raise ValueError("training needs data.root=DIR, a folder of videos or of WebDataset shards (.tar)")
    root = Path(folder)
    if not root.is_dir():
        raise OSError(f"{root}: no such folder; data.root names one with videos or WebDataset shards (.tar)")
    listed = _read_index(index, root)
    found: Listing = {}
    failed: list[str] = []
    ignored = notes.Ignored()
    for file in sorted(manifest.walk(root, (*manifest.EXTENSIONS, ".tar"))):
        if not file.lower().endswith(".tar"):
            found[file, ""] = [Entry(file, file)]
            continue
        stamp = file_source.stamp(root / file)
        if (file, stamp) in listed:
            found[file, stamp] = listed[file, stamp]
            continue
        videos, fault = _scan_shard(root / file, file, ignored)
        found[file, "" if fault else stamp] = videos  # without a stamp, a damaged shard is opened again and named again
        failed += [fault] if fault else []
    ignored.print(root)
    videos = [entry for some in found.values() for entry in some]
    if not videos:
        reason = f"; {failed[0]}" if failed else ""
        raise ValueError(
            f"{root}: holds no video ({', '.join(manifest.EXTENSIONS)}) and no shard (.tar) with one{reason}"
        )
    if found != listed:
        before = {entry for some in listed.values() for entry in some}
        new, gone = len(set(videos) - before), len(before - set(videos))
        if before and (new or gone):
            notes.note(f"{root} has changed since {index} was written: new or moved videos: {new}, removed: {gone}")
        _write_index(index, root, found)
    return videos, failed


def _write_index(index: Path, root: Path, found: Listing) -> None:
    index.parent.mkdir(parents=True, exist_ok=True)
    with draft(index) as part, part.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow([json.dumps(str(root.resolve())), *COLUMNS])
        for (file, stamp), videos in found.items():
            writer.writerows([file, stamp, e.member, e.offset, e.length] for e in videos or [Entry(file, "")])


def _read_index(index: Path, root: Path) -> Listing:
    """What `_write_index` wrote; {} if there is no file, or if another version wrote it.  ValueError if it lists another root."""
    listed: Listing = {}
    if not index.is_file():
        return listed
    with index.open(newline="", encoding="utf-8") as text:
        rows = csv.reader(text)
        head = next(rows, [])
        if head[1:] != COLUMNS:
            return listed
        if head[0] != json.dumps(str(root.resolve())):
            raise ValueError(
                f"{index} lists {json.loads(head[0])}, not {root}; remove it, or give data.index another name"
            )
        for file, stamp, member, offset, length in rows:
            some = listed.setdefault((file, stamp), [])
            if member:
                some.append(Entry(file, f"{file}:{member}", member, int(offset), int(length)))
            elif not stamp and not file.lower().endswith(".tar"):
                some.append(Entry(file, file))
    return listed


def _scan_shard(path: Path, relative: str, ignored: notes.Ignored) -> tuple[list[Entry], str]:
    """The videos of a tar in the WebDataset layout, and what is wrong with it, if anything."""
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

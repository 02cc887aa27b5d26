"""WebDataset shards: videos in tar files, read in place without unpacking.

    vaebench run data=shards root=DIR        DIR/00000.tar, DIR/00001.tar, ..., each with <key>.mp4 (or webm, avi, ...)

Listing reads the headers of one shard at a time, so the first clip is available at once for any number of shards.
The id of a clip is <shard>/<key>.  A damaged or incomplete shard is listed as a failed clip after its readable videos.
The identity hashes the name, length, start and end of each shard; a shard that was written again differs there in its times and
sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from vaebench.frame_size import Size
from vaebench.video import Clip
from vaebench.video_io import decode, file_source, manifest, notes, tar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vaebench.config import RunConfig

LAYOUT = "a folder of uncompressed WebDataset shards (.tar) with videos in them"


@dataclass
class Shards:
    """A `VideoSource` of tar members."""

    identity: dict[str, str]
    root: Path
    shards: list[str]
    num_frames: int
    size: Size
    resize: str

    def __iter__(self) -> Iterator[Clip]:
        ignored = notes.Ignored()
        for shard in self.shards:
            path = self.root / shard
            stamp = file_source.stamp(path)
            keys: set[PurePosixPath] = set()
            faults: list[str] = []
            try:
                for member in tar.members(path):
                    if not manifest.is_video(member.name):
                        ignored.add(f"{shard}:{member.name}")
                        continue
                    key = PurePosixPath(shard).with_suffix("") / PurePosixPath(member.name).with_suffix("")
                    if key in keys:  # results are stored by key
                        faults.append(
                            f"{path}:{member.name}: an earlier video of this shard has its key; rename one of them"
                        )
                        continue
                    keys.add(key)
                    yield file_source.clip_of(
                        self.root,
                        partial(_frames, path, member, self.num_frames),
                        self.size,
                        self.resize,
                        id=key.as_posix(),
                        file=f"{shard}:{member.name}",
                        stamp=stamp,
                    )
            except (OSError, ValueError) as reason:
                faults.append(str(reason))
            if faults:
                more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
                load = file_source.below(self.root, partial(_fail, f"{faults[0]}{more}"))
                yield Clip(id=shard, fps=0.0, load=load, file=shard, stamp=stamp)
        ignored.print(self.root)


def build(config: RunConfig) -> Shards:
    """Build the source.

    Raises:
        OSError: the folder cannot be read
        ValueError: it has no shards, or a manifest or reader=decord is set
    """
    root = file_source.need_root(config, LAYOUT)
    file_source.refuse_decord(config, "nothing pins the bytes of a shard")
    if config.manifest:
        raise ValueError("data=shards reads every video of its shards; a manifest pins files, with data=folder")
    shards = sorted(manifest.walk(root, (".tar",)))
    if not shards:
        packed = next(iter(manifest.walk(root, (".tar.gz", ".tgz", ".tar.zst"))), "")
        hint = f" ({packed} is compressed: uncompress it, clips are read from the middle)" if packed else ""
        raise ValueError(f"{root}: no .tar below it{hint}; root=DIR should name {LAYOUT}")
    sha256 = file_source.fingerprint((shard, 0, file_source.ends(root / shard)) for shard in shards)
    identity = {
        "name": file_source.marked(file_source.named("shards", root.resolve().name), sha256),
        "sha256": sha256,
        "shards": str(len(shards)),
    }
    return Shards(identity, root, shards, config.num_frames, config.size, file_source.resize_of(config))


def _fail(reason: str) -> NoReturn:
    raise ValueError(reason)


def _frames(shard: Path, member: tar.Member, num_frames: int) -> Iterator[NDArray[np.uint8]]:
    return decode.read(f"{shard}:{member.name}", 0, num_frames, tar.content(shard, member))

"""Read the members of a tar file in place, without unpacking; for WebDataset shards in evaluation and training."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vaebench.video_io import manifest


class Member(NamedTuple):
    """A file in a tar archive, at the bytes `offset` to `offset + length`."""

    name: str
    offset: int
    length: int


def content(shard: Path, member: Member) -> bytes:
    """The bytes of a member.

    Raises:
        OSError: the shard cannot be opened
        ValueError: the shard ends inside the member
    """
    with open(shard, "rb") as file:
        file.seek(member.offset)
        data = file.read(member.length)
    if len(data) < member.length:
        raise ValueError(f"{shard}:{member.name}: the shard ends before this clip does; fetch it again")
    return data


def members(shard: Path) -> Iterator[Member]:
    """Yield the complete files in a shard, except hidden ones.

    Raises:
        OSError: the shard cannot be opened
        ValueError: it is not an uncompressed tar, is damaged or cut off; raised after the readable members
    """
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            size = os.fstat(file.fileno()).st_size
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # drop the header: tarfile caches all of them
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"it ends inside {member.name}")
                if member.isreg() and not manifest.hidden(member.name):
                    yield Member(member.name, member.offset_data, member.size)
            # tarfile stops without an error at a damaged header, and where the file ends between two members
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no member and no end mark at byte {archive.offset}")
    except OSError as reason:
        raise OSError(f"{shard}: {reason.strerror or reason}; make it readable or leave it out") from None
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as reason:
        raise ValueError(f"{shard}: is not a whole, uncompressed tar ({reason}); fetch it again") from None

"""File names that every file system takes, and writes that leave the old file or the new one, whole, also after a kill, a
full disk or a power cut."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 120  # characters; file systems end at 255 bytes, and suffixes follow
READABLE = 30  # characters of a target's name in the name of its draft


def file_name(text: str) -> str:
    """`text` as a file name: unchanged if it is plain and short, otherwise its last plain characters and a digest of all.

    Two texts never share a name: `a b` and `a_b` differ, and so do 猫 and 狗, of which no plain character is left.
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", text) and len(text) <= LONGEST:
        return text
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", text).lstrip(".-+")
    digits = digest(text)
    return f"{plain[-(LONGEST - len(digits) - 1) :]}-{digits}".lstrip("-")


def digest(text: str) -> str:
    """8 hex digits of the sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def write_atomically(file: Path, content: str | bytes) -> None:
    """`content` into `file`, by `draft`; text as UTF-8.

    Raises:
        OSError: the file cannot be written
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with draft(file) as part:
        part.write_bytes(data)


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """A path to write to beside `target`.  It replaces `target` when the block ends, and is removed when the block fails.

    Raises:
        OSError: the file cannot be written; writers of PyTorch and safetensors, which raise other types, included
    """
    from safetensors import SafetensorError

    # machines that share the folder may share process ids
    part = target.with_name(f"{target.stem[:READABLE]}.{uuid.uuid4().hex}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        yield part
        _sync(part)
        part.replace(target)
        _sync(target.parent)
    except OSError as reason:
        if reason.filename == os.fspath(part):  # the user knows the file by its own name
            raise type(reason)(reason.errno, reason.strerror, os.fspath(target)) from None
        raise
    except (SafetensorError, RuntimeError) as reason:
        raise OSError(f"{target} cannot be written: {' '.join(str(reason).split())}") from reason
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes the drafts that killed processes of this machine left in `folder`."""
    for part in folder.glob(f"*.{socket.gethostname()}.*.part"):
        pid = part.name.split(".")[-2]
        if pid.isdigit() and not _alive(int(pid)):
            part.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _sync(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

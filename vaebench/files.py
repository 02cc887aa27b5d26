"""Portable file names, and atomic writes: after a kill, a full disk or a power cut, a file has its old or its new content."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 120  # characters; file systems allow 255 bytes, and suffixes are appended
READABLE = 30  # characters of the target's name in the name of its temporary file


def file_name(text: str) -> str:
    """`text` as a file name: unchanged if it is short and consists of plain characters, else its plain characters and a digest.

    Different texts have different names: the digest separates `a b` from `a_b`, and 猫 from 狗, which have no plain character.
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
    """Replace `file` by `content` atomically; text is encoded as UTF-8.

    Raises:
        OSError: the file cannot be written
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with draft(file) as part:
        part.write_bytes(data)


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `target`; it replaces `target` after the block, or is removed if the block fails.

    Raises:
        OSError: the file cannot be written; errors of PyTorch and safetensors are converted
    """
    from safetensors import SafetensorError

    # the host name is included: machines that share a folder may have equal process ids
    part = target.with_name(f"{target.stem[:READABLE]}.{uuid.uuid4().hex}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        yield part
        _sync(part)
        part.replace(target)
        _sync(target.parent)
    except OSError as reason:
        if reason.filename == os.fspath(part):  # the message names the file that the user knows
            raise type(reason)(reason.errno, reason.strerror, os.fspath(target)) from None
        raise
    except (SafetensorError, RuntimeError) as reason:
        raise OSError(f"{target} cannot be written: {' '.join(str(reason).split())}") from reason
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed processes of this machine left in `folder`."""
    for part in folder.glob(f"*.{socket.gethostname()}.*.part"):
        pid = part.name.split(".")[-2]
        if pid.isdigit() and not _alive(int(pid)):
            part.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process belongs to another user
        pass
    return True


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Files that appear whole or not at all, also after a kill, a full disk or a power cut."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """A path to write to beside `target`.  It replaces `target` when the block ends, and is removed when the block fails.

    Raises:
        OSError: the file cannot be written; writers of PyTorch and safetensors, which raise other types, included
    """
    from safetensors import SafetensorError

    # machines that share the folder may share process ids
    part = target.with_name(f"{target.stem}.{uuid.uuid4().hex}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        yield part
        _sync(part)
        part.replace(target)
        _sync(target.parent)
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

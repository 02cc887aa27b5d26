"""File names that every file system takes, and writes that leave either the old file or the new one."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

LONGEST = 120  # characters; file systems end at 255 bytes, and suffixes follow


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
    """`content` into `file` by renaming: a reader, another writer or a kill sees the old file or the new one, always whole."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
        try:
            part.write(data)
            part.flush()
            os.fsync(part.fileno())
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    os.chmod(part.name, 0o644)  # a temporary file is private; a record is not
    Path(part.name).replace(file)

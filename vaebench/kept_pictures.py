"""Saved frames of single cases as lossless PNG files `<record>.frames/<case>.png`, which `keep` writes.

A file has rows of n frames each, usually the reference above the reconstruction.  Its text entries are "frames", which is n, and
"fingerprint", which is the record's.  Files of earlier versions lack the fingerprint, the oldest lack both.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vaebench import records
from vaebench.files import file_name, write_atomically
from vaebench.frame_size import Size, parse

if TYPE_CHECKING:
    from PIL.Image import Image

    from vaebench.records import Record


def folder(root: Path, record: Record) -> Path:
    """The folder with the pictures of a record."""
    return records.file_of(root, record).with_suffix(".frames")


def write_all(root: Path, record: Record, pictures: Mapping[str, NDArray]) -> None:
    """Write the picture of each case.

    Pictures of other cases are not deleted: another process may be writing them.

    Args:
        root: the results folder
        pictures: case id -> uint8 (rows, n, H, W, 3)

    Raises:
        OSError: a file cannot be written
    """
    from PIL import Image, PngImagePlugin

    for case, frames in pictures.items():
        file = path(folder(root, record), case)
        file.parent.mkdir(parents=True, exist_ok=True)
        rows, count, height, width, _ = frames.shape
        sheet = frames.transpose(0, 2, 1, 3, 4).reshape(rows * height, count * width, 3)
        content, about = io.BytesIO(), PngImagePlugin.PngInfo()
        about.add_text("frames", str(count))  # defines the width of a frame, which need not be square
        about.add_text("fingerprint", record.fingerprint)
        Image.fromarray(sheet).save(content, "PNG", pnginfo=about)
        write_atomically(file, content.getvalue())


def path(pictures: Path, case: str) -> Path:
    """The file of `case` in the folder `pictures`."""
    return pictures / f"{file_name(case)}.png"


def of_record(root: Path, record: Record) -> list[Path]:
    """The pictures of a record, sorted by path.

    Pictures of another run than the record's are skipped: their pixels have other scores.

    Raises:
        ValueError: a file is damaged; the message names it
    """
    return [file for file in sorted(folder(root, record).glob("*.png")) if _is_of(file, record)]


def find(pictures: Path, record: Record, case: str) -> Path | None:
    """The picture of `case` in the folder `pictures` of `record`; None if there is none.  As `of_record`."""
    file = path(pictures, case)
    return file if file.is_file() and _is_of(file, record) else None


def required(pictures: Path, record: Record, case: str) -> Path:
    """`find` for a picture that the record lists.

    Raises:
        ValueError: there is none, or the file is damaged; the message names the file
    """
    if file := find(pictures, record, case):
        return file
    file = path(pictures, case)
    state = "is of another run than its record" if file.is_file() else "is missing"
    raise ValueError(f"{file} {state}: run this VAE again with keep=N")


def _is_of(file: Path, record: Record) -> bool:
    with _opened(file) as image:
        # earlier versions wrote no fingerprint, so the run of their pictures is unknown: they remain valid
        return image.info.get("fingerprint", record.fingerprint) == record.fingerprint


def read(file: Path, size: Size) -> NDArray:
    """Read frames of a reference above those of its reconstruction as uint8 (2, n, H, W, 3).

    Args:
        size: shape of a frame, for files of earlier versions, which do not state n

    Raises:
        ValueError: the file is damaged or has another layout; the message names it
    """
    with _opened(file) as image:
        sheet = np.asarray(image.convert("RGB") if image.mode == "P" else image)
        stated = str(image.info.get("frames", ""))
    count = int(stated) if stated.isdecimal() else 0
    high, wide = parse(size)
    height = sheet.shape[0] // 2
    width = sheet.shape[1] // count if count else height * wide // high or 1
    if sheet.ndim != 3 or sheet.shape[2] < 3 or sheet.shape[0] % 2 or sheet.shape[1] % (count or width):
        shape = "square RGB frames" if high == wide else f"RGB frames of the shape {high}x{wide}"
        shape = f"{count} RGB frames of one width" if count else shape
        raise ValueError(f"{file} should have {shape}, reference above reconstruction; its shape is {sheet.shape}")
    return sheet[..., :3].reshape(2, height, -1, width, 3).transpose(0, 2, 1, 3, 4)


@contextmanager
def _opened(file: Path) -> Iterator[Image]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, ValueError) as reason:  # Pillow raises all three for a damaged file
        raise ValueError(f"{file} cannot be read as a picture: {reason}") from None

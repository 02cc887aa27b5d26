"""The size of a frame as a setting: 256 for a square, "480x832" for height x width in pixels.

Settings, records and data sources hold a `Size`; code that needs both sides parses it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

Size = int | str  # 256, or "480x832" where the sides differ


class FrameSize(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"


def parse(text: Size, key: str = "size") -> FrameSize:
    """Parse "256", 256 or "480x832".

    Raises:
        ValueError: the text has another form or a side below 1; the message names the setting `key`
    """
    match = re.fullmatch(r"\s*(\d+)(?:\s*x\s*(\d+))?\s*", str(text), re.IGNORECASE)
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if height < 1 or width < 1:
        raise ValueError(
            f"{key}={text!r} should be a side such as 256, or height x width such as 480x832, in pixels of at least 1"
        )
    return FrameSize(height, width)


def plain(text: Size, key: str = "size") -> Size:
    """The one form of a size: 256 for "256" and "256x256", "480x832" for " 480X832 ".

    Raises:
        ValueError: as `parse`
    """
    size = parse(text, key)
    return size.height if size.height == size.width else str(size)


def side(size: Size, why: str) -> int:
    """The side of a square.

    Raises:
        ValueError: the sides differ; `why` says what needs a square
    """
    height, width = parse(size)
    if height != width:
        raise ValueError(f"size={size}: {why}; give one side, such as size={min(height, width)}")
    return height

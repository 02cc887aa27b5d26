"""The size of a frame as text: 256 for a square, 480x832 for height x width in pixels."""

from __future__ import annotations

import re
from typing import NamedTuple


class FrameSize(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"


def parse(text: str | int, key: str = "size") -> FrameSize:
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

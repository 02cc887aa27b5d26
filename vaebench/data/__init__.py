"""A source of clips: one module `vaebench/data/<name>.py` with `build(config) -> VideoSource`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vaebench.video import Clip


class VideoSource(Protocol):
    """Iterating lists clips in a stable order and decodes nothing.

    `identity` names the source and hashes what decides its pixels ("name", "sha256", "clips"), for record and fingerprint;
    copies of the same files have the same.  `Clip.stamp` tells a file that was changed in place: it is in the fingerprint alone.
    Clips are `num_frames` frames at native rate from their start frame, short side resized to `size` (antialiased),
    centre-cropped: uint8 (3, num_frames, size, size).  `load()` raises ValueError or OSError naming file and reason.
    """

    identity: dict[str, str]

    def __iter__(self) -> Iterator[Clip]: ...

"""The data sources: one module each, with `build(config) -> VideoSource`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vaebench.video import Clip


class VideoSource(Protocol):
    """Iterating lists clips in a stable order and decodes nothing.

    `identity` has the name of the source and a hash of what determines its pixels ("name", "sha256", "clips"), for the record
    and the fingerprint; copies of the same files have the same.  `Clip.stamp` detects a file that was changed in place and is
    only part of the fingerprint.  Clips are `num_frames` frames at native rate from their start frame, resized as the protocol
    says to cover `size`, centre-cropped: uint8 (3, num_frames, height, width), or float32 in 0..1.  `load()` raises ValueError or
    OSError naming the file and the reason.
    """

    @property
    def identity(self) -> dict[str, str]: ...

    def __iter__(self) -> Iterator[Clip]: ...


@dataclass(frozen=True)
class ListedSource:
    """A source whose clips were listed once, for all VAEs."""

    identity: dict[str, str]
    clips: list[Clip]

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)


def list_clips(source: VideoSource, name: str) -> ListedSource:
    """The source called `name`, its clips listed.

    Raises:
        ValueError: there is no clip, or clips share an id, by which their results are stored
    """
    clips = list(source)
    if not clips:
        raise ValueError(f"data={name} has no clips; see `vaebench list data` for what each source reads")
    repeated, times = Counter(clip.id for clip in clips).most_common(1)[0]
    if times > 1:
        raise ValueError(f"data={name}: {times} clips have the id {repeated!r}; give each clip another name")
    return ListedSource(source.identity, clips)

"""The data sources: one module each, with `build(config) -> VideoSource`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vaebench.video import Clip


class VideoSource(Protocol):
    """Iteration lists the clips in a fixed order, without decoding them.

    `identity` is the name of the source and a hash of everything that determines its pixels ("name", "sha256", "clips"), for the
    record and the fingerprint; copies of the same files have the same identity.  `Clip.stamp` detects files that were changed in
    place; it is part of the fingerprint only.

    A clip has `num_frames` consecutive frames from its start frame, resized by the filter of the protocol to cover `size` and
    centre-cropped: uint8 (3, num_frames, height, width), or float32 in 0..1.  `Clip.load` raises ValueError or OSError with the
    name of the file and the reason.
    """

    @property
    def identity(self) -> dict[str, str]: ...

    def __iter__(self) -> Iterator[Clip]: ...


@dataclass(frozen=True)
class ListedSource:
    """A source with a fixed list of clips."""

    identity: dict[str, str]
    clips: list[Clip]

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)


def list_clips(source: VideoSource, name: str) -> ListedSource:
    """List the clips of the source called `name` once, for all VAEs.

    Raises:
        ValueError: the source has no clips, or two clips with the same id (results are stored by id)
    """
    clips = list(source)
    if not clips:
        raise ValueError(f"data={name} has no clips; see `vaebench list data` for what each source reads")
    repeated, times = Counter(clip.id for clip in clips).most_common(1)[0]
    if times > 1:
        raise ValueError(f"data={name}: {times} clips have the id {repeated!r}; give each clip another name")
    return ListedSource(source.identity, clips)

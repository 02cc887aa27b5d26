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

    `identity` names the source and hashes what decides its pixels ("name", "sha256", "clips"), for record and fingerprint;
    copies of the same files have the same.  `Clip.stamp` tells a file that was changed in place: it is in the fingerprint alone.
    Clips are `num_frames` frames at native rate from their start frame, short side resized to `size` (antialiased),
    centre-cropped: uint8 (3, num_frames, size, size).  `load()` raises ValueError or OSError naming file and reason.
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
        raise ValueError(f"data={name} has no clip there; `vaebench list data` says what each source reads")
    twice, times = Counter(clip.id for clip in clips).most_common(1)[0]
    if times > 1:
        raise ValueError(f"data={name}: {times} clips are called {twice!r}; give each a name of its own")
    return ListedSource(source.identity, clips)

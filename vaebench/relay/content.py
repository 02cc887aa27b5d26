"""What a window shows behind its carried frames.  A suite for VAEs has no generator, so both rules are proxies of one.

    copy     the last carried frame, repeated: nothing but the accumulated error, the worst case
    teacher  the true video, plus the low frequencies of the error of the last carried frame: colour drifts, detail does not

The timeline of a relay is what a lossless one would show.  Where it is longer than the source clip, `copy` repeats the last frame,
and `teacher` plays the clip backwards and forwards in turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vaebench.relay.pixels import low_frequencies

if TYPE_CHECKING:
    from vaebench.relay.protocols import Content, Relay
    from vaebench.video import Video


class Timeline:
    """The video of a lossless relay, as long as needed.

    Args:
        source: float (1, 3, T, H, W) in -1..1
    """

    def __init__(self, source: Video, relay: Relay, content: Content) -> None:
        self.source = source[:, :, :1] if relay.handover.still else source
        self.relay = relay
        self.content: Content = "copy" if relay.handover.still else content
        self._last: tuple[list[int], Video] | None = None

    def frames(self, start: int, count: int) -> Video:
        """Frames `start` <= t < `start + count`, (1, 3, count, H, W); the same tensor if the last call had the same frames."""
        indices = [self._index(t) for t in range(start, start + count)]
        if self._last is None or self._last[0] != indices:
            self._last = indices, self.source[:, :, indices]
        return self._last[1]

    def _index(self, t: int) -> int:
        last = self.source.shape[2] - 1
        if self.content == "copy":
            return min(t, self.relay.window - 1, last)
        return last - abs(last - t % (2 * last)) if last else 0

    def window(self, number: int) -> Video:
        """The window `number` (from 0) of a lossless relay, (1, 3, W, H, W)."""
        return self.frames(number * self.relay.step, self.relay.window)

    def carried(self, number: int) -> Video:
        """What window `number` (from 0) hands over in a lossless relay, (1, 3, K, H, W)."""
        return self.frames((number + 1) * self.relay.step, self.relay.overlap)

    def continued(self, carried: Video, number: int) -> Video:
        """The window `number` (from 1) that begins with `carried` (1, 3, K, H, W), by the rule of the content."""
        rest = self.relay.step
        if not rest:
            return carried
        last = carried[:, :, -1:]
        if self.content == "copy":
            return torch.cat([carried, last.expand(-1, -1, rest, -1, -1)], dim=2)
        error = last - self.carried(number - 1)[:, :, -1:]
        true = self.window(number)[:, :, self.relay.overlap :]
        return torch.cat([carried, (true + low_frequencies(error)).clamp(-1, 1)], dim=2)

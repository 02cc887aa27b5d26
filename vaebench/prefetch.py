"""Decodes the next clips in threads while the device computes, and caches decoded clips for the next VAE.

Clips that a suite streams (`Case.streamed`) are not decoded as a whole: their next frames are decoded in a thread.

Threads suffice: decoders and resizing release the interpreter lock, and threads need no copies and no fork.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from vaebench.distributed import cores

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.suite import Case
    from vaebench.video import Clip

    Prepare = Callable[[Case, Tensor], Any]

AHEAD = 4  # fewest cases decoded ahead of the device, if memory allows
MOST_THREADS = 16
PIECES_AHEAD = 32  # pieces of a streamed clip decoded ahead of the device; files have one frame in a piece
AHEAD_BYTES = 1 << 30  # largest size of the decoded clips that wait for the device
DECODED_BYTES = 1 << 29  # size of the cache of decoded clips: 80 clips of 33x256x256


class Prefetch:
    """A pool of decoding threads, one per core of this process, and a cache of decoded clips.  Use it in a `with` block.

    Args:
        device: of the computation; for a GPU, clips are decoded into pinned memory, so that they are copied to it while it computes
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.pins = device is not None and device.type == "cuda"
        self.workers = min(MOST_THREADS, cores())
        self.pool = _pool(self.workers)
        self.reader = _pool(1)  # of the clip that is streamed: its pieces come in order
        self.threads = torch.get_num_threads()
        self.clips: dict[Clip, Tensor] = {}  # not by id: another resize of the same clip has other pixels
        self.bytes = 0
        self.largest = 0  # bytes of the largest decoded clip
        self.lock = Lock()

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self.pool, self.reader):
            pool.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(self.threads)  # restores the default for threads that start later

    def decoded(self, cases: Sequence[Case], prepare: Prepare | None = None) -> Iterator[Case]:
        """Yield the cases in order; `load()` of the clip returns the result of a thread, or raises its error.

        Args:
            prepare: called in the thread with the case and the decoded frames; its result is `Case.prepared`
        """
        waiting: deque[Case] = deque()
        upcoming = iter(cases)

        def fill(least: int = 0) -> None:
            while len(waiting) < max(least, self.ahead()) and (case := next(upcoming, None)) is not None:
                waiting.append(self._started(case, prepare))

        def following(count: int) -> list[Case]:
            fill(count)
            return list(islice(waiting, count))

        while True:
            fill()
            if not waiting:
                return
            yield replace(waiting.popleft(), following=following)

    def ahead(self) -> int:
        """The number of cases to decode ahead: one per thread and at least AHEAD, fewer if their clips are large."""
        if not self.largest:
            return AHEAD
        return max(1, min(max(AHEAD, self.workers), AHEAD_BYTES // self.largest))

    def _started(self, case: Case, prepare: Prepare | None) -> Case:
        """`case` with the frames of a thread, and without results of another VAE; both live as long as it is measured."""
        clip = case.clip
        if clip and not (case.streamed and clip.stream):
            result = self.pool.submit(self._decode, case, prepare)
            clip = replace(clip, load=lambda: result.result()[0])
            return replace(case, clip=clip, prepared=lambda: result.result()[1], shared={})
        if clip and clip.stream:
            clip = replace(clip, stream=partial(self._ahead, clip.stream))
        return replace(case, clip=clip, shared={})

    def _decode(self, case: Case, prepare: Prepare | None) -> tuple[Tensor, Any]:
        frames = self._load(case)
        return frames, prepare(case, frames) if prepare else None

    def _ahead(self, stream: Callable[[], Iterator[Tensor]]) -> Iterator[Tensor]:
        """The pieces of `stream()`, decoded in a thread, at most `PIECES_AHEAD` early; its errors are raised here."""
        pieces = stream()
        waiting = deque(self.reader.submit(next, pieces, None) for _ in range(PIECES_AHEAD))
        try:
            while (piece := waiting.popleft().result()) is not None:
                waiting.append(self.reader.submit(next, pieces, None))
                yield piece
        finally:
            for future in waiting:
                future.cancel()

    def _load(self, case: Case) -> Tensor:
        assert case.clip is not None
        if case.clip in self.clips:
            return self.clips[case.clip]
        frames = case.clip.load()
        if self.pins:
            frames = frames.pin_memory()
        with self.lock:
            self.largest = max(self.largest, frames.nbytes)
            if case.clip not in self.clips and self.bytes + frames.nbytes <= DECODED_BYTES:
                self.clips[case.clip] = frames
                self.bytes += frames.nbytes
        return frames


def _pool(threads: int) -> ThreadPoolExecutor:
    # OpenMP starts a team per thread: with more than one thread each, they slow the model down by 20 %
    return ThreadPoolExecutor(threads, "decode", initializer=torch.set_num_threads, initargs=(1,))

"""Decodes the next clips in threads while the device computes, and caches decoded clips for the next VAE.

Clips that a suite streams (`Case.streamed`) are not decoded as a whole: their next frames are decoded in a thread.

Threads suffice: decoders and resizing release the interpreter lock, and threads need no copies and no fork.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.suite import Case
    from vaebench.video import Clip

AHEAD = 4  # cases decoded ahead of the device
PIECES_AHEAD = 32  # pieces of a streamed clip decoded ahead of the device; files have one frame in a piece
DECODED_BYTES = 1 << 29  # size of the cache of decoded clips: 80 clips of 33x256x256


class Prefetch:
    """A pool of decoding threads and a cache of decoded clips.  Use it in a `with` block."""

    def __init__(self) -> None:
        self.pool = _pool(min(AHEAD, os.cpu_count() or 1))
        self.reader = _pool(1)  # of the clip that is streamed: its pieces come in order
        self.threads = torch.get_num_threads()
        self.clips: dict[Clip, Tensor] = {}  # not by id: another resize of the same clip has other pixels
        self.bytes = 0

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self.pool, self.reader):
            pool.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(self.threads)  # restores the default for threads that start later

    def decoded(self, cases: Sequence[Case]) -> Iterator[Case]:
        """Yield the cases in order; `load()` of the clip returns the result of a thread, or raises its error."""
        waiting: deque[tuple[Case, Future[Tensor] | None]] = deque()
        upcoming = iter(cases)
        while True:
            while len(waiting) < AHEAD:
                case = next(upcoming, None)
                if case is None:
                    break
                whole = case.clip and not (case.streamed and case.clip.stream)
                waiting.append((case, self.pool.submit(self._load, case) if whole else None))
            if not waiting:
                return
            case, frames = waiting.popleft()
            clip = case.clip
            if clip and frames:
                clip = replace(clip, load=frames.result)
            elif clip and clip.stream:
                clip = replace(clip, stream=partial(self._ahead, clip.stream))
            yield replace(case, clip=clip, shared={})  # lives as long as this case is measured

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
        if self.bytes + frames.nbytes <= DECODED_BYTES:
            self.clips[case.clip] = frames
            self.bytes += frames.nbytes
        return frames


def _pool(threads: int) -> ThreadPoolExecutor:
    # OpenMP starts a team per thread: with more than one thread each, they slow the model down by 20 %
    return ThreadPoolExecutor(threads, "decode", initializer=torch.set_num_threads, initargs=(1,))

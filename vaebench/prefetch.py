"""Decodes the next clips in threads while the device computes, and keeps them for the next VAE while they fit.

Threads, not processes: decoders and resizing release the interpreter's lock, and nothing has to be copied or forked.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.suite import Case

AHEAD = 4  # cases decoded ahead of the device
DECODED_BYTES = 1 << 29  # decoded clips kept for the next VAE: 80 clips of 33x256x256


class Prefetch:
    """A pool of decoding threads, and the clips that were decoded.  Use it in a `with` block."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(
            max_workers=min(AHEAD, os.cpu_count() or 1),
            thread_name_prefix="decode",
            # OpenMP gives every thread a team of its own: with more than one each, they slow the model by a fifth
            initializer=torch.set_num_threads,
            initargs=(1,),
        )
        self.threads = torch.get_num_threads()
        self.clips: dict[str, Tensor] = {}
        self.bytes = 0

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(self.threads)  # threads that are born from now on begin with this number

    def decoded(self, cases: Sequence[Case]) -> Iterator[Case]:
        """The cases in order, each with a clip whose `load()` is already under way, or has already failed."""
        waiting: deque[tuple[Case, Future[Tensor] | None]] = deque()
        upcoming = iter(cases)
        while True:
            while len(waiting) < AHEAD:
                case = next(upcoming, None)
                if case is None:
                    break
                waiting.append((case, self.pool.submit(self._load, case) if case.clip else None))
            if not waiting:
                return
            case, frames = waiting.popleft()
            clip = replace(case.clip, load=frames.result) if frames and case.clip else case.clip
            yield replace(case, clip=clip)

    def _load(self, case: Case) -> Tensor:
        assert case.clip is not None
        if case.clip.id in self.clips:
            return self.clips[case.clip.id]
        frames = case.clip.load()
        if self.bytes + frames.nbytes <= DECODED_BYTES:
            self.clips[case.clip.id] = frames
            self.bytes += frames.nbytes
        return frames

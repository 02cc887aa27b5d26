"""Runs the second half of each measurement, such as scoring, in a thread while the device computes the next case.

On a GPU the thread has a CUDA stream of its own, so that both halves share the device.  On a CPU the second half runs at once in
the calling thread: both halves would compete for the same cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from types import TracebackType
from typing import Protocol

import torch

Work = Callable[[float], None]  # its argument: when the work before it ended, in seconds of `perf_counter`


class Lane(Protocol):
    """Where the second half runs: a point in the work of the device, and a call that starts there."""

    def mark(self) -> object:
        """The point that the device has reached when it has done all work that the calling thread gave it so far."""
        ...

    def run(self, work: Callable[[], None], mark: object) -> None:
        """Run `work` after `mark`, and wait until the device has done what it started."""
        ...


class CudaLane:
    """A CUDA stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        return event

    def run(self, work: Callable[[], None], mark: object) -> None:
        assert isinstance(mark, torch.cuda.Event)
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            self.stream.wait_event(mark)
            try:
                work()
            finally:
                # `work` reads tensors of the other stream: it holds them until here, so their memory is not reused before
                self.stream.synchronize()


class Overlap:
    """One thread that finishes measurements in order, at most `depth` at a time.  Use it in a `with` block.

    The block ends when all work has ended, also after an error or Ctrl-C, so that what was computed is stored.  After an error
    in the thread, no further work starts; `submit` or the end of the block raises the error.

    Args:
        lane: None runs each piece of work at once in the calling thread
        depth: pieces of work that may be unfinished; each holds the tensors of one case
    """

    def __init__(self, lane: Lane | None, depth: int = 1) -> None:
        self.lane, self.depth = lane, depth
        self.pool = None if lane is None else ThreadPoolExecutor(max_workers=1, thread_name_prefix="score")
        self.pending: deque[Future[None]] = deque()
        self.ended = 0.0  # when the last piece of work ended
        self.error: BaseException | None = None

    @property
    def splits(self) -> bool:
        """Whether work runs in the thread, so that the first half of each measurement has to be run before it is submitted."""
        return self.lane is not None

    def submit(self, work: Work) -> None:
        """Run `work` after the work before it, and after what the device has been given so far.

        Waits while `depth` pieces of work are unfinished.
        """
        if self.pool is None or self.lane is None:
            self._run(work)
            return
        mark = self.lane.mark()
        self._wait(self.depth - 1)
        self.pending.append(self.pool.submit(self.lane.run, lambda: self._run(work), mark))

    def _run(self, work: Work) -> None:
        if self.error is not None:
            return
        try:
            work(self.ended)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended = perf_counter()

    def _wait(self, unfinished: int) -> None:
        while len(self.pending) > unfinished:
            self.pending.popleft().result()

    def __enter__(self) -> Overlap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait(0)
        except BaseException:
            if error is None:  # else the first error goes on
                raise
        finally:
            if self.pool is not None:
                self.pool.shutdown(wait=False, cancel_futures=True)


def overlap_of(device: torch.device) -> Overlap:
    """Overlap on a GPU; on a CPU, work runs at once."""
    return Overlap(CudaLane(device) if device.type == "cuda" and not _tf32() else None)


def _tf32() -> bool:
    """Whether TF32 is on: metrics turn it off for their networks, for all threads, which would change the other half."""
    return torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32

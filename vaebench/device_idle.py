"""The share of a run during which the GPU executed nothing, measured over a few of its cases.

CUPTI, which is part of PyTorch, reports when each kernel and each copy of this process ran, in all threads and streams.  Time in
which none of them ran is idle: the GPU waited for decoding, for the codec of a protocol, or for Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Protocol, TypeVar

import torch

from vaebench.timing import synchronize

WARM = 1  # cases before the measurement, unless there are no others
CASES = 8  # cases in the measurement, at most
MOST_SECONDS = 30.0  # after which the measurement ends with the current case: a long profile would fill the memory
Interval = tuple[float, float]  # start and end, in seconds
T = TypeVar("T")


@dataclass(frozen=True)
class Idle:
    """How long the device executed nothing while some cases were measured."""

    share: float  # of the time, from 0 to 1
    seconds: float  # how long the measurement took
    cases: int  # or steps of one case (`StepMeter`)


class Profiler(Protocol):
    """Records when the device executes something."""

    def start(self) -> None: ...

    def stop(self) -> list[Interval]:
        """The times of all kernels and copies since `start`, in any order; they may overlap."""
        ...


class Cupti:
    """The kernels and copies of this process, from torch.profiler."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])

    def start(self) -> None:
        synchronize(self.device)
        self.profile.start()

    def stop(self) -> list[Interval]:
        synchronize(self.device)
        self.profile.stop()
        return [
            (event.time_range.start / 1e6, event.time_range.end / 1e6)
            for event in self.profile.events() or ()
            if event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False)
        ]


class IdleMeter:
    """Measures the idle share of a device while cases are computed.  Use it in a `with` block.

    `result` is set by the end of the block; it stays None on a CPU, and if the profiler recorded nothing.

    Args:
        profiler: None measures nothing
        total: number of cases that will be computed
        clock: seconds, for tests
    """

    def __init__(self, profiler: Profiler | None, total: int, clock: Callable[[], float] = perf_counter) -> None:
        self.profiler, self.clock = profiler, clock
        self.first = min(WARM, total - 1)
        self.done = 0  # cases that were started before the current one
        self.start = 0.0
        self.started = False
        self.running = False
        self.result: Idle | None = None

    def next_case(self, *, begins: bool = True) -> None:
        """Call before each case.

        Args:
            begins: False for a case whose results come from the computation of a case before it, such as a clip of its batch:
                the measurement neither starts nor ends there
        """
        enough = self.done >= self.first + CASES or self.clock() - self.start > MOST_SECONDS
        if begins and self.running and enough:
            self._stop()
        if begins and self.profiler is not None and not self.started and self.done >= self.first:
            self.profiler.start()
            self.start, self.running, self.started = self.clock(), True, True
            self.first = self.done
        self.done += 1

    def _stop(self) -> None:
        assert self.profiler is not None
        self.running = False
        busy = self.profiler.stop()
        seconds = self.clock() - self.start
        if busy and seconds > 0:  # nothing is recorded where CUPTI is not permitted
            self.result = Idle(max(0.0, 1 - union_seconds(busy) / seconds), seconds, self.done - self.first)

    def __enter__(self) -> IdleMeter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self._stop()


class StepMeter(IdleMeter):
    """An `IdleMeter` for suites whose cases are timed or take hours: the suite names steps once, and the cases do not count.

    Args:
        profiler: None measures nothing
        clock: seconds, for tests
    """

    def __init__(self, profiler: Profiler | None, clock: Callable[[], float] = perf_counter) -> None:
        super().__init__(profiler, 0, clock)
        self.waits = profiler is not None  # whether `steps` will be measured

    def next_case(self, *, begins: bool = True) -> None:
        """Nothing: a case is not what is measured."""

    def steps(self, steps: Iterable[T], total: int) -> Iterator[T]:
        """Yield the steps, and measure what they and their consumer compute, over as many of them as `IdleMeter` over cases.

        Args:
            total: number of steps
        """
        if not (self.waits and total):
            yield from steps
            return
        self.waits, self.first = False, min(WARM, total - 1)
        super().next_case()
        for number, step in enumerate(steps, 1):
            yield step
            if number < total:
                super().next_case()
        if self.running:
            self._stop()


def profiler_of(device: torch.device | None) -> Profiler | None:
    """The profiler of a GPU; None on a CPU, and without a device."""
    return Cupti(device) if device is not None and device.type == "cuda" else None


def union_seconds(intervals: Iterable[Interval]) -> float:
    """The length of the union of intervals.

    >>> union_seconds([(3.0, 4.0), (0.0, 1.0), (0.5, 2.0)])
    3.0
    """
    total, end = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        if stop > end:
            total += stop - max(start, end)
            end = stop
    return total

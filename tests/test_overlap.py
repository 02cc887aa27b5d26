"""The second half of a measurement in a thread: order, bounds, errors and times, with a fake device."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from vaebench.overlap import Overlap, overlap_of


class FakeLane:
    """A lane that records which mark each piece of work waited for, and in which thread it ran."""

    def __init__(self) -> None:
        self.marks = 0
        self.seen: list[tuple[object, str]] = []

    def mark(self) -> int:
        self.marks += 1
        return self.marks

    def run(self, work: Callable[[], None], mark: object) -> None:
        self.seen.append((mark, threading.current_thread().name.partition("_")[0]))
        work()


def test_work_runs_in_order_in_one_thread_after_its_mark() -> None:
    lane, done = FakeLane(), list[int]()
    with Overlap(lane) as overlap:
        for k in range(5):
            overlap.submit(lambda _, k=k: done.append(k))
    assert done == [0, 1, 2, 3, 4]
    assert lane.seen == [(k, "score") for k in (1, 2, 3, 4, 5)]


def test_the_next_case_is_computed_while_the_last_one_is_scored() -> None:
    computed = threading.Event()
    with Overlap(FakeLane()) as overlap:
        overlap.submit(lambda _: None if computed.wait(20) else pytest.fail("the work was not run in another thread"))
        computed.set()


def test_at_most_depth_pieces_are_unfinished() -> None:
    two, release = threading.Event(), threading.Event()
    submitted: list[int] = []

    def feed() -> None:
        with Overlap(FakeLane(), depth=2) as overlap:
            for k in range(3):
                overlap.submit(lambda _: None if release.wait(20) else pytest.fail("never released"))
                submitted.append(k)
                if len(submitted) == 2:
                    two.set()

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert two.wait(20)
    feeder.join(0.1)  # time for a third submission, which would be wrong
    assert submitted == [0, 1]
    release.set()
    feeder.join(20)
    assert submitted == [0, 1, 2]


def test_without_a_lane_work_runs_at_once_in_the_calling_thread() -> None:
    names: list[str] = []
    with Overlap(None) as overlap:
        overlap.submit(lambda _: names.append(threading.current_thread().name))
        assert names == [threading.current_thread().name]
    assert overlap_of(torch.device("cpu")).lane is None


@pytest.mark.parametrize("lane", [None, FakeLane()], ids=["at once", "thread"])
def test_an_error_ends_the_work_and_is_raised(lane: FakeLane | None) -> None:
    done: list[str] = []

    def broken(_: float) -> None:
        raise OSError("the disk is full")

    def feed() -> None:
        with Overlap(lane) as overlap:
            overlap.submit(lambda _: done.append("first"))
            overlap.submit(broken)
            overlap.submit(lambda _: done.append("third"))

    with pytest.raises(OSError, match="the disk is full"):
        feed()
    assert done == ["first"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_computed_is_finished_after_an_error_of_the_caller(error: type[BaseException]) -> None:
    done: list[str] = []

    def feed() -> None:
        with Overlap(FakeLane()) as overlap:
            overlap.submit(lambda _: done.append("first"))
            raise error

    with pytest.raises(error):
        feed()
    assert done == ["first"]


def test_the_error_of_the_caller_hides_a_later_one() -> None:
    def broken(_: float) -> None:
        raise OSError("the disk is full")

    def feed() -> None:
        with Overlap(FakeLane()) as overlap:
            overlap.submit(broken)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feed()


def test_work_knows_when_the_work_before_it_ended() -> None:
    previous: list[float] = []
    overlap = Overlap(FakeLane())
    with overlap:
        overlap.submit(previous.append)
        overlap.submit(previous.append)
    assert previous[0] == 0.0
    assert 0.0 < previous[1] <= overlap.ended


@pytest.mark.gpu
def test_scoring_on_a_stream_of_its_own_reads_what_was_computed() -> None:
    """The memory of each tensor is freed and used again at once by the computing stream; no score may see the new content."""
    device = torch.device("cuda")
    sums: list[float] = []

    def score(tensor: torch.Tensor, _: float) -> None:
        torch.cuda._sleep(50_000_000)  # the scoring stream is late
        sums.append(float(tensor.double().sum()))

    with overlap_of(device) as overlap:
        for k in range(8):
            tensor = torch.full((1 << 22,), float(k), device=device)
            for _ in range(20):
                tensor = tensor.add(1).sub(1)
            overlap.submit(lambda previous, tensor=tensor: score(tensor, previous))
            del tensor
    assert sums == [k * float(1 << 22) for k in range(8)]


@pytest.mark.gpu
def test_the_computing_stream_does_not_wait_for_the_scoring_stream() -> None:
    device = torch.device("cuda")
    ends: list[torch.cuda.Event] = []
    queued = threading.Event()

    def score(_: float) -> None:
        torch.cuda._sleep(4_000_000_000)  # seconds
        ends.append(torch.cuda.Event())
        ends[0].record()
        queued.set()

    with overlap_of(device) as overlap:
        overlap.submit(score)
        assert queued.wait(20)
        end = torch.cuda.Event()
        torch.ones(8, device=device).add(1)
        end.record()
        end.synchronize()
        assert not ends[0].query()

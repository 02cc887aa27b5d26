"""Memory that is freed in a loop goes back to the system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from resource import getpagesize

import pytest

from tests.test_streaming import clip_of, frames_of, statistics
from vaebench import allocator
from vaebench.allocator import freed_memory_returned_between, is_glibc

glibc = pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


@glibc
def test_free_blocks_between_others_return_to_the_system() -> None:
    size, count = 60_000, 2000  # below the size that gets pages of its own
    blocks: dict[int, bytearray] = {number: bytearray(size) for number in range(count)}

    def steps() -> Iterator[str]:
        yield "full"
        yield "after"

    resident = {}
    for step in freed_memory_returned_between(steps()):
        resident[step] = resident_bytes()
        if step == "full":
            for number in range(count):
                if number % 20:
                    del blocks[number]
    assert resident["full"] - resident["after"] > size * count / 2
    assert len(blocks) == count // 20


@glibc
def test_a_streamed_clip_returns_memory_after_each_window(monkeypatch: pytest.MonkeyPatch) -> None:
    from adapters import wfvae

    calls: list[int] = []

    class Counting:
        malloc_trim = calls.append

    monkeypatch.setattr(allocator, "_glibc", Counting)
    frames = frames_of(33, 16, 16)
    statistics(wfvae.tiny(mode="streamed"), clip_of(frames), 33)
    assert calls == [0, 0, 0]  # windows of 16, 16 and 1 frames

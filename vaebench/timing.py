"""How long a block takes and how much memory it uses.  The device is synchronized on both sides of the clock."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.allocator import freed_memory_returned, is_glibc

if TYPE_CHECKING:
    import torch


@dataclass
class Elapsed:
    seconds: float = float("nan")  # set when the block ends


@dataclass
class Peak:
    total_bytes: int = 0  # the highest use inside the block
    above_bytes: int = 0  # the same, minus what was in use when the block began


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work; nothing to do on a CPU."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def stopwatch(device: torch.device) -> Iterator[Elapsed]:
    """The wall time of the block in seconds; the device has no pending work when the clock starts and stops."""
    elapsed = Elapsed()
    synchronize(device)
    start = time.perf_counter()
    yield elapsed
    synchronize(device)
    elapsed.seconds = time.perf_counter() - start


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the machine has no more memory."""
    import torch

    message = str(error)
    known = (
        "can't allocate memory",
        "out of memory",
        "could not create a memory object",
        "could not create a primitive",
    )
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or any(words in message for words in known)


def free_bytes(device: torch.device) -> int:
    """The memory of a GPU that tensors can still take in this process: what is free, and what its allocator keeps unused."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free: int = torch.cuda.mem_get_info(device)[0]
    return free + kept


def memory_is_known(device: torch.device) -> bool:
    """Whether `peak_memory` measures the memory in use: on a GPU, and on a CPU whose C library is glibc."""
    return device.type == "cuda" or is_glibc()


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """The peak memory of the block in bytes: of the CUDA allocator on a GPU, of the resident set on a CPU.

    On a CPU the kernel's peak is reset first (Linux).  Where it cannot be reset, only a new process measures the block alone.
    Page faults make the block slow on a CPU: take its time in another run.
    """
    import torch

    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.total_bytes = torch.cuda.max_memory_allocated(device)
    else:
        with freed_memory_returned():
            _reset_resident_peak()
            before = resident_bytes()
            yield peak
            peak.total_bytes = resident_peak_bytes()
    peak.above_bytes = max(0, peak.total_bytes - before)


def _reset_resident_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def resident_bytes() -> int:
    import psutil

    used: int = psutil.Process().memory_info().rss
    return used


def resident_peak_bytes() -> int:
    """The peak of the resident set in bytes, since the process started or since the last reset."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

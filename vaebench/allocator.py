"""The thresholds of glibc's malloc: freed memory is kept for the next allocation, or returned to the system at once.

Kept memory makes allocations fast, but then the resident set of the process includes memory that is not in use.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from mmap import PAGESIZE
from typing import TypeVar

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # parameters of mallopt, from glibc's malloc.h
DONTNEED = 4  # advice of madvise: release the pages; MADV_DONTNEED of Linux
RETURN = 1 << 16  # bytes; blocks of this size and more are returned when they are freed
# glibc raises its threshold with the blocks that a program frees, up to this size, until mallopt is called for the first time.
# mallopt ends that for the rest of the process, so this limit is restored and not the initial 128 KiB.
KEEP = 1 << 25
T = TypeVar("T")


@contextmanager
def freed_memory_returned() -> Iterator[bool]:
    """Return large blocks to the system as soon as they are freed, so that the resident set equals the memory in use.

    Page faults make allocations slow inside the block; after it, freed memory is kept again.

    Yields:
        False if the C library is not glibc; nothing is changed then
    """
    libc = _glibc()
    if libc is None:
        yield False
        return
    _set_thresholds(libc, RETURN, RETURN)
    holes = _fill_holes(libc)
    try:
        yield True
    finally:
        _set_thresholds(libc, KEEP, 2 * KEEP)  # the ratio that glibc keeps
        for address in holes:
            libc.free(address)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep all freed memory for the next allocation, so that the steps of a loop cause no page faults after the first one.

    By default glibc returns the end of its heap to the system when more than 64 MiB of it are free, and a training step allocates
    and frees all its gradients.  Kept memory is returned when the block ends.  Other C libraries are left as they are.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    _set_thresholds(libc, KEEP, -1)  # -1: never
    try:
        yield
    finally:
        _set_thresholds(libc, KEEP, 2 * KEEP)
        libc.malloc_trim(0)


def freed_memory_returned_between(items: Iterable[T]) -> Iterator[T]:
    """Yield the items; when the next one is asked for, memory that was freed until then goes back to the system.

    A loop over a long video allocates blocks of many sizes, and the heap would grow with the number of its steps, because free
    blocks between others are not always of a size that the next step needs.  Other C libraries are left as they are.
    """
    libc = _glibc()
    for item in items:
        yield item
        del item  # so that it can be freed, too
        if libc is not None:
            libc.malloc_trim(0)


def is_glibc() -> bool:
    """Whether the C library is glibc, whose allocator can return freed memory."""
    return _glibc() is not None


def _fill_holes(libc: ctypes.CDLL) -> list[int]:
    """Allocate the free parts of the heap that could hold a large block, and return their pages; gives the addresses.

    A block in the heap leaves its pages resident when it is freed.  With the holes filled, every large block gets pages of its
    own, whatever the process allocated before.  Smaller holes keep their pages: small blocks that reuse them take no new memory.
    """
    addresses: list[int] = []
    size = KEEP
    while size >= RETURN:
        address = libc.malloc(size)
        if address and not _has_own_pages(address):
            addresses.append(address)
            first, last = -(-address // PAGESIZE) * PAGESIZE, (address + size) // PAGESIZE * PAGESIZE
            libc.madvise(first, last - first, DONTNEED)
        else:
            libc.free(address)
            size //= 2
    return addresses


def _has_own_pages(address: int) -> bool:
    """Whether mmap gave the block its pages: the second bit of the size before it (IS_MMAPPED in glibc's malloc.c)."""
    return bool(ctypes.c_size_t.from_address(address - ctypes.sizeof(ctypes.c_size_t)).value & 2)


def _set_thresholds(libc: ctypes.CDLL, mmap: int, trim: int) -> None:
    libc.mallopt(MMAP_THRESHOLD, mmap)
    libc.mallopt(TRIM_THRESHOLD, trim)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
        libc.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
        libc.malloc_trim.argtypes = [ctypes.c_size_t]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    except (OSError, AttributeError):
        return None
    return libc

"""The order of training data.  It depends on the step only, so a resumed run sees the same clips as an uninterrupted one.

A data set is an object with `data[index] -> Sample` for any index >= 0.  The sample depends on the index and the seed of the data
set only.  Step `n` of a run with `world` processes uses the indices

    n * world * batch  ...  (n + 1) * world * batch - 1

and each process uses `batch` of them: two processes with 4 clips each train on the same clips as one process with 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


@dataclass(frozen=True)
class Sample:
    """A clip, float32 (3, T, H, W) in -1..1, and the errors of the files that were tried before it and could not be read."""

    video: Tensor
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Clips, float32 (B, 3, T, H, W) in -1..1, their indices, and the errors of the files that could not be read."""

    video: Tensor
    indices: tuple[int, ...]
    failed: tuple[str, ...] = ()

    def pin_memory(self) -> Batch:
        return Batch(self.video.pin_memory(), self.indices, self.failed)


class Clips(Protocol):
    """An endless data set: every index >= 0 has one sample, which never changes."""

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Order(Sampler[list[int]]):
    """The indices of each batch of this process, starting at micro-batch `start`."""

    batch: int
    rank: int
    world: int
    start: int

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start
        while True:
            first = (step * self.world + self.rank) * self.batch
            yield list(range(first, first + self.batch))
            step += 1


class _Indexed(Dataset[tuple[int, Sample]]):
    def __init__(self, clips: Clips) -> None:
        self.clips = clips

    def __getitem__(self, index: int) -> tuple[int, Sample]:
        return index, self.clips[index]


def collate(samples: list[tuple[int, Sample]]) -> Batch:
    """Stacks samples to a batch.

    Raises:
        ValueError: the clips have different shapes
    """
    shapes = {tuple(sample.video.shape) for _, sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"all clips of a batch should have the same shape, got {sorted(shapes)}")
    failed = tuple(name for _, sample in samples for name in sample.failed)
    return Batch(torch.stack([s.video for _, s in samples]), tuple(i for i, _ in samples), failed)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def batches(
    clips: Clips,
    batch: int,
    *,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """Yields an endless sequence of the batches of one process.

    Args:
        clips: the data set
        batch: clips per batch and process
        start: number of the first micro-batch
        rank: index of this process
        world: number of processes
        workers: processes that load samples ahead, in order; 0 = load in this process
        pin: put batches into pinned memory
    """
    loader = DataLoader(
        _Indexed(clips),
        batch_sampler=Order(batch, rank, world, start),
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_one_thread if workers else None,
        # decoders and torch keep threads and locks that a forked child cannot use
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
        persistent_workers=False,
    )
    return iter(loader)

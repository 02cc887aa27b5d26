"""The order of training data: a pure function of the step, so that a resumed run sees what an undisturbed one would have.

A data set is anything with `data[index] -> Sample`; index 0, 1, 2, ... never ends, and what lies behind an index depends on nothing
but the index (and the data set's own seed).  Step `n` of a run on `world` processes takes the indices

    n * world * batch  ...  (n + 1) * world * batch - 1

of which each process takes its own `batch`, so two processes with 4 clips each see what one process with 8 sees.
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
    """One clip: float32 (3, T, H, W) in -1..1, and the files that could not be read on the way to it, with reasons."""

    video: Tensor
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Clips (B, 3, T, H, W) in -1..1, their indices, and the files that failed on the way."""

    video: Tensor
    indices: tuple[int, ...]
    failed: tuple[str, ...] = ()

    def pin_memory(self) -> Batch:
        return Batch(self.video.pin_memory(), self.indices, self.failed)


class Clips(Protocol):
    """Endless: any index >= 0 has a sample, always the same one."""

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Order(Sampler[list[int]]):
    """The indices of each batch of this process, from the micro-batch number `start` on."""

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
    shapes = {tuple(sample.video.shape) for _, sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"clips of one batch have one shape, got {sorted(shapes)}")
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
    """An endless stream of this process's batches, from micro-batch `start` on; `workers` decode ahead, in order."""
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

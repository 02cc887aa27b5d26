"""Latents in memory, for tests of what is computed from a cache of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebench.generation import latent_cache
from vaebench.generation.latte.batch import Batch


def fake_cache(mean: torch.Tensor, std: torch.Tensor | None = None) -> Any:
    """A cache that holds these means (N, C, t, h, w) and, if it has any, these standard deviations."""

    class Held(latent_cache.Cache):
        def _slice(self, name: str, row: int) -> torch.Tensor:
            value = mean if name == "mean" else std
            assert value is not None
            return value[row]

        has_std = property(lambda self: std is not None)  # type: ignore[assignment]

    return Held(Path(), [(0, i) for i in range(len(mean))], None, {}, [])


@dataclass(frozen=True)
class InMemory:
    """Latents to train on, as tensors."""

    mean: Tensor
    std: Tensor | None = None
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.mean)

    def take(self, rows: Sequence[int]) -> Batch:
        picked = (None if x is None else x[list(rows)] for x in (self.mean, self.std, self.labels))
        mean, std, labels = picked
        assert mean is not None
        return Batch(mean, std, labels)

"""What Latte is trained on: a batch of cached latents."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Normalized latents of some clips: the moments of their posteriors, not samples."""

    mean: Tensor  # (B, C, F, H, W)
    std: Tensor | None  # the same, or None of a VAE without posterior variance
    labels: Tensor | None  # int64 (B,), or None for an unconditional model

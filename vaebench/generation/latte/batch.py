"""What Latte is trained on: a batch of cached latents."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Standardised latents of some clips: what their encoder said, not yet a sample of it."""

    mean: Tensor  # (B, C, F, H, W)
    std: Tensor | None  # the same, or None of a VAE without posterior variance
    labels: Tensor | None  # int64 (B,), or None for an unconditional model

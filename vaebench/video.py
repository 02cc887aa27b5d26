"""What a video is here: its layouts, its three ranges, and the only conversions between them.

Pixels are `(B, C, T, H, W)`, latents `(B, c, t, h, w)`, and pixel values live in one of three ranges:

    stored  uint8    0..255   as decoded, as displayed
    model   float32  -1..1    what a VAE reads and writes
    score   float32   0..1    what a metric reads, always on the 8-bit grid
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is not needed to describe a video, only to hold one
    from typing import TypeAlias

    from torch import Tensor

    Video: TypeAlias = Tensor
    Latent: TypeAlias = Tensor


@dataclass(frozen=True)
class Clip:
    """A pointer to some frames of a video: cheap to list, decoded only by `load()`.

    `id` is the same on every machine ("bundle/hangar_low_light"); `file` is what an error message names.
    """

    id: str
    fps: float  # 0 where the source does not know
    load: Callable[[], Tensor]  # uint8 (C, T, H, W)
    file: str = ""
    label: str = ""  # the class, in sources that have classes
    stamp: str = ""  # size and time of change of its files: in the keys of caches, never in a record


def to_model(frames: Tensor) -> Video:
    """uint8 (..., T, H, W) in 0..255 -> float32 in -1..1, exactly invertible."""
    return frames.float().div_(127.5).sub_(1)


def to_score(video: Video) -> Video:
    """float (B, C, T, H, W) in -1..1 -> float32 in 0..1, clamped and rounded to 8 bits."""
    return video.float().add(1).mul_(127.5).clamp_(0, 255).round_().div_(255)


def to_stored(video: Video) -> Tensor:
    """float (B, C, T, H, W) in -1..1 -> uint8 in 0..255, clamped and rounded."""
    import torch

    return video.float().add(1).mul_(127.5).clamp_(0, 255).round_().to(torch.uint8)

"""The layouts and value ranges of videos, and all conversions between ranges.

Pixels are `(B, C, T, H, W)`, latents `(B, c, t, h, w)`.  Pixel values have one of three ranges:

    stored  uint8    0..255   decoded and displayed frames; float32 in 0..1 if a protocol resizes without rounding
    model   float32  -1..1    input and output of a VAE
    score   float32   0..1    input of a metric, always on the 8-bit grid

Long videos are processed in pieces: an iterator of consecutive tensors `(B, C, n, H, W)`, whose lengths n add up to T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing this module does not import torch
    from typing import TypeAlias

    from torch import Tensor

    Video: TypeAlias = Tensor
    Latent: TypeAlias = Tensor

WINDOW = 16  # frames that are scored at a time, from frame 0 on


@dataclass(frozen=True)
class Clip:
    """A reference to frames of a video, decoded only by `load()` or `stream()`.

    `id` is the same on every machine ("bundle/hangar_low_light"); `file` is the path in error messages.
    """

    id: str
    fps: float  # frames per second; 0 if unknown
    load: Callable[[], Tensor]  # uint8 (C, T, H, W), or float32 in 0..1
    file: str = ""
    label: str = ""  # class label, if the data source has classes
    stamp: str = ""  # size and modification time of its files; part of cache keys, never of a record
    # the same frames in pieces (C, n, H, W), each decoded when it is asked for; None if the source only has `load`
    stream: Callable[[], Iterator[Tensor]] | None = None


def to_model(frames: Tensor) -> Video:
    """uint8 (..., T, H, W) in 0..255 -> float32 in -1..1, exactly invertible; or float32 in 0..1 -> float32 in -1..1."""
    if frames.is_floating_point():
        return frames.mul(2).sub_(1)
    return frames.float().div_(127.5).sub_(1)


def to_unit(frames: Tensor) -> Tensor:
    """uint8 in 0..255, or float32 in 0..1 -> float32 in 0..1."""
    return frames.float() if frames.is_floating_point() else frames.float().div_(255)


def to_score(video: Video) -> Video:
    """float (B, C, T, H, W) in -1..1 -> float32 in 0..1, clamped and rounded to 8 bits."""
    return video.float().add(1).mul_(127.5).clamp_(0, 255).round_().div_(255)


def to_stored(video: Video) -> Tensor:
    """float (B, C, T, H, W) in -1..1 -> uint8 in 0..255, clamped and rounded."""
    import torch

    return video.float().add(1).mul_(127.5).clamp_(0, 255).round_().to(torch.uint8)


def rechunked(pieces: Iterable[Tensor], frames: int) -> Iterator[Tensor]:
    """Pieces (B, C, n, H, W) of a video or latent -> contiguous pieces of `frames` frames; the last one may be shorter.

    A contiguous piece that already has this length is passed on without a copy.
    """
    held: list[Tensor] = []
    count = 0  # frames in `held`
    for piece in pieces:
        held.append(piece)
        count += piece.shape[2]
        while count >= frames:
            parts, missing = [], frames
            while missing:
                head = held.pop(0)
                parts.append(head[:, :, :missing])
                if head.shape[2] > missing:
                    held.insert(0, head[:, :, missing:])
                missing -= parts[-1].shape[2]
            count -= frames
            yield _joined(parts)
    if count:
        yield _joined(held)


def _joined(parts: list[Tensor]) -> Tensor:
    import torch

    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)).contiguous()

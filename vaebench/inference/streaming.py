"""Encode and decode a video piece by piece, with the padding, validation and cropping of `vaebench.vae.reconstruct`.

Both functions are iterators over iterators: a piece of the video is read, encoded and decoded when the reader asks for the
next frames, and nothing of it stays in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vaebench.vae import (
    StreamingVAE,
    VAESpec,
    check_finite,
    check_latent_shape,
    check_shape,
    padded_shape,
    stream_chunk,
)
from vaebench.video import rechunked

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vaebench.video import Latent, Video


def twice(pieces: Iterable[Tensor]) -> tuple[Iterator[Tensor], Iterator[Tensor]]:
    """Two iterators over the same pieces.  A piece is held until both have passed it; `itertools.tee` holds 57 of them."""
    source = iter(pieces)
    waiting: tuple[deque[Tensor], deque[Tensor]] = (deque(), deque())

    def read(mine: deque[Tensor]) -> Iterator[Tensor]:
        while True:
            if not mine:
                piece = next(source, None)
                if piece is None:
                    return
                for each in waiting:
                    each.append(piece)
                del piece
            yield mine.popleft()

    return read(waiting[0]), read(waiting[1])


def encoded(
    vae: StreamingVAE,
    pieces: Iterable[Video],
    shape: tuple[int, ...],
    *,
    posterior: str = "mode",
    generator: torch.Generator | None = None,
) -> Iterator[Latent]:
    """Encode a video of any size.

    Args:
        pieces: float32 (B, 3, n, H, W) in -1..1, consecutive; the adapter may write into them
        shape: (B, 3, T, H, W) of the whole video
        posterior: "mode" or "sample"; the noise is that of a sample of the whole video
        generator: random generator for "sample"

    Yields:
        the latent of the padded video in pieces (B, c, n, h, w)

    Raises:
        ValueError: the latent has a wrong shape
    """
    padded = padded_shape(shape, vae.spec)
    expected = vae.spec.latent_shape(padded)
    frames = stream_chunk(vae) * vae.spec.temporal_compression
    noise = None
    seen = 0  # latent frames
    for q in vae.encode_stream(rechunked(_padded(pieces, vae.spec), frames)):
        batch, channels, num, height, width = q.mean.shape
        found = (batch, channels, seen + num, height, width)
        if found[:2] + found[3:] != expected[:2] + expected[3:] or found[2] > expected[2]:
            check_latent_shape(vae, padded, found)
        if posterior == "sample" and q.logvar is not None:
            noise = q.noise(expected, generator) if noise is None else noise
            yield q.at(noise[:, :, seen : seen + num])
        else:
            yield q.mode().clone()  # the next call may reuse the memory of the result
        seen += num
    check_latent_shape(vae, padded, (*expected[:2], seen, *expected[3:]))


def _padded(pieces: Iterable[Video], spec: VAESpec) -> Iterator[Video]:
    """The pieces of `pad` of a video."""
    import torch.nn.functional as F

    frames, last = 0, None
    for piece in pieces:
        _, _, _, height, width = padded_shape(tuple(piece.shape), spec)
        right, below = width - piece.shape[4], height - piece.shape[3]
        if right or below:
            piece = F.pad(piece, (0, right, 0, below, 0, 0), mode="replicate")
        frames += piece.shape[2]
        last = piece[:, :, -1:].clone()  # the adapter may write into the piece
        yield piece
    if last is not None and (more := spec.fit(frames) - frames):
        yield last.expand(-1, -1, more, -1, -1).contiguous()


def decoded(vae: StreamingVAE, latents: Iterable[Latent], shape: tuple[int, ...]) -> Iterator[Video]:
    """Decode the latent of a video of any size.

    Args:
        latents: (B, c, n, h, w), consecutive pieces of the latent of the padded video
        shape: (B, 3, T, H, W) of the whole video

    Yields:
        the reconstruction in pieces, cropped to `shape`: float32 (B, 3, n, H, W), to be used before the next one is computed

    Raises:
        ValueError: the reconstruction has a wrong shape, or pixels are NaN or infinite
    """
    _, _, frames, height, width = shape
    padded = padded_shape(shape, vae.spec)
    seen = 0  # frames
    for piece in vae.decode_stream(rechunked(latents, stream_chunk(vae))):
        num = piece.shape[2]
        if not num:
            continue
        found = (*piece.shape[:2], seen + num, *piece.shape[3:])
        if found[:2] + found[3:] != padded[:2] + padded[3:] or found[2] > padded[2]:
            check_shape(vae, padded, found)
        check_finite(vae, piece)
        if seen < frames:
            yield piece[:, :, : frames - seen, :height, :width]
        seen += num
    check_shape(vae, padded, (*padded[:2], seen, *padded[3:]))


def collected(latents: Iterable[Latent], into: list[Latent]) -> Iterator[Latent]:
    """The same latents; `into` gets copies, because the adapter may write into them."""
    for latent in latents:
        into.append(latent.clone())
        yield latent

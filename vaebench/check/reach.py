"""Tests of what reaches what: an encoder that looks ahead, pieces of time, tiles of space.

A part of the argument is changed, and the parts of the result that move are noted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.check.subject import Answer, Subject, distance, quantised

FEWEST_TILES = 6  # latents along a side: a seam in the middle then has neighbours without one
NO_REACH, REACH = (
    1e-7,
    1e-4,
)  # relative to the largest value of the result: below the one is none, above the other is some


def causality(subject: Subject) -> Answer:
    """Latents of the first half must not move when the second half of the frames changes, if the spec says causal."""
    spec, video = subject.vae.spec, subject.video
    frames = video.shape[2]
    count = spec.latent_frames(frames)
    if count < 2:
        return None, "one latent frame only"
    half = count // 2
    # the first `half` latents of a causal encoder see frames up to this one and no further
    seen = 1 + (half - 1) * spec.temporal_compression
    changed = video.clone()
    changed[:, :, seen:] = -changed[:, :, seen:].flip(-1)
    before, after = (subject.encode(clip)[:, :, :half] for clip in (video, changed))
    moved = distance(before, after)
    causal = moved <= 1e-6
    said = f"changing frames from {seen} on moves earlier latents by {moved:.1e}"
    return causal == spec.causal, f"{said}; the spec says {'causal' if spec.causal else 'not causal'}"


def hidden_pieces_of_time(subject: Subject) -> Answer:
    """In a whole mode, what a frame reaches depends on its phase alone; where it does not, the VAE works in pieces."""
    spec, video = subject.vae.spec, subject.video
    if spec.modes[0] != "whole":
        return None, f"the spec offers no whole mode ({', '.join(spec.modes)})"
    if spec.frames_per_piece:
        return None, f"the spec says that it starts afresh every {spec.frames_per_piece} frames"
    if spec.latent_frames(video.shape[2]) < 4:
        return None, "fewer than four latent frames"
    latent = subject.encode(video)
    broken = None
    if not quantised(latent):  # whose small changes are rounded away here and there
        broken = _breaks(_influence(subject.encode, video), spec.temporal_compression)  # (frames, latents)
    if broken:
        frame, number = broken
        return (
            False,
            f"encode works in pieces: frame {frame} does not reach latent {number}, others of its phase do",
        )
    reach = _influence(subject.decode, latent)  # (latents, frames)
    broken = _breaks(reach.T, spec.temporal_compression)
    if broken:
        frame, index = broken
        return (
            False,
            f"decode works in pieces: latent {index} does not reach frame {frame}, others of its phase do",
        )
    return True, f"every one of {video.shape[2]} frames reaches as far as the others of its phase"


def _influence(function: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """bool (frames of the argument, frames of the result): which frames of the result move with each of the argument."""
    base = function(value)
    scale = float(base.abs().max())
    rows = []
    for index in range(value.shape[2]):
        changed = value.clone()
        changed[:, :, index] = -changed[:, :, index].flip(-1) + 0.1
        moved = (function(changed) - base).abs().amax(dim=(0, 1, 3, 4))
        rows.append(moved > 1e-7 * scale)
    return torch.stack(rows)


def _breaks(reach: Tensor, ratio: int) -> tuple[int, int] | None:
    """(frame, latent) where `reach` (frames, latents) differs from that of another frame of the same phase.

    The first latent and its frames are left out, and the last: the ends of a video are rightly special.
    """
    frames, latents = reach.shape
    offset = 1 if frames % ratio == 1 or ratio == 1 else 0  # 1 + 4k frames: the first stands alone
    for phase in range(ratio):
        seen: dict[int, tuple[bool, int, int]] = {}
        for frame in range(offset + ratio + phase, frames - ratio, ratio):
            own = (frame - offset) // ratio + offset
            for latent in range(1, latents - 1):
                reached = bool(reach[frame, latent])
                other = seen.setdefault(latent - own, (reached, frame, latent))
                if other[0] != reached:
                    return (frame, latent) if not reached else other[1:]
    return None


def hidden_tiles_of_space(subject: Subject) -> Answer:
    """In a whole mode each row and column of latents reaches its neighbours; where one does not, the VAE works in tiles."""
    spec = subject.vae.spec
    if spec.modes[0] != "whole":
        return None, f"the spec offers no whole mode ({', '.join(spec.modes)})"
    r = spec.spatial_compression
    side = max(subject.video.shape[-1], -(-FEWEST_TILES * r // spec.size_multiple) * spec.size_multiple)
    video = subject.clip(1, side)
    latent = subject.encode(video)
    for axis, lines in ((-2, "row"), (-1, "column")):
        for half, function, value in (("encode", subject.encode, video), ("decode", subject.decode, latent)):
            if half == "encode" and quantised(latent):
                continue
            seam = _seam(_influence_along(function, value, axis, latent.shape[axis]))
            if seam:
                return (
                    False,
                    f"{half} works in tiles: {lines} {seam[0]} of the latents does not reach {lines} {seam[1]}",
                )
    return True, f"every one of {latent.shape[-1]} rows and columns of latents reaches as far as the others"


def _influence_along(function: Callable[[Tensor], Tensor], value: Tensor, axis: int, count: int) -> Tensor:
    """(count, count): how far each of `count` bands along `axis` of the argument moves each band of the result."""
    base = function(value)
    rows = []
    for band in range(count):
        changed = value.clone()
        part = changed.unflatten(axis, (count, -1)).select(axis - 1, band)
        part.copy_(0.1 - part)
        moved = (function(changed) - base).abs().unflatten(axis, (count, -1)).movedim(axis - 1, 0).flatten(1).amax(1)
        rows.append(moved / base.abs().max())
    return torch.stack(rows)


def _seam(moved: Tensor) -> tuple[int, int] | None:
    """(from, to) of a band that does not reach another, where bands as far apart elsewhere do."""
    for apart in (d for d in range(1 - len(moved), len(moved)) if d):
        reached = moved.diagonal(apart)
        if reached.max() > REACH and reached.min() <= NO_REACH:
            start = int(reached.argmin()) + max(0, -apart)
            return start, start + apart
    return None

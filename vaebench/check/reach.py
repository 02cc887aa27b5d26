"""Tests of the receptive field: causality, hidden chunks in time, hidden tiles in space.

Each test changes a part of the input and measures which parts of the output change.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.check.subject import Answer, Subject, distance, quantised

FEWEST_TILES = 6  # smallest number of latents per side, so that a seam in the middle has neighbours without seam
NO_REACH, REACH = (
    1e-7,
    1e-4,
)  # change relative to the largest value of the output: at most NO_REACH is no effect, above REACH is an effect


def causality(subject: Subject) -> Answer:
    """The latents of the first half are independent of the second half of the frames if and only if the spec says causal."""
    spec, video = subject.vae.spec, subject.video
    frames = video.shape[2]
    count = spec.latent_frames(frames)
    if count < 2:
        return None, "the clip has a single latent frame"
    half = count // 2
    # the first `half` latents of a causal encoder depend on this number of frames
    first = 1 + (half - 1) * spec.temporal_compression
    changed = video.clone()
    changed[:, :, first:] = -changed[:, :, first:].flip(-1)
    before, after = (subject.encode(clip)[:, :, :half] for clip in (video, changed))
    moved = distance(before, after)
    causal = moved <= 1e-6
    sentence = f"a change of frames {first} and later changes earlier latents by {moved:.1e}"
    return causal == spec.causal, f"{sentence}; the spec says {'causal' if spec.causal else 'not causal'}"


def hidden_chunks(subject: Subject) -> Answer:
    """Whole inference uses no chunks: the set of latents that a frame affects depends only on the phase of the frame.

    The phase is the frame index modulo the temporal compression.
    """
    spec, video = subject.vae.spec, subject.video
    if spec.modes[0] != "whole":
        return None, f"the spec offers no whole mode ({', '.join(spec.modes)})"
    if spec.frames_per_chunk:
        return None, f"the spec says that the encoder restarts every {spec.frames_per_chunk} frames"
    if spec.latent_frames(video.shape[2]) < 4:
        return None, "fewer than four latent frames"
    latent = subject.encode(video)
    broken = None
    if not quantised(latent):  # quantisation rounds small changes away
        broken = _breaks(_influence(subject.encode, video), spec.temporal_compression)  # (frames, latents)
    if broken:
        frame, number = broken
        return (
            False,
            f"encode uses chunks: frame {frame} does not affect latent {number}, other frames of the same phase do",
        )
    reach = _influence(subject.decode, latent)  # (latents, frames)
    broken = _breaks(reach.T, spec.temporal_compression)
    if broken:
        frame, index = broken
        return (
            False,
            f"decode uses chunks: latent {index} does not affect frame {frame}, other frames of the same phase are affected",
        )
    return True, f"all {video.shape[2]} frames have the temporal range of the other frames of their phase"


def _influence(function: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """bool (input frames, output frames): whether a change of the input frame changes the output frame."""
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
    """The first (frame, latent) at which `reach` (frames, latents) differs between frames of the same phase.

    The first and the last latent and their frames are skipped, since the ends of a video may differ.
    """
    frames, latents = reach.shape
    offset = 1 if frames % ratio == 1 or ratio == 1 else 0  # 1 + 4k frames: the first frame has its own latent
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


def hidden_tiles(subject: Subject) -> Answer:
    """Whole inference uses no tiles: every row and column of latents affects its neighbours."""
    spec = subject.vae.spec
    if spec.modes[0] != "whole":
        return None, f"the spec offers no whole mode ({', '.join(spec.modes)})"
    r = spec.spatial_compression
    side = max(subject.video.shape[-1], -(-FEWEST_TILES * r // spec.size_multiple) * spec.size_multiple)
    video = subject.clip(1, side)
    subject.reconstruct(video)  # bands of frames of a wrong size could not be compared
    latent = subject.encode(video)
    for axis, lines in ((-2, "row"), (-1, "column")):
        for half, function, value in (("encode", subject.encode, video), ("decode", subject.decode, latent)):
            if half == "encode" and quantised(latent):
                continue
            seam = _seam(_influence_along(function, value, axis, latent.shape[axis]))
            if seam:
                return (
                    False,
                    f"{half} uses tiles: {lines} {seam[0]} of the latents does not affect {lines} {seam[1]}",
                )
    return True, f"all {latent.shape[-1]} rows and columns of latents have the same spatial range"


def _influence_along(function: Callable[[Tensor], Tensor], value: Tensor, axis: int, count: int) -> Tensor:
    """(count, count): largest relative change of each output band along `axis` when an input band changes."""
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
    """(from, to): a band that does not affect another one, while other bands at the same distance do."""
    for apart in (d for d in range(1 - len(moved), len(moved)) if d):
        reached = moved.diagonal(apart)
        if reached.max() > REACH and reached.min() <= NO_REACH:
            start = int(reached.argmin()) + max(0, -apart)
            return start, start + apart
    return None

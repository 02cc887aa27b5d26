"""Synthetic patterns with known motion; needs no files.

A pattern of coloured blocks of four sizes wraps around the frame and moves by multiples of a quarter pixel.  Each pixel is the mean
of 4x4 finer samples, as in a camera.  All arithmetic is on integers, so the pixels are identical on all machines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from vaebench.frame_size import FrameSize, Size, parse
from vaebench.video import Clip

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.config import RunConfig

FINE = 4  # samples per pixel, each way
BLOCKS = (32, 8, 2, 1)  # side in pixels, from large shapes to the finest detail


@dataclass(frozen=True)
class Motion:
    """Motion in pixels per frame to the right and down, of the full frame or of a square in its centre over a still background."""

    dx: float
    dy: float
    square: bool = False


MOTIONS = {
    "still": Motion(0, 0),
    "pan_slow": Motion(0.25, 0),
    "pan": Motion(1, 0),
    "tilt": Motion(0, 1),
    "diagonal": Motion(1.5, 0.75),
    "pan_fast": Motion(8, 0),
    "square": Motion(2, 1, square=True),
    "square_slow": Motion(0.5, -0.25, square=True),
}


@dataclass
class Synthetic:
    """A `VideoSource` with one clip per motion."""

    identity: dict[str, str]
    num_frames: int
    size: Size

    def __iter__(self) -> Iterator[Clip]:
        for seed, (name, motion) in enumerate(MOTIONS.items()):
            load = partial(_cropped, motion, self.num_frames, parse(self.size), seed)
            label = f"{motion.dx:+g},{motion.dy:+g} px/frame"
            yield Clip(id=f"synthetic/{name}", fps=24.0, load=load, file=f"synthetic/{name}", label=label)


def build(config: RunConfig) -> Synthetic:
    """Build the source; its sha256 is that of small renderings of all clips.

    Raises:
        ValueError: root, manifest or reader=decord is set
    """
    if config.root or config.manifest:
        raise ValueError(
            "data=synthetic reads no files and takes no root or manifest; use data=folder root=DIR for your videos"
        )
    if config.reader == "decord":
        raise ValueError("data=synthetic reads no files, so reader=decord does not apply; use reader=auto")
    digest = hashlib.sha256()
    for seed, motion in enumerate(MOTIONS.values()):
        digest.update(render(motion, 5, 16, seed).numpy().tobytes())
    identity = {"name": "synthetic", "sha256": digest.hexdigest(), "clips": str(len(MOTIONS))}
    return Synthetic(identity, config.num_frames, config.size)


def _cropped(motion: Motion, num_frames: int, size: FrameSize, seed: int) -> Tensor:
    """uint8 (3, num_frames, height, width): the centre of a square clip."""
    frames = render(motion, num_frames, max(size), seed)
    top, left = ((max(size) - side) // 2 for side in size)
    return frames[..., top : top + size.height, left : left + size.width].contiguous()


def render(motion: Motion, num_frames: int, size: int, seed: int) -> Tensor:
    """A clip, uint8 (3, num_frames, size, size); `seed` determines the pattern."""
    frames = _move(_pattern(size, seed), motion, num_frames)
    if not motion.square:
        return frames.to(torch.uint8)
    ground = _move(_pattern(size, seed + 1000), Motion(0, 0), 1)
    mask = torch.zeros(1, size * FINE, size * FINE, dtype=torch.int32)
    mask[:, size : 3 * size, size : 3 * size] = 255  # half of the height and width
    cover = _move(mask, motion, num_frames)
    return frames.mul_(cover).add_(ground * (255 - cover)).add_(127).div_(255, rounding_mode="floor").to(torch.uint8)


def _pattern(size: int, seed: int) -> Tensor:
    """int32 (3, FINE * size, FINE * size) in 0..255."""
    generator = torch.Generator().manual_seed(seed)
    fine = FINE * size
    pattern = torch.zeros(3, fine, fine, dtype=torch.int32)
    for block in BLOCKS:
        cell = block * FINE
        count = -(-fine // cell)
        colours = torch.randint(0, 256, (3, count, count), generator=generator, dtype=torch.int32)
        pattern += colours.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, :fine, :fine]
    return pattern // len(BLOCKS)


def _move(pattern: Tensor, motion: Motion, num_frames: int) -> Tensor:
    """Pattern, int32 (C, FINE * size, FINE * size) -> moving clip, int32 (C, num_frames, size, size) in 0..255."""
    frames = []
    pixels: dict[tuple[int, int], Tensor] = {}  # by sub-pixel offset; frames are these, rolled by whole pixels
    for time in range(num_frames):
        down, down_fine = divmod(round(motion.dy * FINE) * time, FINE)
        right, right_fine = divmod(round(motion.dx * FINE) * time, FINE)
        if (down_fine, right_fine) not in pixels:
            pixels[down_fine, right_fine] = _average(pattern.roll((down_fine, right_fine), dims=(1, 2)))
        frames.append(pixels[down_fine, right_fine].roll((down, right), dims=(1, 2)))
    return torch.stack(frames, dim=1)


def _average(pattern: Tensor) -> Tensor:
    """int32 (C, FINE * size, FINE * size) -> int32 (C, size, size), the rounded mean of each FINE x FINE cell."""
    total = sum(pattern[:, y::FINE, x::FINE] for y in range(FINE) for x in range(FINE))
    assert not isinstance(total, int)
    return (total + FINE * FINE // 2) // (FINE * FINE)

"""Sample videos from a trained Latte: seeds and labels, sampling and decoding, pictures and videos of the samples."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from vaebench.files import draft
from vaebench.generation.latte.diffusion import linear, respaced
from vaebench.generation.latte.model import Latte
from vaebench.generation.latte.sample import Guided, sample
from vaebench.vae import VideoVAE
from vaebench.video import to_score, to_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.generation.latent_cache import Scaling
    from vaebench.video import Video

SHOWN = (0, 5, 10, 15)  # frames of a sample that a picture shows


@dataclass(frozen=True)
class Sampling:
    """How videos are sampled from a trained model."""

    steps: str  # out of 1000, in the format of `vaebench.generation.latte.diffusion.kept_steps`
    method: Literal["ddpm", "ddim"]
    guidance: float  # classifier-free guidance scale of a conditional model; 1: no guidance


def seed_of(seed: int, number: int) -> int:
    """The seed of one sample, which depends on neither its case, its batch nor its process."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {number}".encode(), digest_size=7).digest(), "big")


def label_of(seed: int, number: int, classes: int) -> int:
    """The class of one sample, uniform over the classes."""
    return random.Random(f"{seed} label {number}").randrange(classes)


@torch.inference_mode()
def generate(
    model: Latte,
    vae: VideoVAE,
    scaling: Scaling,
    numbers: Sequence[int],
    how: Sampling,
    *,
    seed: int,
    channels: Guided = "all",
) -> list[Video]:
    """Sample latents and decode them one by one.

    Args:
        numbers: of the samples; each has its own seed and label
        how: steps, method and guidance
        seed: of the run
        channels: latent channels that guidance applies to

    Returns:
        a video per number, float32 (1, 3, T, H, W), about -1..1

    Raises:
        ValueError: a latent has non-finite values
    """
    device = model.pos_embed.device
    classes = model.config.classes
    labels = torch.tensor([label_of(seed, number, classes) for number in numbers]) if classes else None
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        latents = sample(
            model,
            respaced(linear(), how.steps),
            [seed_of(seed, number) for number in numbers],
            labels=labels,
            scale=how.guidance if classes else 1.0,
            channels=channels,
            method=how.method,
        )
    invalid = int((~latents.isfinite().flatten(1).all(1)).sum())
    if invalid:
        raise ValueError(f"{invalid} of {len(latents)} samples have non-finite values: the training has diverged")
    return [vae.decode(scaling.undo(latent[None].float())) for latent in latents]


def picture(videos: Sequence[Video]) -> NDArray:
    """Decoded samples -> uint8 (videos, frames, H, W, 3): four frames of each, a row a sample."""
    some = torch.cat([to_score(video[:, :, list(SHOWN)]) for video in videos])
    return some.mul(255).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()


def write_video(file: Path, videos: Sequence[Video]) -> None:
    """Write decoded samples (1, 3, T, H, W) as one mp4 of T frames (H.264, 8 frames/s as in Latte), four in a row."""
    import av

    frames = torch.cat([to_stored(video) for video in videos]).permute(0, 2, 3, 4, 1).cpu().numpy()
    count, length, height, width, _ = frames.shape
    columns = min(4, count)
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, *frames.shape[1:]), np.uint8)  # black where the last row is not full
    sheet[:count] = frames
    sheet = sheet.reshape(rows, columns, *frames.shape[1:]).transpose(2, 0, 3, 1, 4, 5)
    sheet = sheet.reshape(length, rows * height, columns * width, 3)
    sheet = sheet[:, : rows * height // 2 * 2, : columns * width // 2 * 2]  # colour is stored at half size
    with draft(file) as part, av.open(os.fspath(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "12"})
        stream.height, stream.width = sheet.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in sheet:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))

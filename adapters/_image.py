"""Image VAEs of diffusers, frame by frame: the frames of a video are one batch, and no frame sees another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters._diffusers import DiffusersVAE, batch_as_frames, frames_as_batch

if TYPE_CHECKING:
    from torch import Tensor


def set_mode(model: Any, mode: str) -> None:
    """`sliced` is one frame at a time, `tiled` cuts frames larger than a tile."""
    if mode == "sliced":
        model.enable_slicing()
    if mode == "tiled":
        model.enable_tiling()


def encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, 3, T, H, W) -> mean and, where there is one, log-variance, both (B, c, T, h, w)."""
    output = vae.model.encode(frames_as_batch(pixels))
    if hasattr(output, "latent"):  # an autoencoder without a posterior
        return batch_as_frames(output.latent, len(pixels)), None
    q = output.latent_dist
    return batch_as_frames(q.mean, len(pixels)), batch_as_frames(q.logvar, len(pixels))


def decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    """(B, c, T, h, w) -> (B, 3, T, H, W)."""
    return batch_as_frames(vae.model.decode(frames_as_batch(latent)).sample, len(latent))

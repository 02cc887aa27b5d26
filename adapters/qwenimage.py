"""Qwen-Image's VAE, frame by frame: the network of Wan 2.1, which the release runs on single images.

Wu et al., Qwen-Image Technical Report, arXiv 2508.02324.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters import wan
from adapters._diffusers import DiffusersVAE, Family, batch_as_frames, frames_as_batch
from adapters._image import set_mode
from vaebench.vae import VAESpec

if TYPE_CHECKING:
    from torch import Tensor

VARIANTS = {
    "1.0": VAESpec(
        family="qwenimage",
        variant="1.0",
        temporal_compression=1,
        spatial_compression=8,
        latent_channels=16,
        causal=True,
        size_multiple=8,
        modes=("whole", "native", "sliced"),
        lossless_modes=("native", "sliced"),
        source="hf:Qwen/Qwen-Image@main:vae/diffusion_pytorch_model.safetensors",
        license="Apache-2.0",
        reference="arXiv 2508.02324",
        parameters=126_892_531,
        scale=wan.VARIANTS["2.1"].scale,
        shift=wan.VARIANTS["2.1"].shift,
        clamps=True,
        note="whole and native are all frames as one batch of images, sliced one frame at a time; decoding clamps to -1..1",
    )
}


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor]:
    q = vae.model.encode(frames_as_batch(pixels).unsqueeze(2)).latent_dist  # videos of one frame
    return batch_as_frames(q.mean.squeeze(2), len(pixels)), batch_as_frames(q.logvar.squeeze(2), len(pixels))


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    frames = vae.model.decode(frames_as_batch(latent).unsqueeze(2)).sample
    return batch_as_frames(frames.squeeze(2), len(latent))


FAMILY = Family(
    cls="AutoencoderKLQwenImage",
    variants=VARIANTS,
    configs={},
    small={"base_dim": 8},
    layouts=wan.FAMILY.layouts,  # the same network as that of Wan 2.1: files in the names of Wan2.1_VAE.pth load, too
    set_mode=set_mode,
    encode=_encode,
    decode=_decode,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

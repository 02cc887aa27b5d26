"""Stable Video Diffusion: the image encoder of Stable Diffusion, and a decoder that also looks along time.

Blattmann et al., Stable Video Diffusion, arXiv 2311.15127.  Encoding is frame by frame; decoding mixes the frames of one call, so
the chunks in which the released pipeline decodes change the result.  They are as long as the videos that its model generates, and
are the reference mode.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters._diffusers import DiffusersVAE, Family, batch_as_frames, frames_as_batch
from adapters._layouts import svd as svd_layouts
from vaebench.vae import VAESpec

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = {"xt": 25, "img2vid": 14}  # frames that the pipeline decodes at once: as many as its model generates
CONFIG = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "sample_size": 768,
}

XT = VAESpec(
    family="svd",
    variant="xt",
    temporal_compression=1,
    spatial_compression=8,
    latent_channels=4,
    causal=True,
    size_multiple=8,
    modes=("whole", "native", "chunk8"),
    reference_mode="native",
    source="hf:stabilityai/stable-video-diffusion-img2vid-xt@9e43909513c6714f1bc78bcb44d96e733cd242aa"
    ":vae/diffusion_pytorch_model.safetensors",
    license="Stability AI community licence (gated)",
    reference="arXiv 2311.15127",
    parameters=97_742_847,
    scale=0.18215,
    note="the encoder is frame by frame, the decoder is not; native decodes 25 frames at a time (img2vid 14), "
    "chunk8 eight, as its documentation recommends for little memory; it has no spatial tiling",
)
VARIANTS = {
    "xt": XT,
    "img2vid": replace(
        XT,
        variant="img2vid",
        source="hf:stabilityai/stable-video-diffusion-img2vid@9cf024d5bfa8f56622af86c884f26a52f6676f2e"
        ":vae/diffusion_pytorch_model.safetensors",
    ),
}


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor]:
    q = vae.model.encode(frames_as_batch(pixels)).latent_dist
    return batch_as_frames(q.mean, len(pixels)), batch_as_frames(q.logvar, len(pixels))


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    import torch

    chunk = {"whole": latent.shape[2], "native": CHUNK[vae.variant], "chunk8": 8}[vae.mode]
    return torch.cat([_decode_chunk(vae.model, z) for z in latent.split(chunk, dim=2)], dim=2)


def _decode_chunk(model: Any, z: Tensor) -> Tensor:
    return batch_as_frames(model.decode(frames_as_batch(z), num_frames=z.shape[2]).sample, len(z))


FAMILY = Family(
    cls="AutoencoderKLTemporalDecoder",
    variants=VARIANTS,
    layouts=svd_layouts.LAYOUTS,
    configs={"xt": CONFIG, "img2vid": CONFIG},
    small={
        "block_out_channels": (32, 32, 32, 32),
        "layers_per_block": 1,
    },  # its group norms are fixed to 32 groups
    encode=_encode,
    decode=_decode,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

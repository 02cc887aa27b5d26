"""Stable Diffusion's image VAE, frame by frame: what a video VAE of 4x8x8 must beat at a quarter of the frames.

Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, arXiv 2112.10752.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters._diffusers import DiffusersVAE, Family, batch_as_frames, frames_as_batch
from vaebench.vae import VAESpec

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}

FT_MSE = VAESpec(
    family="sd",
    variant="ft-mse",
    temporal_compression=1,
    spatial_compression=8,
    latent_channels=4,
    causal=True,
    size_multiple=8,
    modes=("whole", "native", "sliced", "tiled"),
    lossless_modes=("native", "sliced"),
    source="hf:stabilityai/sd-vae-ft-mse@31f26fdeee1355a5c34592e401dd41e45d25a493:diffusion_pytorch_model.safetensors",
    latent_space="sd",
    license="MIT",
    reference="arXiv 2112.10752",
    parameters=83_653_863,
    scale=0.18215,
    note="whole and native are all frames as one batch, sliced one frame at a time; tiles of 256 pixels, 25 % overlap",
)
VARIANTS = {
    "ft-mse": FT_MSE,
    "original": replace(
        FT_MSE,
        variant="original",
        source="hf:stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
        ":vae/diffusion_pytorch_model.safetensors",
        license="CreativeML OpenRAIL-M",
        note="whole and native are all frames as one batch, sliced one frame at a time; tiles of 512 pixels, 25 % overlap",
    ),
}


def _set_mode(model: Any, mode: str) -> None:
    if mode == "sliced":
        model.enable_slicing()
    if mode == "tiled":
        model.enable_tiling()


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor]:
    q = vae.model.encode(frames_as_batch(pixels)).latent_dist
    return batch_as_frames(q.mean, len(pixels)), batch_as_frames(q.logvar, len(pixels))


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    return batch_as_frames(vae.model.decode(frames_as_batch(latent)).sample, len(latent))


FAMILY = Family(
    cls="AutoencoderKL",
    variants=VARIANTS,
    configs={"ft-mse": {**CONFIG, "sample_size": 256}, "original": {**CONFIG, "sample_size": 512}},
    small={"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1},
    set_mode=_set_mode,
    encode=_encode,
    decode=_decode,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

"""Stable Diffusion's image VAEs, frame by frame: the baseline of video VAEs of 4x8x8, at four times their latents.

Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, arXiv 2112.10752; SDXL, arXiv 2307.01952; Stable
Diffusion 3, arXiv 2403.03206.
"""

from __future__ import annotations

from dataclasses import replace

from adapters._diffusers import Family
from adapters._image import decode, encode, set_mode
from adapters._layouts import sd as sd_layouts
from vaebench.vae import VAESpec

CONFIG = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}

SIXTEEN_CHANNELS = {
    **CONFIG,
    "sample_size": 1024,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
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
    "xl": replace(
        FT_MSE,
        variant="xl",
        latent_space="sdxl",
        source="hf:stabilityai/sdxl-vae@c1b803cdacd792f788384449b8e1d539da4297ad:diffusion_pytorch_model.safetensors",
        reference="arXiv 2307.01952",
        scale=0.13025,
        note="whole and native are all frames as one batch, sliced one frame at a time; tiles of 1024 pixels, 25 % overlap",
    ),
    "3": replace(
        FT_MSE,
        variant="3",
        latent_space="sd3",
        latent_channels=16,
        source="hf:stabilityai/stable-diffusion-3-medium-diffusers@main:vae/diffusion_pytorch_model.safetensors",
        license="Stability AI community licence (gated)",
        reference="arXiv 2403.03206",
        parameters=83_819_683,
        scale=1.5305,
        shift=0.0609,
        note="whole and native are all frames as one batch, sliced one frame at a time; tiles of 1024 pixels, 25 % overlap",
    ),
    "original": replace(
        FT_MSE,
        variant="original",
        source="hf:stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
        ":vae/diffusion_pytorch_model.safetensors",
        license="CreativeML OpenRAIL-M",
        note="whole and native are all frames as one batch, sliced one frame at a time; tiles of 512 pixels, 25 % overlap",
    ),
}


FAMILY = Family(
    cls="AutoencoderKL",
    variants=VARIANTS,
    layouts=sd_layouts.LAYOUTS,
    configs={
        "ft-mse": {**CONFIG, "sample_size": 256},
        "original": {**CONFIG, "sample_size": 512},
        "xl": {**CONFIG, "sample_size": 1024, "scaling_factor": 0.13025},
        "3": {**SIXTEEN_CHANNELS, "scaling_factor": 1.5305, "shift_factor": 0.0609},
    },
    small={"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1},
    set_mode=set_mode,
    encode=encode,
    decode=decode,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

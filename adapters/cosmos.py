"""Cosmos CV8x8x8: NVIDIA's continuous video tokenizer, 8x8x8, 16 channels, causal, on a Haar wavelet; without a posterior.

NVIDIA, Cosmos World Foundation Model Platform, arXiv 2501.03575.  The release has separate normalisation statistics for each of
16 channels and 16 latent frames; the spec gives their mean over the frames.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters._diffusers import DiffusersVAE, Family
from adapters._layouts import cosmos as cosmos_layouts
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

SIGMA_DATA = 0.5  # the diffusion model sees latents of this standard deviation
VARIANTS = {
    "cv8x8x8": VAESpec(
        family="cosmos",
        variant="cv8x8x8",
        temporal_compression=8,
        spatial_compression=8,
        latent_channels=16,
        causal=True,
        frames=FrameRule(8, 1),
        size_multiple=8,
        modes=("whole", "native"),
        lossless_modes=("native",),
        source="hf:nvidia/Cosmos-1.0-Diffusion-7B-Text2World@main:vae/diffusion_pytorch_model.safetensors",
        license="NVIDIA open model licence",
        reference="arXiv 2501.03575",
        parameters=105_653_696,
        note="native is whole: its tiling switch changes nothing; sample equals mode; the release normalises by channel "
        "and latent frame, for up to 121 frames; the scale and shift here are means over those frames",
    )
}


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, None]:
    return vae.model.encode(pixels).latent_dist.mode(), None


def _describe(model: Any, spec: VAESpec) -> VAESpec:
    import torch

    mean, std = (
        torch.tensor(model.config[key]).view(spec.latent_channels, -1) for key in ("latents_mean", "latents_std")
    )
    return replace(spec, shift=tuple(mean.mean(1).tolist()), scale=tuple((SIGMA_DATA / std).mean(1).tolist()))


FAMILY = Family(
    cls="AutoencoderKLCosmos",
    variants=VARIANTS,
    layouts=cosmos_layouts.LAYOUTS,
    configs={},
    small={
        "encoder_block_out_channels": (8, 8, 8, 8),
        "decode_block_out_channels": (8, 8, 8, 8),
        "num_layers": 1,
    },
    encode=_encode,
    describe=_describe,
    not_on_cpu=("bfloat16", "float16"),
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

"""LTX-2: the VAE of Lightricks' second video model, 8x32x32, 128 channels, with a plain (not timestep-conditioned) decoder.

HaCohen et al., LTX-2, 2026.  The released configuration has a decoder that is not causal, and states the compression.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adapters._diffusers import Family
from adapters._layouts import ltx as ltx_layouts
from vaebench.vae import FrameRule, VAESpec

VARIANTS = {
    "2.0": VAESpec(
        family="ltx2",
        variant="2.0",
        temporal_compression=8,
        spatial_compression=32,
        latent_channels=128,
        causal=True,
        frames=FrameRule(8, 1),
        size_multiple=32,
        modes=("whole", "native", "framewise"),
        lossless_modes=("native",),
        source="hf:Lightricks/LTX-2@47da56e2ad66ce4125a9922b4a8826bf407f9d0a:vae/diffusion_pytorch_model.safetensors",
        latent_space="ltx-2",
        license="LTX-2 community licence",
        reference="github.com/Lightricks/LTX-2",
        parameters=1_222_479_601,
        note="the encoder is causal, the decoder is not; native is whole; frames of at least 64x64; there is no tiled mode: "
        "the released tiled decode crashes if the last tile is one latent wide; scale and shift are read from the weights",
    )
}


def _set_mode(model: Any, mode: str) -> None:
    model.use_framewise_encoding = model.use_framewise_decoding = mode == "framewise"


def _describe(model: Any, spec: VAESpec) -> VAESpec:
    if model.latents_mean.is_meta:  # a network without values, to count operations
        return spec
    scale = model.config.scaling_factor / model.latents_std.float()
    return replace(spec, shift=tuple(model.latents_mean.float().tolist()), scale=tuple(scale.tolist()))


FAMILY = Family(
    cls="AutoencoderKLLTX2Video",
    variants=VARIANTS,
    layouts=ltx_layouts.LAYOUTS2,
    configs={
        "2.0": {"decoder_causal": False, "spatial_compression_ratio": 32, "temporal_compression_ratio": 8},
    },
    small={
        "block_out_channels": (8, 16, 32, 64),
        "decoder_block_out_channels": (8, 16, 32),
        "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1),
    },
    diffusers="0.37",
    set_mode=_set_mode,
    least_side=64,
    describe=_describe,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

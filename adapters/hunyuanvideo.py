"""HunyuanVideo: 4x8x8, 16 channels, causal convolutions; diffusers cuts time into tiles of 16 frames by default.

Kong et al., HunyuanVideo, arXiv 2412.03603.  Its group norms take their statistics over time, so the encoder looks ahead.  The
authors' class runs a video in one pass, so `whole` is the reference mode.  Their pipeline turns tiling on: `native`, 64 frames
and 256 pixels, the same as `whole` up to that size.  `diffusers` is the default of that library.
"""

from __future__ import annotations

from typing import Any

from adapters._diffusers import Family
from vaebench.vae import FrameRule, VAESpec

HALF = (
    "its round trip loses 7 to 15 % rms (2 to 3 % in the latent) against float32, three times what most families lose"
)
VARIANTS = {
    "1.0": VAESpec(
        family="hunyuanvideo",
        variant="1.0",
        temporal_compression=4,
        spatial_compression=8,
        latent_channels=16,
        causal=False,
        frames=FrameRule(4, 1),
        size_multiple=8,
        modes=("whole", "native", "diffusers", "tiled"),
        source="hf:hunyuanvideo-community/HunyuanVideo@e8c2aaa66fe3742a32c11a6766aecbf07c56e773"
        ":vae/diffusion_pytorch_model.safetensors",
        latent_space="hunyuanvideo",
        license="Tencent Hunyuan community licence (not for the EU, the UK and South Korea)",
        reference="arXiv 2412.03603",
        parameters=246_478_803,
        scale=0.476986,
        note="native is the tiling of the authors' pipeline: 64 frames, stride 48, and 256 pixels overlapping by 64; diffusers is "
        "the default of that library, tiled in time only (16 frames, stride 12); tiled adds tiles of 256 pixels overlapping by 64; "
        "whole builds an attention mask over all positions: 25.6 GiB at 33x768x768",
    )
}


def _set_mode(model: Any, mode: str) -> None:
    model.use_framewise_encoding = model.use_framewise_decoding = mode != "whole"
    if mode == "native":
        model.enable_tiling(tile_sample_min_num_frames=64, tile_sample_stride_num_frames=48)
    if mode == "tiled":
        model.enable_tiling()


FAMILY = Family(
    cls="AutoencoderKLHunyuanVideo",
    variants=VARIANTS,
    configs={},
    small={"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1},
    set_mode=_set_mode,
    dtype_warnings={"bfloat16": HALF},
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

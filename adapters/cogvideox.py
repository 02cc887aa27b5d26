"""CogVideoX: causal 3D convolutions, 4x8x8, 16 channels; diffusers works in blocks of 8 frames (2 latents).

Yang et al., CogVideoX, arXiv 2408.06072.  The blocks pass on their convolution caches, so block-wise and whole inference differ
only by the group norms, which take their statistics over the frames of a block; they also make the encoder look ahead.  The
authors' code, `native`, encodes a video in one pass and decodes 3, then 2 latents at a time; it is the reference mode.
`diffusers` is the default of that library, which encodes in blocks too.

Later code of the authors (THUDM/CogVideo e519eced) decodes in at most 10 blocks: the same blocks up to 21 latents; beyond, blocks
of odd length lose frames, because the code takes each for the start of a video.  `native` stays at 2 at a time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adapters._diffusers import EVERYTHING, Family
from adapters._layouts import cogvideox as cogvideox_layouts
from vaebench.vae import FrameRule, VAESpec

SOURCE = "hf:zai-org/CogVideoX{}:vae/diffusion_pytorch_model.safetensors"
B2 = VAESpec(
    family="cogvideox",
    variant="2b",
    temporal_compression=4,
    spatial_compression=8,
    latent_channels=16,
    causal=False,
    frames=FrameRule(8, 1),
    size_multiple=8,
    modes=("whole", "native", "diffusers", "tiled"),
    reference_mode="native",
    source=SOURCE.format("-2b@1137dacfc2c9c012bed6a0793f4ecf2ca8e7ba01"),
    latent_space="cogvideox",
    license="Apache-2.0",
    reference="arXiv 2408.06072",
    parameters=215_583_907,
    scale=1.15258426,
    note="native encodes in one pass and decodes 2 latents at a time; diffusers also encodes 8 frames at a time; convolutions are "
    "causal but the group norms see every frame of a block; 8k+1 frames (at 5, 13, 37 the library returns 8, 16, 40); whole at "
    "33x768x768 in float32 needs 125 GiB; tiles of 240x360 pixels, in the blocks of diffusers",
)
VARIANTS = {
    "2b": B2,
    "5b": replace(
        B2,
        variant="5b",
        source=SOURCE.format("-5b@8d6ea3f817438460b25595a120f109b88d5fdfad"),
        license="Apache-2.0 (code), CogVideoX licence (weights)",
        scale=0.7,
    ),
    "1.5-5b": replace(
        B2,
        variant="1.5-5b",
        source=SOURCE.format("1.5-5B@fdc5267c90b5c06492985b966e43aae984e189e0"),
        license="Apache-2.0 (code), CogVideoX licence (weights)",
        scale=0.7,
    ),
}


def _set_mode(model: Any, mode: str) -> None:
    if mode in ("whole", "native"):
        model.num_sample_frames_batch_size = EVERYTHING
    if mode == "whole":
        model.num_latent_frames_batch_size = EVERYTHING
    if mode == "tiled":
        model.enable_tiling()


FAMILY = Family(
    cls="AutoencoderKLCogVideoX",
    variants=VARIANTS,
    layouts=cogvideox_layouts.LAYOUTS,
    configs={},
    small={"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1},
    set_mode=_set_mode,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

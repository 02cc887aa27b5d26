"""EasyAnimate V5.1: 4x8x8, 16 channels, causal, per-frame norms; the released code takes 1 frame, then 4 at a time, with caches.

Xu et al., EasyAnimate, arXiv 2405.18991.  Its caches are attributes of the modules and survive a failed call; they are cleared
before and after each call.
"""

from __future__ import annotations

from typing import Any

from adapters._diffusers import EVERYTHING, Family
from vaebench.vae import FrameRule, VAESpec

VARIANTS = {
    "5.1": VAESpec(
        family="easyanimate",
        variant="5.1",
        temporal_compression=4,
        spatial_compression=8,
        latent_channels=16,
        causal=True,
        frames=FrameRule(4, 1),
        size_multiple=8,
        modes=("whole", "native"),
        reference_mode="native",
        lossless_modes=("native",),
        source="hf:alibaba-pai/EasyAnimateV5.1-12b-zh-diffusers@f6586135d24a98253fc82f95146bda261e093ca3:vae/diffusion_pytorch_model.safetensors",
        license="Apache-2.0",
        reference="arXiv 2405.18991",
        parameters=244_375_507,
        scale=0.7125,
        note="whole is the first frame, then all others at once; native 4 frames (1 latent) at a time; there is no tiled mode: "
        "the released tiled encode shifts every tile after the first by 64 pixels; whole at 33x768x768 in float32 needs 92 GiB",
    )
}


def _set_mode(model: Any, mode: str) -> None:
    if mode == "whole":
        model.num_sample_frames_batch_size = model.num_latent_frames_batch_size = EVERYTHING


FAMILY = Family(
    cls="AutoencoderKLMagvit",
    variants=VARIANTS,
    configs={},
    small={"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1},
    set_mode=_set_mode,
    clear=lambda model: model._clear_conv_cache(),
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

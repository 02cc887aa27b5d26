"""KVAE-3D 1.0 by Kandinsky Lab: 4x8x8, 16 channels; the released code works in segments of 16 frames with caches.

github.com/kandinskylab/kvae-1.  Group norms over the frames of a segment make segments differ from whole inference and let the
encoder look ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters._diffusers import EVERYTHING, DiffusersVAE, Family
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

VARIANTS = {
    "3d-1.0": VAESpec(
        family="kvae",
        variant="3d-1.0",
        temporal_compression=4,
        spatial_compression=8,
        latent_channels=16,
        causal=False,
        frames=FrameRule(4, 1),
        size_multiple=8,
        modes=("whole", "native"),
        reference_mode="native",
        source="hf:kandinskylab/KVAE-3D-1.0@main:diffusion_pytorch_model.safetensors",
        license="MIT",
        reference="github.com/kandinskylab/kvae-1",
        parameters=617_982_115,
        note="the released class discards the variance, so sample equals mode here; the released decode of 16n+5 frames "
        "loses three of them: here the latent is extended by one frame and the result cropped; the tiling switch changes nothing",
    )
}
HALF = "its round trip loses 7 to 15 % rms (2 to 3 % in the latent) against float32; its authors run float16"


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, None]:
    segment = EVERYTHING if vae.mode == "whole" else 16
    return vae.model._encode(pixels, seg_len=segment), None


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    import torch

    if vae.mode == "whole":
        return vae.model._decode(latent, seg_len=EVERYTHING)
    frames = latent.shape[2]
    if frames > 4 and frames % 4 == 2:  # a last segment of one latent would not be upsampled in time
        video = vae.model.decode(torch.cat([latent, latent[:, :, -1:]], dim=2)).sample
        return video[:, :, : 4 * frames - 3]
    return vae.model.decode(latent).sample


FAMILY = Family(
    cls="AutoencoderKLKVAEVideo",
    variants=VARIANTS,
    configs={},
    small={"ch": 32, "ch_mult": (1, 1, 1, 1), "num_res_blocks": 1},
    diffusers="0.38",
    encode=_encode,
    decode=_decode,
    dtype_warnings={"bfloat16": HALF},
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

"""Wan 2.1 (4x8x8, 16 channels) and 2.2 (4x16x16, 48 channels): causal; the released code has no whole mode.

Wan Team, Wan: Open and Advanced Large-Scale Video Generative Models, arXiv 2503.20314.  The released code takes 1 frame, then 4
at a time (1 latent when decoding), and passes on caches.  Nothing in it normalises over time, so one pass over the whole video
gives the same; but without caches its temporal resamplings are skipped.  `whole` gives them a forward without caches: equal
pixels, but not the cost of the reference mode `native`.
"""

from __future__ import annotations

from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING, Any

from adapters._diffusers import DiffusersVAE, Family, batch_as_frames, frames_as_batch, moments, sample
from adapters._layouts import wan as wan_layouts
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

MEAN21 = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
          0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)  # fmt: skip
STD21 = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
         3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)  # fmt: skip
MEAN22 = (-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
          0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
          -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
          -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667)  # fmt: skip
STD22 = (0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
         0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
         0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
         0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744)  # fmt: skip

V21 = VAESpec(
    family="wan",
    variant="2.1",
    temporal_compression=4,
    spatial_compression=8,
    latent_channels=16,
    causal=True,
    frames=FrameRule(4, 1),
    size_multiple=8,
    modes=("whole", "native", "tiled"),
    reference_mode="native",
    lossless_modes=("native",),
    clamps=True,
    source="hf:Wan-AI/Wan2.1-T2V-1.3B-Diffusers@0fad780a534b6463e45facd96134c9f345acfa5b:vae/diffusion_pytorch_model.safetensors",
    latent_space="wan-2.1",
    license="Apache-2.0",
    reference="arXiv 2503.20314",
    parameters=126_892_531,
    scale=tuple(1 / std for std in STD21),
    shift=MEAN21,
    note="native is cached, 4 frames at a time; decoding clamps to -1..1; tiles of 256 pixels overlapping by 64; "
    "released in float32; bfloat16 and float16 results are those of diffusers >= 0.38, whose norm is in float32",
)
V22 = replace(
    V21,
    variant="2.2",
    latent_space="wan-2.2",
    spatial_compression=16,
    latent_channels=48,
    size_multiple=16,
    source="hf:Wan-AI/Wan2.2-TI2V-5B-Diffusers@b8fff7315c768468a5333511427288870b2e9635:vae/diffusion_pytorch_model.safetensors",
    parameters=704_688_668,
    scale=tuple(1 / std for std in STD22),
    shift=MEAN22,
    note=V21.note.replace("tiles of 256", "tiles of 512 (decoding: 256)"),
)
VARIANTS = {
    "2.1": V21,
    "2.2": V22,
    "skyreels-v2": replace(
        V21,
        variant="skyreels-v2",
        source="hf:Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers@main:vae/diffusion_pytorch_model.safetensors",
        license="Skywork licence",
        reference="arXiv 2504.13074",
        note=f"the VAE of Wan 2.1, run in float32 on the posterior mean; {V21.note}",
    ),
    "svi": replace(
        V21,
        variant="svi",
        license="MIT (code), Apache-2.0 (weights, Wan 2.1)",
        reference="github.com/vita-epfl/Stable-Video-Infinity",
        note=f"the VAE of Wan 2.1; {V21.note}",
    ),
}
CONFIG22 = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "is_residual": True,
    "scale_factor_spatial": 16,
    "latents_mean": MEAN22,
    "latents_std": STD22,
}


def _resample(self: Any, x: Tensor, feat_cache: Any = None, feat_idx: Any = None) -> Tensor:
    """Resamples a whole video: the first frame is never resampled in time, the others in pairs."""
    import torch

    first, rest = x[:, :, :1], x[:, :, 1:]
    if self.mode == "upsample3d" and rest.shape[2]:
        # (B, 2C, t, H, W) -> (B, C, 2t, H, W): the two halves of the channels are the even and the odd frames
        even, odd = self.time_conv(rest).chunk(2, dim=1)
        x = torch.cat([first, torch.stack([even, odd], dim=3).flatten(2, 3)], dim=2)
    x = batch_as_frames(self.resample(frames_as_batch(x)), len(x))
    if self.mode == "downsample3d" and x.shape[2] > 1:
        x = torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)
    return x


def _set_mode(model: Any, mode: str) -> None:
    if mode == "whole":
        for module in model.modules():
            if type(module).__name__ == "WanResample":
                module.forward = MethodType(_resample, module)
    if mode == "tiled":
        model.enable_tiling()


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    if vae.mode != "whole":
        return moments(vae, pixels)
    from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

    model, patch = vae.model, vae.model.config.patch_size
    mean, logvar = model.quant_conv(model.encoder(patchify(pixels, patch) if patch else pixels)).chunk(2, dim=1)
    return mean, logvar


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    if vae.mode != "whole":
        return sample(vae, latent)
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    model, patch = vae.model, vae.model.config.patch_size
    pixels = model.decoder(model.post_quant_conv(latent), first_chunk=True)
    return (unpatchify(pixels, patch) if patch else pixels).clamp(-1, 1)


FAMILY = Family(
    cls="AutoencoderKLWan",
    variants=VARIANTS,
    layouts=wan_layouts.LAYOUTS,
    configs={"2.2": CONFIG22},
    small={"base_dim": 8, "num_res_blocks": 1},
    small_for={"2.2": {"decoder_base_dim": 8}},
    diffusers="0.38",
    set_mode=_set_mode,
    encode=_encode,
    decode=_decode,
    clear=lambda model: model.clear_cache(),
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires
spec_of = FAMILY.spec_of

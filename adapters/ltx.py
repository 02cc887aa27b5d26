"""LTX-Video: 8x32x32, 128 channels; from 0.9.1 on the decoder is also the last denoising step and takes a timestep.

HaCohen et al., LTX-Video, arXiv 2501.00103.  The name of a variant says how its timestep-conditioned decoder is run:

    0.9.1, 0.9.5, 0.9.7     timestep 0.05 and noise 0.025 mixed in the normalised latent space, as in the official code
    ...-raw                 the same noise in raw latent space, as the pipelines of diffusers do
    ...-t0                  timestep 0, no noise: plain reconstruction

Every decode draws its noise from seed 0, also the noise that the blocks of 0.9.1 inject, so a result depends on its latent alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters._diffusers import DiffusersVAE, Family, moments
from adapters._layouts import ltx as ltx_layouts
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

TIMESTEP, NOISE = 0.05, 0.025
RESIDUAL_DECODER = {
    "decoder_block_out_channels": (256, 512, 1024),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
V091 = {
    **RESIDUAL_DECODER,
    "decoder_layers_per_block": (5, 6, 7, 8),
    "decoder_inject_noise": (True, True, True, False),
}
V095 = {
    **RESIDUAL_DECODER,
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "layers_per_block": (4, 6, 6, 2, 2),
    "spatio_temporal_scaling": (True, True, True, True),
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "decoder_inject_noise": (False, False, False, False),
}

V090 = VAESpec(
    family="ltx",
    variant="0.9.0",
    temporal_compression=8,
    spatial_compression=32,
    latent_channels=128,
    causal=True,
    frames=FrameRule(8, 1),
    size_multiple=32,
    modes=("whole", "native", "framewise", "tiled"),
    lossless_modes=("native",),
    source="hf:Lightricks/LTX-Video@8984fa25007f376c1a299016d0957a37a2f797bb:vae/diffusion_pytorch_model.safetensors",
    license="Apache-2.0 (code), LTX-Video open weights licence (weights)",
    reference="arXiv 2501.00103",
    parameters=419_193_649,
    note="the encoder is causal, the decoder is not; native is whole; framewise encodes and decodes 16 frames at a time, "
    "overlapping by 8; "
    "tiles of 512 pixels overlapping by 64; scale and shift are read from the weights",
)


def _conditioned(version: str, source: str, parameters: int, license: str = V090.license) -> list[VAESpec]:
    base = replace(
        V090,
        variant=version,
        source=f"hf:{source}:vae/diffusion_pytorch_model.safetensors",
        license=license,
        parameters=parameters,
    )
    conditionings = {
        "": f"timestep {TIMESTEP}, noise {NOISE} in normalised space",
        "-raw": f"timestep {TIMESTEP}, noise {NOISE} in raw space",
        "-t0": "timestep 0, no noise",
    }
    return [
        replace(base, variant=version + suffix, note=f"decoded at {conditioning}; {V090.note}")
        for suffix, conditioning in conditionings.items()
    ]


VARIANTS = {
    spec.variant: spec
    for spec in (
        V090,
        *_conditioned("0.9.1", "Lightricks/LTX-Video-0.9.1@main", 934_976_434),
        *_conditioned(
            "0.9.5",
            "Lightricks/LTX-Video-0.9.5@main",
            1_246_913_522,
            "Apache-2.0 (code), OpenRAIL-M according to its documentation (weights)",
        ),
        *_conditioned(
            "0.9.7", "Lightricks/LTX-Video-0.9.7-dev@2101082f5eb5540770a2df43747feadb6f69b889", 1_246_913_522
        ),
    )
}


def _set_mode(model: Any, mode: str) -> None:
    # diffusers reads only the switch of decode, also in encode; both are set in case that changes
    model.use_framewise_encoding = model.use_framewise_decoding = mode == "framewise"
    if mode == "tiled":
        model.enable_tiling()


def _describe(model: Any, spec: VAESpec) -> VAESpec:
    if model.latents_mean.is_meta:  # a network without values, to count operations
        return spec
    scale = model.config.scaling_factor / model.latents_std.float()
    return replace(spec, shift=tuple(model.latents_mean.float().tolist()), scale=tuple(scale.tolist()))


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    import torch

    model = vae.model
    if not model.config.timestep_conditioning:
        return model.decode(latent).sample
    plain = vae.variant.endswith("-t0")
    with torch.random.fork_rng(devices=[latent.device] if latent.is_cuda else []):
        torch.manual_seed(0)
        if not plain:
            noise = torch.randn(latent.shape).to(latent)
            mean, std = (v.view(1, -1, 1, 1, 1).to(latent) for v in (model.latents_mean, model.latents_std))
            noise = (
                noise if vae.variant.endswith("-raw") else noise * std + mean
            )  # from the normalised to the raw space
            latent = (1 - NOISE) * latent + NOISE * noise
        timestep = torch.full((len(latent),), 0.0 if plain else TIMESTEP, device=latent.device, dtype=latent.dtype)
        return model.decode(latent, temb=timestep).sample


CONFIGS = {name: V091 if name.startswith("0.9.1") else V095 for name in VARIANTS if name != "0.9.0"}
NARROW = {"decoder_block_out_channels": (8, 16, 32), "decoder_layers_per_block": (1, 1, 1, 1)}
FAMILY = Family(
    cls="AutoencoderKLLTXVideo",
    variants=VARIANTS,
    layouts=ltx_layouts.LAYOUTS,
    configs=CONFIGS,
    small={"block_out_channels": (8, 8, 16, 16), "layers_per_block": (1, 1, 1, 1, 1)},
    small_for={
        "0.9.0": {"decoder_block_out_channels": (8, 8, 16, 16), "decoder_layers_per_block": (1, 1, 1, 1, 1)},
        **{
            name: {**NARROW, **({} if config is V091 else {"block_out_channels": (8, 16, 32, 64, 64)})}
            for name, config in CONFIGS.items()
        },
    },
    set_mode=_set_mode,
    encode=moments,
    decode=_decode,
    describe=_describe,
    one_by_one=True,  # the noise of a latent must not depend on the rest of the batch
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires
spec_of = FAMILY.spec_of

"""MiniMax-H3: 16x16 in space, chunks of 17 frames -> 5 latents in time, 24 channels; convolutions encode, a transformer decodes.

huggingface.co/MiniMaxAI/MiniMax-H3.  The chunks are part of the network: 17n+5 frames become 5n+2 latents, and each chunk is
encoded independently.  Its decoder was trained on tiles of 256 pixels and is released with spatial tiling on (256 pixels,
overlapping by 64 and blended): that is `native`, its reference mode.  `whole` has no spatial tiles; at 832x480 it has been
measured 15 dB worse.  The network reads and writes pixels normalised by the mean and standard deviation of ImageNet over 0..1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters._diffusers import DiffusersVAE, Family, moments, sample
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VARIANTS = {
    "h3": VAESpec(
        family="minimaxh3",
        variant="h3",
        temporal_compression=4,
        spatial_compression=16,
        latent_channels=24,
        causal=True,
        frames=FrameRule(17, 5, 22),
        frames_per_chunk=17,
        size_multiple=16,
        modes=("whole", "native"),
        reference_mode="native",
        source="hf:MiniMaxAI/MiniMax-H3@main:vae/diffusion_pytorch_model.safetensors",
        latent_space="minimax-h3",
        license="unknown; see the model card",
        reference="huggingface.co/MiniMaxAI/MiniMax-H3",
        parameters=2_603_868_984,
        note="17n+5 frames, at least 22 (33 are padded to 39), of at least 32x32; "
        "causal within a chunk of 17 frames; encoder and norms stay float32 in every dtype; "
        "latents are normalised by the means and deviations in the release's config.json, which must lie beside the weights",
    )
}


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values).view(1, -1, 1, 1, 1)


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    mean, std = _channels(IMAGENET_MEAN, pixels), _channels(IMAGENET_STD, pixels)
    return moments(vae, ((pixels + 1) / 2 - mean) / std)


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    pixels = sample(vae, latent)
    mean, std = _channels(IMAGENET_MEAN, pixels), _channels(IMAGENET_STD, pixels)
    return (pixels * std + mean) * 2 - 1


def _describe(model: Any, spec: VAESpec) -> VAESpec:
    from dataclasses import replace

    mean, std = model.config.latents_mean, model.config.latents_std
    return replace(spec, shift=tuple(mean), scale=tuple(1 / value for value in std))


def _set_mode(model: Any, mode: str) -> None:
    model.use_tiling = mode == "native"


FAMILY = Family(
    cls="AutoencoderKLMiniMaxH3",
    variants=VARIANTS,
    configs={},
    small={
        "block_out_channels": (8, 8, 8, 8, 8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "decoder_num_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_attention_head_dim": 32,
    },
    diffusers="0.40",
    set_mode=_set_mode,
    encode=_encode,
    decode=_decode,
    describe=_describe,
    float32_pixels=True,
    needs_config="the means and deviations of the latents",
    least_side=32,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

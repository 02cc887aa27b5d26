"""FLUX.2's image VAE, frame by frame: 8x8 with 32 channels, which its diffusion model sees as 16x16 with 128.

Black Forest Labs, FLUX.2, 2025 (github.com/black-forest-labs/flux2).  The latent here is that of the diffusion model: patches of
2x2 are moved into the channels, because the statistics that normalise it, buffers in the weights, are those of the 128 channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters import _image
from adapters._diffusers import DiffusersVAE, Family
from vaebench.vae import VAESpec

if TYPE_CHECKING:
    from torch import Tensor

VARIANTS = {
    "dev": VAESpec(
        family="flux2",
        variant="dev",
        temporal_compression=1,
        spatial_compression=16,
        latent_channels=128,
        causal=True,
        size_multiple=16,
        modes=("whole", "native", "sliced"),
        lossless_modes=("native", "sliced"),
        source="hf:black-forest-labs/FLUX.2-dev@main:vae/diffusion_pytorch_model.safetensors",
        latent_space="flux.2",
        license="unknown; see the model card (gated)",
        reference="github.com/black-forest-labs/flux2",
        parameters=84_046_115,
        note="whole and native are all frames as one batch, sliced one frame at a time; the network's 32 channels of 8x8 are given "
        "as 128 of 16x16; scale and shift are read from the weights",
    )
}


def _describe(model: Any, spec: VAESpec) -> VAESpec:
    """The statistics of `model.bn`, with which the pipeline normalises what the diffusion model sees."""
    statistics = model.bn
    deviation = (statistics.running_var.float() + model.config.batch_norm_eps).sqrt()
    return replace(spec, shift=tuple(statistics.running_mean.tolist()), scale=tuple((1 / deviation).tolist()))


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    mean, logvar = _image.encode(vae, pixels)
    return patches_as_channels(mean), None if logvar is None else patches_as_channels(logvar)


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    return _image.decode(vae, channels_as_patches(latent))


def patches_as_channels(latent: Tensor) -> Tensor:
    """(B, c, T, 2h, 2w) -> (B, 4c, T, h, w); channel 4k + 2i + j is pixel (i, j) of each patch of channel k."""
    patches = latent.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2))  # (B, c, T, h, 2, w, 2)
    return patches.permute(0, 1, 4, 6, 2, 3, 5).flatten(1, 3)


def channels_as_patches(latent: Tensor) -> Tensor:
    """The inverse of `patches_as_channels`."""
    patches = latent.unflatten(1, (-1, 2, 2)).permute(0, 1, 4, 5, 2, 6, 3)  # (B, c, T, h, 2, w, 2)
    return patches.flatten(-2).flatten(-3, -2)


FAMILY = Family(
    cls="AutoencoderKLFlux2",
    variants=VARIANTS,
    configs={},
    small={"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1},
    diffusers="0.36",
    set_mode=_image.set_mode,
    encode=_encode,
    decode=_decode,
    describe=_describe,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

"""VidTok, 4x8x8 causal: 16 or 4 continuous channels; reads the checkpoints that Microsoft published.

Tang et al., VidTok, arXiv 2412.13061.  The network is that of diffusers, whose tensors have the names and shapes of the published
`.ckpt`; no release in the format of diffusers is known.  The encoder expects three more copies of the first frame in front.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from adapters._diffusers import DiffusersVAE, Family, moments, tile
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

KL16 = VAESpec(
    family="vidtok",
    variant="kl-16",
    temporal_compression=4,
    spatial_compression=8,
    latent_channels=16,
    causal=True,
    frames=FrameRule(4, 1),
    size_multiple=8,
    modes=("whole", "native", "tiled"),
    lossless_modes=("native",),
    source="hf:microsoft/VidTok@main:checkpoints/vidtok_kl_causal_488_16chn.ckpt",
    license="MIT",
    reference="arXiv 2412.13061",
    parameters=157_949_351,
    note="native is whole; tiled cuts time into 16 frames with caches and space into 256 pixels without overlap; the decoder looks "
    "3 frames ahead of those of a latent; whole at 33x768x768 in float32 needs 182 GiB",
)
VARIANTS = {
    "kl-16": KL16,
    "kl-4": replace(
        KL16,
        variant="kl-4",
        latent_channels=4,
        parameters=157_451_663,
        source=KL16.source.replace("16chn", "4chn"),
    ),
}


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    import torch

    front = pixels[:, :, :1].expand(-1, -1, vae.spec.temporal_compression - 1, -1, -1)
    return moments(vae, torch.cat([front, pixels], dim=2))


FAMILY = Family(
    cls="AutoencoderVidTok",
    variants=VARIANTS,
    configs={"kl-16": {"z_channels": 16}, "kl-4": {"z_channels": 4}},
    small={"ch": 8, "num_res_blocks": 1},
    diffusers="0.38",
    set_mode=tile,
    encode=_encode,
    decode=lambda vae, latent: vae.model.decode(latent),  # returns a tensor
    clear=lambda model: model._empty_causal_cached(model),  # each convolution keeps a clone of its input
    not_on_cpu=("float16",),
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires
spec_of = FAMILY.spec_of

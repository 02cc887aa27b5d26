"""CV-VAE: a video VAE in the latent space of Stable Diffusion 2.1 (4 channels) or 3 (16 channels).

Zhao et al., CV-VAE: A Compatible Video VAE for Latent Generative Video Models, NeurIPS 2024, arXiv 2405.20279.
The released code always works block-wise, in chunks of 17 frames and tiles of 576 pixels: that is "native", its reference mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters._local import OwnFamily, OwnVAE
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from adapters._nets.cvvae import CVVAE, CVVAEConfig

SOURCE = "hf:AILab-CVC/CV-VAE@{}:{}/diffusion_pytorch_model.safetensors"

SD21 = VAESpec(
    family="cvvae",
    variant="sd2.1",
    temporal_compression=4,
    spatial_compression=8,
    latent_channels=4,
    causal=False,
    frames=FrameRule(4, 1),
    size_multiple=8,
    modes=("whole", "native"),
    reference_mode="native",
    source=SOURCE.format("ff9c7a46a2d0a41eebf00cf919a30237988dd1d5", "vae3d"),
    license="Apache-2.0 (model page; the code states none)",
    reference="arXiv 2405.20279",
    parameters=182_446_475,
    scale=0.18215,
    note="the encoder's convolutions are causal but its group norms see every frame; native takes 16 frames and the one before "
    "them at a time, in tiles of 576 pixels with 22 % overlap, and differs from whole beyond one block",
)
VARIANTS = {
    "sd2.1": SD21,
    "sd2.1-v1.1": replace(
        SD21,
        variant="sd2.1-v1.1",
        source=SOURCE.format("241d4b86fd3b7c42c2ac84fc46ddebf8b913a866", "vae3d_v1-1"),
        note=f"released in half precision; {SD21.note}",
    ),
    "sd3": replace(
        SD21,
        variant="sd3",
        latent_channels=16,
        source=SOURCE.format("main", "vae3d_sd3"),  # of commit cbfb510; its full hash is unknown
        parameters=181_892_515,
        scale=1.5305,  # of Stable Diffusion 3, whose latents these are; the release states none
        shift=0.0609,
    ),
}
DTYPE_WARNINGS = {
    "float16": "activations may overflow, which is why it was trained in float32; prefer float32 or bfloat16"
}


def _config(variant: str) -> CVVAEConfig:
    from adapters._nets.cvvae import SD3, CVVAEConfig

    return SD3 if variant == "sd3" else CVVAEConfig()


def _small(variant: str) -> CVVAEConfig:
    from adapters._nets.cvvae import Blocks, CVVAEConfig

    sd3, channels = variant == "sd3", VARIANTS[variant].latent_channels
    return CVVAEConfig((32, 32, 32, 32), channels, num_blocks=1, sd3=sd3, blocks=Blocks(frames=4, tile=64))


def _network(config: CVVAEConfig) -> CVVAE:
    from adapters._nets.cvvae import CVVAE

    return CVVAE(config)


def _read_config(released: Mapping[str, Any]) -> CVVAEConfig:
    from adapters._nets.cvvae import read_config

    return read_config(released)


def _published(key: str, config: CVVAEConfig) -> str:
    from adapters._nets.cvvae import published_name

    return published_name(key, config)


def _vae(spec: VAESpec, model: CVVAE, mode: str, **placement: Any) -> OwnVAE:
    blocks = model.config.blocks if mode == "native" else None
    encode, decode = partial(model.encode, blocks=blocks), partial(model.decode, blocks=blocks)
    return OwnVAE(spec, model, encode, decode, dtype_warnings=DTYPE_WARNINGS, **placement)


OWN = OwnFamily(
    variants=VARIANTS,
    config=_config,
    small=_small,
    network=_network,
    vae=_vae,
    published=_published,
    read_config=_read_config,
)
load = OWN.load
tiny = OWN.tiny
spec_of = OWN.spec_of
expected_shapes = OWN.expected_shapes
shapes_in = OWN.shapes_in

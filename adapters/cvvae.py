"""CV-VAE: a video VAE in the latent space of Stable Diffusion 2.1 (4 channels) or 3 (16 channels).

Zhao et al., CV-VAE: A Compatible Video VAE for Latent Generative Video Models, NeurIPS 2024, arXiv 2405.20279.
The released code always works block-wise, in pieces of 17 frames and tiles of 576 pixels: that is "native", its reference mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters._own import OwnVAE, check_described, check_mode, filled, read_json, shapes_of, untrained
from vaebench import weights as places
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    import torch

    from adapters._nets.cvvae import CVVAE, Blocks

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
    note="the encoder's convolutions are causal but its group norms see every frame; native is 16 frames and one before "
    "them at a time, in tiles of 576 pixels with 22 % overlap, and is not what whole gives beyond one block",
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
        source=SOURCE.format("main", "vae3d_sd3"),  # of commit cbfb510; its full name is not known to us
        parameters=181_892_515,
        scale=1.5305,  # Stable Diffusion 3's own, whose latents these are; the release names none
        shift=0.0609,
    ),
}
HAZARDS = {"float16": "activations may overflow, which is why it was trained in float32; prefer float32 or bfloat16"}


def load(
    spec: VAESpec,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> OwnVAE:
    """The released weights, strictly, `.safetensors` or `.bin`; a `config.json` beside them sets the blocks of "native"."""
    from adapters._nets.checkpoint import read_state
    from adapters._nets.cvvae import CVVAE, SD3, Blocks, CVVAEConfig, published_name, read_config

    check_mode(spec, mode)
    config, blocks = SD3 if spec.latent_channels == 16 else CVVAEConfig(), Blocks()
    if weights == places.RANDOM:
        return _vae(spec, CVVAE(config), blocks, device, dtype, mode)
    file = places.find(spec.source, weights)
    beside = file.with_name("config.json")
    if beside.is_file():
        config, blocks = read_config(read_json(beside))
        check_described(spec, beside, config.latent_channels)
    model = filled(lambda: CVVAE(config), read_state(file), file, spec.name, partial(published_name, config=config))
    return _vae(spec, model, blocks, device, dtype, mode)


def expected_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """By published key, of a released network."""
    from adapters._nets.cvvae import CVVAE, SD3, CVVAEConfig, published_name

    config = SD3 if variant == "sd3" else CVVAEConfig()
    return {published_name(key, config): shape for key, shape in shapes_of(lambda: CVVAE(config)).items()}


def shapes_in(checkpoint: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """By published key, of the tensors of a file."""
    return {key: tuple(value.shape) for key, value in checkpoint.items()}


def tiny(
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
    variant: str = "sd2.1",
) -> OwnVAE:
    """A narrow network of either form with random weights; its blocks are of 4 frames and 64 pixels."""
    from adapters._nets.cvvae import CVVAE, Blocks, CVVAEConfig

    base = VARIANTS[variant]
    check_mode(base, mode)
    config = CVVAEConfig((32, 32, 32, 32), base.latent_channels, num_blocks=1, sd3=variant == "sd3")
    model, spec = untrained(lambda: CVVAE(config), base)
    return _vae(spec, model, Blocks(frames=4, tile=64), device, dtype, mode)


def _vae(
    spec: VAESpec,
    model: CVVAE,
    blocks: Blocks,
    device: torch.device | str,
    dtype: torch.dtype | None,
    mode: str,
) -> OwnVAE:
    chosen = blocks if mode == "native" else None
    encode, decode = partial(model.encode, blocks=chosen), partial(model.decode, blocks=chosen)
    return OwnVAE(spec, model, encode, decode, device=device, dtype=dtype, hazards=HAZARDS)

"""SSVAE, spectrally structured: 4x16x16, 48 channels, causal throughout.  The released code always runs a video in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapters._local import OwnFamily, OwnVAE
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

    from adapters._nets.ssvae import SSVAE, SSVAEConfig

# configs/inference.yaml of github.com/zai-org/SSVAE at 0b141f7: what a diffusion model sees is (z - MEAN) / STD
MEAN = (
    -0.1962890625, 0.52734375, -1.3984375, 0.57421875, 0.09326171875, 0.734375, -0.427734375, -0.50390625,
    0.54296875, 0.0986328125, -0.67578125, 0.15625, 0.9453125, -0.091796875, 0.2333984375, -0.10986328125,
    -0.049560546875, 0.74609375, -0.76171875, -0.484375, 0.2236328125, 0.5390625, 0.2255859375, -0.474609375,
    -0.126953125, -0.0341796875, 0.023681640625, -0.0211181640625, -1.015625, -0.60546875, 0.98046875, -0.796875,
    -0.1884765625, -0.4296875, 0.283203125, 0.34375, -0.490234375, 0.021484375, 0.251953125, -0.08154296875,
    -0.5234375, 0.236328125, -0.1826171875, -0.73828125, -0.1796875, -0.6015625, 0.34375, -0.74609375,
)  # fmt: skip
STD = (
    0.69140625, 0.98828125, 2.015625, 1.1640625, 0.64453125, 1.015625, 1.546875, 0.71484375,
    1.359375, 0.96875, 2.0, 0.8828125, 1.40625, 1.046875, 0.85546875, 1.0234375,
    0.88671875, 1.15625, 1.3125, 0.984375, 1.1328125, 1.8046875, 1.21875, 0.98046875,
    1.0859375, 0.96875, 1.046875, 1.0234375, 1.515625, 1.234375, 1.796875, 1.5234375,
    1.1015625, 1.1484375, 0.94140625, 1.1015625, 1.3203125, 1.2265625, 1.359375, 1.09375,
    0.953125, 0.73046875, 0.97265625, 1.265625, 1.1953125, 1.1171875, 0.83203125, 1.4140625,
)  # fmt: skip

VARIANTS = {
    "ch48": VAESpec(
        family="ssvae",
        variant="ch48",
        temporal_compression=4,
        spatial_compression=16,
        latent_channels=48,
        causal=True,
        frames=FrameRule(stride=4, offset=1),
        size_multiple=16,
        modes=("whole", "native"),
        lossless_modes=("native",),
        source="hf:zai-org/SSVAE@main:ch48_256p_15w_512p_5w.ckpt",
        license="Apache-2.0 (code), MIT (weights)",
        reference="arXiv:2512.05394, github.com/zai-org/SSVAE@0b141f7",
        parameters=315_177_859,
        scale=tuple(1 / std for std in STD),  # the released code rounds these to bfloat16
        shift=MEAN,
        note="no revision of the weights is pinned: none is publicly recorded",
    )
}


def vae_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The VAE's tensors, without the losses and the token of masked latents, which only training needs."""
    state = checkpoint.get("state_dict", checkpoint)
    return {key: value for key, value in state.items() if not key.startswith("loss") and key != "mask_token"}


def _config(variant: str) -> SSVAEConfig:
    from adapters._nets.ssvae import SSVAEConfig

    return SSVAEConfig()


def _small(variant: str) -> SSVAEConfig:
    from adapters._nets.ssvae import SSVAEConfig

    return SSVAEConfig(width=4, multipliers=(2, 4, 4, 4, 4), res_blocks=1)


def _network(config: SSVAEConfig) -> SSVAE:
    from adapters._nets.ssvae import SSVAE

    return SSVAE(config)


def _vae(spec: VAESpec, model: SSVAE, mode: str, **placement: Any) -> OwnVAE:
    return OwnVAE(spec, model, model.encode, model.decode, **placement)


OWN = OwnFamily(
    variants=VARIANTS,
    config=_config,
    small=_small,
    network=_network,
    vae=_vae,
    tensors=vae_of,
)
load = OWN.load
tiny = OWN.tiny
expected_shapes = OWN.expected_shapes
shapes_in = OWN.shapes_in

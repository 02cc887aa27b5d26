"""OD-VAE, the CausalVAE of Open-Sora Plan v1.2: 4x8x8, 4 channels; whole, and with the four block-wise settings published for it.

`tiled` is the setting of the WF-VAE repository, most likely that of arXiv 2411.17459, table 5; the `osp12-` ones are those of
Open-Sora Plan v1.2.0: its constructor's, its sampling script's, and `--save_memory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters._local import OwnFamily, OwnVAE
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

    from adapters._nets.odvae import ODVAE, ODVAEConfig

# side of a tile in pixels and in latents; frames and latent frames of a chunk; latent frames that two chunks share
TILINGS: dict[str, tuple[int, int, int, int, int]] = {
    "tiled": (256, 32, 9, 3, 2),
    "osp12-tiled": (256, 32, 33, 16, 1),
    "osp12-t2v": (512, 64, 29, 8, 1),
    "osp12-save-memory": (256, 32, 29, 8, 1),
}

VARIANTS = {
    "1.2": VAESpec(
        family="odvae",
        variant="1.2",
        temporal_compression=4,
        spatial_compression=8,
        latent_channels=4,
        causal=False,  # its convolutions are; its group norms take statistics over the whole clip
        frames=FrameRule(stride=4, offset=1),
        size_multiple=8,
        modes=("whole", "native", *TILINGS),
        lossless_modes=("native",),  # the released code tiles only when asked to
        source="hf:LanguageBind/Open-Sora-Plan-v1.2.0@96f612ec24fb6643c395db0d08451741d2a8fe3d:vae/checkpoint.ckpt",
        license="MIT (code and weights)",
        reference="arXiv:2409.01199, github.com/PKU-YuanGroup/Open-Sora-Plan@v1.2.0",
        parameters=239_189_991,
        scale=0.18215,
        note="group norms span the clip, so every tiled mode changes the result; the reference implementation runs in bfloat16",
    )
}


def vae_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The VAE's tensors in any of the layouts that the released code reads: averaged, generator, plain or flat.

    Tensors of the losses are dropped, as there; strict loading refuses any other that the network does not have.
    """
    if checkpoint.get("ema_state_dict"):
        state = {key.replace("module.", ""): value for key, value in checkpoint["ema_state_dict"].items()}
    else:
        state = checkpoint.get("state_dict", checkpoint)
        state = state.get("gen_model", state)
    return {key: value for key, value in state.items() if "loss" not in key}


def _config(variant: str) -> ODVAEConfig:
    from adapters._nets.odvae import ODVAEConfig

    return ODVAEConfig()


def _small(variant: str) -> ODVAEConfig:
    from adapters._nets.odvae import ODVAEConfig

    return ODVAEConfig(width=32, multipliers=(1, 1, 1, 1), res_blocks=1)


def _network(config: ODVAEConfig) -> ODVAE:
    from adapters._nets.odvae import ODVAE

    return ODVAE(config)


def _read_config(released: Mapping[str, Any]) -> ODVAEConfig:
    from adapters._nets.odvae import read_config

    return read_config(released)


def _vae(spec: VAESpec, model: ODVAE, mode: str, **placement: Any) -> OwnVAE:
    from adapters._nets.odvae import Tiling

    tiling = None
    if mode in TILINGS:
        size, latent_size, frames, latent_frames, shared = TILINGS[mode]
        tiling = Tiling(size, latent_size, frames, latent_frames, shared=shared)
    return OwnVAE(spec, model, partial(model.encode, tiling=tiling), partial(model.decode, tiling=tiling), **placement)


OWN = OwnFamily(
    variants=VARIANTS,
    config=_config,
    small=_small,
    network=_network,
    vae=_vae,
    tensors=vae_of,
    read_config=_read_config,
)
load = OWN.load
tiny = OWN.tiny
expected_shapes = OWN.expected_shapes
shapes_in = OWN.shapes_in

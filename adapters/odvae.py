"""OD-VAE, the CausalVAE of Open-Sora Plan v1.2: 4x8x8, 4 channels; whole, and with the four block-wise settings published for it.

`tiled` is the setting of the WF-VAE repository, most likely that of arXiv 2411.17459, table 5; the `osp12-` ones are those of
Open-Sora Plan v1.2.0: its constructor's, its sampling script's, and `--save_memory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters._own import OwnVAE, check_described, check_mode, filled, read_json, shapes_of, untrained
from vaebench import weights as weight_files
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    import torch

    from adapters._nets.odvae import ODVAE

# pixels and latents of a tile's side, frames and latent frames of a piece, latent frames two pieces share
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
        note="group norms span the clip, so every piece-wise mode changes the result; upstream samples in bfloat16",
    )
}


def load(
    spec: VAESpec,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> OwnVAE:
    """The released checkpoint, or one of the same format; its `config.json`, where it lies beside, must describe this network."""
    from adapters._nets.checkpoint import read_state
    from adapters._nets.odvae import ODVAE, ODVAEConfig, read_config

    check_mode(spec, mode)
    if weights == weight_files.RANDOM:
        return _vae(spec, ODVAE(), device, dtype, mode)
    file = weight_files.find(spec.source, weights)
    described, config = file.with_name("config.json"), ODVAEConfig()
    if described.is_file():
        try:
            config = read_config(read_json(described))
        except KeyError as key:
            raise ValueError(f"{described} is not of the network of Open-Sora Plan v1.2: it has no {key}") from None
        check_described(spec, described, config.latent_channels)
    model = filled(lambda: ODVAE(config), vae_of(read_state(file)), file, spec.name)
    return _vae(spec, model, device, dtype, mode)


def vae_of(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The VAE's tensors in any of the layouts that the released code reads: averaged, generator, plain or flat.

    What belongs to the losses is dropped, as there; anything else stays, to be refused by strict loading.
    """
    if checkpoint.get("ema_state_dict"):
        state = {key.replace("module.", ""): value for key, value in checkpoint["ema_state_dict"].items()}
    else:
        state = checkpoint.get("state_dict", checkpoint)
        state = state.get("gen_model", state)
    return {key: value for key, value in state.items() if "loss" not in key}


def expected_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """By published key, of a released network."""
    from adapters._nets.odvae import ODVAE

    return shapes_of(ODVAE)


def shapes_in(checkpoint: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """By published key, of the tensors of a file."""
    return {key: tuple(value.shape) for key, value in vae_of(checkpoint).items()}


def tiny(*, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, mode: str = "whole") -> OwnVAE:
    """A narrow network with random weights; its tiles and pieces are the released ones."""
    from adapters._nets.odvae import ODVAE, ODVAEConfig

    check_mode(VARIANTS["1.2"], mode)
    config = ODVAEConfig(width=32, multipliers=(1, 1, 1, 1), res_blocks=1)
    model, spec = untrained(lambda: ODVAE(config), VARIANTS["1.2"])
    return _vae(spec, model, device, dtype, mode)


def _vae(spec: VAESpec, model: ODVAE, device: torch.device | str, dtype: torch.dtype | None, mode: str) -> OwnVAE:
    from adapters._nets.odvae import Tiling

    tiling = None
    if mode in TILINGS:
        size, latent_size, frames, latent_frames, shared = TILINGS[mode]
        tiling = Tiling(size, latent_size, frames, latent_frames, shared=shared)
    encode, decode = partial(model.encode, tiling=tiling), partial(model.decode, tiling=tiling)
    return OwnVAE(spec, model, encode, decode, device=device, dtype=dtype)

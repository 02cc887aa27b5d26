"""OD-VAE, the CausalVAE of Open-Sora Plan v1.2: 4x8x8, 4 channels; whole, and with the four block-wise settings published for it.

`tiled` is the setting of the WF-VAE repository, most likely that of arXiv 2411.17459, table 5; the `osp12-` ones are those of
Open-Sora Plan v1.2.0: its constructor's, its sampling script's, and `--save_memory`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vaebench import weights as weight_files
from vaebench.vae import FrameRule, Posterior, VAESpec, VideoVAE

if TYPE_CHECKING:
    import torch

    from adapters._nets.odvae import ODVAE, Tiling
    from vaebench.video import Latent, Video

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


@dataclass(frozen=True)
class Adapter:
    spec: VAESpec
    model: ODVAE
    tiling: Tiling | None
    device: torch.device | str
    dtype: torch.dtype

    def encode(self, video: Video) -> Posterior:
        import torch

        with torch.no_grad():
            moments = self.model.encode(video.to(self.device, self.dtype), self.tiling).float()
        mean, logvar = moments.chunk(2, dim=1)
        return Posterior(mean, logvar)

    def decode(self, latent: Latent) -> Video:
        import torch

        with torch.no_grad():
            return self.model.decode(latent.to(self.device, self.dtype), self.tiling).float()


def load(
    spec: VAESpec,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> VideoVAE:
    """The released checkpoint, or one of the same format; its `config.json`, where it lies beside, must describe this network."""
    import torch

    from adapters._nets.checkpoint import load_strict, read_state
    from adapters._nets.odvae import ODVAE, read_config

    if weights == weight_files.RANDOM:
        return _ready(spec, ODVAE(), device, dtype or torch.float32, mode)
    file = weight_files.find(spec.source, weights)
    described = file.with_name("config.json")
    config = read_config(json.loads(described.read_text())) if described.is_file() else None
    with torch.device("meta"):
        model = ODVAE(config)
    load_strict(model, vae_of(read_state(file)), str(file))
    return _ready(spec, model, device, dtype or torch.float32, mode)


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


def tiny(*, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, mode: str = "whole") -> VideoVAE:
    import torch

    from adapters._nets.odvae import ODVAE, ODVAEConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ODVAE(ODVAEConfig(width=32, multipliers=(1, 1, 1, 1), res_blocks=1))
    parameters = sum(p.numel() for p in model.parameters())
    spec = replace(VARIANTS["1.2"], variant="tiny", source="", parameters=parameters)
    return _ready(spec, model, device, dtype or torch.float32, mode)


def _ready(spec: VAESpec, model: ODVAE, device: torch.device | str, dtype: torch.dtype, mode: str) -> Adapter:
    from adapters._nets.odvae import Tiling

    if mode not in spec.modes:
        raise ValueError(f"{spec.name} has no mode {mode!r} (it has: {', '.join(spec.modes)})")
    tiling = None
    if mode in TILINGS:
        size, latent_size, frames, latent_frames, shared = TILINGS[mode]
        tiling = Tiling(size, latent_size, frames, latent_frames, shared=shared)
    model = model.to(device, dtype).eval().requires_grad_(False)
    return Adapter(spec, model, tiling, device, dtype)

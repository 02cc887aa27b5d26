"""Open-Sora 1.2's VAE: a 2-D autoencoder per frame, then a temporal one on its latents; 4x8x8, 4 channels.

Zheng et al., Open-Sora, arXiv 2412.20404; code at github.com/hpcaitech/Open-Sora, v1.2.0.  The released code takes 17 frames
at a time, without overlap or blending: that is "native", its reference mode.  Mode "whole" gives the temporal half all
frames at once; the authors trained mostly on 17 and never on more than 34 (their issue 490), so quality drops on long clips.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters._local import OwnFamily, OwnVAE
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from adapters._nets.opensora import OpenSoraConfig, OpenSoraVAE

CHUNK = 17  # frames that the temporal half takes at a time, as released
SCALE = (3.85, 2.32, 2.33, 3.06)  # a diffusion model sees (z - shift) / scale
SHIFT = (-0.10, 0.34, 0.27, 0.98)

V12 = VAESpec(
    family="opensora",
    variant="1.2",
    temporal_compression=4,
    spatial_compression=8,
    latent_channels=4,
    causal=False,
    # the network takes any length; here one in four is legal, so that the length of a latent determines that of the video
    frames=FrameRule(4, 1),
    size_multiple=8,
    modes=("whole", "native"),
    reference_mode="native",
    source="hf:hpcai-tech/OpenSora-VAE-v1.2@33d153e9b5a9f771a8a84f98bd3f46458a8ed0bf:model.safetensors",
    license="Apache-2.0",
    reference="arXiv 2412.20404",
    parameters=393_341_007,
    scale=tuple(1 / scale for scale in SCALE),
    shift=SHIFT,
    note="the convolutions are causal but the group norms see every frame of a chunk; the first frames are padded with zeros; "
    "native is 17 frames at a time, and its latent has 5 frames for each 17; the per-frame VAE encodes to the mean of its "
    "posterior; run it in float32 or bfloat16",
)
VARIANTS = {"1.2": V12}
DTYPE_WARNINGS = {"float16": "a 2-D VAE of SDXL's kind overflows; prefer float32 or bfloat16"}


def _config(variant: str) -> OpenSoraConfig:
    from adapters._nets.opensora import OpenSoraConfig

    return OpenSoraConfig()


def _small(variant: str) -> OpenSoraConfig:
    from adapters._nets.opensora import OpenSoraConfig

    return OpenSoraConfig((32, 32, 32, 32), (32, 32, 32, 32), num_blocks=1)


def _network(config: OpenSoraConfig) -> OpenSoraVAE:
    from adapters._nets.opensora import OpenSoraVAE

    return OpenSoraVAE(config)


def _check_normalisation(model: OpenSoraVAE, file: Path) -> None:
    """ValueError if the latent normalisation in the weights is not that of the spec."""
    import torch

    for name, stored, expected in (("scale", model.scale, SCALE), ("shift", model.shift, SHIFT)):
        if not torch.allclose(stored.float().flatten(), torch.tensor(expected), rtol=1e-2):  # bfloat16 in some files
            raise ValueError(f"{file} has {name} {stored.flatten().tolist()}, expected {list(expected)}: not this VAE")


def _vae(spec: VAESpec, model: OpenSoraVAE, mode: str, **placement: Any) -> OwnVAE:
    chunk = CHUNK if mode == "native" else None
    spec = replace(spec, frames_per_chunk=chunk or 0)

    def decode(latent: Tensor) -> Tensor:
        return model.decode(latent, num_frames(spec, latent.shape[2]), chunk)

    return OwnVAE(spec, model, partial(model.encode, chunk=chunk), decode, dtype_warnings=DTYPE_WARNINGS, **placement)


def num_frames(spec: VAESpec, latent_frames: int) -> int:
    """The legal number of frames that gives `latent_frames`; ValueError if there is none."""
    longest = spec.temporal_compression * latent_frames
    for frames in range(1, longest + 1):
        if spec.frames.allows(frames) and spec.latent_frames(frames) == latent_frames:
            return frames
    raise ValueError(f"{spec.name}: no video of {spec.frames} frames has a latent of {latent_frames} in this mode")


OWN = OwnFamily(
    variants=VARIANTS,
    config=_config,
    small=_small,
    network=_network,
    vae=_vae,
    check=_check_normalisation,
)
load = OWN.load
tiny = OWN.tiny
expected_shapes = OWN.expected_shapes
shapes_in = OWN.shapes_in

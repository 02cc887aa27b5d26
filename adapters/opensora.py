"""Open-Sora 1.2's VAE: a 2-D autoencoder per frame, then a temporal one on its latents; 4x8x8, 4 channels.

Zheng et al., Open-Sora, arXiv 2412.20404; code at github.com/hpcaitech/Open-Sora, v1.2.0.  The released code takes 17 frames
at a time, with neither overlap nor blending: that is "native", its reference mode.  Mode "whole" gives the temporal half all
frames at once; the authors trained mostly on 17 and never on more than 34 (their issue 490), so long clips suffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters._own import OwnVAE, check_mode, filled, shapes_of, untrained
from vaebench import weights as places
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adapters._nets.opensora import OpenSoraVAE

PIECE = 17  # frames of the temporal half at once, as released
SCALE = (3.85, 2.32, 2.33, 3.06)  # a diffusion model sees (z - shift) / scale
SHIFT = (-0.10, 0.34, 0.27, 0.98)

V12 = VAESpec(
    family="opensora",
    variant="1.2",
    temporal_compression=4,
    spatial_compression=8,
    latent_channels=4,
    causal=False,
    # the network takes any length; of each four, one is legal here, so that a latent tells how many frames to decode
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
    note="the convolutions are causal but the group norms see every frame of a piece; zeros are put before the first frames; "
    "native is 17 frames at a time, and its latent has 5 frames for each 17; the per-frame posterior is always its mean; "
    "run it in float32 or bfloat16",
)
VARIANTS = {"1.2": V12}
HAZARDS = {"float16": "a 2-D VAE of SDXL's kind overflows; prefer float32 or bfloat16"}


def load(
    spec: VAESpec,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> OwnVAE:
    """The released weights, strictly; ValueError too if their latent normalisation is not the spec's."""
    import torch

    from adapters._nets.checkpoint import read_state
    from adapters._nets.opensora import OpenSoraConfig, OpenSoraVAE

    check_mode(spec, mode)
    if weights == places.RANDOM:
        return _vae(spec, OpenSoraVAE(OpenSoraConfig()), PIECE, device, dtype, mode)
    file = places.find(spec.source, weights)
    model = filled(lambda: OpenSoraVAE(OpenSoraConfig()), read_state(file), file, spec.name)
    for name, stored, ours in (("scale", model.scale, SCALE), ("shift", model.shift, SHIFT)):
        if not torch.allclose(stored.float().flatten(), torch.tensor(ours), rtol=1e-2):  # it may be stored as bfloat16
            raise ValueError(f"{file} has {name} {stored.flatten().tolist()}, expected {list(ours)}: not this VAE")
    return _vae(spec, model, PIECE, device, dtype, mode)


def expected_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """By published key, of a released network."""
    from adapters._nets.opensora import OpenSoraConfig, OpenSoraVAE

    return shapes_of(lambda: OpenSoraVAE(OpenSoraConfig()))


def shapes_in(checkpoint: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """By published key, of the tensors of a file."""
    return {key: tuple(value.shape) for key, value in checkpoint.items()}


def tiny(*, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, mode: str = "whole") -> OwnVAE:
    """A narrow network with random weights, in pieces of the released 17 frames."""
    from adapters._nets.opensora import OpenSoraConfig, OpenSoraVAE

    check_mode(V12, mode)
    config = OpenSoraConfig((32, 32, 32, 32), (32, 32, 32, 32), num_blocks=1)
    model, spec = untrained(lambda: OpenSoraVAE(config), V12)
    return _vae(spec, model, PIECE, device, dtype, mode)


def _vae(
    spec: VAESpec,
    model: OpenSoraVAE,
    released_piece: int,
    device: torch.device | str,
    dtype: torch.dtype | None,
    mode: str,
) -> OwnVAE:
    piece = released_piece if mode == "native" else None
    spec = replace(spec, frames_per_piece=piece or 0)

    def decode(latent: Tensor) -> Tensor:
        return model.decode(latent, num_frames(spec, latent.shape[2]), piece)

    return OwnVAE(spec, model, partial(model.encode, piece=piece), decode, device=device, dtype=dtype, hazards=HAZARDS)


def num_frames(spec: VAESpec, latent_frames: int) -> int:
    """The legal number of frames whose latent has so many; ValueError if there is none."""
    longest = spec.temporal_compression * latent_frames
    for frames in range(1, longest + 1):
        if spec.frames.allows(frames) and spec.latent_frames(frames) == latent_frames:
            return frames
    raise ValueError(f"{spec.name}: no video of {spec.frames} frames has a latent of {latent_frames} in this mode")

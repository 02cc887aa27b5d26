"""The upper bound: the latent is the video itself.  It shows the loss of the protocol alone, such as 8-bit rounding.

No weights, no compression: latent (B, 3, T, H, W), the pixels themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vaebench.vae import Posterior, VAESpec, VideoVAE

if TYPE_CHECKING:
    import torch

    from vaebench.video import Latent, Video

VARIANTS = {
    "pixels": VAESpec(
        family="identity",
        variant="pixels",
        temporal_compression=1,
        spatial_compression=1,
        latent_channels=3,
        causal=True,
        license="Apache-2.0",
        reference="the pixels themselves",
        note="dtype=bfloat16 changes a pixel by at most 1/4 of an 8-bit level, float16 by 1/32",
    )
}


@dataclass(frozen=True)
class Identity:
    spec: VAESpec
    dtype: torch.dtype

    def encode(self, video: Video) -> Posterior:
        return Posterior(video.to(self.dtype).float())

    def decode(self, latent: Latent) -> Video:
        return latent.to(self.dtype).float()


def load(
    spec: VAESpec,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> VideoVAE:
    import torch

    return Identity(spec, dtype or torch.float32)


def tiny(*, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, mode: str = "whole") -> VideoVAE:
    return load(VARIANTS["pixels"], device=device, dtype=dtype, mode=mode)

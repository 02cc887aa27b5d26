"""Average pooling, without weights: the baseline that every learned VAE must beat, and the example of an adapter.

Each latent value is the mean of a block of r_t frames by r_s x r_s pixels of one colour; decoding repeats it.  3 channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaebench.vae import FrameRule, Posterior, VAESpec, VideoVAE

if TYPE_CHECKING:
    import torch

    from vaebench.video import Latent, Video


def _spec(time: int, space: int) -> VAESpec:
    return VAESpec(
        family="pool",
        variant=f"{time}x{space}x{space}",
        temporal_compression=time,
        spatial_compression=space,
        latent_channels=3,
        causal=time == 1,  # the frames of a block share one mean
        frames=FrameRule(stride=time),
        size_multiple=space,
        license="Apache-2.0",
        reference="block means",
    )


VARIANTS = {spec.variant: spec for spec in (_spec(4, 8), _spec(4, 4), _spec(1, 8))}


class Pool:
    def __init__(self, spec: VAESpec, dtype: torch.dtype) -> None:
        self.spec = spec
        self.dtype = dtype

    def encode(self, video: Video) -> Posterior:
        time, space = self.spec.temporal_compression, self.spec.spatial_compression
        blocks = video.to(self.dtype).unflatten(2, (-1, time)).unflatten(4, (-1, space)).unflatten(6, (-1, space))
        return Posterior(blocks.mean(dim=(3, 5, 7)).float())

    def decode(self, latent: Latent) -> Video:
        time, space = self.spec.temporal_compression, self.spec.spatial_compression
        video = latent.to(self.dtype).float()
        return video.repeat_interleave(time, 2).repeat_interleave(space, 3).repeat_interleave(space, 4)


def load(
    spec: VAESpec,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> VideoVAE:
    import torch

    return Pool(spec, dtype or torch.float32)


def tiny(*, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, mode: str = "whole") -> VideoVAE:
    return load(VARIANTS["4x4x4"], device=device, dtype=dtype, mode=mode)

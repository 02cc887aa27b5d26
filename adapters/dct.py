"""Truncated 3D DCT: the classical codec with exactly as many latent values as a 4x8x8 VAE of 4, 8 or 16 channels.

A block of 4 frames x 8 x 8 pixels x 3 colours (768 values) goes through the orthonormal DCT-II along each of its four axes, and
the first 4, 8 or 16 (dct/4, dct/8, dct/16) coefficients are the latent channels.  Along the colour axis the three basis vectors
are (1, 1, 1), (1, 0, -1) and (1, -2, 1), normalised: luma and two opponent colours, similar to YCbCr but orthonormal.

The table FREQUENCIES fixes the order of the coefficients: the zig-zag of JPEG in three dimensions.  Luma goes shell by shell
(frames + rows + columns = 0, 1, 2, 3), space before time within a shell; of the two opponent colours only the means are used,
after shell 0 and shell 1.  (On the bundled clips these are also the coefficients of largest mean energy.)  The basis vectors are
orthonormal: decoding is their transpose, encode(decode(z)) is z, and no other video made from these coefficients has a smaller
squared error.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

from vaebench.vae import FrameRule, Posterior, VAESpec, VideoVAE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vaebench.video import Latent, Video

BLOCK = (3, 4, 8, 8)  # colours, frames, rows, columns
FREQUENCIES = (  # along (colour, frames, rows, columns)
    (0, 0, 0, 0), (1, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0),
    (0, 1, 0, 0), (2, 0, 0, 0), (0, 0, 1, 1), (0, 0, 0, 2), (0, 0, 2, 0), (0, 1, 0, 1), (0, 1, 1, 0), (0, 2, 0, 0),
    (0, 0, 1, 2), (0, 0, 2, 1), (0, 0, 0, 3), (0, 0, 3, 0),
)  # fmt: skip


def _spec(channels: int) -> VAESpec:
    return VAESpec(
        family="dct",
        variant=str(channels),
        temporal_compression=4,
        spatial_compression=8,
        latent_channels=channels,
        causal=False,  # a block sees its four frames
        frames=FrameRule(stride=4),
        size_multiple=8,
        license="Apache-2.0",
        reference="Ahmed, Natarajan, Rao, Discrete Cosine Transform, IEEE Trans. Computers, 1974",
    )


VARIANTS = {spec.variant: spec for spec in (_spec(4), _spec(8), _spec(16))}


def _cosines(size: int) -> Tensor:
    """The orthonormal DCT-II of `size` points, float64 (frequency, position)."""
    import torch

    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    position = torch.arange(size, dtype=torch.float64)[None]
    rows = torch.cos(math.pi * (2 * position + 1) * frequency / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


@cache
def basis(count: int) -> Tensor:
    """The first `count` basis vectors: float64 (count, 3, 4, 8, 8), orthonormal."""
    import torch

    colours, frames, rows, columns = (_cosines(size) for size in BLOCK)
    a, b, c, d = torch.tensor(FREQUENCIES[:count]).T
    return torch.einsum("ka,kb,kc,kd->kabcd", colours[a], frames[b], rows[c], columns[d])


class DCT:
    def __init__(self, spec: VAESpec, device: torch.device | str, dtype: torch.dtype) -> None:
        self.spec = spec
        self.rows = basis(spec.latent_channels).to(device, dtype)

    def encode(self, video: Video) -> Posterior:
        import torch.nn.functional as F

        blocks = video.to(self.rows.device, self.rows.dtype)
        return Posterior(F.conv3d(blocks, self.rows, stride=BLOCK[1:]).float())

    def decode(self, latent: Latent) -> Video:
        z = latent.to(self.rows.device, self.rows.dtype)
        batch, _, t, h, w = z.shape
        blocks = z.movedim(1, -1) @ self.rows.flatten(1)  # (B, t, h, w, 768); five times faster than conv_transpose3d
        blocks = blocks.view(batch, t, h, w, *BLOCK).permute(0, 4, 1, 5, 2, 6, 3, 7)
        return blocks.reshape(batch, 3, t * BLOCK[1], h * BLOCK[2], w * BLOCK[3]).float()


def load(
    spec: VAESpec,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> VideoVAE:
    import torch

    return DCT(spec, device, dtype or torch.float32)


def tiny(*, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, mode: str = "whole") -> VideoVAE:
    return load(VARIANTS["4"], device=device, dtype=dtype, mode=mode)

"""OD-VAE (arXiv 2409.01199), the CausalVAE of Open-Sora Plan v1.2: 4x8x8 compression, 4 channels, 239 M parameters.

    frames -> 2 levels of 2-D residual blocks -> 2 levels of causal 3-D ones -> middle with attention -> mean, logvar

The decoder is 3-D throughout.  Keys and shapes are those of the released checkpoint (LanguageBind/Open-Sora-Plan-v1.2.0, `vae/`).
All convolutions are causal, but every group norm of a 3-D block takes its statistics over the whole clip: a latent frame depends
on later frames through them, and no block-wise inference is exact. Facts: github.com/PKU-YuanGroup/Open-Sora-Plan at adb2a20
(v1.2.0), github.com/PKU-YuanGroup/WF-VAE at d858bee (later tiling).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters._nets.blocks import (
    CausalConv3d,
    Level,
    ResBlock,
    attend,
    frames_of,
    middle,
    project,
    silu,
    stack,
    stitch,
    video_of,
)


@dataclass(frozen=True)
class ODVAEConfig:
    width: int = 128  # channels of the first level
    multipliers: tuple[int, int, int, int] = (1, 2, 4, 4)
    res_blocks: int = 2  # per level of the encoder; the decoder has one more
    latent_channels: int = 4


# The blocks in the released config.json; the reference implementation builds other networks from other values, some with
# the same keys (AttnBlock3D), so a configuration with other blocks is refused.
RELEASED_BLOCKS: dict[str, Any] = {
    "attn_resolutions": [],
    "double_z": True,
    "use_quant_layer": True,
    "q_conv": "CausalConv3d",
    "encoder_conv_in": "Conv2d",
    "encoder_conv_out": "CausalConv3d",
    "encoder_attention": "AttnBlock3DFix",
    "encoder_resnet_blocks": ["ResnetBlock2D", "ResnetBlock2D", "ResnetBlock3D", "ResnetBlock3D"],
    "encoder_spatial_downsample": ["Downsample", "Spatial2xTime2x3DDownsample", "Spatial2xTime2x3DDownsample", ""],
    "encoder_temporal_downsample": ["", "", "", ""],
    "encoder_mid_resnet": "ResnetBlock3D",
    "decoder_conv_in": "CausalConv3d",
    "decoder_conv_out": "CausalConv3d",
    "decoder_attention": "AttnBlock3DFix",
    "decoder_resnet_blocks": ["ResnetBlock3D", "ResnetBlock3D", "ResnetBlock3D", "ResnetBlock3D"],
    "decoder_spatial_upsample": ["", "SpatialUpsample2x", "Spatial2xTime2x3DUpsample", "Spatial2xTime2x3DUpsample"],
    "decoder_temporal_upsample": ["", "", "", ""],
    "decoder_mid_resnet": "ResnetBlock3D",
    "norm_type": "groupnorm",
}  # fmt: skip


def read_config(released: Mapping[str, Any]) -> ODVAEConfig:
    """The `config.json` beside the released checkpoint -> our config; ValueError if it describes another network."""
    other = {key: released[key] for key, block in RELEASED_BLOCKS.items() if released.get(key, block) != block}
    if len(released["hidden_size_mult"]) != 4:
        other["hidden_size_mult"] = released["hidden_size_mult"]
    if released["embed_dim"] != released["z_channels"]:
        other["embed_dim"] = released["embed_dim"]
    if other:
        raise ValueError(f"not the network of Open-Sora Plan v1.2: its config has {other}")
    first, second, third, fourth = released["hidden_size_mult"]
    return ODVAEConfig(
        width=released["hidden_size"],
        multipliers=(first, second, third, fourth),
        res_blocks=released["num_res_blocks"],
        latent_channels=released["embed_dim"],
    )


@dataclass(frozen=True)
class Tiling:
    """Block-wise inference: chunks of frames, each in spatial tiles.

    A video is cut only if it is longer than `frames` or larger than `size` (a latent: `latent_frames`, `latent_size`).
    Chunks advance by one frame less than their length and overlap the next one by `shared` latent frames, which that one
    drops; nothing is blended in time.  Tiles overlap by the fraction `overlap` and are cross-faded.
    """

    size: int  # pixels of a tile's side
    latent_size: int
    frames: int  # of a chunk
    latent_frames: int
    overlap: float = 0.125
    shared: int = 1


norm = partial(nn.GroupNorm, 32, eps=1e-6)
conv_2d = partial(nn.Conv2d, kernel_size=3, padding=1)
# (N, C, H, W) -> (N, C', H, W), every frame by itself
res_block_2d = partial(ResBlock, norm=norm, conv1=conv_2d, conv2=conv_2d, shortcut=partial(nn.Conv2d, kernel_size=1))
# (B, C, T, H, W) -> (B, C', T, H, W), with norms over the whole clip
res_block_3d = partial(
    ResBlock, norm=norm, conv1=CausalConv3d, conv2=CausalConv3d, shortcut=partial(CausalConv3d, kernel=1)
)


class Attention(nn.Module):
    """Single-head attention within each frame, plus the input: (B, C, T, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q = CausalConv3d(channels, channels, kernel=1)
        self.k = CausalConv3d(channels, channels, kernel=1)
        self.v = CausalConv3d(channels, channels, kernel=1)
        self.proj_out = CausalConv3d(channels, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, frames, height, width = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1)  # (B T, H W, C)
        q, k, v = (project(layer.conv, tokens) for layer in (self.q, self.k, self.v))
        h = project(self.proj_out.conv, attend(q, k, v))
        return x + h.view(batch, frames, height, width, -1).permute(0, 4, 1, 2, 3)


class Downsample2D(nn.Module):
    """Halves height and width: (N, C, H, W) -> (N, C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Downsample3D(nn.Module):
    """Halves height, width and, the first frame apart, time: (B, C, 1+T, H, W) -> (B, C, 1+T/2, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, stride=2, padding=(0, 1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class UpsampleSpace(nn.Module):
    """Doubles height and width: (B, C, T, H, W) -> (B, C, T, 2H, 2W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, kernel=(1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="nearest"))


class Upsample(nn.Module):
    """Doubles height, width and, the first frame apart, time: (B, C, 1+T, H, W) -> (B, C, 1+2T, 2H, 2W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        first = F.interpolate(x[:, :, :1], scale_factor=(1.0, 2.0, 2.0), mode="trilinear")
        if x.shape[2] == 1:
            return self.conv(first)
        rest = F.interpolate(x[:, :, 1:], scale_factor=(2.0, 2.0, 2.0), mode="trilinear")
        return self.conv(torch.cat([first, rest], dim=2))


class Encoder(nn.Module):
    def __init__(self, config: ODVAEConfig) -> None:
        super().__init__()
        c0, c1, c2, c3 = (config.width * multiplier for multiplier in config.multipliers)
        count = config.res_blocks
        self.conv_in = conv_2d(3, config.width)
        self.down = nn.ModuleList(
            [
                Level(stack(res_block_2d, config.width, c0, count), downsample=Downsample2D(c0)),
                Level(stack(res_block_2d, c0, c1, count), downsample=Downsample3D(c1)),
                Level(stack(res_block_3d, c1, c2, count), downsample=Downsample3D(c2)),
                Level(stack(res_block_3d, c2, c3, count)),
            ]
        )
        self.mid = middle(res_block_3d(c3, c3), Attention(c3), res_block_3d(c3, c3))
        self.norm_out = norm(c3)
        self.conv_out = CausalConv3d(c3, 2 * config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth = self.down
        blocks, downsample = second.children()
        frames = blocks(first(self.conv_in(frames_of(x))))  # so far every frame by itself
        h = downsample(video_of(frames, len(x)))
        h = self.mid(fourth(third(h)))
        return self.conv_out(silu(self.norm_out(h)))


class Decoder(nn.Module):
    def __init__(self, config: ODVAEConfig) -> None:
        super().__init__()
        c0, c1, c2, c3 = (config.width * multiplier for multiplier in config.multipliers)
        count = config.res_blocks + 1
        self.conv_in = CausalConv3d(config.latent_channels, c3)
        self.mid = middle(res_block_3d(c3, c3), Attention(c3), res_block_3d(c3, c3))
        self.up = nn.ModuleList(  # highest resolution first, as published; run from the last
            [
                Level(stack(res_block_3d, c1, c0, count)),
                Level(stack(res_block_3d, c2, c1, count), upsample=UpsampleSpace(c1)),
                Level(stack(res_block_3d, c3, c2, count), upsample=Upsample(c2)),
                Level(stack(res_block_3d, c3, c3, count), upsample=Upsample(c3)),
            ]
        )
        self.norm_out = norm(c0)
        self.conv_out = CausalConv3d(c0, 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(silu(self.norm_out(h)))


class ODVAE(nn.Module):
    def __init__(self, config: ODVAEConfig | None = None) -> None:
        super().__init__()
        config = config or ODVAEConfig()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = CausalConv3d(2 * config.latent_channels, 2 * config.latent_channels, kernel=1)
        self.post_quant_conv = CausalConv3d(config.latent_channels, config.latent_channels, kernel=1)

    def encode(self, x: Tensor, tiling: Tiling | None = None) -> Tensor:
        """(B, 3, T, H, W) in -1..1 -> (B, 2c, 1 + (T-1)//4, H/8, W/8): mean and log-variance, the latter not clamped."""
        if tiling is None or (max(x.shape[3:]) <= tiling.size and x.shape[2] <= tiling.frames):
            return self._encode(x)
        latents = []
        for start, end in time_chunks(x.shape[2], tiling.frames, 4 * (tiling.shared - 1)):
            rows = _tiles(self._encode, x[:, :, start:end], tiling.size, tiling.overlap)
            extent = int(tiling.latent_size * tiling.overlap)
            chunk = stitch(rows, extent, tiling.latent_size - extent, crop_last=True)
            latents.append(chunk[:, :, tiling.shared if start else 0 :])
        return torch.cat(latents, dim=2)

    def decode(self, z: Tensor, tiling: Tiling | None = None) -> Tensor:
        """(B, c, t, h, w) -> (B, 3, 4t - 3, 8h, 8w), about -1..1, not clamped."""
        if tiling is None or (max(z.shape[3:]) <= tiling.latent_size and z.shape[2] <= tiling.latent_frames):
            return self._decode(z)
        videos = []
        for start, end in time_chunks(z.shape[2], tiling.latent_frames, tiling.shared - 1):
            rows = _tiles(self._decode, z[:, :, start:end], tiling.latent_size, tiling.overlap)
            extent = int(tiling.size * tiling.overlap)
            chunk = stitch(rows, extent, tiling.size - extent, crop_last=True)
            videos.append(chunk[:, :, 4 * tiling.shared - 3 if start else 0 :])
        return torch.cat(videos, dim=2)

    def _encode(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(x))

    def _decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))


def time_chunks(length: int, chunk: int, reach: int) -> list[tuple[int, int]]:
    """The [start, end) of each chunk: a start every `chunk` - 1 frames, an end `reach` + 1 beyond the next start.

    No chunk starts after one that reaches the end.
    """
    starts = range(0, length, chunk - 1)
    cut = [(start, min(start + chunk + reach, length)) for start in starts[:-1]]
    return cut if cut and cut[-1][1] == length else [*cut, (starts[-1], length)]


def _tiles(run: Callable[[Tensor], Tensor], x: Tensor, size: int, overlap: float) -> Iterator[Iterator[Tensor]]:
    # A tile at the border is run even if the one before it has reached the border: at 256 pixels the
    # published loop adds a tile of 32, and its seam is part of the block-wise numbers.
    stride = int(size * (1 - overlap))
    for top in range(0, x.shape[3], stride):
        band = x[:, :, :, top : top + size]
        yield (run(band[..., left : left + size]) for left in range(0, x.shape[4], stride))

"""CV-VAE, the video VAE whose latents are those of Stable Diffusion 2.1, or of Stable Diffusion 3 (arXiv 2405.20279).

One network in two forms.  Modules carry the names of the SD 2.1 release; `published_name` gives those of the SD3 one.
Architecture read from github.com/AILab-CVC/CV-VAE at 375f18a, `models/`.  Group norm runs over time as well, so
one pass over the video and the released block-wise inference give different results, both defined here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters._nets.blocks import (
    FrameConv2d,
    Level,
    ResBlock,
    attend,
    frames_of,
    middle,
    project,
    repeat_first,
    silu,
    stack,
    stitch,
    video_of,
)

TEMPORAL, SPATIAL = 4, 8  # compression; time is halved at the first and the third level
IN_TIME = (True, False, True)  # per level of the encoder, high resolution first: does its resampling halve time?


@dataclass(frozen=True)
class Blocks:
    """Block-wise inference as the released code does it by default; None does not divide that axis."""

    frames: int | None = 16  # of a chunk, besides the one before them, which it shares with the previous chunk
    tile: int | None = 576  # pixels, height and width
    overlap: float = 0.2222  # of a tile, cross-faded


@dataclass(frozen=True)
class CVVAEConfig:
    """The defaults are the released SD 2.1 form; `SD3` is the other one."""

    channels: tuple[int, ...] = (128, 256, 512, 512)  # per level, high resolution first
    latent_channels: int = 4
    num_blocks: int = 2  # residual blocks per level of the encoder; the decoder has one more
    sd3: bool = False  # replicated edges, norm eps 1e-6, no attention over time
    blocks: Blocks = field(default_factory=Blocks)  # of the released block-wise inference

    @property
    def eps(self) -> float:
        return 1e-6 if self.sd3 else 1e-5

    @property
    def edge(self) -> Literal["zeros", "replicate"]:
        return "replicate" if self.sd3 else "zeros"


SD3 = CVVAEConfig(latent_channels=16, sd3=True)


# values of the released config.json for this network; with others, the reference implementation builds other networks
RELEASED = {
    "double_z": True,
    "attn_resolutions": [],
    "half_3d": True,
    "use_3d_conv": True,
    "causal_encoder": True,
    "causal_decoder": False,
    "encoder_attn_type": "vanilla-xformers",
    "decoder_attn_type": "spatial-temporal-xformer",
    "mid_block_add_attention": True,
    "norm_num_groups": 32,
    "act_fn": "silu",
    "time_n_compress": TEMPORAL,
    "spatial_n_compress": SPATIAL,
}


def read_config(released: Mapping[str, Any]) -> CVVAEConfig:
    """The config.json beside the weights -> our config; ValueError if it describes another network."""
    other = {key: released[key] for key, value in RELEASED.items() if released.get(key, value) != value}
    sd3 = "block_out_channels" in released or "out_channels" in released
    if sd3:
        channels = tuple(released.get("block_out_channels", SD3.channels))
        config = CVVAEConfig(
            channels,
            released.get("out_channels", SD3.latent_channels),
            released.get("layers_per_block", 2),
            sd3=True,
        )
    else:
        channels = tuple(released.get("ch", 128) * multiple for multiple in released.get("ch_mult", (1, 2, 4, 4)))
        config = CVVAEConfig(channels, released.get("z_channels", 4), released.get("num_res_blocks", 2))
    if len(channels) != 4:
        other["channels per level"] = channels
    if other:
        raise ValueError(f"not the network of CV-VAE: its config has {other}")
    default = Blocks()
    blocks = Blocks(
        released.get("en_de_n_frames_a_time", default.frames),
        released.get("tile_spatial_size", default.tile),
        released.get("tile_overlap_ratio", default.overlap),
    )
    return replace(config, blocks=blocks)


def group_norm(config: CVVAEConfig, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=config.eps)


class CausalConv3d(nn.Conv3d):
    """Kernel 3; the first frame stands for the two before it, zeros (SD3: copies) for what lies beyond the edges."""

    def __init__(self, config: CVVAEConfig, in_channels: int, out_channels: int, stride: tuple[int, ...] = (1, 1, 1)):
        super().__init__(in_channels, out_channels, 3, stride)  # type: ignore[arg-type]
        self.copies_edges = config.sd3

    def forward(self, x: Tensor) -> Tensor:
        if self.copies_edges:
            x = F.pad(x, (1, 1, 1, 1, 2, 0), mode="replicate")
            return F.conv3d(x, self.weight, self.bias, self.stride)
        return F.conv3d(repeat_first(x, 2), self.weight, self.bias, self.stride, (0, 1, 1))


def conv(config: CVVAEConfig, causal: bool, in_channels: int, out_channels: int) -> nn.Conv3d:
    """Kernel 3: causal in the encoder, centred in the decoder."""
    if causal:
        return CausalConv3d(config, in_channels, out_channels)
    return nn.Conv3d(in_channels, out_channels, 3, padding=1, padding_mode=config.edge)


def res_block(config: CVVAEConfig, causal: bool, in_channels: int, out_channels: int) -> ResBlock:
    """A convolution in three dimensions, then one within each frame."""
    return ResBlock(
        in_channels,
        out_channels,
        norm=partial(group_norm, config),
        conv1=partial(conv, config, causal),
        conv2=partial(FrameConv2d, kernel_size=3, padding=1),
        # the same map; the released shapes differ
        shortcut=partial(FrameConv2d if config.sd3 else nn.Conv3d, kernel_size=1),
    )


class Attention(nn.Module):
    """Attention within each frame and, in the SD 2.1 decoder, then over the frames of each pixel; norm per frame."""

    def __init__(self, config: CVVAEConfig, channels: int, over_time: bool) -> None:
        super().__init__()
        pointwise = nn.Linear if config.sd3 else partial(nn.Conv2d, kernel_size=1)
        self.norm = group_norm(config, channels)
        self.q, self.k, self.v, self.proj_out = (pointwise(channels, channels) for _ in range(4))
        self.over_time = over_time
        if over_time:
            self.norm_t = nn.LayerNorm(channels)
            self.q_t, self.k_t, self.v_t, self.proj_out_t = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, _, _, height, width = x.shape
        tokens = self.norm(frames_of(x)).flatten(2).transpose(1, 2)  # (B T, H W, C)
        tokens = attend(*(project(layer, tokens) for layer in (self.q, self.k, self.v)))
        tokens = project(self.proj_out, tokens)
        if self.over_time:
            pixels = tokens.unflatten(0, (batch, -1)).transpose(1, 2)  # (B, H W, T, C)
            pixels = self.norm_t(pixels.flatten(0, 1))
            pixels = self.proj_out_t(attend(self.q_t(pixels), self.k_t(pixels), self.v_t(pixels)))
            tokens = pixels.unflatten(0, (batch, -1)).transpose(1, 2).flatten(0, 1)
        return x + video_of(tokens.transpose(1, 2).unflatten(2, (height, width)), batch)


class Downsample(nn.Module):
    """Halves height and width, and time where asked: T -> (T + 1) // 2."""

    def __init__(self, config: CVVAEConfig, channels: int, in_time: bool) -> None:
        super().__init__()
        stride = (2 if in_time else 1, 2, 2)
        self.copies_edges = config.sd3
        if config.sd3:
            self.conv: nn.Conv3d = CausalConv3d(config, channels, channels, stride)
        else:
            self.conv = nn.Conv3d(channels, channels, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.copies_edges:
            return self.conv(x)
        h = F.pad(x, (0, 1, 0, 1, 2, 0))  # zeros right and below only
        h[:, :, :2] = h[:, :, 2:3]
        return self.conv(h)


class Upsample(nn.Module):
    """Doubles height and width, and time where asked: T -> 2 T - 1, the frames being interleaved from channels."""

    def __init__(self, config: CVVAEConfig, channels: int, in_time: bool) -> None:
        super().__init__()
        self.in_time = in_time
        out_channels = 2 * channels if in_time else channels
        # time is always replicated at both ends; only the spatial edge differs
        padding = 1 if config.sd3 else (0, 1, 1)
        self.conv = nn.Conv3d(channels, out_channels, 3, padding=padding, padding_mode=config.edge)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.padding[0] == 0:
            x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)  # before the frames have four times the pixels
        h = self.conv(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))
        if not self.in_time:
            return h
        first, second = h.chunk(2, dim=1)  # frames 2 t and 2 t + 1; the very first is dropped
        out = h.new_empty(h.shape[0], first.shape[1], 2 * h.shape[2] - 1, *h.shape[3:])
        out[:, :, 0::2] = second
        out[:, :, 1::2] = first[:, :, 1:]
        return out


def mid(config: CVVAEConfig, causal: bool) -> nn.Sequential:
    channels = config.channels[-1]
    block = partial(res_block, config, causal, channels, channels)
    return middle(block(), Attention(config, channels, over_time=not causal and not config.sd3), block())


class Encoder(nn.Module):
    """(B, 3, T, H, W) -> (B, 2 c, 1 + (T - 1) // 4, H / 8, W / 8), mean and log variance on the channels."""

    def __init__(self, config: CVVAEConfig) -> None:
        super().__init__()
        channels = (config.channels[0], *config.channels)  # of the level before, and of each level
        self.conv_in = conv(config, True, 3, channels[0])
        self.down = nn.ModuleList()
        for i, (before, here) in enumerate(zip(channels, config.channels, strict=False)):
            blocks = stack(partial(res_block, config, True), before, here, config.num_blocks)
            down = Downsample(config, here, IN_TIME[i]) if i < len(IN_TIME) else None
            self.down.append(Level(blocks, downsample=down))
        self.mid = mid(config, causal=True)
        self.norm_out = group_norm(config, channels[-1])
        self.conv_out = conv(config, True, channels[-1], 2 * config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """(B, c, t, h, w) -> (B, 3, 4 t - 3, 8 h, 8 w)."""

    def __init__(self, config: CVVAEConfig) -> None:
        super().__init__()
        channels = (*config.channels, config.channels[-1])  # of each level, and of the level before it
        self.conv_in = conv(config, False, config.latent_channels, channels[-1])
        self.mid = mid(config, causal=False)
        self.up = nn.ModuleList()  # highest resolution first, run from the last
        for i, (here, before) in enumerate(zip(config.channels, channels[1:], strict=True)):
            blocks = stack(partial(res_block, config, False), before, here, config.num_blocks + 1)
            self.up.append(Level(blocks, upsample=Upsample(config, here, IN_TIME[i - 1]) if i > 0 else None))
        self.norm_out = group_norm(config, channels[0])
        self.conv_out = conv(config, False, channels[0], 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(silu(self.norm_out(h)))


class CVVAE(nn.Module):
    """Encoder and decoder; latents unscaled.  `blocks=None` is one pass over the whole video."""

    def __init__(self, config: CVVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, x: Tensor, blocks: Blocks | None = None) -> Tensor:
        """(B, 3, T, H, W) in -1..1 -> moments (B, 2 c, t, h, w).  In blocks, frames beyond the last 1 + 4 k are lost."""
        if blocks is None:
            return self.encoder(x)
        run = tiled(self.encoder, blocks, blocks.tile, 1 / SPATIAL)
        return in_chunks(run, x, blocks.frames)

    def decode(self, z: Tensor, blocks: Blocks | None = None) -> Tensor:
        """(B, c, t, h, w) -> (B, 3, 4 t - 3, 8 h, 8 w)."""
        if blocks is None:
            return self.decoder(z)
        run = tiled(self.decoder, blocks, blocks.tile and blocks.tile // SPATIAL, SPATIAL)
        return in_chunks(run, z, blocks.frames and blocks.frames // TEMPORAL)


def in_chunks(run: Callable[[Tensor], Tensor], x: Tensor, frames: int | None) -> Tensor:
    """`run` on chunks of 1 + `frames` frames that share one frame, whose result is dropped from all but the first chunk."""
    last = max(x.shape[2] - 1, 1)
    step = frames or last
    parts = [run(x[:, :, start : start + step + 1])[:, :, min(start, 1) :] for start in range(0, last, step)]
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def tiled(
    run: Callable[[Tensor], Tensor], blocks: Blocks, tile: int | None, scale: float
) -> Callable[[Tensor], Tensor]:
    """`run` on overlapping tiles, cross-faded; `tile` in the units of its input, `scale` output over input size."""
    if tile is None:
        return run
    stride = round(tile * (1 - blocks.overlap))

    def starts(size: int) -> range:  # up to the first tile that reaches the border
        return range(0, max(size - tile, 0) + stride, stride)

    def run_tiled(x: Tensor) -> Tensor:
        tops, lefts = starts(x.shape[3]), starts(x.shape[4])
        if len(tops) == len(lefts) == 1:
            return run(x)

        def row(top: int) -> Iterator[Tensor]:
            return (run(x[..., top : top + tile, left : left + tile]) for left in lefts)

        out_tile, out_stride = round(tile * scale), round(round(tile * scale) * (1 - blocks.overlap))
        return stitch(map(row, tops), out_tile - out_stride, out_stride, crop_last=False)

    return run_tiled


def published_name(key: str, config: CVVAEConfig) -> str:
    """The key in the released file of our module's `key`: itself for SD 2.1, diffusers' names for SD3."""
    if not config.sd3:
        return key
    last = len(config.channels) - 1
    key = re.sub(r"up\.(\d+)", lambda level: f"up_blocks.{last - int(level[1])}", key)  # stored in running order
    for ours, theirs in SD3_NAMES:
        key = re.sub(ours, theirs, key)
    return key


SD3_NAMES = (
    (r"attn_1\.norm", "attn_1.group_norm"),
    (r"attn_1\.([qkv])\.", r"attn_1.to_\1."),
    (r"attn_1\.proj_out", "attn_1.to_out.0"),
    (r"mid\.attn_1", "mid_block.attentions.0"),
    (r"mid\.block_1", "mid_block.resnets.0"),
    (r"mid\.block_2", "mid_block.resnets.1"),
    (r"down\.(\d+)", r"down_blocks.\1"),
    (r"\.block\.", ".resnets."),
    (r"\.(down|up)sample\.", r".\1samplers.0."),
    (r"nin_shortcut", "conv_shortcut"),
    (r"norm_out", "conv_norm_out"),
)

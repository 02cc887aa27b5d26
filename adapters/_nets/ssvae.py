"""SSVAE (arXiv 2512.05394): 4x16x16 compression, 48 channels, 315 M parameters, causal in the encoder and in the decoder.

    frames -> 5 levels of causal residual blocks, halving space 4 times and time twice -> middle with attention -> mean, logvar

Every change of size has a shortcut without weights (space to channels and back, as in DC-AE, arXiv 2410.10733), and the norms
look at one position at a time, so no output depends on a later frame.  Keys and shapes are those of the released checkpoint
(zai-org/SSVAE, `ch48_256p_15w_512p_5w.ckpt`).  Facts: github.com/zai-org/SSVAE at 0b141f7.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters._nets.blocks import (
    CausalConv3d,
    FrameConv2d,
    Level,
    ResBlock,
    attend,
    frames_of,
    project,
    stack,
    video_of,
)


@dataclass(frozen=True)
class SSVAEConfig:
    width: int = 32
    multipliers: tuple[int, ...] = (2, 4, 8, 16, 16)
    res_blocks: int = 3  # per level of the encoder; the decoder has one more
    latent_channels: int = 48
    halve_time: tuple[bool, ...] = (False, False, True, True)  # at the end of which encoder levels
    double_time: tuple[bool, ...] = (True, True, False, False)  # at the end of which decoder levels


class RMSNorm(nn.Module):
    """Scales the channels of every position to unit root mean square: (B, C, ...) -> the same."""

    def __init__(self, channels: int, axes: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        h = x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)
        gain = self.gamma * len(self.gamma) ** 0.5
        return h * gain if torch.is_grad_enabled() else h.mul_(gain)


res_block = partial(
    ResBlock, norm=RMSNorm, conv1=CausalConv3d, conv2=CausalConv3d, shortcut=partial(nn.Conv3d, kernel_size=1)
)


class Attention(nn.Module):
    """Single-head attention within each frame, plus the input: (B, C, T, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels, axes=2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        frames = frames_of(x)
        tokens = self.norm(frames).flatten(2).transpose(1, 2)  # (B T, H W, C)
        q, k, v = project(self.to_qkv, tokens).chunk(3, dim=-1)
        h = project(self.proj, attend(q, k, v)).transpose(1, 2).reshape(frames.shape)
        return x + video_of(h, len(x))


class Downsample(nn.Module):
    """Halves height, width and, with `time`, all frames but the first: (B, C, 1+T, H, W) -> (B, C', 1+T/2, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int, time: bool) -> None:
        super().__init__()
        self.conv: nn.Module
        if time:
            self.conv = CausalConv3d(in_channels, out_channels, stride=2, padding=(0, 1, 0, 1))
        else:
            self.conv = FrameConv2d(in_channels, out_channels, 3, stride=2)
        self.out_channels, self.time = out_channels, time

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x if self.time else F.pad(x, (0, 1, 0, 1)))
        return h.add_(self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """Space (and time) to channels, then the mean over groups of them."""
        if self.time:
            # the released model completes the first pair of frames with zeros, not with the first frame
            x = F.pad(x, (0, 0, 0, 0, 1, 0))
        batch, channels, frames, height, width = x.shape
        depth = 1 + self.time
        x = x.reshape(batch, channels, frames // depth, depth, height // 2, 2, width // 2, 2)
        x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)
        return x.unflatten(1, (self.out_channels, -1)).mean(dim=2)


class Upsample(nn.Module):
    """Doubles height, width and, with `time`, all frames but the first: (B, C, 1+T, H, W) -> (B, C', 1+2T, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int, time: bool) -> None:
        super().__init__()
        self.conv = CausalConv3d(in_channels, out_channels)
        self.out_channels, self.time = out_channels, time

    def forward(self, x: Tensor) -> Tensor:
        h = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
        if self.time:
            h = torch.cat([h[:, :, :1], h[:, :, 1:].repeat_interleave(2, dim=2)], dim=2)
        return self.conv(h).add_(self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """Channels, each repeated as often as needed, to space (and time), without the first of the first pair of frames."""
        depth = 1 + self.time
        repeats = self.out_channels * depth * 4 // x.shape[1]
        x = x.repeat_interleave(repeats, dim=1)
        x = x.unflatten(1, (-1, depth, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4)
        x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return x[:, :, depth - 1 :]


class Encoder(nn.Module):
    def __init__(self, config: SSVAEConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in config.multipliers]
        self.conv_in = CausalConv3d(3, config.width)
        self.down = nn.ModuleList()
        # the first level widens in its first block, the others in the downsampling before them
        for i, (width, wider) in enumerate(zip(widths, [*widths[1:], 0], strict=True)):
            inputs = width if i else config.width
            down = Downsample(width, wider, config.halve_time[i]) if wider else None
            self.down.append(Level(stack(res_block, inputs, width, config.res_blocks), downsample=down))
        # as in the reference implementation, attention follows both blocks here, and only the first in the decoder
        self.mid = nn.Sequential(res_block(width, width), Attention(width), res_block(width, width), Attention(width))
        self.out = nn.Sequential(RMSNorm(width), nn.SiLU(), CausalConv3d(width, 2 * config.latent_channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.out(self.mid(h))


class Decoder(nn.Module):
    def __init__(self, config: SSVAEConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in reversed(config.multipliers)]
        width = widths[0]
        self.conv_in = CausalConv3d(config.latent_channels, width)
        self.mid = nn.Sequential(res_block(width, width), Attention(width), res_block(width, width))
        self.up = nn.ModuleList()
        for i, (width, narrower) in enumerate(zip(widths, [*widths[1:], 0], strict=True)):
            up = Upsample(width, narrower, config.double_time[i]) if narrower else None
            self.up.append(Level(stack(res_block, width, width, config.res_blocks + 1), upsample=up))
        self.out = nn.Sequential(RMSNorm(width), nn.SiLU(), CausalConv3d(width, 3))

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in self.up:
            h = level(h)
        return self.out(h)


class SSVAE(nn.Module):
    def __init__(self, config: SSVAEConfig | None = None) -> None:
        super().__init__()
        config = config or SSVAEConfig()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) in -1..1, T = 4k + 1 -> (B, 2c, k + 1, H/16, W/16): mean and log-variance, not normalised."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """(B, c, t, h, w), not normalised -> (B, 3, 4t - 3, 16h, 16w), about -1..1, not clamped."""
        return self.decoder(z)

"""Open-Sora 1.2's video VAE: a 2-D autoencoder for every frame, then a temporal one on its latents.

    x --AutoencoderKL encoder--> 4 channels, 8x8 --* 0.18215--> temporal encoder --> mean, log variance, 4x8x8
    z --temporal decoder--> drop the padding --/ 0.18215--> AutoencoderKL decoder, frame by frame

Read from github.com/hpcaitech/Open-Sora at v1.2.0, `opensora/models/vae/`.  The spatial half has SDXL's architecture with other
weights and another factor; the class of diffusers fits the released keys.  Any number of frames is legal: zeros in front fill the
first group of 4, and the decoder is given the number of frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from adapters._nets.blocks import frames_of, silu, stack, video_of

TEMPORAL = 4  # compression
SPATIAL_FACTOR = 0.18215  # on the 2-D latents; not the 0.13025 of SDXL's VAE
FRAMES_AT_ONCE = 4  # through the 2-D halves: bounds memory, changes no number
DOWN_IN_TIME = (False, True, True)  # after each level but the last


@dataclass(frozen=True)
class OpenSoraConfig:
    """The defaults are the released network."""

    spatial_channels: tuple[int, ...] = (128, 256, 512, 512)
    temporal_channels: tuple[int, ...] = (128, 256, 256, 512)
    num_blocks: int = 4  # temporal residual blocks per level
    spatial_blocks: int = 2  # residual blocks per level of the 2-D encoder
    latent_channels: int = 4


class CausalConv3d(nn.Module):
    """Pads with zeros in front of the first frame, so that T becomes T / stride, and around the edges."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, bias: bool = True):
        super().__init__()
        self.front = kernel - stride
        edge = kernel // 2
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, (stride, 1, 1), (0, edge, edge), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 0, 0, 0, self.front, 0)) if self.front else x)


class ResBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(32, in_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels, bias=False)
        self.norm2 = nn.GroupNorm(32, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels, bias=False)
        self.conv3 = None if in_channels == out_channels else CausalConv3d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        h = self.conv2(silu(self.norm2(h)))
        return h + (x if self.conv3 is None else self.conv3(x))


def res_blocks(count: int, in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(*stack(ResBlock, in_channels, out_channels, count))


class TemporalEncoder(nn.Module):
    """(B, 4, T, h, w), T a multiple of 4 -> moments (B, 2 c, T / 4, h, w)."""

    def __init__(self, config: OpenSoraConfig) -> None:
        super().__init__()
        channels, count = config.temporal_channels, config.num_blocks
        self.conv_in = CausalConv3d(config.latent_channels, channels[0], bias=False)
        before = (channels[0], *channels)
        self.block_res_blocks = nn.ModuleList(res_blocks(count, *pair) for pair in zip(before, channels, strict=False))
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(here, here, stride=2) if down else nn.Identity()
            for here, down in zip(channels, DOWN_IN_TIME, strict=False)
        )
        self.res_blocks = res_blocks(count, channels[-1], channels[-1])
        self.norm1 = nn.GroupNorm(32, channels[-1])
        self.conv2 = CausalConv3d(channels[-1], 2 * config.latent_channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for blocks, down in zip(self.block_res_blocks, [*self.conv_blocks, nn.Identity()], strict=True):
            h = down(blocks(h))
        return self.conv2(silu(self.norm1(self.res_blocks(h))))


class TemporalDecoder(nn.Module):
    """(B, c, t, h, w) -> (B, 4, 4 t, h, w)."""

    def __init__(self, config: OpenSoraConfig) -> None:
        super().__init__()
        channels, count = config.temporal_channels, config.num_blocks
        self.conv1 = CausalConv3d(config.latent_channels, channels[-1])
        self.res_blocks = res_blocks(count, channels[-1], channels[-1])
        before = (*channels[1:], channels[-1])
        self.block_res_blocks = nn.ModuleList(res_blocks(count, *pair) for pair in zip(before, channels, strict=True))
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(here, 2 * here) if up else nn.Identity()
            for here, up in zip(channels[1:], DOWN_IN_TIME, strict=True)
        )
        self.norm1 = nn.GroupNorm(32, channels[0])
        self.conv_out = CausalConv3d(channels[0], config.latent_channels)

    def forward(self, z: Tensor) -> Tensor:
        h = self.res_blocks(self.conv1(z))
        for i in reversed(range(len(self.block_res_blocks))):
            h = self.block_res_blocks[i](h)
            if i > 0:
                h = self.conv_blocks[i - 1](h)
                if DOWN_IN_TIME[i - 1]:  # frames 2 t and 2 t + 1 lie in neighbouring channels
                    h = h.unflatten(1, (-1, 2)).transpose(2, 3).flatten(2, 3)
        return self.conv_out(silu(self.norm1(h)))


class TemporalVAE(nn.Module):
    def __init__(self, config: OpenSoraConfig) -> None:
        super().__init__()
        channels = config.latent_channels
        self.encoder = TemporalEncoder(config)
        self.quant_conv = CausalConv3d(2 * channels, 2 * channels, kernel=1)
        self.post_quant_conv = CausalConv3d(channels, channels, kernel=1)
        self.decoder = TemporalDecoder(config)

    def encode(self, x: Tensor) -> Tensor:
        """(B, 4, T, h, w) -> moments (B, 2 c, ceil(T / 4), h, w)."""
        padding = -x.shape[2] % TEMPORAL
        return self.quant_conv(self.encoder(F.pad(x, (0, 0, 0, 0, padding, 0)) if padding else x))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        """(B, c, t, h, w) -> (B, 4, num_frames, h, w), without the frames of encode's padding."""
        return self.decoder(self.post_quant_conv(z))[:, :, -num_frames % TEMPORAL :]


class OpenSoraVAE(nn.Module):
    """Both halves.  `chunk` is the number of frames the temporal half takes at once: 17 as released, None for all.

    Latents are those of the temporal half; a diffusion model sees (z - shift) / scale, per channel.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, config: OpenSoraConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.spatial_channels)
        kl = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.spatial_channels,
            layers_per_block=config.spatial_blocks,
            latent_channels=config.latent_channels,
        )
        self.spatial_vae = nn.Module()  # the released keys have one more level here
        self.spatial_vae.module = kl
        self.temporal_vae = TemporalVAE(config)
        self.register_buffer("scale", torch.ones(1, config.latent_channels, 1, 1, 1))
        self.register_buffer("shift", torch.zeros(1, config.latent_channels, 1, 1, 1))

    @property
    def kl(self) -> AutoencoderKL:
        return self.spatial_vae.module

    def spatial_moments(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) in -1..1 -> mean and log variance of every frame, (B T, 8, H / 8, W / 8)."""
        kl = self.kl
        return torch.cat([kl.quant_conv(kl.encoder(frames)) for frames in frames_of(x).split(FRAMES_AT_ONCE)])

    def encode(self, x: Tensor, chunk: int | None, noise: Tensor | None = None) -> Tensor:
        """(B, 3, T, H, W) in -1..1 -> moments (B, 2 c, t, h, w) of the temporal half.

        The released code also samples the posterior of the frames; here it is the mean, or a sample with `noise`
        (B T, 4, h, w).
        """
        mean, logvar = self.spatial_moments(x).chunk(2, dim=1)
        if noise is not None:
            mean = mean + (0.5 * logvar.clamp(-30, 20)).exp() * noise
        frames = video_of(mean * SPATIAL_FACTOR, x.shape[0])
        return torch.cat([self.temporal_vae.encode(part) for part in frames.split(chunk or x.shape[2], dim=2)], dim=2)

    def decode(self, z: Tensor, num_frames: int, chunk: int | None) -> Tensor:
        """(B, c, t, h, w) -> (B, 3, num_frames, H, W)."""
        chunk = chunk or num_frames
        parts = []
        for i, part in enumerate(z.split(-(-chunk // TEMPORAL), dim=2)):
            parts.append(self.temporal_vae.decode(part, min(chunk, num_frames - i * chunk)))
        frames = frames_of(torch.cat(parts, dim=2) / SPATIAL_FACTOR)
        kl = self.kl
        pixels = [kl.decoder(kl.post_quant_conv(batch)) for batch in frames.split(FRAMES_AT_ONCE)]
        return video_of(torch.cat(pixels), z.shape[0])

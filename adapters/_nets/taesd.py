"""TAESD: tiny image autoencoders of plain 3x3 convolutions, trained to read and write the latents of large VAEs.

    encoder: convolution -> (stride 2, blocks of residual convolutions) for every halving -> latent
    decoder: 3 tanh(z / 3) -> (blocks, nearest x2, convolution) for every doubling -> pixels

Everything is one flat sequence, and the index of a layer is its key in the released files.  Frames never see each other.  Pixels
are 0..1, not clamped; the latent is the parent's normalised one.  Facts: github.com/madebyollin/taesd at 5cccb12.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from adapters._nets.blocks import frames_of, video_of


@dataclass(frozen=True)
class TAESDConfig:
    latent_channels: int = 4
    stem: tuple[int, ...] = ()  # widths of stride-2 convolutions in front of the encoder's first block (Sana)
    widths: tuple[int, ...] = (64, 64, 64, 64)  # of the decoder, from the lowest resolution to pixels
    encoder_width: int = 64
    pool: int = 0  # channels of the blocks' normalised branch at the lowest resolution (FLUX.2); 0: none


def conv3(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)


class Clamp(nn.Module):
    """Limits latents softly to -3..3."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z / 3) * 3


class Block(nn.Module):
    """relu(convolutions(x) + x); with `pool` channels, a branch normalised over the whole frame is added to x before that."""

    def __init__(self, width: int, pool: int = 0) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv3(width, width), nn.ReLU(), conv3(width, width), nn.ReLU(), conv3(width, width)
        )  # fmt: skip
        self.pool = _pool(width, pool) if pool else None

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


def _pool(width: int, wide: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, wide, 1, bias=False),
        nn.GroupNorm(4, wide),
        nn.ReLU(),
        nn.Conv2d(wide, width, 1, bias=False),
    )


def encoder(config: TAESDConfig) -> nn.Sequential:
    width = config.encoder_width
    layers: list[nn.Module]
    if config.stem:
        inputs = (3, *config.stem)
        layers = []
        for before, after in zip(inputs, (*config.stem, width), strict=True):
            layers += [conv3(before, after, stride=2), nn.ReLU()]
    else:
        layers = [conv3(3, width)]  # no activation follows it
    layers.append(Block(width))
    for level in range(3):
        layers.append(conv3(width, width, stride=2, bias=False))
        layers += [Block(width, config.pool if level == 2 else 0) for _ in range(3)]
    layers.append(conv3(width, config.latent_channels))
    return nn.Sequential(*layers)


def decoder(config: TAESDConfig) -> nn.Sequential:
    widths = config.widths
    layers: list[nn.Module] = [Clamp(), conv3(config.latent_channels, widths[0]), nn.ReLU()]
    for level, (width, narrower) in enumerate(pairwise(widths)):
        layers += [Block(width, config.pool if level == 0 else 0) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), conv3(width, narrower, bias=False)]
    return nn.Sequential(*layers, Block(widths[-1]), conv3(widths[-1], 3))


def enlarge_weights(model: nn.Module) -> None:
    """Gives PyTorch's random weights unit gain: without norms, their gain of a third would leave only the biases."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3**0.5)


def _frame_by_frame(network: nn.Module, video: Tensor) -> Tensor:
    """Run a network for images on the frames of (B, c, T, H, W).

    A GPU takes all frames as one batch.  A CPU takes one at a time, with bit-equal results: its memory does not grow with T,
    and the allocator reuses the activations of a frame.  Those of a batch are mapped anew for every layer.
    """
    frames = frames_of(video)
    if video.device.type == "cpu":
        return video_of(torch.cat([network(frame) for frame in frames.split(1)]), len(video))
    return video_of(network(frames), len(video))


class TAESD(nn.Module):
    def __init__(self, config: TAESDConfig | None = None) -> None:
        super().__init__()
        config = config or TAESDConfig()
        self.encoder = encoder(config)
        self.decoder = decoder(config)

    def encode(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) in 0..1 -> latent (B, c, T, ceil(H/r), ceil(W/r)), r = 8 or 32."""
        return _frame_by_frame(self.encoder, video)

    def decode(self, latent: Tensor) -> Tensor:
        """(B, c, T, h, w) -> (B, 3, T, r h, r w), about 0..1, not clamped."""
        return _frame_by_frame(self.decoder, latent)

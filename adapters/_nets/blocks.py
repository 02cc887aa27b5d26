"""Layers that these networks share: convolutions, residual blocks and their order, single-head attention, stitching of tiles."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Maker = Callable[[int, int], nn.Module]  # of a layer or a block, from its channels before and after


class FrameConv2d(nn.Conv2d):
    """A 2-D convolution of every frame: (B, C, T, H, W) -> (B, C', T, H', W').

    Run as a 3-D convolution of one frame's depth, which saves the two copies of moving time into the batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        stride, padding = (1, *self.stride), (0, *self.padding)
        return F.conv3d(x, self.weight.unsqueeze(2), self.bias, stride, padding)


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor that nothing else reads (the output of a norm): in place if gradients are off."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def frames_of(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def video_of(frames: Tensor, batch: int) -> Tensor:
    """(B T, C, H, W) -> (B, C, T, H, W)."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def repeat_first(x: Tensor, count: int) -> Tensor:
    """`count` copies of the first frame in front: (B, C, T, H, W) -> (B, C, count + T, H, W)."""
    return torch.cat([x[:, :, :1].expand(-1, -1, count, -1, -1), x], dim=2) if count else x


class CausalConv3d(nn.Module):
    """A 3-D convolution that never looks ahead: (B, C, T, H, W) -> (B, C', T', H', W'); its keys are `conv.*`.

    The first frame is repeated in front, space is padded with zeros: by half a kernel on all sides, or, where
    `padding` (left, right, top, bottom) is given, by that much.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int, int] = 3,
        stride: int = 1,
        padding: tuple[int, int, int, int] | None = None,
    ) -> None:
        super().__init__()
        depth, height, width = (kernel,) * 3 if isinstance(kernel, int) else kernel
        half = (0, height // 2, width // 2) if padding is None else 0
        self.conv = nn.Conv3d(in_channels, out_channels, (depth, height, width), stride, half)
        self.front, self.padding = depth - 1, padding

    def forward(self, x: Tensor) -> Tensor:
        x = repeat_first(x, self.front)
        return self.conv(F.pad(x, self.padding) if self.padding else x)


class ResBlock(nn.Module):
    """norm, SiLU, convolution, norm, SiLU, convolution, plus the input: (B, C, ...) -> (B, C', ...).

    Each network passes its own layers; `shortcut` maps the input where C' is not C.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Callable[[int], nn.Module],
        conv1: Maker,
        conv2: Maker,
        shortcut: Maker,
    ) -> None:
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = conv1(in_channels, out_channels)
        self.norm2 = norm(out_channels)
        self.conv2 = conv2(out_channels, out_channels)
        self.nin_shortcut = nn.Identity() if in_channels == out_channels else shortcut(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        return self.conv2(silu(self.norm2(h))).add_(self.nin_shortcut(x))


def stack(block: Maker, in_channels: int, out_channels: int, count: int) -> list[nn.Module]:
    """`count` blocks in sequence; the first changes the number of channels."""
    return [block(in_channels if i == 0 else out_channels, out_channels) for i in range(count)]


def middle(first: nn.Module, attention: nn.Module, second: nn.Module) -> nn.Sequential:
    """The blocks of the lowest resolution, under the names of the published keys."""
    return nn.Sequential(OrderedDict(block_1=first, attn_1=attention, block_2=second))


class Level(nn.Module):
    """Blocks, then a change of size, if any, under the name that the published keys give it (`downsample=`, `upsample=`)."""

    def __init__(self, blocks: Iterable[nn.Module], **resample: nn.Module | None) -> None:
        super().__init__()
        self.block = nn.Sequential(*blocks)
        for name, module in resample.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.children():
            x = stage(x)
        return x


def project(layer: nn.Conv2d | nn.Conv3d | nn.Linear, tokens: Tensor) -> Tensor:
    """A 1x1 convolution or a linear layer applied to tokens: (N, L, C) -> (N, L, C')."""
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Single-head attention over tokens with the usual scale C**-0.5: three (N, L, C) -> (N, L, C)."""
    return F.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)).squeeze(1)


def cross_fade(before: Tensor, after: Tensor, extent: int, dim: int) -> None:
    """Fades the first `extent` slices of `after` in from the last ones of `before`, in place.

    Slice i of `after` weighs i / extent: the first one is all `before`.
    """
    extent = min(extent, before.shape[dim], after.shape[dim])
    if extent <= 0:
        return
    weight = torch.arange(extent, device=after.device, dtype=after.dtype) / extent
    weight = weight.view([-1 if axis == dim % after.ndim else 1 for axis in range(after.ndim)])
    head = after.narrow(dim, 0, extent)
    head.mul_(weight).add_(before.narrow(dim, before.shape[dim] - extent, extent) * (1 - weight))


def stitch(rows: Iterable[Iterable[Tensor]], extent: int, stride: int, crop_last: bool) -> Tensor:
    """Joins spatial tiles, given row by row, each (B, C, T, h, w), into one (B, C, T, H, W).

    A tile is cross-faded over `extent` with its upper and then its left neighbour, both already faded,
    and cropped to `stride`; the last of a row or column only with `crop_last`.
    """
    bands: list[Tensor] = []
    above: list[Tensor] = []
    for tiles in rows:
        row: list[Tensor] = []
        for column, tile in enumerate(tiles):
            if above:
                cross_fade(above[column], tile, extent, -2)
            if row:
                cross_fade(row[-1], tile, extent, -1)
            row.append(tile)
        cropped = [tile[..., :stride] for tile in row[:-1]]
        band = torch.cat([*cropped, row[-1][..., :stride] if crop_last else row[-1]], dim=-1)
        bands.append(band)
        above = row
    cropped = [band[..., :stride, :] for band in bands[:-1]]
    return torch.cat([*cropped, bands[-1][..., :stride, :] if crop_last else bands[-1]], dim=-2)

"""Norms, residual blocks, per-frame attention, spatial up- and downsampling, on activations (B, T, H, W, C).

Every layer is called `layer(x, stream)`, whether it has state or not, so a stage is a loop.  Attribute names are the
official state-dict keys.

Without gradients, a residual block processes windows of frames and adds into its input if the widths are equal, so memory holds
one activation and a window instead of five activations.  A block may therefore overwrite its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfvae.causal import CausalConv3d, Stream, TemporalUpsample, conv_frames, lean
from wfvae.config import Interpolation, NormName

# maximum number of elements of a window.  On a GPU, 2**25 are two frames or more of every layer and enough to fill it; they lower
# the peak of L at 33x256 in float32 from 1.66 to 1.02 GiB, at 33x768 it is 8.0 GiB (tests/benchmarks/wfvae_windows.py)
WINDOW = {"cpu": 2**20, "cuda": 2**25}


def run(layers: Iterable[nn.Module], x: Tensor, stream: Stream) -> Tensor:
    """A stage: one layer after the other."""
    for layer in layers:
        x = layer(x, stream)
    return x


def by_windows(
    step: Callable[[Tensor], Tensor],
    x: Tensor,
    stream: Stream,
    shape: tuple[int, int, int],
    out: Tensor | None = None,
) -> Tensor:
    """Applies `step`, x (B, T, ...) -> (B, T, *shape), to windows of a few frames if activations may be overwritten.

    A window has an even number of frames, because convolutions on a CPU process pairs.

    Args:
        step: function of a window
        x: input
        stream: state of the video
        shape: shape of a frame of the result
        out: buffer for the result, which may be x; None: a new tensor
    """
    if not lean():
        return step(x)
    frame = x.shape[0] * max(math.prod(x.shape[2:]), math.prod(shape))
    num_frames = max(WINDOW.get(x.device.type, WINDOW["cuda"]) // frame // 2 * 2, 2)
    out = x.new_empty(*x.shape[:2], *shape) if out is None else out
    return stream.in_windows(step, x, num_frames, out)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class GroupNorm(nn.GroupNorm):
    """32 groups; statistics over each frame, or over the full video (such a model cannot be streamed)."""

    def __init__(self, channels: int, per_frame: bool) -> None:
        super().__init__(32, channels, eps=1e-6)
        self.per_frame = per_frame

    def forward(self, x: Tensor) -> Tensor:
        if self.per_frame:
            return super().forward(x.flatten(0, 1).movedim(-1, 1)).movedim(1, -1).unflatten(0, x.shape[:2])
        return super().forward(x.movedim(-1, 1)).movedim(1, -1)


def make_norm(name: NormName, channels: int, per_frame: bool = False) -> nn.Module:
    return ChannelNorm(channels) if name == "layernorm" else GroupNorm(channels, per_frame)


class Conv2d(nn.Conv2d):
    """3x3 convolution of each frame, with `norm` of silu(norm(x)).  With stride 2, zeros pad the right and lower border only."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride, 1 if stride == 1 else 0)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, stream: Stream, norm: nn.Module | None = None) -> Tensor:  # type: ignore[override]
        if norm is not None:
            x = F.silu(norm(x), inplace=lean())
        if self.stride[0] == 2:
            x = F.pad(x, (0, 0, 0, 1, 0, 1))
        return conv_frames(x, self.weight, self.bias, self.stride[0], 1 if self.stride[0] == 1 else 0)


class Pointwise(nn.Module):
    """1x1x1 convolution: the same matrix at every position."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.conv.weight.flatten(1), self.conv.bias)


class Pointwise2d(nn.Conv2d):
    """1x1 convolution: the same matrix at every position."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.flatten(1), self.bias)


class ResnetBlock(nn.Module):
    """x + conv2(silu(norm2(conv1(silu(norm1(x)))))), with convolutions of single frames (2D) or causal ones (3D)."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormName, dims: Literal[2, 3] = 3) -> None:
        super().__init__()
        conv = Conv2d if dims == 2 else CausalConv3d
        self.windowed = norm == "layernorm" or dims == 2
        self.out_channels = out_channels
        self.norm1 = make_norm(norm, in_channels, per_frame=dims == 2)
        self.conv1 = conv(in_channels, out_channels)
        self.norm2 = make_norm(norm, out_channels, per_frame=dims == 2)
        self.conv2 = conv(out_channels, out_channels)
        self.nin_shortcut: nn.Module | None = None
        if in_channels != out_channels:
            self.nin_shortcut = (Pointwise2d if dims == 2 else Pointwise)(in_channels, out_channels)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        def step(window: Tensor) -> Tensor:
            shortcut = window if self.nin_shortcut is None else self.nin_shortcut(window)
            h = self.conv2(self.conv1(window, stream, self.norm1), stream, self.norm2)
            return h.add_(shortcut) if lean() else h + shortcut

        if not self.windowed:
            return step(x)
        return by_windows(step, x, stream, (*x.shape[2:4], self.out_channels), x if self.nin_shortcut is None else None)


class Attention(nn.Module):
    """x + attention over the positions of each frame, with a single head and without position embeddings.

    `legacy` is the attention of old checkpoints.  It reshapes (T, C) without a permutation and so mixes time and channels: for
    T > 1 it is a different function, which cannot be streamed.
    """

    def __init__(self, channels: int, norm: NormName, legacy: bool) -> None:
        super().__init__()
        self.legacy = legacy
        self.norm = make_norm(norm, channels)
        self.q = Pointwise(channels, channels)
        self.k = Pointwise(channels, channels)
        self.v = Pointwise(channels, channels)
        self.proj_out = Pointwise(channels, channels)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        if x.shape[1] == 0:
            return x
        h = self.norm(x)
        q, k, v = (self._tokens(layer(h)) for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(self._frames(h, x))

    def _tokens(self, h: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B T, 1, H W, C): the 4-D shape that fused attention kernels need."""
        if self.legacy:
            batch, time, height, width, channels = h.shape
            mixed = h.permute(0, 4, 1, 2, 3).reshape(batch * time, 1, channels, height * width)
            return mixed.transpose(2, 3)
        return h.flatten(2, 3).flatten(0, 1)[:, None]

    def _frames(self, h: Tensor, x: Tensor) -> Tensor:
        batch, time, height, width, channels = x.shape
        if self.legacy:
            mixed = h.transpose(2, 3).reshape(batch, channels, time, height, width)
            return mixed.permute(0, 2, 3, 4, 1)
        return h.reshape(x.shape)


class Downsample(nn.Module):
    """(B, T, H, W, C) -> (B, T, H // 2, W // 2, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, stride=2)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        _, _, height, width, channels = x.shape
        return by_windows(lambda w: self.conv(w, stream), x, stream, (height // 2, width // 2, channels))


class TimeDownsample(nn.Module):
    """(B, T, H, W, C) -> (B, (T + 1) // 2, H // 2, W // 2, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, stride=2)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        if not lean():
            return self.conv(x, stream)
        return stream.in_windows(lambda window: self.conv(window, stream), x, 4)


def scale_frames(x: Tensor, mode: Literal["nearest", "bilinear"]) -> Tensor:
    """(B, T, H, W, C) -> (B, T, 2H, 2W, C)."""
    frames = x.flatten(0, 1).permute(0, 3, 1, 2)
    frames = F.interpolate(frames, scale_factor=2.0, mode=mode)
    return frames.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


class Upsample(nn.Module):
    """(B, T, H, W, C) -> (B, T, 2H, 2W, C): nearest, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        _, _, height, width, channels = x.shape
        return by_windows(
            lambda w: self.conv(scale_frames(w, "nearest"), stream),
            x,
            stream,
            (2 * height, 2 * width, channels),
        )


class TimeUpsample(nn.Module):
    """(B, T, H, W, C) -> (B, 2T - 1, 2H, 2W, C): `interpolation` in time, bilinear in space, then a causal convolution."""

    def __init__(self, channels: int, interpolation: Interpolation) -> None:
        super().__init__()
        self.time = TemporalUpsample(interpolation)
        self.conv = CausalConv3d(channels, channels)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        x = self.time(x, stream)
        _, _, height, width, channels = x.shape
        return by_windows(
            lambda w: self.conv(scale_frames(w, "bilinear"), stream),
            x,
            stream,
            (2 * height, 2 * width, channels),
        )

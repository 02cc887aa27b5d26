"""TAEHV: tiny video autoencoders of 2-D convolutions over frames, trained to read and write the latents of large video VAEs.

    encoder: pixel unshuffle -> convolution -> (pool time, stride 2, blocks) three times -> latent
    decoder: 3 tanh(z / 3) -> (blocks, enlarge, grow time, convolution) three times -> pixel shuffle

Time is mixed by three layers only: `Pool` stacks neighbouring frames on channels, `Grow` separates them again, and a block also
reads its input of the previous frame (zeros before the first).  Those inputs, one frame per block, are the whole state of a
stream, so a video may be cut anywhere.  The encoder looks ahead within a group of r frames, the decoder never.

Everything is one flat sequence, and the index of a layer is its key in the released files.  Inside, tensors are (B, T, C, H, W): to
fold time into the batch copies nothing.  Pixels are 0..1, not clamped.  Facts: github.com/madebyollin/taehv at 1f14a56, the
wide decoder at 32ac014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters._nets.taesd import Clamp, conv3

Memory = dict[int, Tensor]  # index of a block -> the last frame of its input (B, 1, C, H, W)


@dataclass(frozen=True)
class TAEHVConfig:
    latent_channels: int = 16
    patch: int = 1  # pixels on a side that are folded into channels
    pools: tuple[int, int, int] = (2, 2, 1)  # frames that become one, at each level of the encoder
    grows: tuple[int, int, int] = (1, 2, 2)  # frames that one becomes, at each level of the decoder
    decoder: str = "base"  # or "super", "wide"
    width: int = 64  # the decoder's at full resolution; 2, 4 and (wide) 16 times as much below
    rule: str = (
        "trim"  # how frames are lined up: "trim" the first r - 1, "even" (CogVideoX), "chunks" of 17 (MiniMax-H3)
    )

    @property
    def ratio(self) -> int:
        return self.pools[0] * self.pools[1] * self.pools[2]


CHUNK, BLACK = 17, 3  # of "chunks": frames that are encoded together, and black frames before each


class Pool(nn.Module):
    """Every `stride` frames become one: (B, s T, C, H, W) -> (B, T, C, H, W)."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(stride * width, width, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return _by_frame(self.conv, x.unflatten(1, (-1, self.stride)).flatten(2, 3))


class Grow(nn.Module):
    """Every frame becomes `stride`: (B, T, C, H, W) -> (B, s T, C, H, W)."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, stride * width, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return _by_frame(self.conv, x).unflatten(2, (self.stride, -1)).flatten(1, 2)


class MemBlock(nn.Module):
    """activation(convolutions(x, the frame before x) + x): (B T, 2 C, H, W), both on channels -> (B T, C, H, W)."""

    def __init__(self, conv: nn.Sequential, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = conv
        self.activation = activation

    def forward(self, both: Tensor) -> Tensor:
        return self.activation(self.conv(both) + both.chunk(2, dim=1)[0])


def base_block(width: int) -> MemBlock:
    layers = conv3(2 * width, width), nn.ReLU(), conv3(width, width), nn.ReLU(), conv3(width, width)
    return MemBlock(nn.Sequential(*layers), torch.relu)


def wide_block(width: int) -> MemBlock:
    def grouped() -> nn.Conv2d:
        return nn.Conv2d(width, width, 3, padding=1, groups=width // 64)

    layers = nn.Conv2d(2 * width, width, 1), nn.ReLU(), grouped(), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU()
    return MemBlock(nn.Sequential(*layers, grouped()), torch.relu)


def super_block(width: int) -> MemBlock:
    """A depthwise 7x7 convolution and two 1x1; no activation follows the sum."""
    spatial = nn.Conv2d(2 * width, 2 * width, 7, padding=3, groups=2 * width, bias=False)
    layers = nn.Conv2d(2 * width, 4 * width, 1), nn.ReLU(), nn.Conv2d(4 * width, width, 1, bias=False)
    return MemBlock(nn.Sequential(spatial, *layers), nn.Identity())


class Layers(nn.Sequential):
    """A flat sequence of layers of frames and of time; blocks remember the last frame of their input in a `Memory`."""

    def run(self, x: Tensor, memory: Memory) -> Tensor:
        """(B, T, C, H, W) -> (B, T', C', H', W'); `memory` is empty before a video and belongs to it alone."""
        for index, layer in enumerate(self):
            if isinstance(layer, MemBlock):
                both = _with_past(x, memory.get(index))
                memory[index] = x[:, -1:].clone()  # a view would keep all of x alive
                x = _by_frame(layer, both)
            elif isinstance(layer, Pool | Grow):
                x = layer(x)
            else:
                x = _by_frame(layer, x)
        return x


def _by_frame(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _with_past(x: Tensor, before: Tensor | None) -> Tensor:
    """(B, T, C, H, W) -> (B, T, 2 C, H, W): each frame, and the frame before it; before the first `before`, or zeros."""
    channels = x.shape[2]
    both = x.new_zeros(*x.shape[:2], 2 * channels, *x.shape[3:])
    both[:, :, :channels] = x
    both[:, 1:, channels:] = x[:, :-1]
    if before is not None:
        both[:, :1, channels:] = before
    return both


def encoder(config: TAEHVConfig) -> Layers:
    width = config.width
    layers: list[nn.Module] = [conv3(3 * config.patch**2, width), nn.ReLU()]
    for stride in config.pools:
        layers += [Pool(width, stride), conv3(width, width, stride=2, bias=False)]
        layers += [base_block(width) for _ in range(3)]
    return Layers(*layers, conv3(width, config.latent_channels))


def decoder(config: TAEHVConfig) -> Layers:
    return _super_decoder(config) if config.decoder == "super" else _decoder(config)


def _decoder(config: TAEHVConfig) -> Layers:
    width, wide = config.width, config.decoder == "wide"
    widths = [16 * width, 8 * width, 4 * width, width] if wide else [4 * width, 2 * width, width, width]
    block = wide_block if wide else base_block
    layers: list[nn.Module] = [Clamp(), conv3(config.latent_channels, widths[0]), nn.ReLU()]
    for n, narrower, stride in zip(widths, widths[1:], config.grows, strict=False):
        layers += [block(n) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), Grow(n, stride), conv3(n, narrower, bias=False)]
    return Layers(*layers, nn.ReLU(), conv3(widths[-1], 3 * config.patch**2))


def _super_decoder(config: TAEHVConfig) -> Layers:
    """Without clamp; it enlarges by pixel shuffle."""
    width = config.width
    widths = [8 * width, 4 * width, 2 * width, width]
    layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[0], 1, bias=False)]
    for n, narrower, stride in zip(widths, widths[1:], config.grows, strict=False):
        layers += [super_block(n) for _ in range(3)]
        layers += [conv3(n, 4 * narrower), nn.ReLU(), nn.PixelShuffle(2), Grow(narrower, stride)]
    return Layers(*layers, conv3(widths[-1], 3 * config.patch**2))


class TAEHV(nn.Module):
    def __init__(self, config: TAEHVConfig | None = None) -> None:
        super().__init__()
        self.config = config or TAEHVConfig()
        self.encoder = encoder(self.config)
        self.decoder = decoder(self.config)

    def encode(self, video: Tensor, chunk: int = 0) -> Tensor:
        """(B, 3, T, H, W) in 0..1 -> (B, c, t, h, w): t = ceil(T/r), of MiniMax-H3 5 for each 17 frames, less 3.

        In chunks of the frames of `chunk` latents, or at once (0).
        """
        complete = _complete(video.transpose(1, 2), self._group).transpose(1, 2)
        chunks = complete.split(chunk * self.config.ratio or complete.shape[2], dim=2)
        return torch.cat(list(self.encode_stream(chunks)), dim=2)

    def decode(self, latent: Tensor, chunk: int = 0) -> Tensor:
        """(B, c, t, h, w) -> (B, 3, T, H, W), about 0..1, not clamped: T = r (t - 1) + 1, of MiniMax-H3 4 t - 3 ceil(t/5).

        In chunks of `chunk` latents, or at once (0).  Of CogVideoX, an even number of latents gives all r t frames.

        Raises:
            ValueError: MiniMax-H3, and t is not 5k + 2
        """
        chunks = latent.split(chunk or latent.shape[2], dim=2)
        if self.config.rule == "even" and latent.shape[2] % 2 == 0:
            memory: Memory = {}
            return torch.cat([self._decode(part, memory) for part in chunks], dim=2)
        return torch.cat(list(self.decode_stream(chunks)), dim=2)

    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks (B, 3, n, H, W) of one video, cut anywhere -> chunks of the latent that `encode` gives of the whole."""
        memory: Memory = {}
        held = None
        for group in _groups(chunks, self._group):
            if self.config.rule != "chunks":
                yield self._encode(group, memory)
                continue
            for frames in group.split(CHUNK, dim=1):
                if held is not None:
                    yield held
                # pixels of 0 are black; every 17 frames are encoded as a separate video
                held = self._encode(F.pad(frames, (0, 0, 0, 0, 0, 0, BLACK, 0)), {})
        if held is not None:
            yield held[:, :, :-BLACK]

    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks (B, c, n, h, w) of one latent, cut anywhere -> chunks of the video that `decode` gives of the whole.

        Raises:
            ValueError: at the end: CogVideoX, after an even number of latents (which `decode` handles, as it keeps all
                frames); MiniMax-H3, after a number that is not 5k + 2
        """
        memory: Memory = {}
        seen = 0
        for chunk in chunks:
            frames = self._decode(chunk, memory)
            yield self._without_surplus(frames, seen * self.config.ratio)
            seen += chunk.shape[2]
        if self.config.rule == "chunks" and seen % 5 != 2:
            raise ValueError(f"a latent has 5k+2 frames, got {seen}")
        if self.config.rule == "even" and seen % 2 == 0:
            raise ValueError(f"a stream of latents has an odd number of frames, got {seen}; decode them in one call")

    @property
    def _group(self) -> int:
        """Frames that are encoded together."""
        return CHUNK if self.config.rule == "chunks" else self.config.ratio

    def _encode(self, frames: Tensor, memory: Memory) -> Tensor:
        """(B, r t, 3, H, W) -> (B, c, t, h, w)."""
        return self.encoder.run(F.pixel_unshuffle(frames, self.config.patch), memory).transpose(1, 2)

    def _decode(self, latent: Tensor, memory: Memory) -> Tensor:
        """(B, c, t, h, w) -> (B, 3, r t, H, W)."""
        frames = self.decoder.run(latent.transpose(1, 2), memory)
        return F.pixel_shuffle(frames, self.config.patch).transpose(1, 2)

    def _without_surplus(self, frames: Tensor, first: int) -> Tensor:
        """Drops the leading frames that are not part of the video; `first` is the index of the first of `frames`."""
        surplus = self.config.ratio - 1
        if self.config.rule != "chunks":
            return frames[:, :, max(0, surplus - first) :]
        numbers = range(first, first + frames.shape[2])
        return frames[:, :, [i for i, number in enumerate(numbers) if number % (CHUNK + BLACK) >= surplus]]


def _complete(x: Tensor, group: int) -> Tensor:
    """Repeats the last frame of (B, T, C, H, W) up to a multiple of `group` frames."""
    more = -x.shape[1] % group
    return torch.cat([x, x[:, -1:].expand(-1, more, -1, -1, -1)], dim=1) if more else x


def _groups(chunks: Iterable[Tensor], group: int) -> Iterator[Tensor]:
    """Chunks (B, C, n, H, W) of a video -> (B, T, C, H, W) with T a multiple of `group`; only the last group is completed."""
    rest = None
    for chunk in chunks:
        x = chunk.transpose(1, 2)
        if rest is not None:
            x = torch.cat([rest, x], dim=1)
        ready = x.shape[1] // group * group
        if ready:
            yield x[:, :ready]
        rest = x[:, ready:].clone() if ready < x.shape[1] else None
    if rest is not None:
        yield _complete(rest, group)

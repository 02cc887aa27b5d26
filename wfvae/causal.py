"""Layers that process a video in chunks: the Causal Cache (paper section 3.3), with its state in an argument (`Stream`).

A causal convolution stores the frames that its next window needs.  A temporal upsampler that needs the next frame emits its output
one frame late.  A join emits the frames that both of its branches have.  A full video is a stream of one chunk, so there is a
single code path.

Inside the network every activation is (B, T, H, W, C), channels last: LayerNorm and 1x1 convolutions are row operations, and the
fast 2-D kernels take single frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfvae.config import Interpolation

Forms = TypeVar("Forms", bound=tuple[Tensor, ...])

# number of channels from which `conv_pairs` is faster than `conv_taps`: measured 0.85x at 32, 1.2x at 64, 1.7x at 256
PAIRS_PAY = 64


def lean() -> bool:
    """Whether activations may be overwritten: gradients are disabled and torch.compile is not tracing."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


class Stream:
    """The state of one video in the network, for the duration of one call.

    `last`: no chunk follows the current one, so delayed frames are emitted and nothing is stored.
    """

    def __init__(self, last: bool = False) -> None:
        self.last = last
        self.kept: dict[nn.Module, Tensor] = {}
        self.kernels: dict[nn.Module, Kernels] = {}  # of each convolution, for its next window

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Stores frames of `layer` for the next chunk: a copy, so that their buffer can be freed."""
        if self.last:
            self.kept.pop(layer, None)
        else:
            self.kept[layer] = frames.clone() if lean() else frames

    def extend(
        self, layer: nn.Module, x: Tensor, kernel: int, stride: int, norm: nn.Module | None = None
    ) -> tuple[Tensor, bool]:
        """Prepends the stored frames of `layer` to x (B, T, ...), or kernel - 1 copies of the first frame if x starts the video.

        With `norm`, the result is of silu(norm(x)).  Needs stride <= kernel.

        Returns:
            the input frames of `layer`, and whether they start the video
        """
        kept = self.kept.get(layer)
        if x.shape[1] == 0 and kept is None:
            return x, True
        lead = kernel - 1 if kept is None else kept.shape[1]
        if norm is not None and lean():
            x = norm(x)  # in autocast on a GPU this is float32, whatever x was
            frames = x.new_empty(x.shape[0], lead + x.shape[1], *x.shape[2:])
            torch.ops.aten.silu.out(x, out=frames[:, lead:])
            frames[:, :lead] = frames[:, lead : lead + 1] if kept is None else kept
        else:
            x = x if norm is None else F.silu(norm(x))
            frames = torch.cat([x[:, :1].expand(-1, lead, *x.shape[2:]) if kept is None else kept, x], dim=1)
        windows = max((frames.shape[1] - kernel) // stride + 1, 0)
        self.keep(layer, frames[:, windows * stride :])
        return frames, kept is None

    def in_windows(
        self, step: Callable[[Tensor], Tensor], x: Tensor, num_frames: int, out: Tensor | None = None
    ) -> Tensor:
        """Applies `step` to windows of at most `num_frames` (even) frames of x, so that its intermediate results stay small.

        The results are written to the same frames of `out`, or concatenated if `out` is None.
        """
        last, time = self.last, x.shape[1]
        parts: list[Tensor] = []
        for start, stop in window_bounds(time, num_frames):
            self.last = last and stop == time
            if out is None:
                parts.append(step(x[:, start:stop]))
            else:
                out[:, start:stop] = step(x[:, start:stop])
        self.last = last
        if out is not None:
            return out
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def window_bounds(time: int, num_frames: int) -> list[tuple[int, int]]:
    """First frame, and last frame plus one, of each window; there is at least one window.

    With an odd number of frames, the first window has an odd number: a video is one frame, then pairs.
    """
    stops = [*range(num_frames + time % 2, time, num_frames), time]
    return list(zip([0, *stops[:-1]], stops, strict=True))


def conv_frames(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 1) -> Tensor:
    """(B, T, H, W, C) -> (B, T, H', W', O): one 2-D convolution per frame."""
    y = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), weight, bias, stride, padding)
    return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def opening_kernels(weight: Tensor) -> tuple[Tensor]:
    """(O, C, 3, 3, 3) -> (O, C, 3, 3), for three equal frames: the sum of the taps."""
    first, second, third = weight.unbind(2)
    return (first + second + third,)


def pair_kernels(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(O, C, 3, 3, 3) -> four kernels (O, C, 3, 3) for `conv_pairs`; contiguous, because oneDNN would copy them in every call."""
    g0, g1, g2 = weight.unbind(2)
    outer = g0 + g2
    form = torch.channels_last
    return outer + g1, outer - g1, g0.contiguous(memory_format=form), g2.contiguous(memory_format=form)


def tap_kernels(weight: Tensor) -> tuple[Tensor]:
    """(O, C, 3, 3, 3) -> (O, 3 * C, 3, 3), for `conv_taps`."""
    return (weight.transpose(1, 2).flatten(1, 2),)


Identity = tuple[int, int, int, torch.dtype]


class Kernels:
    """The 2-D kernels of a causal convolution on a CPU, computed from its weight at first use.

    Memory relative to the weight: opening 1/3, pairs 4/3, taps 1.
    """

    def __init__(self, weight: Tensor, identity: Identity | None = None) -> None:
        self.weight, self.identity = weight, identity
        self._computed: dict[Any, Any] = {}

    def get(self, compute: Callable[[Tensor], Forms]) -> Forms:
        if compute not in self._computed:
            self._computed[compute] = compute(self.weight)
        kernels: Forms = self._computed[compute]
        return kernels


def identity_of(weight: Tensor) -> Identity:
    """Changes if a weight is replaced, moved, cast, or changed by an operation that PyTorch's version counter sees."""
    return id(weight), weight.data_ptr(), -1 if weight.is_inference() else weight._version, weight.dtype


def conv_pairs(frames: Tensor, kernels: tuple[Tensor, Tensor, Tensor, Tensor], bias: Tensor) -> Tensor:
    """(B, 2n + 2, H, W, C) -> (B, 2n, H, W, O): two output frames from four 2-D convolutions instead of six.

    Winograd's F(2, 3) along time (arXiv 1509.09308, section 4.1); the transforms are sums of frames, exact to rounding.
    """
    sums, differences, g0, g2 = kernels
    even, odd = frames[:, 0::2], frames[:, 1::2]
    plus = conv_frames(odd[:, :-1] + even[:, 1:], sums, 2 * bias)
    minus = conv_frames(even[:, 1:] - odd[:, :-1], differences, None)
    first = conv_frames(even[:, :-1] - even[:, 1:], g0, None)
    second = conv_frames(odd[:, 1:] - odd[:, :-1], g2, None)
    if not lean():
        pairs = (first.add(plus + minus, alpha=0.5), second.add(plus - minus, alpha=0.5))
        return torch.stack(pairs, dim=2).flatten(1, 2)
    out = plus.new_empty(plus.shape[0], 2 * plus.shape[1], *plus.shape[2:])
    torch.add(first, plus + minus, alpha=0.5, out=out[:, 0::2])
    torch.add(second, plus.sub_(minus), alpha=0.5, out=out[:, 1::2])
    return out


def conv_taps(frames: Tensor, kernel: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """(B, T, H, W, C) -> (B, (T - 3) // stride + 1, H', W', O), with the three frames of a window concatenated as channels."""
    num = (frames.shape[1] - 3) // stride + 1
    window = torch.cat([frames[:, k : k + (num - 1) * stride + 1 : stride] for k in range(3)], dim=-1)
    return conv_frames(window, kernel, bias, stride, padding)


class CausalConv3d(nn.Module):
    """Causal 3x3x3 convolution: (B, T, H, W, C) -> (B, T, H, W, O); stride 2 halves T, H and W.

    Frames are padded with zeros (with stride 2 at the right and lower border only), time by copies of the first frame.  With `norm`
    the input is silu(norm(x)).  On a CPU it runs as 2-D convolutions, which are faster there; since the copies of the first frame
    are equal, that frame needs a third of the work.

    Without gradients, the 2-D kernels are computed once for all windows of a video: a stream holds them until it ends, at most
    2.7 times the memory of the weights.  A full video holds those of a single layer at a time.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.padding = 1 if stride == 1 else 0
        self.conv = nn.Conv3d(in_channels, out_channels, 3, stride, (0, self.padding, self.padding))
        self.conv.to(memory_format=torch.channels_last_3d)

    def forward(self, x: Tensor, stream: Stream, norm: nn.Module | None = None) -> Tensor:
        if self.stride == 2:
            x = F.pad(x, (0, 0, 0, 1, 0, 1))
        frames, opens = stream.extend(self, x, 3, self.stride, norm)
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        if frames.shape[1] < 3:
            height, width = x.shape[2] // self.stride, x.shape[3] // self.stride
            return x.new_empty(x.shape[0], 0, height, width, weight.shape[0])
        if frames.device.type != "cpu":
            return self.conv(frames.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        kernels = self._current_kernels(stream) if lean() else Kernels(weight)
        parts = []
        if opens:
            parts.append(conv_frames(frames[:, :1], *kernels.get(opening_kernels), bias, self.stride, self.padding))
            frames = frames[:, self.stride :]
        num = frames.shape[1] - 2
        # in narrow layers the sums of frames cost more than they save, and in 16 bits they lose precision
        exact = frames.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
        if exact and self.stride == 1 and weight.shape[1] >= PAIRS_PAY and num >= 2:
            parts.append(conv_pairs(frames[:, : num - num % 2 + 2], kernels.get(pair_kernels), bias))
            frames = frames[:, num - num % 2 :]
        if frames.shape[1] >= 3:
            parts.append(conv_taps(frames, *kernels.get(tap_kernels), bias, self.stride, self.padding))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _current_kernels(self, stream: Stream) -> Kernels:
        """The kernels from the previous window of the stream if the weight is the same, else new ones."""
        kernels, identity = stream.kernels.pop(self, None), identity_of(self.conv.weight)
        if kernels is None or kernels.identity != identity:
            kernels = Kernels(self.conv.weight, identity)
        if not stream.last:
            stream.kernels[self] = kernels
        return kernels


class TemporalUpsample(nn.Module):
    """(B, T, H, W, C) -> (B, 2T - 1, H, W, C): doubles all frames except the first, by repetition or linear interpolation.

    Linear interpolation (align_corners=False, clamped edges) needs the next frame, so in a stream a pair is emitted when the next
    frame arrives.
    """

    def __init__(self, interpolation: Interpolation) -> None:
        super().__init__()
        self.interpolation = interpolation

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        kept = stream.kept.get(self)
        if kept is None and x.shape[1] == 0:
            return x
        opens = kept is None
        opening, rest = (x[:, :1], x[:, 1:]) if opens else (x[:, :0], x)
        if self.interpolation == "nearest":
            stream.keep(self, x[:, :0])
            pairs = rest.repeat_interleave(2, dim=1)
        else:
            if kept is None or kept.shape[1] == 0:
                kept = rest[:, :1]  # the first of the doubled frames is also its left neighbour
            parts = [kept, rest, rest[:, -1:] if rest.shape[1] else kept[:, -1:]]
            rest = torch.cat(parts if stream.last else parts[:2], dim=1)
            stream.keep(self, rest[:, -2:])
            before, now, after = rest[:, :-2], rest[:, 1:-1], rest[:, 2:]
            pairs = torch.stack((now.lerp(before, 0.25), now.lerp(after, 0.25)), dim=2).flatten(1, 2)
        return torch.cat([opening, pairs], dim=1) if opens else pairs


class Join(nn.Module):
    """Aligns two branches of one video: emits the frames that both have, and stores the rest of the branch that is ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Identity(), nn.Identity()  # keys of the stored frames of each branch

    def forward(self, left: Tensor, right: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        left = self._since(self.left, left, stream)
        right = self._since(self.right, right, stream)
        num = min(left.shape[1], right.shape[1])
        stream.keep(self.left, left[:, num:])
        stream.keep(self.right, right[:, num:])
        return left[:, :num], right[:, :num]

    @staticmethod
    def _since(branch: nn.Module, x: Tensor, stream: Stream) -> Tensor:
        kept = stream.kept.get(branch)
        return x if kept is None or kept.shape[1] == 0 else torch.cat([kept, x], dim=1)

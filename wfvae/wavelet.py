"""Haar analysis and synthesis in 2D and 3D, with the causal first frame (paper section 3.1).

A 2x2x2 cell of pixels becomes eight sub-bands, so analysis and synthesis are one convolution each for all channels and kernels.
Channels are ordered by band (band * C + c; the first C are the low-pass band).  High-pass is the first value minus the second.  The
order of the bands is that of the official weights, and differs between 2D and 3D:

    3D   h LLL, g W, hh H, gh HW, h_v T, g_v TW, hh_v TH, gh_v THW      (axes that are high-pass; W before H)
    2D   aa LL, ad H, da W, dd HW                                       (H before W)

The kernels are in the state dict under the official names and are used as loaded.  The 3D ones are 0.3536, not
1/sqrt(8): 0.3536 is what the released weights were trained with, and analysis then synthesis gains 8 * 0.3536^2 = 1.00026.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfvae.causal import Stream, lean

BANDS_3D = ("h", "g", "hh", "gh", "h_v", "g_v", "hh_v", "gh_v")
BANDS_2D = ("aa", "ad", "da", "dd")
SCALE_3D = 0.3536
WINDOW_FRAMES = 8  # frames transformed at a time if memory may be reused


def haar_kernels_3d() -> Tensor:
    """float32 (8, 2, 2, 2): band, then T, H, W of the cell."""
    # always on the CPU: the first arithmetic on meta tensors makes torch import 900 modules, which takes 0.6 s
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], device="cpu")  # low-pass, high-pass
    bands = [torch.einsum("t,h,w->thw", *signs[list(band)]) for band in itertools.product((0, 1), repeat=3)]
    return SCALE_3D * torch.stack(bands)


def haar_kernels_2d() -> Tensor:
    """float32 (4, 1, 2, 2): band, then T, H, W of the cell."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], device="cpu")
    bands = [torch.einsum("w,h->hw", *signs[list(band)])[None] for band in itertools.product((0, 1), repeat=2)]
    return 0.5 * torch.stack(bands)


def analyse(frames: Tensor, kernels: Tensor) -> Tensor:
    """(B, T, H, W, C), kernels (N, t, 2, 2) -> (B, T / t, H / 2, W / 2, N * C); an odd row, column or frame is dropped."""
    batch, time, height, width, channels = frames.shape
    span, bands = kernels.shape[1], kernels.shape[0]
    if time < span:
        return frames.new_empty(batch, 0, height // 2, width // 2, bands * channels)
    planes = frames.permute(0, 4, 1, 2, 3).reshape(batch * channels, 1, time, height, width)
    found = F.conv3d(planes, kernels[:, None], stride=(span, 2, 2)).unflatten(0, (batch, channels))
    return found.permute(0, 3, 4, 5, 2, 1).flatten(-2)


def synthesise(coefficients: Tensor, kernels: Tensor) -> Tensor:
    """(B, T, H, W, N * C), kernels (N, t, 2, 2) -> (B, T * t, 2H, 2W, C), the transpose of `analyse`.

    Its memory layout is that of video, (B, C, T * t, 2H, 2W).
    """
    batch, time, height, width, bands = coefficients.shape
    span, channels = kernels.shape[1], bands // kernels.shape[0]
    cells = F.linear(coefficients, _per_channel(kernels, channels).T)
    cells = cells.unflatten(-1, (channels, span, 2, 2)).permute(0, 4, 1, 5, 2, 6, 3, 7)
    planes = cells.reshape(batch, channels, time * span, height * 2, width * 2)
    return planes.permute(0, 2, 3, 4, 1)


def _per_channel(kernels: Tensor, channels: int) -> Tensor:
    """(N, t, 2, 2) -> (N * C, C * 4t): the same kernels for each channel, bands outermost."""
    flat = kernels.flatten(1)
    eye = torch.eye(channels, dtype=flat.dtype, device=flat.device)
    return torch.einsum("nk,cd->ncdk", flat, eye).flatten(2).flatten(0, 1)


class _Kernel(nn.Module):
    """Gives a kernel its official name, `<band>_conv.conv.weight`."""

    weight: Tensor

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.conv = nn.Module()
        self.conv.register_buffer("weight", kernel[None, None].clone())


class HaarAnalysis3d(nn.Module):
    """(B, T, H, W, C) -> (B, (T + 1) // 2, H // 2, W // 2, 8C); the first frame of the video is doubled."""

    def __init__(self) -> None:
        super().__init__()
        for band, kernel in zip(BANDS_3D, haar_kernels_3d(), strict=True):
            self.add_module(f"{band}_conv", _Kernel(kernel))

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        kernels = torch.cat([getattr(self, f"{band}_conv").conv.weight[0] for band in BANDS_3D])

        def step(window: Tensor) -> Tensor:
            return analyse(stream.extend(self, window, kernel=2, stride=2)[0], kernels)

        return stream.in_windows(step, x, WINDOW_FRAMES) if lean() else step(x)


class HaarSynthesis3d(nn.Module):
    """(B, T, H, W, 8C) -> (B, 2T - 1, 2H, 2W, C): the copy of the first frame is dropped."""

    def __init__(self) -> None:
        super().__init__()
        for band, kernel in zip(BANDS_3D, haar_kernels_3d(), strict=True):
            self.register_buffer(band, kernel[None, None].clone())

    def forward(self, coefficients: Tensor, stream: Stream) -> Tensor:
        video = synthesise(coefficients, torch.cat([getattr(self, band)[0] for band in BANDS_3D]))
        opens = self not in stream.kept
        if video.shape[1]:
            stream.keep(self, video[:, :0])  # no frames: marks that the video has started
        return video[:, 1:] if opens else video


class HaarAnalysis2d(nn.Module):
    """(B, T, H, W, C) -> (B, T, H // 2, W // 2, 4C), per frame."""

    def __init__(self) -> None:
        super().__init__()
        for band, kernel in zip(BANDS_2D, haar_kernels_2d(), strict=True):
            self.register_buffer(band, kernel[None].clone())

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        return analyse(x, torch.cat([getattr(self, band) for band in BANDS_2D]))


class HaarSynthesis2d(nn.Module):
    """(B, T, H, W, 4C) -> (B, T, 2H, 2W, C), per frame."""

    def __init__(self) -> None:
        super().__init__()
        for band, kernel in zip(BANDS_2D, haar_kernels_2d(), strict=True):
            self.register_buffer(band, kernel[None].clone())

    def forward(self, coefficients: Tensor, stream: Stream) -> Tensor:
        return synthesise(coefficients, torch.cat([getattr(self, band) for band in BANDS_2D]))


def constants(model: nn.Module) -> dict[str, Tensor]:
    """The Haar kernels of a model on any device, on the CPU, by their names in its state dict."""
    kinds = (HaarAnalysis3d, HaarSynthesis3d, HaarAnalysis2d, HaarSynthesis2d)
    return {
        f"{name}.{key}": kernel
        for name, module in model.named_modules()
        if isinstance(module, kinds)
        for key, kernel in type(module)().state_dict().items()
    }

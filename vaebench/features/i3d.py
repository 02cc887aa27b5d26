"""I3D trained on RGB videos of Kinetics-400 (Carreira and Zisserman 2017), for the weights `i3d_pretrained_400.pt`.

VideoGPT, TATS, DIGAN, cd-fvd and the "videogpt" distance of WF-VAE use this file.  It has the weights of the TensorFlow Hub module
`deepmind/i3d-kinetics-400/1`, so the network has TensorFlow's asymmetric SAME padding.  The features are the 400 logits, averaged
over time.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.pickled import load_tensors
from vaebench.state_dicts import load_strict, state_dict_of

SIDE = 224
MIXED = {  # input channels, and output channels of each branch: 1x1 | 1x1, 3x3x3 | 1x1, 3x3x3 | pooling, 1x1
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
Triple = tuple[int, int, int]


def prepared(video: Tensor, shape: Literal["stretched", "cropped"]) -> Tensor:
    """Resize videos bilinearly without antialiasing; both shapes give the same result for square videos.

    Args:
        video: float (B, 3, T, H, W) in 0..1
        shape: "stretched" ignores the aspect ratio (StyleGAN-V, cd-fvd); "cropped" resizes the short side to 224 and crops the
            centre (VideoGPT, WF-VAE)

    Returns:
        (B, 3, T, 224, 224) in -1..1
    """
    batch, _, frames, height, width = video.shape
    scale = SIDE / min(height, width)
    size = (SIDE, SIDE) if shape == "stretched" else (math.ceil(height * scale), math.ceil(width * scale))
    images = F.interpolate(video.transpose(1, 2).flatten(0, 1), size=size, mode="bilinear", align_corners=False)
    top, left = ((side - SIDE) // 2 for side in images.shape[2:])
    images = images[:, :, top : top + SIDE, left : left + SIDE]
    return (2 * images - 1).unflatten(0, (batch, frames)).transpose(1, 2)


def same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pad (B, C, T, H, W) with zeros to ceil(size / stride) windows per axis; an odd number is padded at the end (SAME)."""
    pads: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max((math.ceil(size / s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel: Triple = (kernel, kernel, kernel)
        self.stride: Triple = (stride, stride, stride)
        self.conv3d = nn.Conv3d(inputs, outputs, self.kernel, self.stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(same(x, self.kernel, self.stride))), inplace=True)


class Pool(nn.Module):
    """Max pooling with SAME padding; zeros do not change the maximum, because the inputs are outputs of a ReLU."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(same(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    def __init__(self, inputs: int, outputs: tuple[int, ...]) -> None:
        super().__init__()
        one, three_in, three, five_in, five, pooled = outputs
        self.b0 = Unit(inputs, one)
        self.b1a, self.b1b = Unit(inputs, three_in), Unit(three_in, three, 3)
        self.b2a, self.b2b = Unit(inputs, five_in), Unit(five_in, five, 3)
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), Unit(inputs, pooled)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)


class Logits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, 400, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


class InceptionI3d(nn.Module):
    """Created in evaluation mode, without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b, self.Mixed_3c = (Mixed(*MIXED[f"Mixed_3{x}"]) for x in "bc")
        self.MaxPool3d_4a_3x3 = Pool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b, self.Mixed_4c, self.Mixed_4d, self.Mixed_4e, self.Mixed_4f = (
            Mixed(*MIXED[f"Mixed_4{x}"]) for x in "bcdef"
        )
        self.MaxPool3d_5a_2x2 = Pool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b, self.Mixed_5c = (Mixed(*MIXED[f"Mixed_5{x}"]) for x in "bc")
        self.logits = Logits()
        self.eval().requires_grad_(False)

    def forward(self, video: Tensor) -> Tensor:
        """float (B, 3, T, 224, 224) in -1..1, T at least 9 -> logits (B, 400).

        Raises:
            ValueError: another shape
        """
        if video.ndim != 5 or video.shape[1] != 3 or tuple(video.shape[3:]) != (SIDE, SIDE) or video.shape[2] < 9:
            raise ValueError(
                f"I3D takes (B, 3, T, {SIDE}, {SIDE}) with at least 9 frames, got {tuple(video.shape)}; see `prepared`"
            )
        x = video
        for name, layer in self.named_children():
            if name != "logits":
                x = layer(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)  # (B, 1024, ceil(T / 8) - 1, 1, 1)
        return self.logits(x).mean(dim=(2, 3, 4))


def load(path: Path) -> InceptionI3d:
    """Load `i3d_pretrained_400.pt`.

    Raises:
        OSError: the file is missing or unreadable
        ValueError: it does not have the weights of this network
    """
    network = InceptionI3d()
    load_strict(network, state_dict_of(load_tensors(path), path), str(path))
    return network.float()  # weights stored in half precision are used in float32

"""C3D trained on Sports-1M and fine-tuned on UCF-101 (Tran et al. 2015): the classifier of the inception score of videos.

The weights are those of TGAN-v2 (`conv3d_deepnetA_ucf.npz` and `mean2.npz` of github.com/rezoo/tgan2, release v1.0).  As there,
and unlike in common ports of C3D, the input is BGR times 128, resizing aligns the corners, each pixel of each frame has its own
mean, and pooling includes incomplete windows at the border.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vaebench.state_dicts import load_strict

FRAMES, SIDE, CLASSES = 16, 112, 101
WIDTHS = {
    "conv1a": 64, "conv2a": 128, "conv3a": 256, "conv3b": 256,
    "conv4a": 512, "conv4b": 512, "conv5a": 512, "conv5b": 512,
}  # fmt: skip
POOLED = (
    "conv1a",
    "conv2a",
    "conv3b",
    "conv4b",
    "conv5b",
)  # followed by a pooling layer; the first one does not pool time


class C3D(nn.Module):
    """Created in evaluation mode, without gradients."""

    mean: Tensor  # (3, 16, 112, 112), BGR in 0..255

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for name, width in WIDTHS.items():
            self.add_module(name, nn.Conv3d(inputs, width, 3, padding=1))
            inputs = width
        self.fc6 = nn.Linear(512 * 4 * 4, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, CLASSES)
        self.register_buffer("mean", torch.zeros(3, FRAMES, SIDE, SIDE))
        self.eval().requires_grad_(False)

    def prepared(self, video: Tensor) -> Tensor:
        """float (B, 3, 16, H, W), RGB in -1..1 -> float (B, 3, 16, 112, 112), BGR minus the mean.

        Raises:
            ValueError: another shape
        """
        if video.ndim != 5 or tuple(video.shape[1:3]) != (3, FRAMES):
            raise ValueError(f"C3D takes videos (B, 3, {FRAMES}, H, W), got {tuple(video.shape)}")
        frames = (128 * video.flip(1)).transpose(1, 2).flatten(0, 1)
        frames = F.interpolate(frames, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
        return frames.unflatten(0, (-1, FRAMES)).transpose(1, 2) + 128 - self.mean

    def logits(self, video: Tensor) -> Tensor:
        """float (B, 3, 16, H, W), RGB in -1..1 -> class logits (B, 101)."""
        x = self.prepared(video)
        for name in WIDTHS:
            x = F.relu(self.get_submodule(name)(x), inplace=True)
            if name in POOLED:
                x = F.max_pool3d(x, (1, 2, 2) if name == "conv1a" else 2, ceil_mode=True)
        x = F.relu(self.fc6(x.flatten(1)))
        return self.fc8(F.relu(self.fc7(x)))

    def forward(self, video: Tensor) -> Tensor:
        """float (B, 3, 16, H, W), RGB in -1..1 -> class probabilities (B, 101)."""
        return self.logits(video).softmax(dim=1)


def state_of(weights: Mapping[str, NDArray[Any]], mean: NDArray[Any]) -> dict[str, Tensor]:
    """Convert the weights of Chainer ("conv1a/W", "conv1a/b", ...) and the mean (3, 16, 128, >= 120) to a state dict of `C3D`."""
    state = {key.replace("/W", ".weight").replace("/b", ".bias"): torch.tensor(weights[key]) for key in weights}
    return {**state, "mean": torch.tensor(mean[:, :, 8 : 8 + SIDE, 8 : 8 + SIDE], dtype=torch.float32)}


def load(weights: Path, mean: Path) -> C3D:
    """Load the two files of TGAN-v2.

    Raises:
        OSError: a file is missing or unreadable
        ValueError: a file does not have the expected arrays
    """
    with torch.device("meta"):
        network = C3D()
    try:
        with np.load(weights) as arrays, np.load(mean) as frames:
            state = state_of(arrays, frames["mean"])
    except (KeyError, TypeError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{weights} and {mean} do not hold C3D of TGAN-v2 and its mean: {error}") from error
    load_strict(network, state, f"{weights} with {mean}")
    return network.requires_grad_(False)

"""LPIPS v0.1 with VGG-16 (Zhang et al. 2018), per frame at its own size, averaged over frames, then over clips.

What VidTok and TokenBench report; `lpips`, with AlexNet, is the package's default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaebench.features import lpips

if TYPE_CHECKING:
    import torch


def build(device: torch.device | str) -> lpips.LPIPS:
    return lpips.build("vgg", "vgg16", device)

"""LPIPS v0.1 with AlexNet (Zhang et al. 2018), per frame at its own size, averaged over frames, then over clips.

The default of the package, and what WF-VAE, LeanVAE and Open-Sora-Plan report; `lpips_vgg` is what VidTok and
TokenBench do, and its values are larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaebench.features import lpips

if TYPE_CHECKING:
    import torch


def build(device: torch.device | str) -> lpips.LPIPS:
    return lpips.build("alex", "alexnet", device)

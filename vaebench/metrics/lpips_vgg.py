"""LPIPS v0.1 with VGG-16 (Zhang et al. 2018), per frame at its own size, averaged over frames, then over clips.

VidTok and TokenBench report this metric; `lpips`, with AlexNet, is the default of the package.

>>> import torch
>>> def network(a, b, normalize):  # replaces VGG-16: one distance per frame
...     return (a - b).square().mean(dim=(1, 2, 3))
>>> metric = lpips.LPIPS(network, smallest=16)
>>> reference = torch.zeros(1, 3, 4, 16, 16)
>>> float(metric.measure(reference, reference + torch.tensor([0, 0, 0.5, 0.5]).view(1, 1, 4, 1, 1)))
0.125
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaebench.features import lpips

if TYPE_CHECKING:
    import torch


def build(device: torch.device | str) -> lpips.LPIPS:
    return lpips.build("vgg", "vgg16", device)

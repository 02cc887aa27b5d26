"""LPIPS v0.1 with AlexNet (Zhang et al. 2018), per frame at its own size, averaged over frames, then over clips.

This is the default of the package, and the metric of WF-VAE, LeanVAE and Open-Sora-Plan.  VidTok and TokenBench use `lpips_vgg`,
which has larger values.

>>> import torch
>>> def network(a, b, normalize):  # replaces AlexNet: one distance per frame
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
    return lpips.build("alex", "alexnet", device)

"""The network of DISTS (Ding et al. 2020): statistics of VGG-16 features, with a learned weight for each channel.

Six stages are compared: the image itself and the activations before each pooling of VGG-16 (and after the last convolution).
Poolings are replaced by a blurred norm (`_pooled`).  For every channel of every stage, the similarity of the means is weighted by
alpha and that of the variances and covariance by beta, as in SSIM.  alpha and beta come with the package DISTS-pytorch; VGG-16 is
torchvision's, from the file of `vaebench.weights`.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from vaebench.pickled import load_tensors

if TYPE_CHECKING:
    from torch import Tensor

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels of the convolutions
CHANNELS = (3, 64, 128, 256, 512, 512)  # of the six stages
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, as VGG-16 was trained
SMALL = 1e-6  # of both similarities, as published


class DISTS(nn.Module):
    """Created in evaluation mode, without gradients."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *(width for stage in STAGES for width in stage)]
        self.convolutions = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)])
        self.alpha = nn.Parameter(torch.zeros(sum(CHANNELS)))
        self.beta = nn.Parameter(torch.zeros(sum(CHANNELS)))
        self.eval().requires_grad_(False)

    def forward(self, reference: Tensor, reconstruction: Tensor) -> Tensor:
        """The distance of pairs of images.

        Args:
            reference: float32 (N, 3, H, W) in 0..1, H and W at least 16
            reconstruction: same shape and range

        Returns:
            float32 (N,), 0 for equal images
        """
        total = self.alpha.sum() + self.beta.sum()
        alphas, betas = (weight.div(total).split(CHANNELS) for weight in (self.alpha, self.beta))
        similar = reference.new_zeros(len(reference))
        for a, b, alpha, beta in zip(self.stages(reference), self.stages(reconstruction), alphas, betas, strict=True):
            mean_a, mean_b = a.mean(dim=(2, 3)), b.mean(dim=(2, 3))  # (N, C)
            variances = a.var(dim=(2, 3), correction=0) + b.var(dim=(2, 3), correction=0)
            covariance = (a * b).mean(dim=(2, 3)) - mean_a * mean_b
            texture = (2 * mean_a * mean_b + SMALL) / (mean_a.square() + mean_b.square() + SMALL)
            structure = (2 * covariance + SMALL) / (variances + SMALL)
            similar = similar + texture @ alpha + structure @ beta
        return 1 - similar

    def stages(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in 0..1 -> the images and the five activations, the k-th (N, C, H / 2^k, W / 2^k) from k = 0."""
        mean, deviation = (images.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        x, results, layers = (images - mean) / deviation, [images], iter(self.convolutions)
        for number, stage in enumerate(STAGES):
            x = _pooled(x) if number else x
            for _ in stage:
                x = F.relu(next(layers)(x))
            results.append(x)
        return results


def _pooled(x: Tensor) -> Tensor:
    """L2 pooling, (N, C, H, W) -> (N, C, H / 2, W / 2): square, blur with a 3x3 Hann window, square root."""
    window = torch.hann_window(5, periodic=False, dtype=torch.float64)[1:-1]
    kernel = torch.outer(window, window)
    kernel = (kernel / kernel.sum()).to(x).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def load(weights: Path, vgg: Path) -> DISTS:
    """Load `weights.pt` of DISTS-pytorch and torchvision's VGG-16.

    Raises:
        OSError: a file is missing or unreadable
        ValueError: a file does not have the expected weights
    """
    network, learned, state = DISTS(), load_tensors(weights), load_tensors(vgg)
    features = [key.removesuffix(".weight") for key in state if key.startswith("features.") and key.endswith(".weight")]
    try:
        for convolution, name in zip(network.convolutions, features, strict=True):
            convolution.load_state_dict({"weight": state[f"{name}.weight"], "bias": state[f"{name}.bias"]})
    except (KeyError, RuntimeError, ValueError) as reason:
        raise ValueError(f"{vgg} is not torchvision's VGG-16: {' '.join(str(reason).split())}") from None
    try:
        network.alpha.copy_(learned["alpha"].flatten())
        network.beta.copy_(learned["beta"].flatten())
    except (KeyError, RuntimeError) as reason:
        raise ValueError(f"{weights} does not have the weights of DISTS: {' '.join(str(reason).split())}") from None
    return network

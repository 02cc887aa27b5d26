"""The perceptual loss of training: LPIPS with VGG16, as in the paper."""

from __future__ import annotations

from torch import Tensor

from vaebench import weights
from vaebench.features import lpips
from wfvae.losses import Perceptual


def lpips_loss() -> Perceptual:
    """A function of reference and reconstruction, (B, 3, H, W) in -1..1 -> (B,), that runs on the device of its arguments.

    Raises:
        ValueError: the weights of VGG16 are not on this machine
    """
    network = lpips.package("vgg")
    try:
        lpips.fill(network, weights.verified("vgg16"))
    except OSError as reason:
        raise ValueError(f"{reason}; or set loss.perceptual=0 to train without LPIPS") from None

    def distance(reference: Tensor, reconstruction: Tensor) -> Tensor:
        on_device = network.to(reference.device)  # each process has its own GPU
        distances: Tensor = on_device(reference, reconstruction).flatten()
        return distances

    return distance

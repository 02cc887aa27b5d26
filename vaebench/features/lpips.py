"""LPIPS with the network and the learned weights of the package lpips, and a backbone from `vaebench.weights`.

The package would download the backbone.  We create it with random weights instead, and replace all of them by those in the file.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vaebench import weights
from vaebench.features.validation import check, full_precision, mean_over_clips
from vaebench.metric import FrameMetric
from vaebench.pickled import load_tensors
from vaebench.records import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from vaebench.video import Video

SMALLEST = {"alex": 31, "vgg": 16}  # smallest side in pixels that the poolings of the backbone allow


class LPIPS(FrameMetric):
    """LPIPS of each frame, averaged over frames, then over clips.

    Args:
        network: the network of the package lpips
        smallest: smallest height and width in pixels
    """

    unit = ""
    better: Better = "lower"
    version = 1
    per_clip = True

    def __init__(self, network: nn.Module, smallest: int) -> None:
        self.network, self.smallest = network, smallest

    @torch.inference_mode()
    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """LPIPS of each frame.

        Args:
            reference: float32 (B, 3, n, H, W) in 0..1
            reconstruction: same shape and range

        Returns:
            float64 (B, n), 0 for equal frames
        """
        check(reference, reconstruction, side=self.smallest)
        batch, _, frames, height, width = reference.shape
        a, b = (video.transpose(1, 2).flatten(0, 1) for video in (reference, reconstruction))  # (B*T, 3, H, W)
        images = max((1 << 19 if a.device.type == "cpu" else 1 << 22) // (height * width), 1)
        with full_precision():
            distances = [
                self.network(x, y, normalize=True).flatten()  # the package takes 0..1 to -1..1
                for x, y in zip(a.split(images), b.split(images), strict=True)
            ]
        return torch.cat(distances).double().view(batch, frames)

    def reduce(self, statistics: NDArray) -> float:
        """(N,) -> mean LPIPS."""
        return mean_over_clips(statistics)


def build(net: str, backbone: str, device: torch.device | str) -> LPIPS:
    """Build LPIPS v0.1.

    Args:
        net: backbone of the package, "alex" or "vgg"
        backbone: name of its weights in `vaebench.weights`
        device: device of the network

    Raises:
        Unavailable: the weights are not on this machine
        ValueError: the file has other content
    """
    file = weights.verified(backbone)
    network = package(net)
    fill(network, file)
    return LPIPS(network.to(device), SMALLEST[net])


def package(net: str) -> nn.Module:
    """The network of the package, with learned weights but a random backbone; downloads nothing."""
    import lpips

    with (
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),
    ):  # do not advance the random state of the run
        warnings.simplefilter("ignore")  # it calls torchvision in a deprecated way
        network: nn.Module = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    return network.eval().requires_grad_(False)


def fill(network: nn.Module, file: Path) -> None:
    """Load the weights of torchvision into the backbone, in place.

    The package splits the layers into slices and keeps the numbers of torchvision: `slice2.3.weight` is `features.3.weight`.

    Raises:
        OSError: the file is missing or unreadable
        ValueError: the file lacks weights of the backbone, or they have other shapes
    """
    state = load_tensors(file)
    backbone = network.get_submodule("net")
    try:
        backbone.load_state_dict({key: state["features." + key.partition(".")[2]] for key in backbone.state_dict()})
    except (KeyError, RuntimeError, TypeError) as reason:
        raise ValueError(f"{file} does not fit the backbone of LPIPS: {' '.join(str(reason).split())}") from None

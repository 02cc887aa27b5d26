"""LPIPS through the lpips package: its network, its learned weights, and a backbone that was fetched on purpose.

The package would download the backbone by itself, so it is asked for one with random weights, and these are replaced,
every one, from the file of `vaebench.weights`.
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

SMALLEST = {"alex": 31, "vgg": 16}  # pixels that the poolings of the backbone leave something of


class LPIPS(FrameMetric):
    """Args: the network of the lpips package, and the shortest side in pixels that it takes."""

    unit = ""
    better: Better = "lower"
    version = 1
    per_clip = True

    def __init__(self, network: nn.Module, smallest: int) -> None:
        self.network, self.smallest = network, smallest

    @torch.inference_mode()
    def frame_values(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, n, H, W) in 0..1, twice -> float64 (B, n), a distance a frame, 0 for equal frames."""
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
    """LPIPS v0.1 with the backbone `net` of the package, whose weights are the file `backbone`.

    Unavailable without that file, ValueError if it holds something else.
    """
    file = weights.verified(backbone)
    network = package(net)
    fill(network, file)
    return LPIPS(network.to(device), SMALLEST[net])


def package(net: str) -> nn.Module:
    """The package's network with its learned weights and a backbone of random ones; nothing is downloaded."""
    import lpips

    with (
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),
    ):  # random weights, but not the run's numbers
        warnings.simplefilter("ignore")  # it calls torchvision in a deprecated way
        network: nn.Module = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    return network.eval().requires_grad_(False)


def fill(network: nn.Module, file: Path) -> None:
    """Put torchvision's weights into the backbone; ValueError for a file that does not fill all of it.

    The package numbers layers as torchvision does, in slices: `slice2.3.weight` is `features.3.weight`.
    """
    state = load_tensors(file)
    backbone = network.get_submodule("net")
    try:
        backbone.load_state_dict({key: state["features." + key.partition(".")[2]] for key in backbone.state_dict()})
    except (KeyError, RuntimeError, TypeError) as reason:
        raise ValueError(f"{file} does not fit the backbone of LPIPS: {' '.join(str(reason).split())}") from None

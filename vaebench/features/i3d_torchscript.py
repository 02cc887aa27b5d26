"""I3D of Kinetics-400 as StyleGAN-V's TorchScript file: the features behind `fvd` and `i3d_l2`.

400 logits before the softmax, averaged over time (Carreira and Zisserman 2017).  Videos are brought to 224x224
bilinearly without antialiasing.  On square videos the tools of the field agree on that to rounding; on others some
stretch and some crop, so others are refused.
"""

from __future__ import annotations

import hashlib
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vaebench import weights
from vaebench.features.i3d import prepared
from vaebench.features.validation import check, full_precision

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.video import Video

MIN_FRAMES = 9  # the last pooling needs two steps of eight frames
FEATURES = 400


class Extractor:
    """Features of clips; those of references are remembered, since every VAE of a run is compared with the same."""

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        self.network = network
        self.known: dict[bytes, Tensor] = {}  # digest of a clip -> float64 (400,); 3 kB a clip

    def pair(self, reference: Video, reconstruction: Video, digest: bytes = b"") -> Tensor:
        """float32 (B, 3, T, H, H) in 0..1, T >= 9, twice -> float64 (B, 2, 400): reference, reconstruction.

        Args:
            digest: of the reference, a single clip; b"" computes one from its pixels

        Raises:
            ValueError: there are fewer frames, or frames are not square
        """
        check(reference, reconstruction, frames=MIN_FRAMES)
        height, width = reference.shape[-2:]
        if height != width:
            raise ValueError(
                f"I3D features are defined here for square frames, got {height}x{width}: "
                "some tools stretch others and some crop them; set size=N, which crops"
            )
        return torch.stack(
            [
                torch.stack([self._remembered(a, digest), self._features(b)])
                for a, b in zip(reference, reconstruction, strict=True)
            ]
        )

    def _remembered(self, clip: Tensor, digest: bytes) -> Tensor:
        key = digest or _digest(clip)
        if key not in self.known:
            self.known[key] = self._features(clip)
        return self.known[key]

    @torch.inference_mode()
    def _features(self, clip: Tensor) -> Tensor:
        """float32 (3, T, H, H) in 0..1 -> float64 (400,)."""
        with full_precision():
            features = self.network(
                prepared(clip[None], "stretched"), rescale=False, resize=False, return_features=True
            )
        if tuple(features.shape) != (1, FEATURES):
            raise ValueError(f"I3D gave features of shape {tuple(features.shape)}, expected (1, {FEATURES})")
        return features[0].double()


def _digest(clip: Tensor) -> bytes:
    stored = clip.mul(255).round_().to(torch.uint8).cpu()
    return hashlib.blake2b(repr(tuple(clip.shape)).encode() + stored.numpy().tobytes()).digest()


def extractor(device: torch.device | str) -> Extractor:
    """I3D on `device`, one for all metrics; Unavailable without its file, ValueError if that is another."""
    return _load(weights.verified("i3d"), torch.device(device))


@cache
def _load(file: Path, device: torch.device) -> Extractor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript; the file is what it is
        return Extractor(torch.jit.load(str(file), map_location=device).eval())

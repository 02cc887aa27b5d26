"""I3D trained on Kinetics-400, as the TorchScript file of StyleGAN-V: the features of `fvd` and `i3d_l2`.

The features are the 400 logits, averaged over time (Carreira and Zisserman 2017).  Videos are resized to 224x224 bilinearly
without antialiasing.  For square videos the tools of the field agree on this up to rounding.  Other videos are refused, because
some tools stretch them and some crop them.
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

MIN_FRAMES = 9  # the last pooling needs two time steps of eight frames each
FEATURES = 400


class Extractor:
    """I3D features of clips.  Those of references are cached, because all VAEs of a run have the same references."""

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        self.network = network
        self.known: dict[bytes, Tensor] = {}  # digest of a clip -> float64 (400,); 3 kB per clip

    def pair(self, reference: Video, reconstruction: Video, digest: bytes = b"") -> Tensor:
        """Features of pairs of clips.

        Args:
            reference: float32 (B, 3, T, H, H) in 0..1, T at least 9
            reconstruction: same shape and range
            digest: of the reference, a single clip; b"" computes one from its pixels

        Returns:
            float64 (B, 2, 400): features of the reference and of the reconstruction

        Raises:
            ValueError: other shapes, fewer frames, or frames that are not square
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
    """The extractor on `device`, which all metrics share.

    Raises:
        Unavailable: its file is not on this machine
        ValueError: the file has another checksum than the published one
    """
    return _load(weights.verified("i3d"), torch.device(device))


@cache
def _load(file: Path, device: torch.device) -> Extractor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but the published file has this format
        return Extractor(torch.jit.load(str(file), map_location=device).eval())

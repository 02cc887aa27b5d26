"""The body shared by the families whose networks are written here (`_nets/`): the check at the door, casts, no gradients.

torch is imported inside functions only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vaebench.vae import Posterior, VAESpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vaebench.video import Latent, Video


class OwnVAE:
    """A VideoVAE around a network, in one mode.

    `encode` and `decode` run the network in that mode: (B, 3, T, H, W) -> moments (B, 2 c, t, h, w), mean before log
    variance, and (B, c, t, h, w) -> (B, 3, T, H, W).  `hazards` are what goes wrong, by name of dtype.
    """

    def __init__(
        self,
        spec: VAESpec,
        model: nn.Module,
        encode: Callable[[Tensor], Tensor],
        decode: Callable[[Tensor], Tensor],
        *,
        device: torch.device | str,
        dtype: torch.dtype | None,
        hazards: Mapping[str, str],
    ) -> None:
        import torch

        self.spec = spec
        self.device = torch.device(device)
        self.dtype = dtype or torch.float32
        hazard = hazards.get(str(self.dtype).removeprefix("torch."))
        if hazard:
            warnings.warn(f"{spec.name} in {self.dtype}: {hazard}", stacklevel=3)
        self.model = model.to(self.device, self.dtype).eval().requires_grad_(False)
        self._encode = encode
        self._decode = decode

    def encode(self, video: Video) -> Posterior:
        import torch

        check_legal(self.spec, video)
        with torch.no_grad():
            moments = self._encode(video.to(self.device, self.dtype)).float()
        mean, logvar = moments.chunk(2, dim=1)
        return Posterior(mean, logvar)

    def decode(self, latent: Latent) -> Video:
        import torch

        with torch.no_grad():
            return self._decode(latent.to(self.device, self.dtype)).float()


def check_mode(spec: VAESpec, mode: str) -> None:
    if mode not in spec.modes:
        raise ValueError(f"{spec.name} has no mode {mode!r} (it has: {', '.join(spec.modes)})")


def check_legal(spec: VAESpec, video: Video) -> None:
    """ValueError for a length or size of which the network would silently lose frames or pixels."""
    frames, height, width = video.shape[2:]
    if not spec.frames.allows(frames):
        raise ValueError(
            f"{spec.name} takes {spec.frames} frames, got {frames}; pad to {spec.fit(frames)} (vaebench.vae.pad)"
        )
    if height % spec.size_multiple or width % spec.size_multiple:
        raise ValueError(
            f"{spec.name} takes height and width in multiples of {spec.size_multiple}, got {height}x{width}; "
            "pad first (vaebench.vae.pad)"
        )


def untrained(build: Callable[[], nn.Module], base: VAESpec) -> tuple[nn.Module, VAESpec]:
    """A network with random weights, the same for everyone (seed 0), and `base` as the spec of such a one."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return model, replace(base, variant="tiny", source="", sha256="", parameters=parameters)

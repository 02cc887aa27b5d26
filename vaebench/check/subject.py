"""Shared by all tests of `vaebench check`: the VAE under test, test clips, and distances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.config import CheckConfig
from vaebench.machine import pick_device
from vaebench.suite import Candidate
from vaebench.vae import VideoVAE, check_latent, check_posterior, check_shape

Answer = tuple[bool | None, str]  # whether the test passed (None: not applicable), and a sentence


@dataclass(frozen=True)
class Subject:
    """The VAE under test, its candidate, and a clip with a valid shape."""

    candidate: Candidate
    vae: VideoVAE
    video: Tensor  # float32 (1, 3, T, H, W) in -1..1
    config: CheckConfig

    @property
    def weights(self) -> str:
        """sha256, "random" or "none"."""
        return self.candidate.weights

    def make(self, mode: str) -> VideoVAE:
        """The VAE in another mode, on the same device and in the same dtype."""
        return self.candidate.load(mode, device=self.video.device, dtype=getattr(torch, self.config.dtype))

    def encode(self, video: Tensor) -> Tensor:
        """The mean of the posterior.  The adapter gets a copy, so that changes of its input do not affect other tests.

        Raises:
            ValueError: encode returns no posterior, or the latent is not finite; NaN would pass or fail comparisons at random
        """
        return finite("latent", check_posterior(self.vae, self.vae.encode(video.clone())).mode())

    def decode(self, latent: Tensor) -> Tensor:
        """The video of a latent, of which the adapter gets a copy; ValueError if it is not finite."""
        return finite("reconstruction", self.vae.decode(latent.clone()))

    def reconstruct(self, video: Tensor) -> Tensor:
        """The reconstruction of a video with a valid shape, as `decode`; ValueError also if it has another shape."""
        latent = check_latent(self.vae, video, self.encode(video))
        frames = self.decode(latent)
        check_shape(self.vae, tuple(video.shape), tuple(frames.shape))
        return frames

    def clip(self, num_frames: int, side: int = 0) -> Tensor:
        """The test pattern in the shortest valid length of at least `num_frames`."""
        video = pattern(self.vae.spec.fit(num_frames), side or self.video.shape[-1])
        return video.to(self.video.device)


def subject_of(candidate: Candidate, config: CheckConfig) -> Subject:
    """Load a VAE in its first mode, with a clip of the size in `config`, rounded up to a valid one."""
    spec = candidate.spec
    device = pick_device(config.device)
    vae = candidate.load(spec.modes[0], device=device, dtype=getattr(torch, config.dtype))
    size = -(-config.size // spec.size_multiple) * spec.size_multiple
    video = pattern(spec.fit(config.num_frames), size).to(device)
    return Subject(candidate, vae, video, config)


def pattern(num_frames: int, size: int) -> Tensor:
    """A smooth, coloured, moving pattern, the same on every machine: float32 (1, 3, T, size, size) in -1..1."""
    t = torch.arange(num_frames, dtype=torch.float64).view(-1, 1, 1) / 16
    y = torch.arange(size, dtype=torch.float64).view(1, -1, 1) / size
    x = torch.arange(size, dtype=torch.float64).view(1, 1, -1) / size
    waves = [torch.sin(6.3 * (a * x + b * y) + c * t) for a, b, c in ((2, 1, 1.0), (-1, 3, 0.7), (1, -2, 1.6))]
    edges = torch.tanh(8 * torch.sin(9.0 * x - 4.0 * y + 2.0 * t))  # sharp edges
    return torch.stack([0.6 * wave + 0.3 * edges for wave in waves]).float().unsqueeze(0).clamp(-1, 1)


def smooth(num_frames: int, size: int, speed: float) -> Tensor:
    """Waves as long as the frame, moving by about `speed` / 10 radians per frame; shape and range as `pattern`."""
    t = torch.arange(num_frames, dtype=torch.float64).view(-1, 1, 1) * speed / 16
    y = torch.arange(size, dtype=torch.float64).view(1, -1, 1) / size
    x = torch.arange(size, dtype=torch.float64).view(1, 1, -1) / size
    waves = [torch.sin(2 * torch.pi * (a * x + b * y) + c * t) for a, b, c in ((1, 0, 2.0), (0, 1, 1.6), (1, -1, 1.2))]
    return torch.stack([0.7 * wave for wave in waves]).float().unsqueeze(0)


def finite(what: str, values: Tensor) -> Tensor:
    """`values`; ValueError if one of them is NaN or infinite."""
    if not values.isfinite().all():
        raise ValueError(f"the {what} is not finite: it has NaN or infinite values")
    return values


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest value."""
    return float((a - b).abs().max() / max(1.0, float(a.abs().max())))


def error(a: Tensor, b: Tensor) -> float:
    """Mean squared error."""
    return float((a - b).square().mean())


def quantised(latent: Tensor) -> bool:
    """Whether each value of a channel occurs four times or more on average, as after FSQ.

    Latents in float16 or bfloat16 have more distinct values.
    """
    channels = latent.transpose(0, 1).flatten(1)
    return all(channel.unique().numel() <= channel.numel() / 4 for channel in channels)

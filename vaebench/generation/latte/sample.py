"""Sampling latents from a denoiser: classifier-free guidance, and the chain of steps from noise to latent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from vaebench.generation.latte.diffusion import Schedule, Step, ddim_step, ddpm_step
from vaebench.generation.latte.model import Latte

Denoise = Callable[[Tensor, Tensor], Tensor]  # (B, C, F, H, W), timesteps (B,) -> (B, C or 2C, F, H, W)
Guided = Literal["all", "official-first-4"]


def guided(model: Latte, labels: Tensor, scale: float, *, channels: Guided = "all") -> Denoise:
    """The model with classifier-free guidance (Ho and Salimans 2022): noise u + scale (c - u), variance of the condition.

    `labels` int64 (B,). "official-first-4" guides four channels alone, as the official code does: right for latents of 4
    channels, and the way published numbers of wider latents were made. ValueError for an unconditional model.
    """
    config = model.config
    if not config.classes:
        raise ValueError("guidance needs a class-conditional Latte; this one is unconditional: sample it as it is")
    both = torch.cat([labels, torch.full_like(labels, config.classes)])
    width = config.channels if channels == "all" else min(4, config.channels)

    def denoise(latent: Tensor, t: Tensor) -> Tensor:
        with_label, without = model(latent.repeat(2, 1, 1, 1, 1), t.repeat(2), both).chunk(2)
        noise = torch.lerp(without[:, :width], with_label[:, :width], scale)
        return torch.cat([noise, with_label[:, width:]], dim=1)

    return denoise


def conditional(model: Latte, labels: Tensor | None) -> Denoise:
    """The model as it is, for labels (B,), or None of an unconditional model."""
    return lambda latent, t: model(latent, t, labels)


class Noise:
    """Standard normal noise with one random stream per sample, so that a sample does not depend on its batch or process.

    Drawn on the CPU, so that it does not depend on the device either.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, ...], device: torch.device) -> None:
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.shape = shape
        self.device = device

    def draw(self) -> Tensor:
        """float32 (len(seeds), *shape)"""
        return torch.stack([torch.randn(self.shape, generator=stream) for stream in self.streams]).to(self.device)

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.draw()


def chain(
    denoise: Denoise,
    start: Tensor,
    schedule: Schedule,
    noises: Iterable[Tensor],
    *,
    method: Literal["ddpm", "ddim"] = "ddpm",
) -> Iterator[Step]:
    """Sample step by step from `start` (B, C, F, H, W) down the schedule.

    Args:
        noises: one (B, C, F, H, W) per step of DDPM; unused by DDIM

    Yields:
        every step; the `sample` of the last one is the latent
    """
    draws = iter(noises)
    x = start
    for index in reversed(range(len(schedule))):
        t = torch.full((len(x),), int(schedule.timesteps[index]), device=x.device)
        with torch.no_grad():
            output = denoise(x, t).to(x.dtype)
            ddpm = method == "ddpm"
            step = ddpm_step(schedule, output, x, index, next(draws)) if ddpm else ddim_step(schedule, output, x, index)
        yield step
        x = step.sample


def sample(
    model: Latte,
    schedule: Schedule,
    seeds: Sequence[int],
    *,
    labels: Tensor | None = None,
    scale: float = 1.0,
    channels: Guided = "all",
    method: Literal["ddpm", "ddim"] = "ddpm",
) -> Tensor:
    """float32 latents (len(seeds), C, F, H, W), one per seed, whatever the batch they are made in.

    `labels` int64 (len(seeds),) for a conditional model; `scale` 1 is no guidance. Latte's protocol: `respaced(linear(),
    "250")`, DDPM, scale 7 on UCF-101 and none on SkyTimelapse.
    """
    config = model.config
    device = model.pos_embed.device
    if labels is not None:
        labels = labels.to(device)
    denoise = (
        conditional(model, labels) if labels is None or scale == 1 else guided(model, labels, scale, channels=channels)
    )
    noise = Noise(seeds, (config.channels, config.frames, config.height, config.width), device)
    latent = noise.draw()
    for step in chain(denoise, latent, schedule, noise, method=method):
        latent = step.sample
    return latent

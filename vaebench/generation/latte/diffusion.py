"""Gaussian diffusion as Latte uses it: 1000 linear steps, predicted noise, learned variance, DDPM and DDIM steps.

Ho et al. 2020 (DDPM), Nichol and Dhariwal 2021 (learned variance, respaced steps), Song et al. 2021 (DDIM). The
schedulers of diffusers lack what the published protocol needs: its rounding of 250 out of 1000 steps, a schedule rebuilt
from the selected steps with posterior variances of its own, and the variational loss.

A denoiser's output has C channels (noise) or 2C (noise, variance code); the channel axis is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import accumulate, repeat
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """A diffusion: one float64 (steps,) table per coefficient, step 0 nearest the data."""

    timesteps: Tensor  # int64: the denoiser's input at each step, in 0..999
    betas: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor
    posterior_variance: Tensor
    posterior_log_variance_clipped: Tensor
    fixed_large_log_variance: Tensor  # of a denoiser that predicts no variance
    posterior_mean_coef1: Tensor  # of x_0
    posterior_mean_coef2: Tensor  # of x_t
    sqrt_recip_alphas_cumprod: Tensor
    sqrt_recipm1_alphas_cumprod: Tensor

    def __len__(self) -> int:
        return len(self.betas)

    def to(self, device: torch.device) -> Schedule:
        return Schedule(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def from_betas(betas: Tensor, timesteps: Tensor) -> Schedule:
    """float64 (steps,) in 0..1 and int64 (steps,) -> the schedule."""
    kept = torch.cumprod(1 - betas, dim=0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    variance = betas * (1 - before) / (1 - kept)
    # the posterior of the first step has no variance: under the logarithm the second's stands in for it
    first = variance[1:2] if len(variance) > 1 else betas
    return Schedule(
        timesteps=timesteps,
        betas=betas,
        alphas_cumprod=kept,
        alphas_cumprod_prev=before,
        posterior_variance=variance,
        posterior_log_variance_clipped=torch.cat([first, variance[1:]]).log(),
        fixed_large_log_variance=torch.cat([first, betas[1:]]).log(),
        posterior_mean_coef1=betas * before.sqrt() / (1 - kept),
        posterior_mean_coef2=(1 - before) * (1 - betas).sqrt() / (1 - kept),
        sqrt_recip_alphas_cumprod=(1 / kept).sqrt(),
        sqrt_recipm1_alphas_cumprod=(1 / kept - 1).sqrt(),
    )


def linear(steps: int = 1000) -> Schedule:
    """The training schedule: betas from 1e-4 to 0.02 in equal steps."""
    return from_betas(torch.linspace(1e-4, 0.02, steps, dtype=torch.float64), torch.arange(steps))


def kept_steps(total: int, spacing: str) -> list[int]:
    """The steps out of `total` that a respacing keeps, ascending.

    "250": 250 steps evenly from the first to the last; "10,15,20": these numbers of steps in each third; "ddim50": every
    k-th step from 0, with an integer k.

    Raises:
        ValueError: another format, or a number of steps that the spacing cannot give
    """
    try:
        if spacing.startswith("ddim"):
            count = int(spacing.removeprefix("ddim"))
            strides = [k for k in range(1, total + 1) if len(range(0, total, k)) == count]
            if not strides:
                raise ValueError(f"no integer stride gives {count} of {total} steps; give the number only: {count!r}")
            return list(range(0, total, strides[0]))
        counts = [int(part) for part in spacing.split(",")]
    except ValueError as error:
        raise ValueError(f'a spacing has the format "250", "10,15,20" or "ddim50", got {spacing!r}: {error}') from error
    length, longer = divmod(total, len(counts))
    kept, start = [], 0
    for index, count in enumerate(counts):
        size = length + (index < longer)
        if not 1 <= count <= size:
            raise ValueError(f"a section of {size} steps cannot give {count} steps (spacing {spacing!r})")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        # summed as the reference does: products would round some halves the other way
        kept += [start + round(at) for at in accumulate(repeat(stride, count - 1), initial=0.0)]
        start += size
    return kept


def respaced(schedule: Schedule, spacing: str) -> Schedule:
    """The schedule of the selected steps only; the denoiser still gets the original timesteps."""
    kept = torch.tensor(kept_steps(len(schedule), spacing))
    alphas = schedule.alphas_cumprod[kept]
    before = torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    return from_betas(1 - alphas / before, schedule.timesteps[kept])


def _at(table: Tensor, step: Tensor | int, x: Tensor) -> Tensor:
    """The entry of one step for all of x, or of the steps (B,) for x (B, ...), ready to multiply x."""
    values = table[step].to(x.dtype)
    return values if isinstance(step, int) else values.reshape(-1, *(1,) * (x.ndim - 1))


def noised(schedule: Schedule, x0: Tensor, noise: Tensor, step: Tensor | int) -> Tensor:
    """x_t: (B, C, ...) and its noise at steps (B,) -> (B, C, ...)."""
    alphas = _at(schedule.alphas_cumprod.sqrt(), step, x0)
    return alphas * x0 + _at((1 - schedule.alphas_cumprod).sqrt(), step, x0) * noise


def predicted_x0(schedule: Schedule, x: Tensor, noise: Tensor, step: Tensor | int) -> Tensor:
    scaled = _at(schedule.sqrt_recip_alphas_cumprod, step, x) * x
    return scaled - _at(schedule.sqrt_recipm1_alphas_cumprod, step, x) * noise


def posterior_mean(schedule: Schedule, x0: Tensor, x: Tensor, step: Tensor | int) -> Tensor:
    """The mean of q(x_{t-1} | x_t, x_0)."""
    return _at(schedule.posterior_mean_coef1, step, x) * x0 + _at(schedule.posterior_mean_coef2, step, x) * x


def log_variance(schedule: Schedule, code: Tensor | None, x: Tensor, step: Tensor | int) -> Tensor:
    """The model's, between the posterior's (code -1) and beta (code 1); beta where the model predicts none."""
    if code is None:
        return _at(schedule.fixed_large_log_variance, step, x)
    share = (code + 1) / 2
    smallest = _at(schedule.posterior_log_variance_clipped, step, x)
    return share * _at(schedule.betas.log(), step, x) + (1 - share) * smallest


def split(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """A denoiser's output -> noise (B, C, ...), and the variance code (B, C, ...) or None."""
    if output.shape[1] == channels:
        return output, None
    if output.shape[1] != 2 * channels:
        raise ValueError(
            f"a denoiser of {channels} channels returns {channels} or {2 * channels}, got {output.shape[1]}"
        )
    noise, code = output.split(channels, dim=1)
    return noise, code


class Loss(NamedTuple):
    """Per sample, (B,)."""

    total: Tensor  # mse + vb
    mse: Tensor  # of the noise
    vb: Tensor  # bits per dimension: what one step adds to the variational bound; 0 for a denoiser without variance


def training_loss(schedule: Schedule, output: Tensor, x0: Tensor, noise: Tensor, step: Tensor) -> Loss:
    """Simple loss plus the unweighted variational term, whose gradient reaches the variance code alone.

    `output` of the denoiser for `noised(schedule, x0, noise, step)`, (B, C or 2C, ...); `step` (B,).
    """
    noise_hat, code = split(output, x0.shape[1])
    mse = (noise - noise_hat).square().flatten(1).mean(1)
    if code is None:
        return Loss(mse, mse, torch.zeros_like(mse))
    vb = _variational_bits(schedule, noise_hat.detach(), code, x0, noised(schedule, x0, noise, step), step)
    return Loss(mse + vb, mse, vb)


def _variational_bits(
    schedule: Schedule, noise_hat: Tensor, code: Tensor, x0: Tensor, x: Tensor, step: Tensor
) -> Tensor:
    """(B,) KL(q(x_{t-1} | x_t, x_0) | p), or -log p(x_0 | x_1) at the first step, in bits per dimension."""
    mean = posterior_mean(schedule, predicted_x0(schedule, x, noise_hat, step), x, step)
    logvar = log_variance(schedule, code, x, step)
    true_mean = posterior_mean(schedule, x0, x, step)
    true_logvar = _at(schedule.posterior_log_variance_clipped, step, x)
    divergence = 0.5 * (
        logvar - true_logvar - 1 + (true_logvar - logvar).exp() + (true_mean - mean).square() * (-logvar).exp()
    )
    first = -_binned_log_likelihood(x0, mean, 0.5 * logvar)
    bits = torch.where(step == 0, first.flatten(1).mean(1), divergence.flatten(1).mean(1))
    return bits / math.log(2.0)


def _binned_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Nats of the bin of width 2/255 around x under a Gaussian; the outer bins, beyond 0.999, reach to infinity.

    Made for 8-bit pixels in -1..1 (Ho et al. 2020, section 3.3) and applied to latents as they are, as upstream does.
    The normal distribution function is its tanh approximation.
    """
    inverse = (-log_scale).exp()
    above = _normal_cdf((x - mean + 1 / 255) * inverse)
    below = _normal_cdf((x - mean - 1 / 255) * inverse)
    mass = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return mass.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Step(NamedTuple):
    sample: Tensor  # x_{t-1}, (B, C, ...)
    x0: Tensor  # the prediction of the clean latent at this step


def ddpm_step(schedule: Schedule, output: Tensor, x: Tensor, step: int, noise: Tensor) -> Step:
    """One ancestral step; `noise` (B, C, ...) is unused at step 0."""
    noise_hat, code = split(output, x.shape[1])
    x0 = predicted_x0(schedule, x, noise_hat, step)
    mean = posterior_mean(schedule, x0, x, step)
    if step == 0:
        return Step(mean, x0)
    return Step(mean + (0.5 * log_variance(schedule, code, x, step)).exp() * noise, x0)


def ddim_step(schedule: Schedule, output: Tensor, x: Tensor, step: int) -> Step:
    """One implicit step, which is deterministic and does not use the variance code."""
    noise_hat, _ = split(output, x.shape[1])
    x0 = predicted_x0(schedule, x, noise_hat, step)
    # computed from x_0, as in the official code, although it equals the predicted noise up to rounding
    direction = (_at(schedule.sqrt_recip_alphas_cumprod, step, x) * x - x0) / _at(
        schedule.sqrt_recipm1_alphas_cumprod, step, x
    )
    before = schedule.alphas_cumprod_prev[step].item()
    return Step(math.sqrt(before) * x0 + math.sqrt(1 - before) * direction, x0)

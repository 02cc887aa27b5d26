"""Tier 0 of diffusability: statistics of a latent space without any training, in minutes on a CPU.

The statistics are those of the suite `latent` (`vaebench.latents`), of at most 1,024 windows of the cache of latents, without the
decoder.  One is only here: the noise-prediction error of the best denoiser that treats every channel and frequency separately, on
the latents as the diffusion model sees them, for the comparison with the loss of a trained model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vaebench.generation.latent_cache import some_rows
from vaebench.latents import gaussian, passes, posterior, spectrum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.generation.latent_cache import Cache

MOST = 1024


def statistics(cache: Cache, snr: NDArray) -> dict[str, NDArray]:
    """The statistics of a normalized cache: "windows", their number; "linear_loss" (points,); and the means over windows of what
    both passes of `vaebench.latents.passes` return for the latents as encoded.

    Args:
        snr: (points,) signal-to-noise ratios of the linear denoiser
    """
    rows = some_rows(len(cache), MOST)
    raw = replace(cache, scaling=None)
    means = _mean(_first(raw, row) for row in rows)
    basis = passes.Basis.of(means)
    means |= _mean(passes.second(_latent(raw, row), basis) for row in rows)
    power = _mean({"power": spectrum.power(_latent(cache, row).astype(np.float64))} for row in rows)["power"]
    loss = gaussian.linear_loss(_without_mean(power, cache, means["mean"]), snr)
    return {"windows": np.array(len(rows)), "linear_loss": loss, **means}


def _latent(cache: Cache, row: int) -> NDArray:
    """(C, F, H, W), the mean of a posterior."""
    latent: NDArray = cache.take([row]).mean[0].numpy()
    return latent


def _first(cache: Cache, row: int) -> dict[str, NDArray]:
    batch = cache.take([row])
    mean = batch.mean[0].double().numpy()
    statistics = passes.first(mean)
    if batch.std is not None:
        variance = batch.std[0].double().square().numpy()
        statistics["kl"] = posterior.kl_bits(mean, variance)
        statistics["posterior_variance"] = variance.reshape(len(variance), -1).mean(1)
    return statistics


def _mean(windows: Iterable[Mapping[str, NDArray]]) -> dict[str, NDArray]:
    """The means over windows, of which one at a time is in memory."""
    sums: dict[str, NDArray] = {}
    count = 0
    for window in windows:
        count += 1
        for name, value in window.items():
            sums[name] = sums[name] + value if name in sums else value
    return {name: value / count for name, value in sums.items()}


def _without_mean(power: NDArray, cache: Cache, mean: NDArray) -> NDArray:
    """The power spectrum minus the means of the channels, which a linear denoiser may know."""
    constant = mean
    if cache.scaling is not None:
        shift, scale = (value.flatten().double().numpy() for value in (cache.scaling.shift, cache.scaling.scale))
        constant = (mean - shift) * scale
    power = power.copy()
    size = math.prod(power.shape[1:])
    power[:, 0, 0, 0] = np.maximum(power[:, 0, 0, 0] - size * np.square(constant), 0)
    return power

"""The scores of a latent space without any training: statistics of the cached latents, and what is reported of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vaebench.generation import latent_statistics
from vaebench.generation.latte.diffusion import linear
from vaebench.generation.latte.train import grid_steps
from vaebench.latents import curves
from vaebench.latents.scores import LATENTS, of_means
from vaebench.records import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.generation.latent_cache import Cache

RELIABLE = 256  # windows


def grid_snr() -> NDArray:
    """(points,) signal-to-noise ratios at which the denoising loss is measured, from the noisiest to the cleanest."""
    schedule = linear()
    signal = schedule.alphas_cumprod[grid_steps(schedule)].numpy()
    return signal / (1 - signal)


def measured(cache: Cache, pixels: int) -> dict[str, NDArray]:
    """The statistics of a normalized cache, its shift and scale, and the windows that are left out.

    Args:
        pixels: number of pixels of the video behind a window
    """
    assert cache.scaling is not None
    left_out = [f"{window}: {reason}" for window, reason in cache.left_out.items()]
    return {
        **latent_statistics.statistics(cache, grid_snr()),
        "pixels": np.array(float(pixels)),
        "shift": cache.scaling.shift.flatten().numpy(),
        "scale": cache.scaling.scale.flatten().numpy(),
        "left_out": np.array(left_out, dtype=np.str_),
    }


def latent_scores(statistics: Mapping[str, NDArray]) -> dict[str, Score]:
    """The scores of the latents, from what `measured` returns: `gaussian_loss`, and those of `vaebench.latents.meanings`."""
    n = int(statistics["windows"])
    notes = [] if n >= RELIABLE else [f"from {n} windows; use {RELIABLE} or more for a reliable value"]
    if lost := len(statistics["left_out"]):
        notes.append(
            f"{lost} unreadable windows are left out; see `extra.latents.left_out` of the record for the reasons"
        )
    loss = float(statistics["linear_loss"].mean())
    first = Score(loss, "", "neither", n, note="; ".join(notes), metric="gaussian_loss")
    return {first.key: first} | of_means(LATENTS, statistics, n)


def extra(statistics: Mapping[str, NDArray]) -> dict[str, Any]:
    """The curves of the latents for the record, and how they were normalized."""
    lists = {name: statistics[name].tolist() for name in ("linear_loss", "shift", "scale", "left_out")}
    return {**curves.of_means(statistics), **lists}

"""The scores of a latent space without any training: statistics of the cached latents, and what is reported of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vaebench.generation import latent_statistics
from vaebench.generation.latte.diffusion import linear
from vaebench.generation.latte.train import grid_steps
from vaebench.records import Score, by_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.generation.latent_cache import Cache

RELIABLE = 256  # windows


def grid_snr() -> NDArray:
    """(points,) signal-to-noise ratios at which the denoising loss is measured, from the noisiest to the cleanest."""
    schedule = linear()
    signal = schedule.alphas_cumprod[grid_steps(schedule)].numpy()
    return signal / (1 - signal)


def measured(cache: Cache) -> dict[str, NDArray]:
    """The statistics of a normalized cache, its shift and scale, the shape of a latent, and the windows that are left out."""
    assert cache.scaling is not None
    left_out = [f"{window}: {reason}" for window, reason in cache.left_out.items()]
    return {
        **latent_statistics.statistics(cache, grid_snr()),
        "shift": cache.scaling.shift.flatten().numpy(),
        "scale": cache.scaling.scale.flatten().numpy(),
        "left_out": np.array(left_out, dtype=np.str_),
        "shape": np.array(cache.take([0]).mean.shape[1:]),
    }


def latent_scores(statistics: Mapping[str, NDArray]) -> dict[str, Score]:
    """The scores of the latents, from what `measured` returns."""
    n, std = int(statistics["windows"]), statistics["channel_std"]
    space = latent_statistics.slope(*statistics["space"])
    frames = np.arange(1, len(statistics["time"]))
    time = latent_statistics.slope(frames, statistics["time"][1:])
    notes = [] if n >= RELIABLE else [f"from {n} windows; use {RELIABLE} or more for a reliable value"]
    if lost := len(statistics.get("left_out", ())):
        notes.append(
            f"{lost} unreadable windows are left out; see `extra.latents.left_out` of the record for the reasons"
        )
    loss = float(statistics["linear_loss"].mean())
    dead = float((std < latent_statistics.DEAD * std.max()).sum())
    spread = _spread(std)
    scores = [
        Score(loss, "", "neither", n, note="; ".join(notes), metric="gaussian_loss"),
        Score(float(statistics["effective_rank"]), "", "neither", n, metric="effective_rank"),
        Score(
            spread, "", "neither", n, metric="std_spread", status="undefined" if spread is None else "ok",
            note="largest over smallest standard deviation of a channel",
        ),
        Score(dead, "", "lower", n, metric="dead_channels"),
    ]  # fmt: skip
    if "kl" in statistics:
        scores.append(Score(float(statistics["kl"]), "nats", "neither", n, metric="kl"))
    else:
        note = "the VAE has no posterior variance"
        scores.append(Score(None, "nats", "neither", n, note=note, metric="kl", status="unavailable"))
    for name, slope in (("slope_space", space), ("slope_time", time)):
        if slope is None:
            note = "needs 3 frequencies"
            scores.append(Score(None, "", "neither", n, note=note, metric=name, status="undefined"))
        else:
            scores.append(Score(slope, "", "neither", n, metric=name))
    return by_key(scores)


def _spread(std: NDArray) -> float | None:
    return float(std.max() / std.min()) if std.min() > 0 else None

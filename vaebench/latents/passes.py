"""The two passes over the latents of a set of clips; both return statistics whose means over clips describe the set.

The first pass gives the mean and covariance of channels, from which a `Basis` standardizes the latents; the second describes
the standardized latents.  All latents of a set have one shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaebench.latents import channels, correlation, spectrum, subbands

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.latents.jackknife import Means

AXES = {"t": 1, "y": 2, "x": 3}


def first(latent: NDArray) -> dict[str, NDArray]:
    """Latent (C, t, h, w) -> "mean" (C,), "products" (C, C), the mean outer product of positions, and "shape" (4,)."""
    rows = latent.reshape(len(latent), -1).astype(np.float64)
    return {
        "mean": rows.mean(1),
        "products": rows @ rows.T / rows.shape[1],
        "shape": np.array(latent.shape, dtype=np.float64),
    }


@dataclass(frozen=True)
class Basis:
    """Standardizes the channels of latents, and rotates standardized channels to their principal components."""

    mean: NDArray  # (C,)
    inverse_std: NDArray  # (C,), 0 for a constant channel
    modes: NDArray  # (C, C), columns are the eigenvectors of the correlation matrix

    @classmethod
    def of(cls, means: Means) -> Basis:
        """From the means over clips of what `first` returns."""
        covariance = channels.covariance(means["mean"], means["products"])
        inverse_std = channels.inverse_deviations(channels.deviations(covariance))
        modes = np.linalg.eigh(channels.correlation(covariance))[1][:, ::-1]
        return cls(means["mean"], inverse_std, modes)

    def standardize(self, latent: NDArray) -> NDArray:
        """(C, t, h, w) -> float64, with mean 0 and variance 1 in each channel over the set."""
        shape = (-1, 1, 1, 1)
        return (latent.astype(np.float64) - self.mean.reshape(shape)) * self.inverse_std.reshape(shape)


def second(latent: NDArray, basis: Basis) -> dict[str, NDArray]:
    """Latent (C, t, h, w) -> statistics of the standardized latent.

    Returns:
        "third" and "fourth" (C,): mean powers; "local" (2,): local correlation; "lag_t", "lag_y", "lag_x" (3, lags): products of
        neighbours; "blocks" (8, 8) and "zigzag" (n,): DCT power of blocks; "space" (h, w) and "time" (t,): DCT power of whole
        latents; "modes" (C, ...): the same by eigenmode of the channels and in bands of frequencies; "subband_energy" (8,) and
        "subband_histogram" (8, 256).  A statistic that latents of this shape do not have is missing.
    """
    z = basis.standardize(latent)
    rows = z.reshape(len(z), -1)
    power = spectrum.power(np.tensordot(basis.modes.T, z, 1))  # a rotation of channels keeps the mean over channels
    statistics = {
        "third": (rows**3).mean(1),
        "fourth": (rows**4).mean(1),
        "space": power.mean((0, 1)),
        "time": power.mean((0, 2, 3)),
        "modes": spectrum.bands(power),
    }
    statistics |= {f"lag_{name}": correlation.products(z, axis) for name, axis in AXES.items()}
    _, frames, height, width = z.shape
    if min(height, width) >= 2:
        statistics["local"] = correlation.local_correlation(z)
    if min(height, width) >= spectrum.BLOCK:
        statistics |= {"blocks": spectrum.block_power(z), "zigzag": spectrum.zigzag(z)}
    if min(height, width) >= 2:
        video = torch.from_numpy(z)  # a causal VAE encodes the first frame differently
        energy, histogram = subbands.subbands(video[:, 1:] if frames > 2 else subbands.causal(video), subbands.LATENTS)
        statistics |= {"subband_energy": energy, "subband_histogram": histogram}
    return statistics


def rgb(frames: NDArray, basis: Basis) -> dict[str, NDArray]:
    """RGB frames (3, t, h, w) at the size of the latent -> "rgb_blocks" (8, 8), if they are large enough."""
    if min(frames.shape[2:]) < spectrum.BLOCK:
        return {}
    return {"rgb_blocks": spectrum.block_power(basis.standardize(frames))}

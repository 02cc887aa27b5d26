"""The curves of a set of clips for figures, and the scores of single clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaebench.latents import channels, correlation, gaussian, scores, spectrum, subbands
from vaebench.latents.jackknife import mean
from vaebench.records import interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.latents.jackknife import Means

SIGMAS = tuple(float(10 ** (k / 4)) for k in range(-8, 9))  # noise of the denoising curve: 0.01 to 100
ZIGZAG = 64  # indices of the zigzag curve


def of_clip(clip: Means) -> dict[str, float]:
    """The scores of one clip; the channels are standardized by the set."""
    values = {"psnr": float(clip["psnr"])}
    values |= {name: float(clip[name]) for name in ("noise_gain",) if name in clip}
    values |= {"localcorr": correlation.average(clip["local"])} if "local" in clip else {}
    values |= {f"autocorr_{axis}": rho[0] for axis in "tyx" if (rho := _autocorrelation(clip, axis))}
    values |= {"dct_lf": spectrum.low_share(clip["blocks"])} if "blocks" in clip and clip["blocks"].any() else {}
    return values | ({"kl_bits_per_element": float(clip["kl"].mean())} if "kl" in clip else {})


def of_set(clips: Sequence[Means], noise: Sequence[float], masks: Sequence[float]) -> dict[str, Any]:
    """The curves of `of_means`, and "decoder": "noise" and "masks", the levels, and PSNR with the ends of its 95 % interval."""
    return of_means(mean(clips)) | {"decoder": _decoder(clips, noise, masks)}


def of_means(m: Means) -> dict[str, Any]:
    """Curves as lists of numbers; a curve that latents of this shape do not have is missing.

    "space" and "time": frequency as a fraction of the Nyquist frequency and power; "zigzag": power by index relative to index 0;
    "blocks": power of 8x8 blocks; "autocorrelation" by lag; "eigenvalues" of covariance and correlation; "denoising": relative
    error by noise; "subbands" of latents and of pixels; "channels".
    """
    frequency, power = spectrum.radial(m["space"])
    frames = len(m["time"])
    found: dict[str, Any] = {
        "shape": [int(side) for side in m["shape"]],
        "space": {"frequency": frequency.tolist(), "power": power.tolist()},
        "time": {"frequency": (np.arange(1, frames) / frames).tolist(), "power": m["time"][1:].tolist()},
        "autocorrelation": {axis: _autocorrelation(m, axis) for axis in "tyx"},
        "eigenvalues": {"raw": scores.raw(m).tolist(), "standardized": scores.standardized(m).tolist()},
        "channels": _channels(m),
        "subbands": {
            "names": list(subbands.NAMES),
            **{kind: _subbands(m, prefix) for kind, prefix in (("latents", ""), ("pixels", "pixel_"))},
        },
    }
    if m["modes"].any():
        mmse = gaussian.mmse(m["modes"], np.array(SIGMAS), scores.weights(m))
        found["denoising"] = {"sigma": list(SIGMAS), "mmse": mmse.tolist()}
    if "zigzag" in m and m["zigzag"][0] > 0:
        found["zigzag"] = (m["zigzag"][:ZIGZAG] / m["zigzag"][0]).tolist()
    blocks = {kind: m[name].tolist() for kind, name in (("latents", "blocks"), ("rgb", "rgb_blocks")) if name in m}
    return found | ({"blocks": blocks} if blocks else {})


def _autocorrelation(m: Means, axis: str) -> list[float]:
    """By lag; [] for one position, or without power."""
    products = m[f"lag_{axis}"]
    return correlation.autocorrelation(products).tolist() if products[1:].all() else []


def _channels(m: Means) -> dict[str, list[float]]:
    covariance = channels.covariance(m["mean"], m["products"])
    values = {"mean": m["mean"], "std": channels.deviations(covariance), "skewness": m["third"]}
    values |= {"excess_kurtosis": m["fourth"] - 3}
    values |= {"posterior_variance": m["posterior_variance"]} if "posterior_variance" in m else {}
    values |= {"kl_bits": m["kl"]} if "kl" in m else {}
    return {name: value.tolist() for name, value in values.items()}


def _subbands(m: Means, prefix: str) -> dict[str, list[float]]:
    if f"{prefix}subband_energy" not in m or not m[f"{prefix}subband_energy"].any():
        return {}
    energy = m[f"{prefix}subband_energy"]
    entropy = subbands.entropy_bits(m[f"{prefix}subband_histogram"])
    return {
        "energy": energy.tolist(),
        "share": subbands.energy_share(energy).tolist(),
        "entropy_bits": entropy.tolist(),
    }


def _decoder(clips: Sequence[Means], noise: Sequence[float], masks: Sequence[float]) -> dict[str, Any]:
    found: dict[str, Any] = {"noise": list(noise), "masks": list(masks)}
    for name in ("psnr", "added", "added_self", "mixed", "mixed_self", "masked"):
        if name in clips[0]:
            found[name] = _with_interval(np.stack([np.atleast_1d(clip[name]) for clip in clips]))
    return found


def _with_interval(values: NDArray) -> dict[str, list[float | None]]:
    """(clips, points) -> the mean of each point with the ends of its 95 % interval."""
    ends = [interval(column) for column in values.T]
    columns = {"mean": values.mean(0), "low": [low for _, low, _ in ends], "high": [high for _, _, high in ends]}
    return {
        name: [None if value is None or not math.isfinite(value) else float(value) for value in column]
        for name, column in columns.items()
    }

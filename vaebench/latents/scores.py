"""The scores of a set of clips: each is a function of the means over clips of what `passes` and `decoder` return.

`vaebench.latents.meanings` says in words what each one is.  A score that cannot be computed keeps its row, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vaebench.latents import channels, correlation, decoder, gaussian, posterior, spectrum, subbands
from vaebench.latents.jackknife import jackknife, mean, without_each
from vaebench.records import Better, Score, Status, by_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.latents.jackknife import Means

SIGMA = 1.0  # noise of gaussian_mmse
DROP, TOLERANCE = 3.0, 35.0  # dB, of sigma_3db and sigma_35db


class NotApplicable(ValueError):
    """The VAE has no such property; the message says why."""


@dataclass(frozen=True)
class Definition:
    """How a score is computed; `value` raises ValueError if it is undefined."""

    unit: str
    value: Callable[[Means], float]
    smooth: bool = True  # False: a count, which has no interval
    standardized: bool = True  # False: the basis that standardizes the latents does not affect it
    better: Better = "neither"
    correlation: bool = False  # from -1 to 1, which its interval does not leave


def _covariance(m: Means) -> NDArray:
    return channels.covariance(m["mean"], m["products"])


def _std(m: Means) -> NDArray:
    return channels.deviations(_covariance(m))


def raw(m: Means) -> NDArray:
    """(C,) eigenvalues of the covariance."""
    return channels.spectrum(_covariance(m))


def standardized(m: Means) -> NDArray:
    """(C,) eigenvalues of the correlation matrix."""
    return channels.spectrum(channels.correlation(_covariance(m)))


def weights(m: Means) -> NDArray:
    """Number of frequencies behind each value of `modes`, without the axis of modes."""
    return spectrum.band_weights(*(int(side) for side in m["shape"][1:]))


def time_slope(m: Means) -> float:
    """Slope of the temporal spectrum without its mean."""
    return spectrum.slope(np.arange(1, len(m["time"])), m["time"][1:])


def _posterior(m: Means, name: str) -> NDArray:
    if name not in m:
        raise NotApplicable("the VAE has no posterior variance")
    return m[name]


def _grid(m: Means, name: str) -> NDArray:
    """A statistic that some shapes of latents do not have."""
    if name not in m:
        _, t, h, w = (int(side) for side in m["shape"])
        least = 8 if name.endswith("blocks") else 2
        raise ValueError(f"needs at least {least} x {least} positions, got a latent of {t} x {h} x {w}: raise size")
    return m[name]


def _lag(axis: str, m: Means) -> NDArray:
    if not m[f"lag_{axis}"].size:
        raise ValueError(f"needs at least 2 latent positions along {axis}")
    return correlation.autocorrelation(m[f"lag_{axis}"])


def _per_pixel(m: Means) -> float:
    """Latent values per pixel of the video."""
    if "pixels" not in m:
        raise NotApplicable("the videos are unknown")
    return float(np.prod(m["shape"]) / m["pixels"])


def _video(m: Means) -> float:
    if math.isnan(_grid(m, "local")[1]):
        raise ValueError("needs at least 2 latent frames")
    return float(m["local"][1])


def _raw(unit: str, value: Callable[[Means], float], better: Better = "neither") -> Definition:
    """A score of latents or videos as they are."""
    return Definition(unit, value, better=better, standardized=False)


def _of_eigenvalues(suffix: str, eigenvalues: Callable[[Means], NDArray]) -> dict[str, Definition]:
    return {
        f"participation_ratio{suffix}": _raw("", lambda m: channels.participation_ratio(eigenvalues(m))),
        f"effective_rank{suffix}": _raw("", lambda m: channels.effective_rank(eigenvalues(m))),
        f"k90{suffix}": Definition("", lambda m: channels.k90(eigenvalues(m)), smooth=False),
        f"top1{suffix}": _raw("", lambda m: channels.top1(eigenvalues(m))),
    }


def _along(axis: str) -> dict[str, Definition]:
    return {
        f"autocorr_{axis}": Definition("", lambda m: float(_lag(axis, m)[0]), correlation=True),
        f"efold_{axis}": Definition("positions", lambda m: correlation.efold(_lag(axis, m))),
    }


LATENTS: dict[str, Definition] = {
    "localcorr": Definition("", lambda m: correlation.average(_grid(m, "local")), correlation=True),
    "localcorr_image": Definition("", lambda m: float(_grid(m, "local")[0]), correlation=True),
    "localcorr_video": Definition("", _video, correlation=True),
    **_along("t"), **_along("y"), **_along("x"),
    "dct_lf": Definition("", lambda m: spectrum.low_share(_grid(m, "blocks"))),
    "dct_hf": Definition("", lambda m: spectrum.high_share(_grid(m, "blocks"))),
    "slope_space": Definition("", lambda m: spectrum.slope(*spectrum.radial(m["space"]))),
    "slope_time": Definition("", time_slope),
    **_of_eigenvalues("", raw),
    "participation_ratio_share": _raw("", lambda m: channels.participation_ratio(raw(m)) / len(m["mean"])),
    "effective_rank_share": _raw("", lambda m: channels.effective_rank(raw(m)) / len(m["mean"])),
    **_of_eigenvalues("_standardized", standardized),
    "gaussian_mmse": Definition("", lambda m: float(gaussian.mmse(m["modes"], np.array([SIGMA]), weights(m))[0])),
    "code_length": Definition("bits", lambda m: gaussian.code_length(m["modes"], weights(m))),
    "subband_low_share": Definition("", lambda m: float(subbands.energy_share(_grid(m, "subband_energy"))[0])),
    "subband_entropy": Definition("bits", lambda m: float(subbands.entropy_bits(_grid(m, "subband_histogram")).mean())),
    "std": _raw("", lambda m: float(np.sqrt(np.square(_std(m)).mean()))),
    "std_spread": _raw("", lambda m: channels.spread(_std(m))),
    "skewness": Definition("", lambda m: float(np.abs(m["third"]).mean())),
    "excess_kurtosis": Definition("", lambda m: float(m["fourth"].mean() - 3)),
    "dead_channels": Definition("", lambda m: channels.dead(_std(m)), smooth=False),
    "kl_bits_per_element": _raw("bits", lambda m: float(_posterior(m, "kl").mean())),
    "kl_bits_per_pixel": _raw("bits", lambda m: float(_posterior(m, "kl").mean()) * _per_pixel(m)),
    "collapsed_channels": Definition("", lambda m: posterior.collapsed(_posterior(m, "kl")), smooth=False),
    "noise_share": _raw("", lambda m: posterior.noise_share(_posterior(m, "posterior_variance"), _covariance(m))),
}  # fmt: skip


def of_decoder(noise: Sequence[float], masks: Sequence[float]) -> dict[str, Definition]:
    """The scores that compare with the videos, of curves over these noise levels and masks."""
    levels = np.array(noise)

    def excess(m: Means) -> float:
        return spectrum.excess(_grid(m, "blocks"), _grid(m, "rgb_blocks"))

    def tolerance(m: Means) -> float:
        return decoder.crossing(levels, m["added_self"], TOLERANCE)

    def mask_loss(i: int) -> Definition:
        return _raw("dB", lambda m: float(m["masked"][i] - m["psnr"]))

    found = {
        "psnr": _raw("dB", lambda m: float(m["psnr"]), better="higher"),
        "dct_excess": Definition("nats", excess),
    }
    if noise:
        found |= {
            "noise_gain": _raw("", lambda m: float(m["noise_gain"])),
            "sigma_3db": _raw("std", lambda m: decoder.crossing(levels, m["added"] - m["psnr"], -DROP)),
            "sigma_35db": _raw("std", tolerance),
            "rate_35db": Definition(
                "bits", lambda m: gaussian.rate(m["modes"], tolerance(m), weights(m)) * _per_pixel(m)
            ),
        }
    return found | {f"mask_loss_{round(100 * share)}": mask_loss(i) for i, share in enumerate(masks)}


def scores(
    definitions: Mapping[str, Definition],
    clips: Sequence[Means],
    others: Sequence[Means],
    notes: Mapping[str, str] | None = None,
) -> dict[str, Score]:
    """The scores of a set of clips, with 95 % intervals over clips by the jackknife.

    Args:
        clips: the statistics of each clip, as `vaebench.latents.sets.described` returns them
        others: the means without some clips, standardized anew (`vaebench.latents.sets.without_groups`)
        notes: score -> a warning for readers
    """
    return of_means(definitions, mean(clips), len(clips), without_each(clips), others, notes)


def of_means(
    definitions: Mapping[str, Definition],
    means: Means,
    n: int,
    raw_others: Sequence[Means] = (),
    others: Sequence[Means] = (),
    notes: Mapping[str, str] | None = None,
) -> dict[str, Score]:
    """As `scores`, of the means over n clips, with intervals only where means without some clips are given.

    Args:
        raw_others: for scores that the basis does not affect
        others: for all other scores, standardized anew
    """
    found: list[Score] = []
    for name, definition in definitions.items():
        note = (notes or {}).get(name, "")
        try:
            value = float(definition.value(means))
        except ValueError as reason:
            status: Status = "not applicable" if isinstance(reason, NotApplicable) else "undefined"
            found.append(
                Score(None, definition.unit, definition.better, n, note=str(reason), metric=name, status=status)
            )
            continue
        left = others if definition.standardized else raw_others
        spread = (
            jackknife(definition.value, value, left, definition.correlation)
            if definition.smooth
            else (None, None, None)
        )
        found.append(Score(value, definition.unit, definition.better, n, *spread, note=note, metric=name,
                           signed=definition.unit == "dB" and name != "psnr"))  # fmt: skip
    return by_key(found)

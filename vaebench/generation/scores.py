"""The scores of generated videos: FVD, KVD and inception scores of features, and the denoising loss."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vaebench.features import inception_score
from vaebench.features.frechet import bootstrap, frechet, noise_floor
from vaebench.features.mmd import kvd
from vaebench.fingerprint import code, fingerprint
from vaebench.records import FEWEST, Score, Status, by_key, interval
from vaebench.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = 256  # videos; below it a Fréchet distance is mostly bias
HEADLINES = ("fvd16", "fvd16_floor", "fvd16_vs_rebuilt", "kvd16")  # distances that a printed table shows
DISTANCES = ("fvd16", "fvd16_vs_rebuilt", "rfvd16", "kvd16", "kvd16_vs_rebuilt")
INCEPTION = ("is_tgan_1split", "is_styleganv_10split", "is_debiased")


def distances(
    name: str, real: NDArray, reconstructed: NDArray, generated: NDArray, *, ddof: int, store: Store | None = None
) -> dict[str, Score]:
    """FVD16 and KVD16 of generated videos against real ones, and against the VAE's reconstructions of the real ones.

    The distance to the reconstructions measures how well the latent space is generated, apart from the reconstruction loss,
    which `rfvd16` measures.

    Args:
        name: of the feature network, a key of `vaebench.generation.extractors.FILES`
        real: (n, d) features of real clips
        reconstructed: (n, d) features of the same clips, reconstructed
        generated: (m, d) features of generated videos
        ddof: 1 for unbiased covariances, 0 for biased ones
        store: keeps standard errors, which take minutes at 2,048 videos, so that they are computed once
    """
    scores: list[Score] = []
    pairs = {
        "fvd16": (real, generated, False),
        "fvd16_vs_rebuilt": (reconstructed, generated, False),
        "rfvd16": (real, reconstructed, True),
    }
    for score, (a, b, paired) in pairs.items():
        scores += _fvd(score, a, b, ddof, paired, store)
    for score, (a, b) in {"kvd16": (real, generated), "kvd16_vs_rebuilt": (reconstructed, generated)}.items():
        enough = min(len(a), len(b)) > 1
        note = "unbiased: near 0, with either sign, for equal distributions" if enough else "needs 2 videos per set"
        value = kvd(a, b) if enough else None
        status: Status = "ok" if enough else "too few clips"
        scores.append(Score(value, "", "lower", len(b), signed=True, note=note, metric=score, status=status))
    return by_key(replace(score, metric=f"{score.metric}{suffix(name)}") for score in scores)


def standard_error(a: NDArray, b: NDArray, ddof: int, *, paired: bool, store: Store | None) -> float:
    """The standard error of the Fréchet distance by bootstrap; from `store` if the same code computed it of the same features."""
    facts = {
        "code": code(["vaebench.features.frechet"]),
        "sets": [(rows.shape, str(rows.dtype), hashlib.sha256(rows.tobytes()).hexdigest()) for rows in (a, b)],
        **{"ddof": ddof, "paired": paired},
    }
    key = fingerprint(facts)
    if store is not None and (known := store.get(key)) is not None:
        return float(known["stderr"])
    stderr = bootstrap(a, b, paired=paired, ddof=ddof).std(ddof=1)
    if store is not None:
        store.put(key, {"stderr": np.float64(stderr)})
    return float(stderr)


def suffix(name: str) -> str:
    """The end of the metrics' names that states the feature network; none for I3D."""
    return "" if name == "i3d" else f"_{name}"


def _fvd(score: str, a: NDArray, b: NDArray, ddof: int, paired: bool, store: Store | None) -> list[Score]:
    """The distance with its 95 % interval (normal, standard error by bootstrap), its noise floor, and the excess over the floor.

    `paired`: row i of both sets is the same clip.  A distance is never negative, so the interval is cut at 0.
    """
    n = min(len(a), len(b))
    if n < 2:
        note = "a Fréchet distance needs 2 videos per set"
        return [Score(None, "", "lower", n, note=note, metric=score, status="too few clips")]
    value, floor = frechet(a, b, ddof=ddof), noise_floor(a, b)
    stderr = half = None
    if n >= FEWEST:
        stderr = standard_error(a, b, ddof, paired=paired, store=store)
        half = 1.96 * stderr
    few = f"; with {n} videos it is mostly bias" if n < FEW else ""
    few += "; these two sets are paired, so their floor is lower" if paired else ""
    note = f"compare only at equal n ({len(a)} and {len(b)} videos); {score}_floor is the value for equal distributions{few}"
    low, high = (None, None) if half is None else (max(value - half, 0.0), value + half)
    scores = [
        Score(value, "", "lower", n, stderr, low, high, note=note, metric=score),
        Score(floor, "", "neither", n, metric=f"{score}_floor"),
    ]
    if not paired:  # the noise floor of paired sets is lower
        excess, meaning = value - floor, f"{score} minus {score}_floor, of either sign"
        low, high = (None, None) if half is None else (excess - half, excess + half)
        about: dict[str, Any] = {"signed": True, "note": meaning, "metric": f"{score}_debiased"}
        scores.append(Score(excess, "", "lower", n, stderr, low, high, **about))
    return scores


def inception_scores(probabilities: NDArray, real: NDArray) -> dict[str, Score]:
    """The three common variants of the inception score, which differ by 10 and more on one set of videos.

    Args:
        probabilities: (n, 101) class probabilities of generated videos
        real: (m, 101) class probabilities of real videos; their score is the ceiling
    """
    n = len(probabilities)
    if n < 10:
        return by_key(
            Score(None, "", "higher", n, note="needs 10 videos", metric=name, status="too few clips")
            for name in INCEPTION
        )
    split = inception_score.is_styleganv_10split(probabilities)
    stderr = split.std / 9**0.5  # of ten parts, whose deviation is divided by 10, as in the official code
    note = "biased downward, as each part has n/10 videos"
    scores = [
        Score(inception_score.is_tgan_1split(probabilities), "", "higher", n, metric="is_tgan_1split"),
        Score(split.mean, "", "higher", n, stderr, note=note, metric="is_styleganv_10split"),
        Score(inception_score.is_debiased(probabilities), "", "higher", n, metric="is_debiased"),
    ]
    if len(real) >= 10:
        value = inception_score.is_debiased(real)
        note, m = "the ceiling of is_debiased", len(real)
        scores.append(Score(value, "", "neither", m, note=note, metric="is_debiased_of_reals"))
    return by_key(scores)


def denoising(errors: NDArray, scenes: NDArray, held_out: int, *, smoke_test: bool) -> Score:
    """The mean denoising loss, with an interval over scenes.

    Args:
        errors: (log SNRs, windows) mean squared error of the predicted noise
        scenes: (windows,) scene number of each window; windows of one scene are not independent
        held_out: number of videos that the model was not trained on; 0: the errors are those of training videos
        smoke_test: whether the model is a toy, which the note then states
    """
    by_window = errors.mean(0)
    stderr, low, high = interval(by_scene(by_window, scenes))
    videos = f"{held_out} held-out videos" if held_out else "training videos (none is held out)"
    toy = "SMOKE TEST: a toy model, no evidence about the VAE; " if smoke_test else ""
    note = (
        f"{toy}mean squared error of the predicted noise at {len(errors)} log SNRs on {videos}; compare with gaussian_loss, "
        "the loss of a linear denoiser in the same latent space; the interval is over "
        f"{len(np.unique(scenes))} scenes, because windows of one scene are not independent"
    )
    mean, n = float(by_window.mean()), len(by_window)
    return Score(mean, "", "lower", n, stderr, low, high, note=note, metric="denoising_loss")


def by_scene(values: NDArray, scenes: NDArray) -> NDArray:
    """(windows,) values and scene numbers -> (scenes,) independent values, whose mean is the mean of `values`.

    If all scenes have the same number of windows, these are the means of the scenes.
    """
    mean = values.mean()
    deviations = np.bincount(scenes, weights=values - mean)
    return mean + deviations * len(deviations) / len(values)

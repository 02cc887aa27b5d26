"""The quality of a VAE in terms of video codecs: "psnr 34.81 dB is that of x265 at CRF 28.6, 0.063 bits per pixel".

A codec measured at several CRFs gives a curve of quality against bits per pixel.  Between two neighbouring CRFs, the CRF and the
logarithm of the bits are interpolated linearly in the quality.  Nothing is extrapolated: a quality outside the measured range is
stated as such.  A VAE and a codec are only compared over the same clips and the same setting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from vaebench.records import BITS, Record, Score

DECIMALS = {"dB": 2}  # of other units: 4


class Point(NamedTuple):
    """A codec at one CRF."""

    crf: float
    bits_per_pixel: float
    quality: float  # score of a metric


def is_codec(record: Record) -> bool:
    """Whether a record is that of a video codec."""
    return bool(record.vae.get("codec"))


def curves(records: Iterable[Record], metric: str) -> dict[str, list[Point]]:
    """Encoder -> its points for a metric, by CRF, over records of one setting."""
    points: dict[str, list[Point]] = {}
    for record in records:
        rate, score = record.scores.get(BITS), record.scores.get(metric)
        if is_codec(record) and rate and score and rate.value and score.value is not None:
            encoder, _, crf = str(record.vae["variant"]).rpartition("-")
            points.setdefault(encoder, []).append(Point(float(crf), rate.value, score.value))
    return {encoder: sorted(points[encoder]) for encoder in sorted(points)}


def equivalent(curve: Sequence[Point], quality: float) -> Point | None:
    """The point of a curve with this quality, by interpolation; None if the quality is outside the curve.

    Raises:
        ValueError: the quality does not rise or fall over the whole curve, so several points may have it
    """
    steps = [b.quality - a.quality for a, b in pairwise(curve)]
    if not (all(step < 0 for step in steps) or all(step > 0 for step in steps)):
        raise ValueError("the quality does not change monotonically with the CRF")
    for a, b in pairwise(curve):
        if min(a.quality, b.quality) <= quality <= max(a.quality, b.quality):
            part = (quality - a.quality) / (b.quality - a.quality)
            bits = math.exp((1 - part) * math.log(a.bits_per_pixel) + part * math.log(b.bits_per_pixel))
            return Point((1 - part) * a.crf + part * b.crf, bits, quality)
    return None


def statements(records: Sequence[Record], metrics: Sequence[str] = ()) -> list[str]:
    """One line per VAE and metric that says which CRF of each codec has the same quality; [] without codecs.

    Args:
        records: of any suites and settings; those of one setting of the reconstruction suite are compared
        metrics: the metrics to state; empty: all
    """
    lines = []
    settings: dict[str, list[Record]] = {}
    for record in records:
        if record.suite == "reconstruction":
            settings.setdefault(record.setting, []).append(record)
    for group in settings.values():
        for record in group:
            lines += [] if is_codec(record) or record.vae["family"] == "identity" else list(_of(record, group, metrics))
    return lines


def _of(record: Record, group: Sequence[Record], metrics: Sequence[str]) -> Iterable[str]:
    for metric, score in record.scores.items():
        if score.value is None or score.better == "neither" or score.signed or (metrics and metric not in metrics):
            continue
        sentences = []
        for encoder, curve in curves((other for other in group if _same_clips(record, other)), metric).items():
            if len(curve) > 1:
                sentences.append(_sentence(encoder, curve, score))
        if sentences:
            yield f"{record.name}: {metric} {_shown(score.value, score)} is {'; '.join(sentences)}"


def _same_clips(record: Record, other: Record) -> bool:
    """Whether two records of one setting have the same data and the same clips."""
    failed = [{failure.case for failure in each.failed} for each in (record, other)]
    return failed[0] == failed[1] and record.data.get("sha256") == other.data.get("sha256")


def _sentence(encoder: str, curve: Sequence[Point], score: Score) -> str:
    assert score.value is not None
    try:
        point = equivalent(curve, score.value)
    except ValueError as reason:
        return f"not comparable with {encoder}: {reason}"
    if point:
        return f"that of {encoder} at CRF {point.crf:.1f}, {point.bits_per_pixel:.3g} bits per pixel"
    best, worst = sorted(curve, key=lambda point: point.quality, reverse=score.better == "higher")[:: len(curve) - 1]
    above = (score.value > best.quality) == (score.better == "higher")
    end = best if above else worst
    how, extreme = ("better", "best") if above else ("worse", "worst")
    return f"{how} than {encoder} at CRF {end.crf:g} ({_shown(end.quality, score)}), the {extreme} measured"


def _shown(value: float, score: Score) -> str:
    return f"{value:.{DECIMALS.get(score.unit, 4)}f}{f' {score.unit}' if score.unit else ''}"

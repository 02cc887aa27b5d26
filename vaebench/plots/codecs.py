"""Quality against bits per pixel: curves of video codecs, and VAEs with their latents at 16 bits per value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vaebench import plot_style, records, yardstick
from vaebench.records import Record
from vaebench.titles import setting_title

LATENT_BITS = 16  # per latent value: bfloat16 or float16, as latents are stored for diffusion models


def codecs(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Each metric against bits per pixel: codecs as curves over CRF, VAEs by the size of their latents at 16 bits per value."""
    settings: dict[str, list[Record]] = {}
    for record in records.read_all(root, "reconstruction"):
        settings.setdefault(record.setting, []).append(record)
    for setting, group in settings.items():
        scores = {score.metric: score for record in group for score in record.scores.values() if score.status == "ok"}
        for metric, score in scores.items():
            curves = {name: curve for name, curve in yardstick.curves(group, metric).items() if len(curve) > 1}
            if curves and score.better != "neither":
                yield f"codecs-{metric}-{setting}", _drawn(curves, group, score)


def _drawn(curves: dict[str, list[yardstick.Point]], group: list[Record], score: records.Score) -> Figure:
    figure, axes = plt.subplots(figsize=(8, 4.4))
    looks = plot_style.look(list(curves))
    for encoder, curve in curves.items():
        rates, quality = [point.bits_per_pixel for point in curve], [point.quality for point in curve]
        label = f"{encoder}, CRF {curve[0].crf:g} to {curve[-1].crf:g}"
        axes.plot(rates, quality, label=label, lw=1.2, ms=5, **looks[encoder])
    vaes = [(record, value) for record in group if (value := _value(record, score.metric)) is not None]
    at = [LATENT_BITS * _values_per_pixel(record) for record, _ in vaes]
    if vaes:
        label = f"VAE, {LATENT_BITS} bits per latent\nvalue, not entropy-coded"
        axes.plot(at, [value for _, value in vaes], "o", mfc="none", color="black", ms=6, label=label)
    axes.set_xscale("log")
    plot_style.plain_log(axes.xaxis)
    axes.set_xlabel("bits per pixel (log scale)")
    arrow = {"higher": " (higher is better)", "lower": " (lower is better)", "neither": ""}[score.better]
    axes.set_ylabel(f"{score.metric.upper()}{f' [{score.unit}]' if score.unit else ''}{arrow}")
    axes.set_title(f"{setting_title(group[0])}: video codecs and VAEs", loc="left", fontsize="medium")
    axes.margins(x=0.1, y=0.1)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    plot_style.label_points(axes, at, [value for _, value in vaes], [record.name for record, _ in vaes])
    return figure


def _value(record: Record, metric: str) -> float | None:
    """The score of a trained VAE; None without a latent, for the identity, untrained VAEs and missing scores."""
    if not record.vae["latent_channels"] or record.vae["family"] == "identity" or plot_style.untrained(record):
        return None
    score = record.scores.get(metric)
    return score.value if score else None


def _values_per_pixel(record: Record) -> float:
    vae = record.vae
    return float(vae["latent_channels"] / (vae["temporal_compression"] * vae["spatial_compression"] ** 2))


FIGURES = (codecs,)

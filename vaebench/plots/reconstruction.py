"""Figures of the reconstruction suite: scores of clips, quality against latent size, and strips of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from vaebench import kept_pictures, plot_style, records, tables
from vaebench.files import file_name
from vaebench.frame_size import Size
from vaebench.plots import _looks
from vaebench.records import BITS, Record
from vaebench.titles import setting_title


def _settings(root: Path) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records.read_all(root, "reconstruction"):
        groups.setdefault(record.setting, []).append(record)
    return groups


def _axis_label(metric: str, record: Record) -> str:
    score = record.scores[metric]
    arrow = {"higher": " (higher is better)", "lower": " (lower is better)", "neither": ""}[score.better]
    return f"{metric.upper()}{f' [{score.unit}]' if score.unit else ''}{arrow}"


def per_clip(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """The score of each clip as a dot, one row per VAE, with the mean and its 95 % interval.

    `identity` is excluded: at 59 dB it would compress the axis of all others.
    """
    looks = _looks.of_vaes(root)
    for setting, group in _settings(root).items():
        compressing = [record for record in group if record.vae["family"] != "identity"]
        clips_of = [(record, records.read_clips(root, record)) for record in compressing]
        for metric in (name for name in _metrics(compressing) if name != BITS):  # a rate, not a quality
            rows = [(r, c) for r, c in clips_of if _has(r, metric) and any(metric in scores for scores in c.values())]
            if rows:
                yield f"per_clip-{metric}-{setting}", _per_clip(rows, metric, looks)


def _metrics(group: list[Record]) -> list[str]:
    """The metrics with a value in at least one of the records."""
    return list(dict.fromkeys(s.metric for record in group for s in record.scores.values() if s.status == "ok"))


def _has(record: Record, metric: str) -> bool:
    return metric in record.scores and record.scores[metric].status == "ok"


def _per_clip(
    rows: list[tuple[Record, dict[str, dict[str, float]]]], metric: str, looks: dict[str, dict[str, str]]
) -> Figure:
    rows.sort(key=lambda row: row[0].scores[metric].value or 0, reverse=rows[0][0].scores[metric].better == "lower")
    figure, axes = plt.subplots(figsize=(7, 1.1 + 0.42 * len(rows)))
    jitter = np.random.default_rng(0)
    for i, (record, clips) in enumerate(rows):
        values = np.array([scores[metric] for scores in clips.values() if metric in scores])
        colour = looks[record.vae["name"]]["color"]
        axes.scatter(values, i + jitter.uniform(-0.16, 0.16, len(values)), s=16, color=colour, alpha=0.8, lw=0)
        score = record.scores[metric]
        if score.low is not None and score.high is not None:
            axes.plot([score.low, score.high], [i, i], color="black", lw=2, solid_capstyle="butt")
        axes.plot([score.value], [i], "|", color="black", ms=14, mew=2)
    axes.set_yticks(range(len(rows)), [f"{plot_style.vae_name(r)} ({r.scores[metric].n})" for r, _ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(_axis_label(metric, rows[0][0]))
    title = f"{setting_title(rows[0][0])}: each clip (dots), mean and 95 % interval (n clips)"
    axes.set_title(title, loc="left", fontsize="medium")
    return figure


def rate_distortion(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Each metric against the number of latent values per pixel, for trained VAEs."""
    looks = _looks.of_vaes(root)
    for setting, group in _settings(root).items():
        trained = [r for r in group if not plot_style.untrained(r) and r.vae["family"] != "identity"]
        trained = [
            r for r in trained if r.vae["latent_channels"]
        ]  # unknown for videos made elsewhere; codecs have none
        for metric in _metrics(trained):
            shown = [record for record in trained if _has(record, metric)]
            if len(shown) > 1:
                yield f"rate_distortion-{metric}-{setting}", _rate_distortion(shown, metric, looks)


def _rate_distortion(records: list[Record], metric: str, looks: dict[str, dict[str, str]]) -> Figure:
    families = sorted({record.vae["family"] for record in records})
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    for family in families:
        members = sorted((r for r in records if r.vae["family"] == family), key=_values_per_pixel)
        scores = [record.scores[metric] for record in members]
        spread = [[_half(score, side) for score in scores] for side in (-1, 1)]
        x, y = [_values_per_pixel(record) for record in members], [score.value for score in scores]
        shades = [looks[record.vae["name"]] for record in members]
        hue = min(shades, key=lambda look: mpl.colors.to_rgb(look["color"]))  # the darkest
        axes.errorbar(x, y, yerr=spread, label=family, capsize=2, lw=1, ms=6, **hue)
        for across, height, look in zip(x, y, shades, strict=True):
            axes.plot([across], [height], ms=6, ls="", zorder=3, **look)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"1/{1 / value:g}" if value < 1 else f"{value:g}"))
    axes.set_xlabel("latent values per pixel (log scale)")
    axes.set_ylabel(_axis_label(metric, records[0]))
    title = f"{setting_title(records[0])}: quality against the size of the latent"
    axes.set_title(title, loc="left", fontsize="medium")
    axes.margins(x=0.15, y=0.1)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    at = [(_values_per_pixel(record), record.scores[metric].value or 0) for record in records]
    plot_style.label_points(
        axes, [x for x, _ in at], [y for _, y in at], [record.name.partition("/")[2] for record in records]
    )
    return figure


def _values_per_pixel(record: Record) -> float:
    vae = record.vae
    return float(vae["latent_channels"] / (vae["temporal_compression"] * vae["spatial_compression"] ** 2))


def _half(score: records.Score, side: int) -> float:
    edge = score.high if side > 0 else score.low
    return abs((edge if edge is not None else score.value or 0) - (score.value or 0))


AMPLIFIED = 4  # factor that makes errors visible
CROP = 64  # side of the enlarged detail in pixels; half the frame if the frame is smaller than two of them


def strips(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Reference and reconstructions with amplified errors and a crop, one figure per saved clip (`keep=N`)."""
    for setting, group in _settings(root).items():
        sheets: dict[str, dict[str, np.ndarray]] = {}
        ids: dict[str, str] = {}  # file name of a picture -> clip id
        for record in tables.in_order(group):
            ids |= {file_name(clip): clip for clip in records.read_clips(root, record) if clip.isascii()}
            for file in kept_pictures.of_record(root, record):
                of_clip = sheets.setdefault(file.stem, {})
                like = next(iter(of_clip.values()), None)
                of_clip[plot_style.vae_name(record)] = read_last(file, record.config.get("size") or 1, like)
        for clip, of_vaes in sheets.items():
            yield f"strips-{setting}-{clip}", strip(of_vaes, ids.get(clip, clip))


def read_last(file: Path, size: Size, like: np.ndarray | None) -> np.ndarray:
    """Read the last of the saved frames as (2, H, W, 3) in 0..1, reference and reconstruction, in the height of `like`.

    Raises:
        ValueError: the file is damaged or has another layout or height; the message names it
    """
    frames = kept_pictures.read(file, size)[:, -1]
    if like is not None and like.shape[1] != frames.shape[1]:
        raise ValueError(
            f"{file} has frames of {frames.shape[1]} pixels, those of other VAEs have {like.shape[1]}: delete it and "
            "run that VAE again with keep=N"
        )
    return np.divide(frames, 255, dtype=np.float32)


def strip(of_vaes: dict[str, np.ndarray], clip: str) -> Figure:
    """Draw the frames (2, H, W, 3) in 0..1 of each VAE: the reference and its reconstruction."""
    from vaebench.metrics.psnr import MSE_FLOOR  # imports torch, which no other figure needs

    figure, grid = plt.subplots(1 + len(of_vaes), 4, figsize=(8.4, 2.15 * (1 + len(of_vaes))), squeeze=False)
    reference = next(iter(of_vaes.values()))[0]
    side = min(CROP, max(1, min(reference.shape[:2]) // 2))
    top, left = _busiest(reference, side)
    rows = [("reference", reference), *((name, pair[1]) for name, pair in of_vaes.items())]
    for axes, (name, picture) in zip(grid, rows, strict=True):
        error = np.abs(picture - reference)
        psnr = -10 * np.log10(
            max(float(np.square(error).mean()), MSE_FLOOR)
        )  # as in the table: an exact frame has 58.92 dB
        crops = [image[top : top + side, left : left + side] for image in (picture, AMPLIFIED * error)]
        shown = [picture, AMPLIFIED * error, *crops]
        titles = [
            name if name == "reference" else f"{name}, {psnr:.1f} dB",
            f"error x {AMPLIFIED}",
            "detail",
            f"error of the detail x {AMPLIFIED}",
        ]
        for i, (ax, image, title) in enumerate(zip(axes, shown, titles, strict=True)):
            ax.set_axis_off()
            if name == "reference" and i % 2:
                continue
            ax.imshow(np.clip(image, 0, 1), interpolation="nearest")
            ax.set_title(title, fontsize="x-small", loc="left")
    figure.suptitle(f"{clip}: last frame", fontsize="small")
    return figure


def _busiest(image: np.ndarray, side: int) -> tuple[int, int]:
    """Top and left of the crop of `side` pixels with the largest sum of squared gradients, on a coarse grid."""
    grey = image.mean(axis=2)
    detail = np.square(np.diff(grey, axis=0))[:, :-1] + np.square(np.diff(grey, axis=1))[:-1]
    step = max(1, side // 4)
    rows, columns = (range(0, max(1, length - side + 1), step) for length in grey.shape)
    places = [(y, x) for y in rows for x in columns]
    return max(places, key=lambda place: float(detail[place[0] : place[0] + side, place[1] : place[1] + side].sum()))


FIGURES = (per_clip, rate_distortion, strips)

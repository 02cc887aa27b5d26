"""The figure of quality over resolution: each metric of the reconstruction suite at every size of the same clips."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaebench import frame_size, plot_style, records
from vaebench.frame_size import Size
from vaebench.plots import _looks
from vaebench.records import Record
from vaebench.titles import setting_title
from vaebench.typed import members

BySize = dict[Size, dict[str, Record]]  # size -> name of the VAE -> its record


def _groups(root: Path) -> dict[str, BySize]:
    """Setting without its size -> size -> VAE -> record; only settings that were measured at several sizes.

    Raises:
        ValueError: a record has no valid size; the message names the file
    """
    groups: dict[str, BySize] = {}
    for record in records.read_all(root, "reconstruction"):
        if not (record.config.get("num_frames", 1) and record.config.get("size", 1)):
            continue  # `vaebench score` of files in their own size
        try:
            members({"num_frames": int, "size": int | str}, record.config, "config")
            size = frame_size.plain(record.config["size"], "config.size")
        except ValueError as reason:
            raise records.invalid(root, record, str(reason)) from None
        frames = record.config["num_frames"]
        setting = record.setting.replace(f"{frames}x{size}", f"{frames} frames", 1)
        groups.setdefault(setting, {}).setdefault(size, {})[record.name] = record
    return {setting: group for setting, group in groups.items() if len(group) > 1}


def resolution(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Each metric over the number of pixels of a frame, with 95 % intervals, for VAEs scored at several sizes."""
    for setting, by_size in _groups(root).items():
        sizes = sorted(by_size, key=_pixels)
        names = {name for group in by_size.values() for name in group}
        repeated = sorted(name for name in names if sum(name in group for group in by_size.values()) > 1)
        looks = {name: look for name, look in _looks.of_vaes(root).items() if name in repeated}
        metrics = dict.fromkeys(
            score.metric
            for group in by_size.values()
            for name in repeated
            if name in group
            for score in group[name].scores.values()
            if score.status == "ok" and not score.signed
        )
        if metrics:
            yield f"resolution-{setting.replace(' ', '-')}", _figure(by_size, sizes, looks, list(metrics))


def _pixels(size: Size) -> int:
    height, width = frame_size.parse(size)
    return height * width


def _figure(by_size: BySize, sizes: list[Size], looks: dict[str, Any], metrics: list[str]) -> Figure:
    """`looks`: name of each VAE that is drawn -> its colour and marker."""
    figure, grid = plt.subplots(1, len(metrics), figsize=(4.2 * len(metrics), 3.8), squeeze=False)
    for axes, metric in zip(grid[0], metrics, strict=True):
        for name, look in looks.items():
            _line(axes, metric, [(size, by_size[size][name]) for size in sizes if name in by_size[size]], look)
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks([_pixels(size) for size in sizes], [_sides(size) for size in sizes], rotation=40, ha="right")
        axes.set_xlabel("height x width [pixels]")
    handles, labels = next((axes.get_legend_handles_labels() for axes in grid[0]), ([], []))
    figure.legend(handles, labels, loc="outside right center")
    title = re.sub(r" of \d+x\d+", "", setting_title(next(iter(by_size[sizes[0]].values()))), count=1)
    figure.suptitle(f"{title}: quality over resolution; each clip is resized and cropped to the size", fontsize="small")
    return figure


def _line(axes: Axes, metric: str, of_sizes: list[tuple[Size, Record]], look: dict[str, Any]) -> None:
    """One VAE in one panel."""
    points = [(size, record, record.scores[metric]) for size, record in of_sizes if metric in record.scores]
    points = [(size, record, score) for size, record, score in points if score.value is not None]
    if not points:
        return
    values = [score.value or 0.0 for *_, score in points]
    ends = [(score.low, score.high) for *_, score in points]
    below = [value - (low if low is not None else value) for value, (low, _) in zip(values, ends, strict=True)]
    above = [(high if high is not None else value) - value for value, (_, high) in zip(values, ends, strict=True)]
    _, record, score = points[0]
    xs = [_pixels(size) for size, *_ in points]
    axes.errorbar(xs, values, yerr=[below, above], label=plot_style.vae_name(record), capsize=2, lw=1, ms=5, **look)
    arrow = {"higher": " (higher is better)", "lower": " (lower is better)", "neither": ""}[score.better]
    axes.set_ylabel(f"{metric}{f' [{score.unit}]' if score.unit else ''}{arrow}")


def _sides(size: Size) -> str:
    return "x".join(map(str, frame_size.parse(size)))


FIGURES = (resolution,)

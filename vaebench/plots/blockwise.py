"""Figures of block-wise inference: change of quality, positions of seams, memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vaebench import plot_style, records
from vaebench.plots import _looks
from vaebench.records import Record, Score
from vaebench.titles import setting_title
from vaebench.typed import members, typed

PROFILES = ("by_frame", "by_step", "by_row", "by_column")


def _records(root: Path) -> list[Record]:
    return [_checked(root, record) for record in records.read_all(root, "blockwise")]


def _checked(root: Path, record: Record) -> Record:
    """Return `record` if its curves can be drawn.

    Raises:
        ValueError: a curve is invalid; the message names the file and the field
    """
    try:
        members({"profiles": dict[str, Any], "by_length": dict[str, Any]}, record.extra, "extra")
        _check_profiles(record.extra["profiles"], _modes(record))
        _check_lengths(record.extra["by_length"])
    except ValueError as reason:
        raise records.invalid(root, record, str(reason)) from None
    return record


def _check_profiles(profiles: dict[str, Any], modes: list[str]) -> None:
    field = "extra.profiles"
    members(dict.fromkeys(["whole", *modes], dict[str, Any]), profiles, field)
    for mode, profile in profiles.items():
        members({"metrics": dict[str, list[float]]}, profile, f"{field}.{mode}")
        members(dict.fromkeys(profiles["whole"]["metrics"], list[float]), profile["metrics"], f"{field}.{mode}.metrics")
        if mode in modes:
            members(dict.fromkeys(PROFILES, list[float]), profile, f"{field}.{mode}")
            if not profile["by_frame"]:
                raise ValueError(f"{field}.{mode}.by_frame is empty")


def _check_lengths(curves: dict[str, Any]) -> None:
    field = "extra.by_length"
    members({"lengths": list[int], "whole": dict[str, Any]}, curves, field)
    for mode in (mode for mode in curves if mode != "lengths"):
        names = [name for name in curves["whole"] if name != "bytes"]
        members(dict.fromkeys(names, list[float | None]), curves[mode], f"{field}.{mode}")
        typed(dict[str, list[float | None]], curves[mode], f"{field}.{mode}")
        typed(list[float], curves[mode].get("bytes", []), f"{field}.{mode}.bytes")
        for name, values in curves[mode].items():
            if len(values) != len(curves["lengths"]):
                raise ValueError(f"{field}.{mode}.{name} should have {len(curves['lengths'])} values, as lengths has")


def _modes(record: Record) -> list[str]:
    """The inference modes that are compared with whole inference."""
    modes = dict.fromkeys(str(score.condition.get("mode", "")) for score in record.scores.values())
    return [mode for mode in modes if mode != "whole"]


def _metrics(record: Record) -> list[str]:
    """The quality metrics: those with a score for whole inference."""
    return [score.metric for score in record.scores.values() if score.condition.get("mode") == "whole"]


def _score(record: Record, metric: str, mode: str) -> Score | None:
    """The score of a metric in a mode; None if it has no value."""
    wanted = {"mode": mode}
    return next(
        (s for s in record.scores.values() if s.metric == metric and s.condition == wanted and s.status == "ok"), None
    )


def _stem(kind: str, record: Record) -> str:
    return f"{kind}-{record.vae['name'].replace('/', '-')}-{record.setting}"


def degradation(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Signed change of each metric relative to whole inference, one bar per mode (Table 5 of the WF-VAE paper)."""
    looks = _looks.of_vaes(root)
    settings: dict[str, list[Record]] = {}
    for record in _records(root):
        settings.setdefault(record.setting, []).append(record)
    for setting, group in settings.items():
        metrics = dict.fromkeys(metric for record in group for metric in _metrics(record))
        shown = [metric for metric in metrics if any(_score(r, metric, m) for r in group for m in _modes(r))]
        if shown:
            yield f"degradation-{setting}", _degradation(group, shown, looks)


def _degradation(records: list[Record], metrics: list[str], looks: dict[str, dict[str, str]]) -> Figure:
    rows = [(record, mode) for record in records for mode in _modes(record)]
    figure, grid = plt.subplots(1, len(metrics), figsize=(2.6 + 3.1 * len(metrics), 1.3 + 0.3 * len(rows)), sharey=True,
                                squeeze=False)  # fmt: skip
    for axes, metric in zip(grid[0], metrics, strict=True):
        for i, (record, mode) in enumerate(rows):
            score = _score(record, metric, mode)
            if score is None:
                continue
            unit, better = score.unit, score.better
            axes.barh(i, score.value, 0.7, color=looks[record.vae["name"]]["color"])
            if score.low is not None and score.high is not None:
                axes.plot([score.low, score.high], [i, i], color="black", lw=1)
        axes.axvline(0, color="black", lw=0.8)
        direction = "" if better == "neither" else f"\n({better} is better)"
        axes.set_xlabel(f"change of {metric.upper()}{f' [{unit}]' if unit else ''}{direction}")
        axes.grid(axis="y", visible=False)
    grid[0][0].set_yticks(range(len(rows)), [f"{plot_style.vae_name(record)} · {mode}" for record, mode in rows])
    grid[0][0].invert_yaxis()
    title = f"{setting_title(records[0])}: block-wise minus whole inference, 95 % interval over clips"
    figure.suptitle(title, fontsize="small")
    return figure


def seam_profile(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """RMS difference between block-wise and whole inference over frames, frame steps, rows and columns."""
    for record in _records(root):
        profiles = {mode: record.extra["profiles"][mode] for mode in _modes(record)}
        if profiles:
            yield _stem("seam_profile", record), _seam_profile(record, profiles)


def _seam_profile(record: Record, profiles: dict[str, Any]) -> Figure:
    figure, grid = plt.subplots(2, 2, figsize=(10, 5.6))
    looks = _looks.of_modes(profiles)
    panels = (
        ("by_frame", "frame"),
        ("by_step", "step from a frame to the next"),
        ("by_row", "row"),
        ("by_column", "column"),
    )
    for axes, (name, title) in zip(grid.flat, panels, strict=True):
        for i, (mode, profile) in enumerate(profiles.items()):
            values = np.array(profile[name])
            marker = looks[mode]["marker"] if len(values) < 50 else None
            # later lines are thinner and broken, so that equal lines are all visible
            axes.plot(values, label=mode, color=looks[mode]["color"], lw=max(1.0, 2.8 - 0.6 * i),
                      ls=_looks.LINES[i % len(_looks.LINES)], marker=marker, ms=3)  # fmt: skip
            for boundary in _boundaries(mode, len(profile["by_frame"])):
                if name == "by_frame":  # between two frames
                    axes.axvline(boundary - 0.5, color=looks[mode]["color"], lw=1, ls=":", zorder=0)
                elif name == "by_step":  # the step across the boundary
                    axes.axvline(boundary - 1, color=looks[mode]["color"], lw=1, ls=":", zorder=0)
        axes.set_xlabel(title)
        axes.set_ylabel("RMS difference")
        axes.set_ylim(bottom=0)
    handles, _ = grid[0][0].get_legend_handles_labels()
    most = {mode: max(profile["by_frame"]) for mode, profile in profiles.items()}
    labels = [f"{mode} (at most {most[mode]:.1e} in a frame)" for mode in profiles]
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize="small")
    chunked = any(_boundaries(mode, len(profile["by_frame"])) for mode, profile in profiles.items())
    figure.suptitle(
        f"{plot_style.vae_name(record)}, {setting_title(record)}: difference to whole inference, pixels in -1..1"
        + ("; dotted: chunk boundaries" if chunked else ""),
        fontsize="small",
    )
    return figure


def _boundaries(mode: str, frames: int) -> list[int]:
    """The first frame of each chunk but the first, for modes whose name states the frames of a chunk, such as independent-17."""
    kind, _, number = mode.rpartition("-")
    size = int(number) if kind in ("chunks", "independent") and number.isdigit() else 0
    return list(range(size, frames, size)) if size else []


def by_frame(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Each metric per frame, averaged over clips."""
    for record in _records(root):
        if record.extra["profiles"]["whole"]["metrics"]:
            yield _stem("by_frame", record), _by_frame(record)


def _by_frame(record: Record) -> Figure:
    profiles = record.extra["profiles"]
    names = list(profiles["whole"]["metrics"])
    figure, grid = plt.subplots(1, len(names), figsize=(5.2 * len(names), 3.6), squeeze=False)
    looks = _looks.of_modes(profiles)
    frames = max(len(values) for values in profiles["whole"]["metrics"].values())
    for axes, name in zip(grid[0], names, strict=True):
        for mode, profile in profiles.items():
            values = profile["metrics"][name]
            # the value of a frame step is drawn at the later frame
            axes.plot(range(frames - len(values), frames), values, "-" if mode == "whole" else "--", label=mode,
                      lw=2.4 if mode == "whole" else 1.2,
                      color=looks[mode]["color"])  # fmt: skip
        score = _score(record, name, "whole")
        unit = score.unit if score else ""
        axes.set_xlabel("frame")
        axes.set_ylabel(f"{name.upper()}{f' [{unit}]' if unit else ''}")
    grid[0][0].legend(fontsize="small")
    figure.suptitle(f"{plot_style.vae_name(record)}, {setting_title(record)}", fontsize="small")
    return figure


def by_length(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Quality and peak memory against the length of the clip."""
    for record in _records(root):
        curves = record.extra["by_length"]
        if len(curves["lengths"]) > 1 and curves["whole"]:
            yield _stem("by_length", record), _by_length(record, curves)


def _by_length(record: Record, curves: dict[str, Any]) -> Figure:
    """One panel for memory, if it was measured, and one per metric."""
    names = ["bytes"] if "bytes" in curves["whole"] else []
    names += [name for name in curves["whole"] if name != "bytes"]
    figure, grid = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.6), squeeze=False)
    modes = [mode for mode in curves if mode != "lengths"]
    looks = _looks.of_modes(modes)
    for axes, name in zip(grid[0], names, strict=True):
        for mode in (mode for mode in modes if name in curves[mode]):
            # None (clips too short for the metric) becomes NaN, which is not drawn
            values = np.array(curves[mode][name], dtype=float) / (2**20 if name == "bytes" else 1)
            axes.plot(curves["lengths"], values, label=mode, ms=4, lw=1.3, **looks[mode])
        score = _score(record, name, "whole")
        unit = f" [{score.unit}]" if score and score.unit else ""
        axes.set_xlabel("frames")
        axes.set_ylabel("peak memory above the weights [MiB]" if name == "bytes" else f"{name.upper()}{unit}")
        if name == "bytes":
            axes.set_ylim(bottom=0)
    grid[0][0].legend(fontsize="small")
    figure.suptitle(f"{plot_style.vae_name(record)}, {setting_title(record)}", fontsize="small")
    return figure


FIGURES = (degradation, seam_profile, by_frame, by_length)

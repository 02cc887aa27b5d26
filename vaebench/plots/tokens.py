"""The figure of long video: tokens, attention cost and windows over the duration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaebench import plot_style, records
from vaebench.records import Record
from vaebench.typed import members

WHOLE = "whole"
SHOWN = 3  # systems named in one legend entry


def by_setting(root: Path) -> dict[str, list[Record]]:
    """Setting -> records of the suite `tokens`.

    Raises:
        ValueError: a curve is invalid; the message names the file and the field
    """
    groups: dict[str, list[Record]] = {}
    for record in records.read_all(root, "tokens"):
        try:
            _check(record)
        except ValueError as reason:
            raise records.invalid(root, record, str(reason)) from None
        groups.setdefault(record.setting, []).append(record)
    return groups


def _check(record: Record) -> None:
    members({"denoiser": dict[str, Any], "curves": dict[str, list[float]]}, record.extra, "extra")
    members({"system": str, "patch": list[int]}, record.extra["denoiser"], "extra.denoiser")
    curves = record.extra["curves"]
    protocols = [name.removesuffix(" windows") for name in curves if name.endswith(" windows")]
    needed = [f"{protocol} {what}" for protocol in {WHOLE, *protocols} for what in ("tokens", "attention", "windows")]
    members(dict.fromkeys(["seconds", *needed], list[float]), curves, "extra.curves")
    for name, values in curves.items():
        if len(values) != len(curves["seconds"]):
            raise ValueError(f"extra.curves.{name} should have {len(curves['seconds'])} values, as seconds has")
        if min(values, default=1) <= 0:
            raise ValueError(f"extra.curves.{name} should be positive, got {min(values)}")


def tokens_over_duration(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Tokens of every system over the duration, and the attention cost and number of windows of the long-video protocols."""
    for setting, group in by_setting(root).items():
        known = [record for record in group if record.extra["denoiser"]["system"]]
        if known:
            yield f"tokens-{setting}", _figure(known, setting)


def _figure(group: list[Record], setting: str) -> Figure:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 5.2))
    _tokens(left, group)
    _windows(middle, right, group)
    for axes, title in (
        (left, "tokens of the whole video"),
        (middle, "pairs of tokens in attention"),
        (right, "windows"),
    ):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("duration [s]")
        axes.set_ylabel(title)
        plot_style.plain_log(axes.xaxis)
    for axes in (left, middle):  # the panel on the right has the lines of the middle
        if axes.has_data():
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize="x-small")
    plot_style.plain_log(right.yaxis)
    size, *options = setting.split("-")
    # the curves have durations of their own
    choices = [option for option in options if not option.startswith(("frames", "seconds"))]
    if not any(option.endswith("fps") for option in choices):
        choices.append("24 frames/s; windows at the rate of each system")
    at = ", ".join([f"{size} pixels", *choices])
    figure.suptitle(f"{at}; attention: full self-attention over the whole video, or over each window", fontsize="small")
    return figure


def _tokens(axes: Axes, group: list[Record]) -> None:
    """One line per set of equal curves, the most tokens first."""
    lines: dict[tuple[float, ...], list[Record]] = {}
    for record in group:
        lines.setdefault(tuple(record.extra["curves"]["whole tokens"]), []).append(record)
    looks: dict[str, Any] = plot_style.look([str(i).zfill(3) for i in range(len(lines))])
    ordered = sorted(lines.items(), key=lambda line: -line[0][-1])
    for look, (values, same) in zip(looks.values(), ordered, strict=True):
        axes.plot(same[0].extra["curves"]["seconds"], values, label=_label(same), markersize=4, **look)


def _label(same: list[Record]) -> str:
    """The compression and patch of records with equal curves, and the systems that have them."""
    networks = dict.fromkeys(
        f"{_compression(record)} / {'x'.join(map(str, record.extra['denoiser']['patch']))}" for record in same
    )
    systems = list(dict.fromkeys(record.extra["denoiser"]["system"] for record in same))
    more = f", {len(systems) - SHOWN} more" if len(systems) > SHOWN else ""
    return f"{', '.join(networks)}: {', '.join(systems[:SHOWN])}{more}"


def _compression(record: Record) -> str:
    r_s = record.vae["spatial_compression"]
    return f"{record.vae['temporal_compression']}x{r_s}x{r_s}"


def _windows(attention: Axes, windows: Axes, group: list[Record]) -> None:
    """The protocols of each VAE, and its whole video dashed."""
    curves_of: dict[str, dict[str, list[float]]] = {}
    wholes: dict[tuple[float, ...], tuple[list[float], str]] = {}
    for record in group:
        curves = record.extra["curves"]
        for protocol in (name.removesuffix(" windows") for name in curves if name.endswith(" windows")):
            if protocol != WHOLE:
                curves_of.setdefault(protocol, curves)
                wholes.setdefault(tuple(curves["whole attention"]), (curves["seconds"], _compression(record)))
    equal: dict[tuple[tuple[float, ...], ...], list[str]] = {}
    for protocol, curves in curves_of.items():
        drawn = (tuple(curves[f"{protocol} attention"]), tuple(curves[f"{protocol} windows"]))
        equal.setdefault(drawn, []).append(protocol)
    looks: dict[str, Any] = plot_style.look([names[0] for names in equal.values()])
    for (pairs, counts), names in equal.items():
        look, seconds = looks[names[0]], curves_of[names[0]]["seconds"]
        attention.plot(seconds, pairs, label=", ".join(names), markersize=4, **look)
        windows.plot(seconds, counts, markersize=4, **look)
    for style, (pairs, (seconds, compression)) in zip(("--", ":", "-."), wholes.items(), strict=False):
        attention.plot(seconds, pairs, style, color="grey", label=f"whole video, {compression}")


FIGURES = (tokens_over_duration,)

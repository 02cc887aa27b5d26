"""Figures of the relay suite: drift per hop of several VAEs above the floor of the protocol, and strips of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaebench import kept_pictures, plot_style, records
from vaebench.plots import _looks
from vaebench.records import Record
from vaebench.titles import setting_title
from vaebench.typed import members

# curve -> label of its axis
PANELS = {
    "psnr": "PSNR [dB]",
    "shift": "shift of grey [levels of 255]",
    "high_frequency": "high-frequency energy\nrelative to the source (log scale)",
    "latent_drift": "latent drift\n|E(x_n) - E(x)| / |E(x)|",
}
FLOOR = "floor: identity VAE"


def _settings(root: Path) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records.read_all(root, "relay"):
        groups.setdefault(record.setting, []).append(_checked(root, record))
    return groups


def _checked(root: Path, record: Record) -> Record:
    """Return `record` if its curves can be drawn.

    Raises:
        ValueError: a curve is invalid; the message names the file and the field
    """
    kinds: dict[str, Any] = {name: list[float | None] for name in PANELS} | {"shift": list[list[float | None]]}
    try:
        extra = {"curves": dict[str, Any], "protocols": dict[str, Any], "hops_shown": list[int]}
        members(extra, record.extra, "extra")
        for protocol, curves in record.extra["curves"].items():
            field = f"extra.curves.{protocol}"
            members({**kinds, "floor": dict[str, Any]}, curves, field)
            members(kinds, curves["floor"], f"{field}.floor")
            members({"note": str}, record.extra["protocols"].get(protocol, {}), f"extra.protocols.{protocol}")
            lengths = {len(of[name]) for of in (curves, curves["floor"]) for name in PANELS}
            if len(lengths) != 1:
                raise ValueError(f"{field} should have curves of one length, not of {sorted(lengths)} hops")
    except ValueError as reason:
        raise records.invalid(root, record, str(reason)) from None
    return record


def drift(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Quality, colour, high frequencies and latents over the hops of each protocol, with the floor of an identity VAE."""
    for setting, group in _settings(root).items():
        if any(record.extra["curves"] for record in group):
            yield f"drift-{setting}", _drift(group, _looks.of_vaes(root))


def _drift(group: list[Record], looks: dict[str, dict[str, str]]) -> Figure:
    protocols = list(dict.fromkeys(name for record in group for name in record.extra["curves"]))
    figure, grid = plt.subplots(
        len(protocols), len(PANELS), figsize=(3.3 * len(PANELS), 0.9 + 2.4 * len(protocols)), squeeze=False
    )
    for row, protocol in zip(grid, protocols, strict=True):
        shown = [record for record in group if protocol in record.extra["curves"]]
        for axes, (name, label) in zip(row, PANELS.items(), strict=True):
            for record in shown:
                values = _values(record.extra["curves"][protocol], name)
                axes.plot(_hops(values), values, label=plot_style.vae_name(record), ms=4, lw=1.3,
                          **looks[record.vae["name"]])  # fmt: skip
            if name != "latent_drift":  # the latents of the identity VAE are pixels
                values = _values(shown[0].extra["curves"][protocol]["floor"], name)
                axes.plot(_hops(values), values, "--", color="black", lw=1.2, label=FLOOR)
            axes.set_xlabel("hop")
            axes.set_ylabel(label, fontsize="small")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if name == "high_frequency" and any((np.asarray(line.get_ydata()) > 0).any() for line in axes.lines):
                axes.set_yscale("log")  # a VAE may multiply this energy or remove most of it
                plot_style.plain_log(axes.yaxis, few=True)
        note = shown[0].extra["protocols"][protocol]["note"]
        row[0].set_title(f"{protocol}{f' ({note})' if note else ''}", loc="left", fontsize="small")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), fontsize="small")
    figure.suptitle(
        f"{setting_title(group[0])}: drift over repeated decode and encode, mean over clips", fontsize="small"
    )
    return figure


def _values(curves: dict[str, Any], name: str) -> np.ndarray:
    """(N,) the curve; NaN where it has no value; the shift is averaged over colours."""
    values = np.array(curves[name], dtype=float)
    return values.mean(axis=1) if values.ndim == 2 else values


def _hops(values: np.ndarray) -> np.ndarray:
    return np.arange(1, len(values) + 1)


def relay_strips(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """The frame that is handed over at hops 0, 1, 2, 5 and 9, one row per VAE below the floor (`keep=N`)."""
    for setting, group in _settings(root).items():
        sheets: dict[str, dict[str, np.ndarray]] = {}
        names: dict[str, str] = {}
        hops: list[int] = []
        for record in group:
            folder = kept_pictures.folder(root, record)
            cases = [case for case in records.read_clips(root, record) if case.isascii()]
            for case in cases:
                if file := kept_pictures.find(folder, record, case):
                    names[file.stem], hops = case, record.extra["hops_shown"]
                    sheet = read_sheet(file, len(hops))
                    of_case = sheets.setdefault(file.stem, {FLOOR: sheet[0]})
                    if sheet[1].shape != of_case[FLOOR].shape:
                        raise ValueError(
                            f"{file} has frames of another size than other VAEs: run this VAE again with keep=N"
                        )
                    of_case[plot_style.vae_name(record)] = sheet[1]
        short = {stem: case.rpartition("/")[2].replace("@", "-") for stem, case in names.items()}
        for stem, rows in sheets.items():
            # without the folder of the clip and the digest of its name, so that the file name stays readable
            unique = list(short.values()).count(short[stem]) == 1
            yield f"relay_strips-{setting}-{short[stem] if unique else stem}", _strips(rows, hops, names[stem])


def read_sheet(file: Path, count: int, rows: int = 2) -> np.ndarray:
    """Read saved frames as (rows, n, H, W, 3) in 0..1, such as floor and VAE at n hops.

    Raises:
        ValueError: the file is damaged or has another layout; the message names it
    """
    try:
        sheet = plt.imread(file)
    except (OSError, SyntaxError, ValueError) as reason:  # Pillow raises all three for a damaged file
        raise ValueError(f"{file} cannot be read as a picture: {reason}") from None
    height, width = sheet.shape[:2]
    if sheet.ndim != 3 or height % rows or width % count:
        raise ValueError(f"{file} should have {rows} x {count} frames; its shape is {sheet.shape}")
    return np.asarray(sheet[..., :3]).reshape(rows, height // rows, count, width // count, 3).swapaxes(1, 2)


def _strips(rows: dict[str, np.ndarray], hops: list[int], case: str) -> Figure:
    figure, grid = plt.subplots(len(rows), len(hops), figsize=(1.75 * len(hops), 0.5 + 1.9 * len(rows)), squeeze=False)
    for row, (axes, (name, frames)) in enumerate(zip(grid, rows.items(), strict=True)):
        for ax, hop, frame in zip(axes, hops, frames, strict=True):
            ax.imshow(frame, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title("source" if hop == 0 else f"hop {hop}", fontsize="small")
        axes[0].set_ylabel(name, fontsize="x-small")
    clip, _, protocol = case.rpartition("@")
    figure.suptitle(f"{clip}, {protocol}: the last frame that is handed over", fontsize="small")
    return figure


FIGURES = (drift, relay_strips)

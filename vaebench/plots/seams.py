"""Seams as pictures: one frame decoded whole, streamed, tiled and in independent chunks (the WF-VAE paper's Figures 3b and 9b).

The frames are saved by `vaebench run --suite blockwise keep=N`.  Shown is the frame in which a mode differs most from whole
inference, so a seam in time is visible as the frame after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vaebench import kept_pictures, plot_style, records
from vaebench.plots.relay import read_sheet
from vaebench.records import Record
from vaebench.titles import setting_title
from vaebench.typed import members

AMPLIFIED = 8  # factor that makes differences visible
CROP = 4  # the detail is a quarter of the frame's shorter side, at least 8 pixels


def seams(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """The same frame in every inference mode, with its amplified difference to whole inference (`keep=N`)."""
    for record in records.read_all(root, "blockwise"):
        folder = kept_pictures.folder(root, record)
        modes, index_of = _saved(root, record)
        for case, index in index_of.items():
            file = kept_pictures.required(folder, record, case)
            real, decoded = read_sheet(file, len(modes))
            name = record.vae["name"].replace("/", "-")
            clip, _, length = case.rpartition("@")
            title = (
                f"{plot_style.vae_name(record)}, {setting_title(record)}: {clip}, frame {index} (first: 0) of {length}"
            )
            yield (
                f"seams-{name}-{record.setting}-{file.stem}",
                _seams(real[0], dict(zip(modes, decoded, strict=True)), title),
            )


def _saved(root: Path, record: Record) -> tuple[list[str], dict[str, int]]:
    """The modes of each picture from left to right, and the index of the frame in each case.

    Raises:
        ValueError: the record's description of its pictures is invalid; the message names the file and the field
    """
    saved: dict[str, Any] = record.extra.get("saved", {"modes": [], "frame": {}})
    try:
        members({"modes": list[str], "frame": dict[str, int]}, saved, "extra.saved")
        if saved["frame"] and saved["modes"][:1] != ["whole"]:
            raise ValueError(f"extra.saved.modes should start with 'whole', got {saved['modes']}")
    except ValueError as reason:
        raise records.invalid(root, record, str(reason)) from None
    return saved["modes"], saved["frame"]


def _seams(real: np.ndarray, decoded: dict[str, np.ndarray], title: str) -> Figure:
    """Draw frames (H, W, 3) in 0..1: a row for the clip and for each mode, with a detail where the modes differ most."""
    whole = decoded["whole"]
    differences = {mode: np.abs(frame - whole) for mode, frame in decoded.items()}
    side = max(8, min(whole.shape[:2]) // CROP)
    top, left = _largest(np.max(list(differences.values()), axis=0).mean(axis=2), side)
    rows = {"clip": (real, None), **{mode: (frame, differences[mode]) for mode, frame in decoded.items()}}
    figure, grid = plt.subplots(len(rows), 4, figsize=(8.8, 0.5 + 2.15 * len(rows)), squeeze=False)
    for axes, (mode, (frame, difference)) in zip(grid, rows.items(), strict=True):
        detail = frame[top : top + side, left : left + side]
        shown: list[tuple[str, np.ndarray | None]] = [
            (_row_title(mode, frame, real), frame),
            ("", None),
            ("detail", detail),
            ("", None),
        ]
        if difference is not None and mode != "whole":
            most = round(float(difference.max()) * 255)
            shown[1] = (f"difference to whole x {AMPLIFIED}, at most {most}/255", AMPLIFIED * difference)
            shown[3] = (
                f"difference of the detail x {AMPLIFIED}",
                AMPLIFIED * difference[top : top + side, left : left + side],
            )
        for ax, (words, image) in zip(axes, shown, strict=True):
            ax.set_axis_off()
            if image is not None:
                ax.imshow(np.clip(image, 0, 1), interpolation="nearest")
                ax.set_title(words, fontsize="x-small", loc="left")
    figure.suptitle(title, fontsize="small")
    return figure


def _row_title(mode: str, frame: np.ndarray, real: np.ndarray) -> str:
    if mode == "clip":
        return mode
    from vaebench.metrics.psnr import MSE_FLOOR  # imports torch, which few figures need

    psnr = -10 * np.log10(max(float(np.square(frame - real).mean()), MSE_FLOOR))
    return f"{mode}, {psnr:.2f} dB"


def _largest(picture: np.ndarray, side: int) -> tuple[int, int]:
    """Top and left of the square of `side` pixels with the largest sum of `picture` (H, W), on a grid of a quarter of it."""
    step = max(1, side // 4)
    rows, columns = (range(0, max(1, length - side + 1), step) for length in picture.shape)
    places = [(y, x) for y in rows for x in columns]
    return max(places, key=lambda place: float(picture[place[0] : place[0] + side, place[1] : place[1] + side].sum()))


FIGURES = (seams,)

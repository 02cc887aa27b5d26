"""The Haar sub-bands of clips and latents (the WF-VAE paper's Figure 8): of one clip as pictures, of the set as bars.

The frames of a clip are saved by `vaebench run --suite latent keep=N`.  They are one time step of the transform, whose eight
pictures are computed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaebench import kept_pictures, plot_style
from vaebench.plots import _looks
from vaebench.plots.latent import legend, log, settings
from vaebench.plots.relay import read_sheet
from vaebench.records import Record
from vaebench.titles import setting_title

AXES = "THW"
VISIBLE = 0.995  # share of the coefficients of a high-pass band that amplification leaves within black and white


def subbands(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Haar sub-bands of clips and latents: share of the energy, entropy, and those of a clip as pictures (`keep=N`)."""
    for setting, group in settings(root).items():
        yield f"subbands-{setting}", _bars(group, _looks.of_vaes(root))
        shown: set[str] = set()
        for record in group:
            for case, index in record.extra.get("saved", {}).items():
                if case in shown:  # the clip is the same for every VAE
                    continue
                shown.add(case)
                file = kept_pictures.required(kept_pictures.folder(root, record), record, case)
                title = f"{case}, frames {index[0]} and {index[1]} (first: 0); {setting_title(record)}"
                yield f"subbands-{setting}-{file.stem}", _pictures(read_sheet(file, 2, rows=1)[0], index, title)


def _bars(group: list[Record], looks: dict[str, dict[str, str]]) -> Figure:
    names = group[0].extra["subbands"]["names"]
    rows = [("pixels of the clips", "#7F7F7F", group[0].extra["subbands"]["pixels"])]
    rows += [
        (f"latents of {plot_style.vae_name(r)}", looks[r.vae["name"]]["color"], r.extra["subbands"]["latents"])
        for r in group
    ]
    rows = [row for row in rows if row[2] and len(row[2]["share"]) == len(names)]
    figure, grid = plt.subplots(1, 2, figsize=(10.5, 3.8))
    width = 0.85 / max(1, len(rows))
    for i, (label, colour, bands) in enumerate(rows):
        x = np.arange(len(names)) + (i - (len(rows) - 1) / 2) * width
        grid[0].bar(x, [100 * share for share in bands["share"]], width, color=colour, label=label)
        grid[1].bar(x, bands["entropy_bits"], width, color=colour, label=label)
    for axes, title in zip(
        grid, ("(a) share of the energy [%] (log scale)", "(b) entropy [bits per coefficient]"), strict=True
    ):
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("sub-band: h low-pass, g high-pass, along T, H, W")
        axes.set_ylabel(title)
        axes.grid(axis="x", visible=False)
    grid[0].set_yscale("log")
    log(grid[0].yaxis)
    figure.suptitle(
        f"{setting_title(group[0])}: Haar sub-bands; bins of 1/45 for pixels in -1..1 and of 1/8 for standardized latents",
        fontsize="small",
    )
    legend(figure, grid[0])
    return figure


def _pictures(frames: np.ndarray, index: list[int], title: str) -> Figure:
    """Draw two frames (2, H, W, 3) in 0..1 and their sub-bands: temporal low-pass in the upper row, high-pass in the lower."""
    import torch  # few figures need it

    from vaebench.latents.subbands import NAMES, PIXELS, coefficients, energy_share
    from vaebench.video import to_model

    video = to_model(torch.from_numpy(frames.astype(np.float32))).permute(3, 0, 1, 2)  # (3, 2, H, W) in -1..1
    bands = coefficients(video)[:, 0].numpy() / PIXELS  # (8, h, w, 3), at most 1 in magnitude
    shares = energy_share(np.square(bands).mean(axis=(1, 2, 3)))
    high, wide = bands.shape[1:3]
    figure, grid = plt.subplots(2, 5, figsize=(11, 1.1 + 4.4 * high / wide), squeeze=False)
    for axes, frame, number in zip(grid[:, 0], frames, index, strict=True):
        _picture(axes, frame, f"frame {number}\n ")
    for axes, name, band, share in zip(grid[:, 1:].flat, NAMES, bands, shares, strict=True):
        passes = [axis for axis, letter in zip(AXES, name, strict=True) if letter == "g"]
        where = f"high-pass along {', '.join(passes)}" if passes else "low-pass"
        gain = 1 if not passes else _gain(band)
        amplified = f", x {gain}" if gain > 1 else ""
        _picture(axes, (1 + gain * band) / 2, f"{name}: {where}\n{_percent(share)} of the energy{amplified}")
    figure.suptitle(
        f"{title}\nHaar sub-bands: h low-pass, g high-pass, along T, H, W; grey is 0, x N: amplified", fontsize="small"
    )
    return figure


def _picture(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(np.clip(image, 0, 1), interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize="x-small", loc="left")


def _gain(band: np.ndarray) -> int:
    """The factor that makes a high-pass band visible; 1 for a band without energy."""
    largest = float(np.quantile(np.abs(band), VISIBLE))
    return max(1, int(1 / largest)) if largest > 1e-6 else 1


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share >= 1e-4 or share == 0 else f"{100 * share:.1g} %"


FIGURES = (subbands,)

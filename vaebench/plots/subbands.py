"""The figure of Haar sub-bands: where the energy and the entropy of videos lie, the paper's Figure 8."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vaebench.plots import _style

KEYS = ("setting", "clips", "names", "energy", "share", "entropy_bits")


def read(file: Path) -> dict[str, Any]:
    """The record `results/subbands/<setting>.json`: eight names and values; ValueError naming the file if it is none."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except ValueError as reason:
        raise ValueError(f"{file} is no record of sub-bands: {reason}") from None
    missing = [key for key in KEYS if key not in found]
    if missing:
        raise ValueError(f"{file} is no record of sub-bands: it lacks {', '.join(missing)}")
    if len({len(found[key]) for key in KEYS[2:]}) > 1:
        raise ValueError(f"{file} is no record of sub-bands: names, energy, share and entropy_bits differ in length")
    return found


def subbands(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Share of the energy and entropy of each sub-band: both lie in the low-pass one, in which the energy flow starts."""
    for file in sorted((root / "subbands").glob("*.json")):
        record = read(file)
        yield f"subbands-{record['setting']}", _subbands(record)


def _subbands(record: dict[str, Any]) -> Figure:
    figure, grid = plt.subplots(1, 2, figsize=(8.4, 3.4))
    panels = (
        ([100 * share for share in record["share"]], "share of the energy [%] (log scale)", ".2g"),
        (record["entropy_bits"], "entropy [bits per coefficient]", ".2f"),
    )
    for axes, (values, title, form), colour in zip(grid, panels, _style.COLOURS, strict=False):
        bars = axes.bar(record["names"], values, color=colour)
        axes.bar_label(bars, [f"{value:{form}}" for value in values], fontsize="x-small", padding=2)
        axes.set_xlabel("sub-band: h low-pass, g high-pass, along T, H, W")
        axes.set_ylabel(title)
        axes.grid(axis="x", visible=False)
    grid[0].set_yscale("log")
    grid[0].margins(y=0.12)
    _style.plain_log(grid[0].yaxis, few=True)
    figure.suptitle(
        f"{record['setting']}: Haar sub-bands of {record['clips']} clips, pixels in -1..1", fontsize="small"
    )
    return figure


FIGURES = (subbands,)

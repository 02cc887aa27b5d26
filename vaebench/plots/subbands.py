"""The figure of Haar sub-bands: energy and entropy of the sub-bands of videos (Figure 8 of the WF-VAE paper)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vaebench import plot_style
from vaebench.typed import members, read_json

FIELDS = {"setting": str, "clips": int, "names": list[str], "energy": list[float], "share": list[float],
          "entropy_bits": list[float]}  # fmt: skip


def read(file: Path) -> dict[str, Any]:
    """Read `<results>/subbands/<setting>.json`.

    Raises:
        ValueError: a field is invalid; the message names the file and the field
    """
    try:
        record = members(FIELDS, read_json(file), "record")
        lengths = {name: len(record[name]) for name in ("names", "energy", "share", "entropy_bits")}
        if len(set(lengths.values())) > 1 or not record["names"]:
            raise ValueError(f"the lists should have equal lengths of at least 1, got {lengths}")
    except ValueError as reason:
        raise ValueError(f"{file} is not a record of sub-bands: {reason}") from None
    return record


def subbands(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Share of the energy, and entropy, of each Haar sub-band of the clips."""
    for file in sorted((root / "subbands").glob("*.json")):
        record = read(file)
        yield f"subbands-{record['setting']}", _subbands(record)


def _subbands(record: dict[str, Any]) -> Figure:
    figure, grid = plt.subplots(1, 2, figsize=(8.4, 3.4))
    panels = (
        ([100 * share for share in record["share"]], "share of the energy [%] (log scale)", ".2g"),
        (record["entropy_bits"], "entropy [bits per coefficient]", ".2f"),
    )
    for axes, (values, title, form), colour in zip(grid, panels, plot_style.COLOURS, strict=False):
        bars = axes.bar(record["names"], values, color=colour)
        axes.bar_label(bars, [f"{value:{form}}" for value in values], fontsize="x-small", padding=2)
        axes.set_xlabel("sub-band: h low-pass, g high-pass, along T, H, W")
        axes.set_ylabel(title)
        axes.grid(axis="x", visible=False)
    grid[0].set_yscale("log")
    grid[0].margins(y=0.12)
    plot_style.plain_log(grid[0].yaxis, few=True)
    figure.suptitle(
        f"{record['setting']}: Haar sub-bands of {record['clips']} clips, pixels in -1..1", fontsize="small"
    )
    return figure


FIGURES = (subbands,)

"""The figure of cost: time and memory of encode and decode over sizes; and what every figure of cost reads."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vaebench import plot_style, records
from vaebench.records import Record

UNITS = {"GiB": 2**30, "MiB": 2**20}
DRAWN = re.compile(r"(encode|decode)_(s|frames_per_s|peak_bytes)@(.*)")


def cases_of(record: Record) -> list[str]:
    """What was measured, as "float32 33x256": dtype, frames, side in pixels."""
    return list(dict.fromkeys(name.partition("@")[2] for name in record.scores if name.startswith("encode_s@")))


def value_at(record: Record, name: str, case: str) -> float | None:
    score = record.scores.get(f"{name}@{case}")
    return score.value if score else None


def by_setting(root: Path) -> dict[str, list[Record]]:
    """The efficiency records of each device; ValueError naming file and score where one cannot be drawn."""
    groups: dict[str, list[Record]] = {}
    for record in records.read_all(root, "efficiency"):
        for name, score in record.scores.items():
            if not (drawn := DRAWN.fullmatch(name)):
                continue
            if not re.fullmatch(r"\S+ [1-9]\d*x[1-9]\d*", drawn[3]):
                raise records.invalid(root, record, f"scores.{name} should end in a case such as 'float32 33x256'")
            if score.value is not None and score.value < 0:
                raise records.invalid(root, record, f"scores.{name}.value should not be negative, got {score.value}")
        groups.setdefault(record.setting, []).append(record)
    return groups


def unit_of(most: float) -> str:
    """The unit for a chart whose largest memory is `most` bytes."""
    return "GiB" if most >= UNITS["GiB"] else "MiB"


def cost_bars(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Time and memory of encode and decode for every VAE, grouped by size: the paper's Figure 4.  OOM is written out."""
    for device, group in by_setting(root).items():
        cases = [case.split() for case in dict.fromkeys(case for record in group for case in cases_of(record))]
        # a grid is a dtype and a number of frames: "float32 33"
        for grid in dict.fromkeys(f"{dtype} {shape.partition('x')[0]}" for dtype, shape in cases):
            sizes = sorted(
                {int(shape.partition("x")[2]) for dtype, shape in cases if f"{dtype} {shape}".startswith(f"{grid}x")}
            )
            yield f"cost_bars-{device}-{grid.replace(' ', '-')}", _cost_bars(group, sizes, grid, device)


def _cost_bars(records: list[Record], sizes: list[int], grid: str, device: str) -> Figure:
    figure, row_of_axes = plt.subplots(1, 4, figsize=(13, 1.6 + 0.26 * len(records) * len(sizes)), sharey=True)
    panels = [("encode_s", "encode [s]", 1.0), ("decode_s", "decode [s]", 1.0)]
    memories = ("encode_peak_bytes", "decode_peak_bytes")
    unit = unit_of(
        max((_at(r, name, grid, s) or 0.0 for name in memories for r in records for s in sizes), default=0.0)
    )
    panels += [(name, f"{name.partition('_')[0]} memory [{unit}]", UNITS[unit]) for name in memories]
    records = sorted(records, key=lambda record: _total(record, grid, sizes[0]))
    thickness = 0.8 / len(sizes)
    for axes, (name, title, divisor) in zip(row_of_axes, panels, strict=True):
        shown = [v for r in records for s in sizes if (v := _at(r, name, grid, s))]
        floor = min(shown, default=1.0) / divisor / 2
        for i, size in enumerate(sizes):
            for row, record in enumerate(records):
                at = row + (i - (len(sizes) - 1) / 2) * thickness
                value = _at(record, name, grid, size)
                if value:
                    label = f"{size} px" if row == 0 else None
                    colour = plot_style.COLOURS[i % len(plot_style.COLOURS)]
                    axes.barh(at, value / divisor, 0.9 * thickness, left=0, color=colour, label=label)
                elif _out_of_memory(record, grid, size):
                    axes.text(floor, at, "OOM", va="center", ha="left", fontsize="x-small", color="firebrick")
        axes.set_xscale("log")
        axes.set_xlim(left=floor)
        plot_style.plain_log(axes.xaxis, few=True)
        axes.set_xlabel(f"{title} (log scale)")
        axes.grid(axis="y", visible=False)
    row_of_axes[0].set_yticks(range(len(records)), [_name(record) for record in records])
    row_of_axes[0].set_ylim(len(records) - 0.4, -0.6)
    if len(sizes) > 1:
        handles, labels = row_of_axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(sizes))
    dtype, frames = grid.split()
    said = f"{frames} frames at {', '.join(f'{size}x{size}' for size in sizes)}, {dtype}, on {device}"
    figure.suptitle(f"{said}; memory above the weights; random weights of the released configuration", fontsize="small")
    return figure


def _name(record: Record) -> str:
    return f"{record.vae['name']} ({record.vae['latent_channels']} ch)"


def _at(record: Record, name: str, grid: str, size: int) -> float | None:
    return value_at(record, name, f"{grid}x{size}")


def _out_of_memory(record: Record, grid: str, size: int) -> bool:
    score = record.scores.get(f"encode_s@{grid}x{size}")
    return score is not None and score.note.startswith("out of memory")


def _total(record: Record, grid: str, size: int) -> float:
    times = [_at(record, f"{half}_s", grid, size) for half in ("encode", "decode")]
    return sum(t for t in times if t is not None) if all(times) else math.inf


FIGURES = (cost_bars,)

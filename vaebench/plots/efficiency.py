"""Figures of cost: quality against throughput with memory as area, and time and memory over sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaebench import published, results
from vaebench.plots import _style
from vaebench.results import Record

UNITS = {"GiB": 2**30, "MiB": 2**20}
AREA = 900.0  # points**2 of the largest bubble


def _cases(record: Record) -> list[str]:
    return list(dict.fromkeys(name.partition("@")[2] for name in record.scores if name.startswith("encode_s@")))


def _value(record: Record, name: str, case: str) -> float | None:
    score = record.scores.get(f"{name}@{case}")
    return score.value if score else None


def bubbles(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """PSNR against the throughput of encode and decode together, area = peak memory: measured here, one figure a case.

    Trained VAEs alone: what random weights reconstruct says nothing.  Nor is there a choice in `identity`, whose 59 dB would press
    all others into one line.
    """
    records = results.read_all(root, "reconstruction")
    quality = [r for r in records if _psnr(r) is not None and not _style.untrained(r) and r.vae["family"] != "identity"]
    for device, costs in _by_setting(root).items():
        for case in dict.fromkeys(case for record in costs for case in _cases(record)):
            for setting in dict.fromkeys(record.setting for record in quality):
                by_name = {r.vae["name"]: r for r in quality if r.setting == setting}
                points = [(by_name.get(cost.vae["name"]), cost) for cost in costs]
                drawn = [(q, c) for q, c in points if q is not None and _value(c, "encode_s", case)]
                if drawn:
                    stem = f"bubbles-{setting}-{device}-{case.replace(' ', '-')}"
                    yield stem, _bubbles(drawn, case, setting, device)
    yield from _published_bubbles()


def _psnr(record: Record) -> float | None:
    score = record.scores.get("psnr")
    return score.value if score else None


def _by_setting(root: Path) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in results.read_all(root, "efficiency"):
        groups.setdefault(record.setting, []).append(record)
    return groups


def _bubbles(drawn: list[tuple[Record, Record]], case: str, setting: str, device: str) -> Figure:
    xs, ys, memories, labels = [], [], [], []
    for quality, cost in drawn:
        seconds = (_value(cost, "encode_s", case) or 0) + (_value(cost, "decode_s", case) or 0)
        frames = (_value(cost, "encode_frames_per_s", case) or 0) * (_value(cost, "encode_s", case) or 0)
        xs.append(frames / seconds)
        ys.append(_psnr(quality) or 0)
        memories.append(max(_value(cost, f"{half}_peak_bytes", case) or 0 for half in ("encode", "decode")))
        labels.append(f"{cost.vae['name']} ({cost.vae['latent_channels']} ch)")
    figure, axes = plt.subplots(figsize=(7.2, 4.6))
    _scatter(axes, xs, ys, memories, labels, [cost.vae["family"] for _, cost in drawn])
    axes.set_xlabel("frames per second, encode and decode together (log scale)")
    axes.set_ylabel("PSNR [dB] (higher is better)")
    axes.set_title(f"{setting}; cost of {case} on {device}", loc="left", fontsize="small")
    return figure


def _scatter(
    axes: Axes, xs: list[float], ys: list[float], memories: list[float], labels: list[str], families: Sequence[str],
    *, hollow: bool = False,
) -> None:  # fmt: skip
    """Bubbles whose area is memory in bytes, a label each and a legend of areas."""
    looks = _style.look(sorted(set(families)))
    most = max(memories)
    unit = _unit(most)
    for x, y, memory, family in zip(xs, ys, memories, families, strict=True):
        colour = looks[family]["color"]
        face = "none" if hollow else colour
        area = max(AREA * memory / most, 8.0)
        axes.scatter([x], [y], s=area, color=colour, facecolor=face, alpha=0.55, lw=1.2, ls="--" if hollow else "-")
        axes.plot([x], [y], ".", color="black", ms=3)
    radii = [math.sqrt(max(AREA * memory / most, 8.0) / math.pi) for memory in memories]
    axes.set_xscale("log")
    axes.margins(0.2)
    _style.plain_log(axes.xaxis)
    for share in (1.0, 0.3):
        area = max(AREA * share, 8.0)
        axes.scatter(
            [], [], s=area, color="grey", alpha=0.4, lw=0, label=f"{_round(most * share / UNITS[unit])} {unit}"
        )
    axes.legend(title="peak memory", labelspacing=1.8, borderpad=1.2, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _style.label_points(axes, xs, ys, labels, radii)


def _unit(most: float) -> str:
    """In which a chart is readable whose largest memory is `most` bytes."""
    return "GiB" if most >= UNITS["GiB"] else "MiB"


def _round(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _published_bubbles() -> Iterator[tuple[str, Figure]]:
    """The WF-VAE paper's own numbers, hollow and by themselves: another machine, another protocol."""
    rows = published.read(protocol="wfvae-paper-H100-encode")
    cost = {(row.model, row.metric): row.value for row in rows}
    best = {r.model: r for r in published.read(protocol="wfvae-paper", metric="psnr", dataset="WebVid-10M")}
    shown = [model for model, metric in cost if metric.startswith("encode_s") and model in best]
    if not shown:
        return
    xs, ys, memories = [], [], []
    for model in shown:
        seconds = next(
            value for (name, metric), value in cost.items() if name == model and metric.startswith("encode_s")
        )
        xs.append(33 / seconds)
        ys.append(best[model].value)
        memories.append(cost[model, "peak_mb"] * 2**20)
    figure, axes = plt.subplots(figsize=(7.2, 4.6))
    labels = [f"{model} {best[model].variant}".strip() for model in shown]
    _scatter(axes, xs, ys, memories, labels, shown, hollow=True)
    axes.set_xlabel("frames per second, encode of 33x512x512 on an H100 (log scale)")
    axes.set_ylabel("PSNR [dB] on WebVid-10M, the paper's protocol")
    axes.set_title("AS PUBLISHED, not measured here: arXiv 2411.17459", loc="left", fontsize="small")
    yield "bubbles-published", figure


def cost_bars(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Time and memory of encode and decode for every VAE, grouped by size: the paper's Figure 4.  OOM is written out."""
    for device, records in _by_setting(root).items():
        cases = [case.split() for case in dict.fromkeys(case for record in records for case in _cases(record))]
        # a grid is a dtype and a number of frames: "float32 33"
        for grid in dict.fromkeys(f"{dtype} {shape.partition('x')[0]}" for dtype, shape in cases):
            sizes = sorted(
                {int(shape.partition("x")[2]) for dtype, shape in cases if f"{dtype} {shape}".startswith(f"{grid}x")}
            )
            yield f"cost_bars-{device}-{grid.replace(' ', '-')}", _cost_bars(records, sizes, grid, device)


def _cost_bars(records: list[Record], sizes: list[int], grid: str, device: str) -> Figure:
    figure, row_of_axes = plt.subplots(1, 4, figsize=(13, 1.6 + 0.26 * len(records) * len(sizes)), sharey=True)
    panels = [("encode_s", "encode [s]", 1.0), ("decode_s", "decode [s]", 1.0)]
    memories = ("encode_peak_bytes", "decode_peak_bytes")
    unit = _unit(max((_at(r, name, grid, s) or 0.0 for name in memories for r in records for s in sizes), default=0.0))
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
                    colour = _style.COLOURS[i % len(_style.COLOURS)]
                    axes.barh(at, value / divisor, 0.9 * thickness, left=0, color=colour, label=label)
                elif _out_of_memory(record, grid, size):
                    axes.text(floor, at, "OOM", va="center", ha="left", fontsize="x-small", color="firebrick")
        axes.set_xscale("log")
        axes.set_xlim(left=floor)
        _style.plain_log(axes.xaxis, few=True)
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
    return _value(record, name, f"{grid}x{size}")


def _out_of_memory(record: Record, grid: str, size: int) -> bool:
    score = record.scores.get(f"encode_s@{grid}x{size}")
    return score is not None and score.note.startswith("out of memory")


def _total(record: Record, grid: str, size: int) -> float:
    times = [_at(record, f"{half}_s", grid, size) for half in ("encode", "decode")]
    return sum(t for t in times if t is not None) if all(times) else math.inf


FIGURES = (bubbles, cost_bars)

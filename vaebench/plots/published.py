"""Scores measured here and published numbers of the same VAEs: filled and hollow markers, which are never the same quantity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaebench import plot_style, published, records, tables
from vaebench.published import Beside
from vaebench.records import Better, Record
from vaebench.titles import setting_title


def beside_published(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Each score of a VAE with published numbers of the same kind of metric: measured filled, published hollow, by protocol."""
    groups: dict[str, list[Record]] = {}
    for record in records.read_all(root, "reconstruction"):
        groups.setdefault(record.setting, []).append(record)
    for setting, group in groups.items():
        if pairs := published.beside(group):
            directions = {score.metric: score.better for record in group for score in record.scores.values()}
            yield f"beside_published-{setting}", _draw(pairs, setting_title(group[0]), directions)


def _draw(pairs: list[Beside], setting: str, directions: dict[str, Better]) -> Figure:
    metrics = list(dict.fromkeys(pair.metric for pair in pairs))
    vaes = sorted({pair.vae for pair in pairs})
    origins = list(dict.fromkeys(_origin(pair) for pair in pairs))
    looks = plot_style.look(origins)
    figure, grid = plt.subplots(
        1, len(metrics), figsize=(1.5 + 3.2 * len(metrics), 1.8 + 0.4 * len(vaes)), sharey=True, squeeze=False
    )
    for axes, metric in zip(grid[0], metrics, strict=True):
        shown = [pair for pair in pairs if pair.metric == metric]
        _panel(axes, shown, vaes, looks)
        unit = f" [{shown[0].unit}]" if shown[0].unit else ""
        axes.set_xlabel(f"{metric}{unit} {tables.ARROWS[directions[metric]]}".strip())
    grid[0][0].set_yticks(range(len(vaes)), vaes)
    grid[0][0].set_ylim(len(vaes) - 0.5, -0.5)
    handles = [plt.Line2D([], [], ls="", marker="o", color="black", label=f"measured here, {setting}")]
    handles += [
        plt.Line2D([], [], ls="", mfc="none", mec=look["color"], marker=look["marker"], label=f"published: {origin}")
        for origin, look in looks.items()
    ]
    figure.legend(handles=handles, fontsize="x-small", loc="outside lower center", ncols=2)
    figure.suptitle("published numbers are of other clips, and mostly of other protocols", fontsize="medium")
    return figure


def _panel(axes: Axes, pairs: list[Beside], vaes: list[str], looks: dict[str, dict[str, str]]) -> None:
    for pair in pairs:
        row = vaes.index(pair.vae)
        look = looks[_origin(pair)]
        axes.plot([pair.published], [row], ls="", mfc="none", mec=look["color"], marker=look["marker"])
        axes.plot([pair.here], [row], "o", color="black", ms=5)
    axes.margins(x=0.15)


def _origin(pair: Beside) -> str:
    return f"{pair.protocol}, {pair.dataset}"


FIGURES = (beside_published,)

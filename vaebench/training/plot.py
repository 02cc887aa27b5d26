"""Scores on the validation clips against training steps, one line per run: the paper's Figure 7.

Scores on other clips or of another size cannot be compared, so each validation setting has a panel of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from inspect import isabstract
from operator import attrgetter
from pathlib import Path

import matplotlib.pyplot as plt

from vaebench import plot_style, plugins
from vaebench.metric import Metric
from vaebench.settings import read_yaml
from vaebench.training.config import Validation


def axis_label(metric: str) -> str:
    """The name, unit and direction of a metric, such as "PSNR [dB] (higher is better)"; the name alone if it is not installed."""
    try:
        module = plugins.find("metrics", metric)
    except ValueError:
        return metric
    returned = getattr(module.build, "__annotations__", {}).get("return", "")
    # the class is enough; building the metric could need a file of weights
    kind = attrgetter(returned)(module) if isinstance(returned, str) and returned else returned
    concrete = isinstance(kind, type) and issubclass(kind, Metric) and not isabstract(kind)
    described = kind if concrete else module.build("cpu")
    unit = f" [{described.unit}]" if described.unit else ""
    return f"{metric.upper()}{unit}{'' if described.better == 'neither' else f' ({described.better} is better)'}"


def runs_below(folder: Path) -> list[Path]:
    """The runs of `vaebench train` in a folder: the folder itself and the folders in it.

    Raises:
        ValueError: no run has validation scores
    """
    runs = [path.parent for path in sorted([*folder.glob("scores.csv"), *folder.glob("*/scores.csv")])]
    if not runs:
        raise ValueError(f"{folder} holds no run with validation scores (scores.csv); `vaebench train` writes them")
    return runs


def read_scores(run: Path) -> tuple[list[int], dict[str, list[float]]]:
    """The steps of the validations of a run, and metric -> its values at these steps."""
    rows = list(csv.DictReader((run / "scores.csv").read_text().splitlines()))
    names = [name for name in (rows[0] if rows else {}) if name != "step"]
    return [int(row["step"]) for row in rows], {name: [float(row[name]) for row in rows] for name in names}


def validation_of(run: Path) -> str:
    """What a run validates on, such as "17x128x128, 8 clips of bundle", and its files; "" if the run has no config.yaml.

    Raises:
        ValueError: config.yaml is not a YAML mapping
    """
    file = run / "config.yaml"
    if not file.is_file():
        return ""
    given = {**asdict(Validation()), **read_yaml(file).get("validation", {})}
    frames, size, clips = (str(given[name]) for name in ("num_frames", "size", "clips"))
    count = {"0": "all clips", "1": "1 clip"}.get(clips, f"{clips} clips")
    files = " ".join(filter(None, (given["root"], given["manifest"])))
    return f"{frames}x{size}x{size}, {count} of {given['data']}" + (f"\n{files}" if files else "")


def draw(
    folders: Sequence[Path], out: Path, formats: tuple[str, ...] = ("png", "svg"), style: str = "screen"
) -> Iterator[Path]:
    """One figure per validated metric, `training-<metric>`, with a line for each run below `folders`; yields each file.

    Raises:
        ValueError: unknown format, a folder without runs or without any validation, or an invalid config.yaml
    """
    plot_style.check_formats(formats)
    runs = [run for folder in folders for run in runs_below(folder)]
    scores = {run: read_scores(run) for run in runs}
    metrics = list(dict.fromkeys(name for _, values in scores.values() for name in values))
    if not metrics:
        raise ValueError(f"{', '.join(map(str, folders))}: no validation yet, scores.csv has no line")
    validations = {run: validation_of(run) for run in scores}
    out.mkdir(parents=True, exist_ok=True)
    with plot_style.applied(style):
        for metric in metrics:
            panels = list(dict.fromkeys(validations[run] for run, (_, values) in scores.items() if metric in values))
            figure, grid = plt.subplots(1, len(panels), figsize=(6 * len(panels), 4), squeeze=False)
            for i, (run, (steps, values)) in enumerate(scores.items()):
                if metric in values:
                    grid[0][panels.index(validations[run])].plot(
                        steps,
                        values[metric],
                        label=run.resolve().name,
                        color=plot_style.COLOURS[i % len(plot_style.COLOURS)],
                        marker=plot_style.MARKERS[i % len(plot_style.MARKERS)],
                        markersize=4,
                    )
            for axes, validation in zip(grid[0], panels, strict=True):
                axes.set_xlabel("training step")
                axes.set_ylabel(axis_label(metric))
                axes.set_title(validation or "unknown validation clips (no config.yaml)")
                axes.legend()
            title = f"{metric.upper()} on the validation clips during training"
            if len(panels) == 1:
                grid[0][0].set_title(title)
            else:
                figure.suptitle(title)
            yield from plot_style.save(figure, out, f"training-{metric}", formats)

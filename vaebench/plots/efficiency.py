"""The figure of cost: time and memory of encode and decode; and functions that all figures of cost share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vaebench import frame_size, plot_style, records
from vaebench.frame_size import Size
from vaebench.records import Record, Score
from vaebench.titles import setting_title
from vaebench.typed import members

UNITS = {"GiB": 2**30, "MiB": 2**20}
DRAWN = [f"{half}_{what}" for half in ("encode", "decode") for what in ("s", "frames_per_s", "peak_bytes")]


class Case(NamedTuple):
    """The condition of a measurement."""

    dtype: str
    frames: int
    size: Size  # pixels

    @property
    def shape(self) -> str:
        return f"{self.frames}x{self.size}"


Drawn = Callable[[Record, Case], float | None]  # the length of a bar


def _case(score: Score) -> Case:
    condition = score.condition
    return Case(str(condition["dtype"]), int(condition["frames"]), condition["size"])


def _by_pixels(case: Case) -> tuple[int, str]:
    height, width = frame_size.parse(case.size)
    return height * width, str(case.size)


def cases_of(record: Record) -> list[Case]:
    """The conditions under which a record has times, in its order."""
    return list(dict.fromkeys(_case(score) for score in record.scores.values() if score.metric == "encode_s"))


def _score(record: Record, metric: str, case: Case) -> Score | None:
    return next((s for s in record.scores.values() if s.metric == metric and _case(s) == case), None)


def value_at(record: Record, metric: str, case: Case) -> float | None:
    """The value of a metric under a condition; None if it was not measured."""
    score = _score(record, metric, case)
    return score.value if score else None


def by_setting(root: Path) -> dict[str, list[Record]]:
    """Setting (the device) -> efficiency records.

    Raises:
        ValueError: a score cannot be drawn; the message names the file and the score
    """
    groups: dict[str, list[Record]] = {}
    for record in records.read_all(root, "efficiency"):
        for name, score in record.scores.items():
            if score.metric not in DRAWN:
                continue
            try:
                _check_condition(score, f"scores.{name}.condition")
                if score.value is not None and score.value < 0:
                    raise ValueError(f"scores.{name}.value should not be negative, got {score.value}")
            except ValueError as reason:
                raise records.invalid(root, record, str(reason)) from None
        groups.setdefault(record.setting, []).append(record)
    return groups


def _check_condition(score: Score, field: str) -> None:
    """Raises ValueError naming the field if the condition has no valid dtype, frames or size."""
    condition = members({"dtype": str, "frames": int, "size": int | str}, score.condition, field)
    if condition["frames"] < 1:
        raise ValueError(f"{field}.frames should be 1 or more, not {condition['frames']}")
    frame_size.parse(condition["size"], f"{field}.size")


def unit_of(most: float) -> str:
    """The unit for a chart with a largest value of `most` bytes."""
    return "GiB" if most >= UNITS["GiB"] else "MiB"


def cost_bars(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Time and memory of encode and decode for every VAE, grouped by size (Figure 4 of the WF-VAE paper)."""
    for device, group in by_setting(root).items():
        grids: dict[tuple[str, int], set[Case]] = {}
        for case in (case for record in group for case in cases_of(record)):
            grids.setdefault((case.dtype, case.frames), set()).add(case)
        for (dtype, frames), cases in grids.items():
            yield f"cost_bars-{device}-{dtype}-{frames}", _cost_bars(group, sorted(cases, key=_by_pixels))


def _cost_bars(records: list[Record], cases: list[Case]) -> Figure:
    """`cases` have one dtype and one number of frames, in ascending size."""
    figure, row_of_axes = plt.subplots(1, 4, figsize=(13, 1.6 + 0.26 * len(records) * len(cases)), sharey=True)
    memories = {f"{half}_peak_bytes": half for half in ("encode", "decode")}
    unit = unit_of(max((value_at(r, name, c) or 0.0 for name in memories for r in records for c in cases), default=0.0))
    # per frame, because a VAE runs the next valid length, which may be several times the requested one
    panels: list[tuple[str, Drawn]] = [
        (f"{half} [ms/frame]", partial(_ms_per_frame, half=half)) for half in ("encode", "decode")
    ]
    panels += [
        (f"{half} memory [{unit}]", partial(_divided, metric=name, divisor=UNITS[unit]))
        for name, half in memories.items()
    ]
    records = sorted(records, key=lambda record: _total(record, cases[0]))
    thickness = 0.8 / len(cases)
    for axes, (title, value_of) in zip(row_of_axes, panels, strict=True):
        shown = [v for r in records for c in cases if (v := value_of(r, c))]
        floor = min(shown, default=1.0) / 2
        for i, case in enumerate(cases):
            for row, record in enumerate(records):
                at = row + (i - (len(cases) - 1) / 2) * thickness
                value = value_of(record, case)
                if value:
                    label = f"{case.size} px" if row == 0 else None
                    colour = plot_style.COLOURS[i % len(plot_style.COLOURS)]
                    axes.barh(at, value, 0.9 * thickness, left=0, color=colour, label=label)
                elif _out_of_memory(record, case):
                    axes.text(floor, at, "OOM", va="center", ha="left", fontsize="x-small", color="firebrick")
        axes.set_xscale("log")
        axes.set_xlim(left=floor)
        plot_style.plain_log(axes.xaxis, few=True)
        axes.set_xlabel(f"{title} (log scale)")
        axes.grid(axis="y", visible=False)
    row_of_axes[0].set_yticks(range(len(records)), [_name(record, cases) for record in records])
    row_of_axes[0].set_ylim(len(records) - 0.4, -0.6)
    if len(cases) > 1:
        handles, labels = row_of_axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(cases))
    sizes = ", ".join("x".join(map(str, frame_size.parse(case.size))) for case in cases)
    cases_text = f"{cases[0].frames} frames at {sizes}, {cases[0].dtype}, on {setting_title(records[0])}"
    figure.suptitle(
        f"{cases_text}; memory above the weights; random weights of the released configuration\n"
        "a shape behind a name: the next valid shape, which was run instead; wfvae: this project's implementation",
        fontsize="small",
    )
    return figure


def _ms_per_frame(record: Record, case: Case, half: str) -> float | None:
    """Milliseconds for each frame that was run."""
    rate = value_at(record, f"{half}_frames_per_s", case)
    return 1000 / rate if rate else None


def _divided(record: Record, case: Case, metric: str, divisor: float) -> float | None:
    value = value_at(record, metric, case)
    return None if value is None else value / divisor


def _name(record: Record, cases: list[Case]) -> str:
    """The name in the figure, with the shapes that were run where they differ from the requested ones."""
    notes = [score.note for case in cases if (score := _score(record, "encode_s", case)) and score.value is not None]
    shapes = [match[1] for note in notes if (match := re.search(r"is run as (\d+x\d+)", note))]
    return f"{record.vae['name']} ({', '.join([str(record.vae['latent_channels']) + ' ch', *shapes])})"


def _out_of_memory(record: Record, case: Case) -> bool:
    score = _score(record, "encode_s", case)
    return score is not None and score.status == "out of memory"


def _total(record: Record, case: Case) -> float:
    times = [_ms_per_frame(record, case, half) for half in ("encode", "decode")]
    return sum(t for t in times if t is not None) if all(times) else math.inf


FIGURES = (cost_bars,)

"""How far the score of one VAE moves between protocols, on the same clips: one choice at a time, then published protocols."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaebench import plot_style, protocol, published, records, tables
from vaebench.plots import Incomplete, _looks
from vaebench.records import Record, Score, interval
from vaebench.titles import setting_title

BASE = "default"
ALIKE = ("num_frames", "size", "clips", "mode")  # settings that records of one figure share
OWN = ("posterior", "dtype")  # settings that override a choice of the protocol: such a record is not that protocol
DESCRIBED = ("name", "about", "source", "notes", "clip", "base")  # fields of a protocol that change no score

Group = dict[str, dict[str, Record]]  # protocol -> VAE -> record


class Change(NamedTuple):
    """The change of a score from the base protocol, with the 95 % interval of the paired difference if clips have scores."""

    score: Score
    by: float
    low: float
    high: float


def protocols(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """The change of each metric from `protocol=default`, for trained VAEs with records of the same clips under several protocols.

    Raises:
        Incomplete: there are records of several protocols but none of "default"
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records.read_all(root, "reconstruction"):
        if any(record.config.get(name) for name in OWN) or plot_style.untrained(record):
            continue
        if record.vae["family"] == "identity":  # it loses 20 dB to a codec, which would compress the axis of all others
            continue
        key = (str(record.data.get("name")), str(record.data.get("sha256")),
               *(str(record.config.get(name) or "") for name in ALIKE))  # fmt: skip
        groups.setdefault(key, []).append(record)
    missing = []
    for (data, _, frames, size, clips, mode), same in groups.items():
        for seed, group in _by_seed(same).items():
            chosen = sorted((name for name in protocol.names() if name in group and name != BASE), key=_is_published)
            if not chosen:
                continue
            optional = [f"first{clips}" if clips else "", mode, f"seed{seed}" if seed else ""]
            setting = "-".join([data, f"{frames}x{size}", *filter(None, optional)])
            if BASE in group:
                yield f"protocols-{setting}", _draw(root, group, chosen, seed)
            else:
                missing.append(
                    f"{setting} has no record with protocol={BASE}: run `vaebench run protocol={BASE}` with it"
                )
    if missing:
        raise Incomplete(*missing)


def _by_seed(same: list[Record]) -> dict[int, Group]:
    """Seed -> the records of one figure.  Records that sample no posterior depend on no seed and belong to every figure."""
    seeds = {seed for record in same if (seed := _seed(record)) is not None}
    groups: dict[int, Group] = {seed: {} for seed in sorted(seeds or {0})}
    for record in same:
        for seed, group in groups.items():
            if _seed(record) in (None, seed):
                by_vae = group.setdefault(_protocol(record), {})
                if record.name not in by_vae or len(record.scores) > len(by_vae[record.name].scores):
                    by_vae[record.name] = record
    return groups


def _seed(record: Record) -> int | None:
    """The seed of a record with sampled posteriors; None where the seed changes nothing."""
    name = _protocol(record)
    samples = name in protocol.names() and protocol.load(name).posterior == "sample"
    return int(record.config.get("seed") or 0) if samples else None


def _protocol(record: Record) -> str:
    return str(record.config.get("protocol", BASE))


def _draw(root: Path, group: Group, chosen: list[str], seed: int) -> Figure:
    base = group[BASE]
    kinds = dict.fromkeys(published.family(score.metric) for record in base.values() for score in _ok(record))
    panels = [kind for kind in kinds if kind is not None]
    figure, grid = plt.subplots(
        1, len(panels), figsize=(2.2 + 3.2 * len(panels), 1.5 + 0.33 * len(chosen)), sharey=True, squeeze=False
    )
    looks = _looks.of_vaes(root)
    for axes, kind in zip(grid[0], panels, strict=True):
        _panel(axes, root, group, chosen, kind, looks)
    variants = sum(not _is_published(name) for name in chosen)
    for axes in grid[0]:
        if 0 < variants < len(chosen):
            axes.axhline(variants - 0.5, color="black", lw=0.6)
        axes.axvline(0, color="black", lw=0.8)
    grid[0][0].set_yticks(range(len(chosen)), [_label(name) for name in chosen])
    grid[0][0].set_ylim(len(chosen) - 0.5, -0.5)
    first = next(iter(base.values()))
    setting = setting_title(dataclasses.replace(first, config={**first.config, "seed": seed}))
    figure.suptitle(f"{setting}: change of scores from protocol={BASE} on the same clips", fontsize="medium")
    return figure


def _panel(
    axes: Axes, root: Path, group: Group, chosen: list[str], kind: str, looks: dict[str, dict[str, str]]
) -> None:
    """The changes of one kind of metric: a row per protocol, a marker per VAE, the metric's name if it is another one."""
    vaes = sorted(group[BASE])
    unit, better = "", ""
    for i, vae in enumerate(vaes):
        start = _score(group[BASE][vae], kind)
        if start is None:
            continue
        unit, better = start.unit, tables.ARROWS[start.better]
        offset = 0.18 * (i - (len(vaes) - 1) / 2)
        label = f"{vae}, {tables.show(dataclasses.replace(start, low=None, high=None))} by default"
        axes.plot([], [], ls="", label=label, color=looks[vae]["color"], marker=looks[vae]["marker"])
        for row, name in enumerate(chosen):
            if vae in group[name] and (change := _change(root, group[BASE][vae], group[name][vae], kind)):
                spread = [[change.by - change.low], [change.high - change.by]]
                axes.errorbar(
                    [change.by], [row + offset], xerr=spread, ls="", ms=4.5, lw=1,
                    color=looks[vae]["color"], marker=looks[vae]["marker"],
                )  # fmt: skip
                if change.score.metric != start.metric and i == 0:
                    axes.annotate(
                        change.score.metric, (0.01, row - 0.32), xycoords=("axes fraction", "data"), fontsize="xx-small",
                        va="center",
                    )  # fmt: skip
    axes.set_xlabel(f"change of {kind.upper()}{f' [{unit}]' if unit else ''} {better}".strip())
    axes.legend(fontsize="x-small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.margins(x=0.15)


def _change(root: Path, before: Record, after: Record, kind: str) -> Change | None:
    """The change of a kind of metric between two records; None if one has no value."""
    old, new = _score(before, kind), _score(after, kind)
    if old is None or new is None or old.value is None or new.value is None:
        return None
    by = new.value - old.value
    first, second = records.read_clips(root, before), records.read_clips(root, after)
    pairs = [(first[clip].get(old.metric), second[clip].get(new.metric)) for clip in first if clip in second]
    differences = np.array([b - a for a, b in pairs if a is not None and b is not None])
    _, low, high = interval(differences) if len(differences) == old.n == new.n else (None, None, None)
    return Change(new, by, by if low is None else low, by if high is None else high)


def _ok(record: Record) -> list[Score]:
    return [score for score in record.scores.values() if score.status == "ok" and not score.signed]


def _score(record: Record, kind: str) -> Score | None:
    return next((score for score in _ok(record) if published.family(score.metric) == kind), None)


def _is_published(name: str) -> bool:
    """Whether the protocol is that of a publication, and not a variant of another one."""
    return not protocol.load(name).base


def _label(name: str) -> str:
    """A variant by the choice that differs, such as "resize: bilinear"; another protocol by its name."""
    one = protocol.load(name)
    if not one.base:
        return name
    base = protocol.load(one.base)
    fields = [field.name for field in dataclasses.fields(one) if field.name not in DESCRIBED]
    differing = {field: getattr(one, field) for field in fields if getattr(one, field) != getattr(base, field)}
    if "metrics" in differing:
        return "another definition"
    side = f" ({differing.pop('compressed')} only)" if "compressed" in differing else ""
    return ", ".join(f"{field}: {value}" for field, value in differing.items()) + side


FIGURES = (protocols,)

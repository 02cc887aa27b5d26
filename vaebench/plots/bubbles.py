"""Quality against throughput with memory as area, as in Figure 1 of the WF-VAE paper: records, published numbers, or both."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaebench import frame_size, plot_style, plugins, published, records
from vaebench.plots import Incomplete, _looks
from vaebench.plots.efficiency import UNITS, Case, by_setting, cases_of, unit_of, value_at
from vaebench.records import Record
from vaebench.titles import setting_title
from vaebench.typed import members

AREA = 900.0  # area of the largest bubble in points**2
LISTED = 6  # largest number of VAE names in a message
PUBLISHED = "AS PUBLISHED, not measured here: arXiv 2411.17459"
PUBLISHED_COST = "encode of 33x512x512 on an H100"


def bubbles(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """PSNR against the throughput of encode and decode together; area = peak memory, for clips of equal frames and size.

    Only trained VAEs are drawn, since the PSNR of random weights is meaningless.  `identity` is excluded: at 59 dB it would
    compress the axis of all others.  Codecs and videos that were made elsewhere are excluded: they have no cost records.

    Raises:
        Incomplete: a VAE has only quality or only cost; raised after all figures are yielded
    """
    # a folder with neither suite, such as one of relays, lacks nothing
    if any(
        not _of_files(record) for suite in ("reconstruction", "efficiency") for record in records.read_all(root, suite)
    ):
        yield from _figures(root)


def _figures(root: Path, with_published: bool = False) -> Iterator[tuple[str, Figure]]:
    scored = [record for record in records.read_all(root, "reconstruction") if _psnr(record) is not None]
    quality = [r for r in scored if not plot_style.untrained(r) and r.vae["family"] != "identity"]
    quality = [record for record in quality if not (record.vae.get("codec") or _of_files(record))]
    costs = by_setting(root)
    looks = _looks.of_vaes(root)
    shapes = {record.setting: _shape(root, record) for record in quality}
    for device, measured in costs.items():
        for case in dict.fromkeys(case for record in measured for case in cases_of(record)):
            for setting in (setting for setting, shape in shapes.items() if shape == case.shape):
                by_name = {r.name: r for r in quality if r.setting == setting}
                pairs = [(by_name[cost.name], cost) for cost in measured if cost.name in by_name]
                if drawn := [(q, c) for q, c in pairs if _has_cost(c, case)]:
                    stem = f"bubbles-{setting}-{device}-{case.dtype}-{case.shape}"
                    yield stem, _bubbles(drawn, case, looks, with_published)
    ignored = {record.name for record in scored if record not in quality}
    if missing := _missing(root, quality, [r for records in costs.values() for r in records], ignored):
        raise Incomplete(*missing)


def _of_files(record: Record) -> bool:
    """Whether the videos were made elsewhere (`vaebench score`), so that their cost is unknown."""
    return "scored_from_files" in record.extra


def _psnr(record: Record) -> float | None:
    score = record.scores.get("psnr")
    return score.value if score else None


def _shape(root: Path, record: Record) -> str:
    """Frames and size of the scored clips, such as "33x256"."""
    try:
        members({"num_frames": int, "size": int | str}, record.config, "config")
    except ValueError as reason:
        raise records.invalid(root, record, str(reason)) from None
    return f"{record.config['num_frames']}x{record.config['size']}"


def _has_cost(record: Record, case: Case) -> bool:
    """Whether encode and decode have values: they have none after out of memory."""
    return all(value_at(record, name, case) for name in ("encode_s", "decode_s", "encode_frames_per_s")) and any(
        value_at(record, f"{half}_peak_bytes", case) for half in ("encode", "decode")
    )


def _missing(root: Path, quality: list[Record], costs: list[Record], ignored: set[str]) -> list[str]:
    """A message for each reason why a VAE is not in the figure, with the command that measures it."""
    missing = []
    if not quality:
        missing.append("no record has the PSNR of a trained VAE: run `vaebench run --suite reconstruction`")
    if not costs:
        missing.append(
            "there is no cost record: run `vaebench run --suite efficiency` with the frames and sizes of the clips"
        )
    if missing:
        return missing
    measured: dict[str, set[str]] = {}  # VAE -> shapes
    for record in costs:
        measured.setdefault(record.name, set()).update(case.shape for case in cases_of(record))
    scored: dict[str, dict[str, Record]] = {}  # shape -> VAE -> its record
    for record in quality:
        scored.setdefault(_shape(root, record), {})[record.name] = record
    for shape, by_name in scored.items():
        frames, size = (next(iter(by_name.values())).config[key] for key in ("num_frames", "size"))
        without_cost = [name for name in by_name if shape not in measured.get(name, ())]
        with_weights = [name for name in without_cost if by_name[name].config.get("weights")]
        for name in with_weights:
            family, weights = by_name[name].vae["family"], by_name[name].config["weights"]
            missing.append(
                f"{name} was scored with weights=, so no cost record has its name: run both suites with "
                f"vaes=[{family}:{weights}]"
            )
        if others := [name for name in without_cost if name not in with_weights]:
            elsewhere = sorted({shape for name in others for shape in measured.get(name, ())})
            also = f" (only at {', '.join(elsewhere)})" if elsewhere else ""
            missing.append(
                f"no cost at {shape} of {_listed(others)}{also}: run `vaebench run --suite efficiency frames={frames} sizes={size}`"
            )
        names = [name for name, shapes in measured.items() if shape in shapes]
        if unscored := [name for name in names if name not in by_name and name not in ignored]:
            missing.append(
                f"no PSNR at {shape} of {_listed(unscored)}: run `vaebench run num_frames={frames} size={size}`"
            )
    return missing


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"


class Bubble(NamedTuple):
    """One VAE in the chart."""

    frames_per_s: float
    psnr: float
    memory: float  # peak, in bytes
    label: str
    colour: str
    published: bool = False  # drawn hollow and dashed


def _bubbles(
    drawn: list[tuple[Record, Record]], case: Case, looks: dict[str, dict[str, str]], with_published: bool
) -> Figure:
    """Encode and decode together; beside published bubbles only encode, because that is what was published."""
    halves = ("encode",) if with_published else ("encode", "decode")
    shown = []
    for quality, cost in drawn:
        seconds = sum(value_at(cost, f"{half}_s", case) or 0 for half in halves)
        frames = (value_at(cost, "encode_frames_per_s", case) or 0) * (value_at(cost, "encode_s", case) or 0)
        memory = max(value_at(cost, f"{half}_peak_bytes", case) or 0 for half in halves)
        label = f"{cost.vae['name']} ({cost.vae['latent_channels']} ch)"
        shown.append(Bubble(frames / seconds, _psnr(quality) or 0, memory, label, looks[cost.vae["name"]]["color"]))
    figure, axes = plt.subplots(figsize=(7.2, 4.6))
    axes.set_xlabel(f"frames per second, {' and '.join(halves)}{' together' * (len(halves) > 1)} (log scale)")
    axes.set_ylabel("PSNR [dB] (higher is better)")
    quality, cost = drawn[0]
    size = "x".join(map(str, frame_size.parse(case.size)))
    shape = f"{case.frames} frames of {size}, {case.dtype}"
    title = f"{setting_title(quality)}\ncost: {shape}, {setting_title(cost)}; memory above the weights"
    if with_published:
        title += f"\ndashed: {PUBLISHED};\n{PUBLISHED_COST}; PSNR on WebVid-10M, the paper's protocol"
    axes.set_title(title, loc="left", fontsize="small")
    _scatter(axes, shown + (_of_paper(looks) if with_published else []))
    return figure


def _scatter(axes: Axes, bubbles: list[Bubble]) -> None:
    """Draw bubbles with area proportional to memory, a label for each, and a legend of areas.

    The axes have their titles already: these decide where the axes are, and so where a label has room.
    """
    most = max(bubble.memory for bubble in bubbles)
    unit = unit_of(most)
    areas = [max(AREA * bubble.memory / most, 8.0) for bubble in bubbles]
    for bubble, area in zip(bubbles, areas, strict=True):
        face, line = ("none", "--") if bubble.published else (bubble.colour, "-")
        at = ([bubble.frames_per_s], [bubble.psnr])
        axes.scatter(*at, s=area, color=bubble.colour, facecolor=face, alpha=0.55, lw=1.2, ls=line)
        axes.plot(*at, ".", color="black", ms=3)
    axes.set_xscale("log")
    axes.margins(x=0.5, y=0.2)  # room for labels on both sides
    plot_style.plain_log(axes.xaxis)
    for share in (1.0, 0.3):
        area = max(AREA * share, 8.0)
        axes.scatter(
            [], [], s=area, color="grey", alpha=0.4, lw=0, label=f"{_round(most * share / UNITS[unit])} {unit}"
        )
    axes.legend(title="peak memory", labelspacing=1.8, borderpad=1.2, loc="center left", bbox_to_anchor=(1.01, 0.5))
    plot_style.label_points(
        axes,
        [bubble.frames_per_s for bubble in bubbles],
        [bubble.psnr for bubble in bubbles],
        [bubble.label for bubble in bubbles],
        [math.sqrt(area / math.pi) for area in areas],
    )


def _round(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def draw_published(
    out: Path,
    formats: tuple[str, ...],
    style: str,
    results: Path | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[Path]:
    """Draw the numbers of the WF-VAE paper with hollow bubbles, and yield each file.

    Args:
        results: folder of records whose bubbles are drawn on the same axes, with the cost of encode, which is what was
            published; None for the published bubbles alone, as `bubbles-published`
        say: called with a message if a VAE of `results` has only quality or only cost

    Raises:
        ValueError: the records of `results` have no bubbles
    """
    plot_style.check_formats(formats)
    with plot_style.applied(style):
        if results is None:
            out.mkdir(parents=True, exist_ok=True)
            yield from plot_style.save(_published(), out, "bubbles-published", formats)
            return
        drawn = False
        try:
            for stem, figure in _figures(results, with_published=True):
                drawn = True
                out.mkdir(parents=True, exist_ok=True)
                yield from plot_style.save(figure, out, f"{stem}-and-published", formats)
        except Incomplete as missing:
            if not drawn:
                raise ValueError(f"bubbles cannot be drawn from {results}: {missing}") from None
            missing.tell("bubbles", say)


def _published() -> Figure:
    figure, axes = plt.subplots(figsize=(7.2, 4.6))
    axes.set_xlabel(f"frames per second, {PUBLISHED_COST} (log scale)")
    axes.set_ylabel("PSNR [dB] on WebVid-10M, the paper's protocol")
    axes.set_title(PUBLISHED, loc="left", fontsize="small")
    _scatter(axes, _of_paper())
    return figure


def _of_paper(measured: dict[str, dict[str, str]] | None = None) -> list[Bubble]:
    """The bubbles of the paper's numbers; a VAE of `measured` has its colour, others are grey beside measured ones."""
    rows = published.read(protocol="wfvae-paper-H100-encode")
    cost = {(row.model, row.metric): row.value for row in rows}
    best = {r.model: r for r in published.read(protocol="wfvae-paper", metric="psnr", dataset="WebVid-10M")}
    shown = [model for model, metric in cost if metric == "encode_s" and model in best]
    looks = plot_style.look(sorted(shown))
    bubbles = []
    for model in shown:
        variant = best[model].variant
        name = published.vae_of(model, variant)
        spec = plugins.find("adapters", name.partition("/")[0]).VARIANTS[name.partition("/")[2]]
        colour = looks[model]["color"] if measured is None else measured.get(name, {"color": "#7F7F7F"})["color"]
        label = f"{model} {re.sub(r'-?[0-9]+ch$', '', variant)}".strip() + f" ({spec.latent_channels} ch)"
        memory = cost[model, "peak_mb"] * 2**20
        bubbles.append(Bubble(33 / cost[model, "encode_s"], best[model].value, memory, label, colour, True))
    return bubbles


FIGURES = (bubbles,)

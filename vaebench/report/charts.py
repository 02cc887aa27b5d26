"""Data of the interactive charts: quality against cost of each VAE, and scores of single clips, one VAE against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaebench import plot_style, records, yardstick
from vaebench.plots._looks import hues
from vaebench.plots.codecs import LATENT_BITS
from vaebench.plots.efficiency import Case, by_setting, cases_of, value_at
from vaebench.records import Record
from vaebench.titles import setting_title

LATENT = "latent values per pixel"
BITS = "bits per pixel"  # of codecs, and of latents as `vaebench plot --only codecs` counts them


def bubbles(root: Path, everything: Sequence[Record], index: Mapping[int, int]) -> list[dict[str, Any]]:
    """One chart per setting of the reconstruction suite; each VAE has its scores and the values of every horizontal axis.

    The axes are the size of the latent, bits per pixel beside codecs, and, for each cost case with the frames and size of the
    scored clips, the throughput of encode and decode together.  Costs of other shapes are not offered: they say nothing about
    these clips.

    Args:
        root: the results folder
        everything: all records
        index: `id` of a record -> its index in the page
    """
    costs, colours = by_setting(root), hues(root)
    by_record = {records.file_of(root, record): index[id(record)] for record in everything}
    charts = []
    for setting, group in _by_setting(everything, "reconstruction").items():
        shape = f"{group[0].config.get('num_frames')}x{group[0].config.get('size')}"
        axes = [{"key": LATENT, "title": f"{LATENT} (log scale)", "kind": "latent"}]
        points = [_point(record, index, colours) for record in group]
        if any(yardstick.is_codec(record) for record in group):
            title = f"{BITS} (log scale); VAEs: {LATENT_BITS} bits per latent value, not entropy-coded"
            axes.append({"key": BITS, "title": title, "kind": "bits"})
        by_name = {record.name: point for record, point in zip(group, points, strict=True)}
        for device, measured in costs.items():
            for case in dict.fromkeys(case for record in measured for case in cases_of(record) if case.shape == shape):
                key = f"{device} {case.dtype} {case.shape}"
                drawn = False
                for record in measured:
                    throughput, memory = _cost(record, case)
                    if record.name in by_name and throughput is not None:
                        point = by_name[record.name]
                        point["x"][key], point["memory"][key] = throughput, memory
                        point["costs"][key] = by_record[records.file_of(root, record)]
                        drawn = True
                if drawn:
                    title = f"frames/s, encode and decode together (log scale): {case.dtype} {case.shape}, {device}"
                    axes.insert(0, {"key": key, "title": title, "kind": "throughput"})
        charts.append(
            {
                "title": setting_title(group[0]),
                "setting": setting,
                "axes": axes,
                "metrics": _metrics(group),
                "points": points,
            }
        )
    return charts


def _by_setting(everything: Sequence[Record], suite: str = "") -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in everything:
        if suite in ("", record.suite):
            groups.setdefault(record.setting, []).append(record)
    return groups


def _point(record: Record, index: Mapping[int, int], colours: Mapping[str, int]) -> dict[str, Any]:
    vae = record.vae
    sizes: dict[str, float] = {}  # no place on these axes without latent values or bits
    if vae["latent_channels"]:
        sizes[LATENT] = vae["latent_channels"] / (vae["temporal_compression"] * vae["spatial_compression"] ** 2)
        sizes[BITS] = LATENT_BITS * sizes[LATENT]
    elif (bits := record.scores.get("bits_per_pixel")) and bits.value:
        sizes[BITS] = bits.value
    return {
        "record": index[id(record)],
        "name": plot_style.vae_name(record),
        "family": vae["family"],
        "colour": colours[vae["family"]],
        "channels": vae["latent_channels"],
        # hidden at first, as in `vaebench plot`: random weights say nothing, and identity would compress the axis
        "hidden": plot_style.untrained(record) or vae["family"] == "identity",
        "y": {score.metric: score.value for score in record.scores.values() if score.value is not None},
        "x": sizes,
        "memory": {},
        "costs": {},
    }


def _cost(record: Record, case: Case) -> tuple[float | None, float | None]:
    """Frames/s of encode and decode together, and peak memory in bytes; None where a half was not measured."""
    encode, decode = value_at(record, "encode_s", case), value_at(record, "decode_s", case)
    rate = value_at(record, "encode_frames_per_s", case)
    peaks = [value_at(record, f"{half}_peak_bytes", case) for half in ("encode", "decode")]
    if not (encode and decode and rate):
        return None, None
    return rate * encode / (encode + decode), max((peak for peak in peaks if peak), default=None)


def _metrics(group: Sequence[Record]) -> list[dict[str, str]]:
    """Metrics with a value in at least one record, in the order of the records."""
    found: dict[str, dict[str, str]] = {}
    for record in group:
        for score in record.scores.values():
            if score.value is not None:
                found.setdefault(score.metric, {"key": score.metric, "unit": score.unit, "better": score.better})
    return list(found.values())


def per_clip(root: Path, everything: Sequence[Record], index: Mapping[int, int]) -> list[dict[str, Any]]:
    """Scores of single clips for each suite and setting with at least one record that has them.

    Returns:
        settings with the ids of their clips, their metrics, and for each VAE {metric: a value or None per clip}
    """
    tables: dict[tuple[str, str], list[tuple[Record, dict[str, dict[str, float]]]]] = {}
    for record in everything:
        if scores := records.read_clips(root, record):
            tables.setdefault((record.suite, record.setting), []).append((record, scores))
    settings = [
        _setting(suite, setting, sorted(rows, key=lambda row: order(row[0])), index)
        for (suite, setting), rows in tables.items()
    ]
    return sorted(
        (entry for entry in settings if entry["metrics"]), key=lambda entry: entry["suite"] != "reconstruction"
    )


def order(record: Record) -> tuple[bool, float]:
    """A sort key: trained VAEs before the identity and random weights, and the best first."""
    score = next(iter(record.scores.values()), None)
    value = score.value if score and score.value is not None else 0.0
    upper = record.vae["family"] == "identity" or plot_style.untrained(record)
    return upper, -value if score and score.better == "higher" else value


def _setting(
    suite: str, setting: str, rows: Sequence[tuple[Record, dict[str, dict[str, float]]]], index: Mapping[int, int]
) -> dict[str, Any]:
    clips = list(dict.fromkeys(clip for _, scores in rows for clip in scores))
    about = {key: score for record, _ in rows for key, score in record.scores.items()}
    columns = dict.fromkeys(metric for _, scores in rows for of_clip in scores.values() for metric in of_clip)
    metrics = [metric for metric in columns if metric in about]  # others are conditions, such as the length of the clip
    return {
        "suite": suite,
        "setting": setting,
        "title": setting_title(rows[0][0]),
        "clips": clips,
        "metrics": [
            {"key": metric, "unit": about[metric].unit, "better": about[metric].better} for metric in metrics
        ],
        "vaes": [
            {
                "name": plot_style.vae_name(record),
                "record": index[id(record)],
                "scores": {metric: [scores.get(clip, {}).get(metric) for clip in clips] for metric in metrics},
            }
            for record, scores in rows
        ],
    }  # fmt: skip

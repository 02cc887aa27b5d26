"""Tables of records: a tidy pandas DataFrame of all scores, and text for the terminal, markdown, LaTeX, CSV or JSON.

Each printed table has the records of one suite and one setting, so that only comparable numbers are in one table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from vaebench import latex
from vaebench.plugins import did_you_mean
from vaebench.records import Record, Score, read, read_all

FORMATS = ("text", "markdown", "latex", "csv", "json")
ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
# titles of metrics in LaTeX; others are typeset as their names
METRICS = {"psnr": "PSNR", "psnr_pooled": "pooled PSNR", "ssim": "SSIM", "lpips": "LPIPS", "lpips_vgg": "LPIPS (VGG)", "fvd": "FVD",
           "kvd": "KVD", "i3d_l2": "I3D L2"}  # fmt: skip
BOLD = "\x02"  # before a value that is printed in bold
COMPRESSION = "r_t x r_s"
SKEWED = 0.25  # distance of the centre of an interval from the value, in half widths
# suites in the order of their tables; others follow by name
SUITES = ("reconstruction", "blockwise", "efficiency", "latent", "diffusability")
NO_VAES = ("identity", "codec")  # families that are never the best of a column
# stored unit -> (displayed unit, divisor)
SHOWN = {"bytes": ("MiB", 2**20), "FLOP": ("GFLOP", 1e9), "FLOP/s": ("GFLOP/s", 1e9), "pairs": ("10^9 pairs", 1e9)}
COUNTS = ("frames", "tokens", "positions", "windows", "hops")  # units that are shown as integers
SPEC = (
    "temporal_compression",
    "spatial_compression",
    "latent_channels",
    "parameters",
)  # columns from the spec of the VAE


def results(folder: str | Path = "results") -> pd.DataFrame:
    """Read all records below a folder into a DataFrame; the public name is `vaebench.results`.

    Returns:
        one row per score, with the columns of `frame`

    Raises:
        ValueError: a record is invalid (the message names file and field), or the folder contains no record
    """
    records = list(read_all(Path(folder)))
    if not records:
        raise ValueError(f"no records in {folder}: run `vaebench run` first, or give another folder")
    return frame(records)


def select(paths: Sequence[str | Path], suite: str = "") -> list[Record]:
    """The records in files and folders, each file once: a results folder, or one of its suites or settings.

    Args:
        paths: JSON files of records, and folders
        suite: only records of this suite; "" for all

    Raises:
        ValueError: a file is not a record, a folder has none, or no record is of the suite
    """
    files = {file.resolve(): file for path in paths for file in _below(Path(path))}
    records = [read(file) for file in files.values()]
    suites = sorted({record.suite for record in records})
    if suite and suite not in suites:
        raise ValueError(f"no record of suite {suite!r}{did_you_mean(suite, suites)} (available: {', '.join(suites)})")
    return [record for record in records if suite in ("", record.suite)]


def _below(path: Path) -> list[Path]:
    """The files of the records in a file or folder."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder; expected a results folder or the JSON file of a record")
    for pattern in ("*/*/*.json", "*/*.json", "*.json"):  # results folder, suite, setting
        if files := sorted(path.glob(pattern)):
            return files
    raise ValueError(f"no records in {path}: run `vaebench run` first, or give another folder")


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per VAE, suite, setting, metric and condition; numbers in full precision, in the unit of the row.

    Columns: suite, setting, vae, temporal_compression, spatial_compression, latent_channels, parameters, mode (inference
    mode), metric, condition (as text; "" in suites with a single condition), condition.<name> (one column per part), value, unit,
    better, n, stderr, low, high (ends of the 95 % interval), status, note.  Missing values are NaN; `value` is NaN if `status` is
    not "ok".  Compression, channels and parameters of a video codec are missing.  An unavailable metric has a row
    with n = 0 and the reason in `note`.
    """
    rows: list[dict[str, object]] = []
    for record in records:
        scores = record.scores.values()
        about: dict[str, object] = {"suite": record.suite, "setting": record.setting, "vae": record.name}
        about |= {name: None if record.vae.get("codec") else record.vae.get(name) for name in SPEC} | {
            "mode": record.mode
        }
        rows += [about | _row(score) for score in scores]
        measured = {score.metric for score in scores}
        rows += [
            about | {"metric": metric, "condition": "", "n": 0, "status": "unavailable", "note": reason}
            for metric, reason in record.absent.items()
            if metric not in measured
        ]
    conditions = dict.fromkeys(name for row in rows for name in row if name.startswith("condition."))
    columns = ["suite", "setting", "vae", *SPEC, "mode", "metric", "condition", *conditions]
    columns += ["value", "unit", "better", "n", "stderr", "low", "high", "status", "note"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.astype(dict.fromkeys(("value", "stderr", "low", "high"), "float64"))
    integers = table[[*SPEC, *conditions]].convert_dtypes()  # nullable integers: some values may be missing
    return table.assign(**{name: integers[name] for name in integers})


def _row(score: Score) -> dict[str, object]:
    parts = {f"condition.{name}": value for name, value in score.condition.items()}
    numbers = {name: getattr(score, name) for name in ("value", "unit", "better", "n", "stderr", "low", "high")}
    return {
        "metric": score.metric,
        "condition": score.label,
        **parts,
        **numbers,
        "status": score.status,
        "note": score.note,
    }


def render(records: Sequence[Record], form: str = "text", *, columns: Sequence[str] = (), best: bool = False) -> str:
    """Tables as text that ends with a newline.

    Args:
        form: one of FORMATS; "csv" is `frame`, "json" has the scores of the records, and the others have one table per suite
            and setting, in the order of `grouped`, with the best VAE first
        columns: metrics to show, in this order; empty: those that the records choose
        best: print the best value of each metric in bold, in markdown and LaTeX

    Raises:
        ValueError: a column is unknown; the message suggests the closest one
    """
    groups = grouped(records)
    if columns:
        groups = _with_columns(groups, columns)
    shown = [record for record in records if (record.suite, record.setting) in groups]
    if form == "json":
        return json.dumps([_plain(record, columns) for record in shown], indent=1) + "\n"
    if form == "csv":
        table = frame(shown)
        chosen = table[table["metric"].isin(columns)] if columns else table
        return chosen.to_csv(index=False, lineterminator="\n")
    headings = {"text": "{}\n", "markdown": "**{}**\n\n", "latex": "% {}\n"}
    parts = []
    for (suite, setting), group in groups.items():
        table = tabulate(group, columns, best=best and form != "text")
        parts.append(headings[form].format(f"{suite} · {setting}") + drawn(table, form))
    return "\n".join(parts)


def grouped(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """(suite, setting) -> its records, in the order of the tables.

    In a suite, the default protocol is first, then settings with more VAEs, then those with more clips.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.suite, record.setting), []).append(record)
    return dict(sorted(groups.items(), key=lambda item: _place(item[0], item[1])))


def _place(key: tuple[str, str], group: Sequence[Record]) -> tuple[int, str, bool, int, int, str]:
    suite, setting = key
    position = SUITES.index(suite) if suite in SUITES else len(SUITES)
    clips = max((score.n for record in group for score in record.scores.values()), default=0)
    return position, suite, _protocol(group[0]) != "default", -len(group), -clips, setting


def _with_columns(
    groups: dict[tuple[str, str], list[Record]], columns: Sequence[str]
) -> dict[tuple[str, str], list[Record]]:
    """The groups that have at least one of the metrics.

    Raises:
        ValueError: no record has one of the metrics
    """
    known = {key: {name for record in group for name in _metrics(record)} for key, group in groups.items()}
    everywhere = sorted(set().union(*known.values()))
    for name in columns:
        if name not in everywhere:
            raise ValueError(f"no metric {name!r}{did_you_mean(name, everywhere)} (available: {', '.join(everywhere)})")
    return {key: group for key, group in groups.items() if known[key] & set(columns)}


def _metrics(record: Record) -> list[str]:
    """The metrics of a record, unavailable ones last."""
    return list(dict.fromkeys([*(score.metric for score in record.scores.values()), *record.absent]))


def drawn(table: pd.DataFrame, form: str) -> str:
    """A table of text as text, markdown or LaTeX: the first column to the left, all others to the right.

    A value between BOLD marks is printed in bold.
    """
    others = len(table.columns) - 1
    if form == "latex":
        rows = [[str(cell) for cell in row] for row in table.itertuples(index=False, name=None)]
        emphasis = [[cell.startswith(BOLD) for cell in row] for row in rows]
        plain = [[cell.removeprefix(BOLD) for cell in row] for row in rows]
        return latex.tabular([_in_latex(column) for column in table.columns], plain, emphasis)
    style = {"text": "simple", "markdown": "pipe"}[form]
    strong = table.map(_in_markdown) if form == "markdown" else table
    # cells are text already: tabulate would read "31.40" as a number and print 31.4
    return (
        strong.to_markdown(index=False, tablefmt=style, disable_numparse=True, colalign=("left", *["right"] * others))
        + "\n"
    )


def _in_markdown(cell: str) -> str:
    if not cell.startswith(BOLD):
        return cell
    value, space, rest = cell.removeprefix(BOLD).partition(" ")
    return f"**{value}**{space}{rest}"


def _in_latex(column: str) -> str:
    """A title for LaTeX: "psnr dB ↑" becomes "PSNR [dB] ↑"."""
    if column == COMPRESSION:
        return r"$r_t \times r_s \times r_s$"
    name, *rest = column.split(" ")
    arrow = rest.pop() if rest and rest[-1] in ARROWS.values() else ""
    unit = f"[{' '.join(rest)}]" if rest else ""
    return " ".join(part for part in (METRICS.get(name, name.replace("_", " ")), unit, arrow) if part)


def in_order(records: Sequence[Record]) -> list[Record]:
    """The records of one setting in the order of its table: best first, by the first metric."""
    first = next((name for record in records for name in record.scores), "")
    return sorted(records, key=lambda record: _rank(record.scores.get(first)))


class Line(NamedTuple):
    """One row of a table."""

    record: Record
    label: str  # `Score.label` of the row
    scores: dict[str, Score]  # by metric


def layout(records: Sequence[Record], columns: Sequence[str] = ()) -> tuple[dict[str, str], list[Line]]:
    """The columns (metric -> title) and the rows of `tabulate`, with the scores themselves."""
    lines = [
        Line(record, label, scores) for record in in_order(records) for label, scores in _by_condition(record).items()
    ]
    if columns:  # a condition without any of them has no row
        lines = [line for line in lines if set(columns) & {*line.scores, *line.record.absent}]
    metrics = list(
        dict.fromkeys([*(name for line in lines for name in line.scores), *(m for r in records for m in r.absent)])
    )
    displayed = {metric for record in records for metric in record.columns or metrics}
    chosen = [metric for metric in columns if metric in metrics] or [
        metric for metric in metrics if metric in displayed
    ]
    examples = {name: score for line in lines for name, score in line.scores.items()}
    return {metric: title(metric, examples.get(metric)) for metric in chosen}, lines


def tabulate(records: Sequence[Record], columns: Sequence[str] = (), *, best: bool = False) -> pd.DataFrame:
    """The table of records with equal setting; all cells are text: VAE, compression, channels, scores with intervals, n.

    Metrics are columns, in the order of the records.  Each VAE has a row per condition (`psnr@tiled` is in the row "tiled") and
    states its mode if that is not "whole".  An unavailable metric keeps its column.

    Args:
        columns: metrics to show, in this order; empty: those that the records choose
        best: put the mark BOLD before the best values of each metric (`drawn` prints them in bold)
    """
    titles, lines = layout(records, columns)
    strong = {metric: best_lines(lines, metric) if best else set() for metric in titles}
    rows = [
        [*_facts(record, label), *((BOLD if i in strong[m] else "") + show(scores.get(m)) for m in titles), _count(record, scores)]
        for i, (record, label, scores) in enumerate(lines)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["VAE", COMPRESSION, "Chn", "tcpr", *titles.values(), "n"])


def best_lines(lines: Sequence[Line], metric: str) -> set[int]:
    """The lines with the best value of a metric among those of the same condition, and lines that show the same value.

    Untrained VAEs, `identity` and codecs do not compete, and a value without competitors is not marked.
    """
    by_label: dict[str, dict[int, Score]] = {}
    for i, (record, label, scores) in enumerate(lines):
        score = scores.get(metric)
        competes = not _untrained(record) and record.vae["family"] not in NO_VAES
        if score is not None and score.value is not None and score.better != "neither" and competes:
            by_label.setdefault(label, {})[i] = score
    marked: set[int] = set()
    for competing in by_label.values():
        top = min(competing.values(), key=_rank)
        if len(competing) > 1:
            marked |= {i for i, score in competing.items() if _value(score) == _value(top)}
    return marked


def _value(score: Score) -> str:
    return show(score).partition(" ")[0]


def _untrained(record: Record) -> bool:
    """Whether the scores are those of random weights; the cost of a VAE does not depend on its weights."""
    return record.vae.get("weights") == "random" and record.suite != "efficiency"


def _by_condition(record: Record) -> dict[str, dict[str, Score]]:
    """`Score.label` -> metric -> score."""
    rows: dict[str, dict[str, Score]] = {}
    for score in record.scores.values():
        rows.setdefault(score.label, {})[score.metric] = score
    return rows


def _facts(record: Record, label: str) -> list[str]:
    vae = record.vae
    r_t, r_s = vae["temporal_compression"], vae["spatial_compression"]
    name = record.name + (" (untrained)" if _untrained(record) else "")
    name += f" · {record.mode}" if record.mode != "whole" else ""
    return [
        f"{name} · {label}" if label else name,
        f"{r_t}x{r_s}x{r_s}" if r_t else "—",
        str(vae["latent_channels"] or "—"),
        str(r_t * r_s**2) if r_t else "—",
    ]


def _count(record: Record, scores: dict[str, Score]) -> str:
    failed = f" ({len(record.failed)} failed)" if record.failed else ""
    return f"{max((score.n for score in scores.values()), default=0)}{failed}"


def _rank(score: Score | None) -> float:
    if score is None or score.value is None:
        return float("inf")
    return -score.value if score.better == "higher" else score.value


def title(name: str, score: Score | None) -> str:
    """The title of the column of a metric: its name, unit and arrow, such as "psnr dB ↑"; the name alone without a score."""
    if score is None:
        return name
    for shown, stored in (("_peak", "_peak_bytes"), ("_throughput", "_frames_per_s"), ("", "_s")):
        if name.endswith(stored):  # the title ends with the unit
            name = name.removesuffix(stored) + shown
            break
    unit, _ = SHOWN.get(score.unit, (score.unit, 1))
    unit = "" if name.endswith(unit) else unit  # "frames", not "frames frames"
    return " ".join(part for part in (name, unit, ARROWS[score.better]) if part)


def show(score: Score | None) -> str:
    """A score as text.

    "31.42 ±0.85": the value and half the width of its 95 % interval; the value alone if there is no interval.
    "0.95 (0.88 to 0.98)": the ends of an interval that is not centred on the value, as near the bound of a correlation or distance.
    "OOM": out of memory.
    "—": no value.
    """
    if score is not None and score.status == "out of memory":
        return "OOM"
    if score is None or score.value is None:
        return "—"
    _, divisor = SHOWN.get(score.unit, ("", 1))
    value = score.value / divisor
    form = ".1e" if 0 < abs(value) < 1e-3 else f".{_digits(value)}f"
    form = ".0f" if score.unit in COUNTS and value.is_integer() else form
    spread = ""
    if score.low is not None and score.high is not None:
        spread = f" ±{(score.high - score.low) / 2 / divisor:{form}}"
        if score.low == 0 != value:
            spread = f" (0 to {score.high / divisor:{form}})"
        elif not score.unit and _skewed(score.value, score.low, score.high):  # those of median times are noise
            spread = f" ({score.low:{form}} to {score.high:{form}})"
    sign = "+" if score.signed and value > 0 else ""
    return f"{sign}{value:{form}}{spread}"


def _skewed(value: float, low: float, high: float) -> bool:
    """Whether an interval is far from centred on the value."""
    return abs((low + high) / 2 - value) > SKEWED * (high - low) / 2


def _digits(value: float) -> int:
    """Digits after the point for about four significant digits: 31.42, 0.9471, 123.4, 51234."""
    size = abs(value)
    return 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0


def _plain(record: Record, columns: Sequence[str]) -> dict[str, object]:
    shown = {name: score for name, score in record.scores.items() if not columns or score.metric in columns}
    scores = {name: vars(score) for name, score in shown.items()}
    facts = {"suite": record.suite, "setting": record.setting, "vae": record.name, "mode": record.mode}
    return {**facts, "scores": scores}


def _protocol(record: Record) -> str:
    return str(record.config.get("protocol", "default"))

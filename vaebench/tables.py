"""Tables of records: a tidy pandas DataFrame of all scores, and text for the terminal, markdown, LaTeX, CSV or JSON.

Each printed table has the records of one suite and one setting, so that only comparable numbers are in one table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from vaebench import protocol, yardstick
from vaebench.records import Record, Score, read_all

FORMATS = ("text", "markdown", "latex", "csv", "json")
ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
LATEX = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "—": "---", "…": r"\ldots{}", "·": r"$\cdot$"}
# stored unit -> (displayed unit, divisor)
SHOWN = {"bytes": ("MiB", 2**20), "FLOP": ("GFLOP", 1e9), "FLOP/s": ("GFLOP/s", 1e9)}
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


def render(records: Sequence[Record], form: str = "text") -> str:
    """Tables as text that ends with a newline.

    Args:
        form: one of FORMATS; "csv" is `frame`, "json" has the scores of the records, and the others have one table per suite
            and setting, with the best VAE first
    """
    if form == "json":
        return json.dumps([_plain(record) for record in records], indent=1) + "\n"
    if form == "csv":
        return frame(records).to_csv(index=False, lineterminator="\n")
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.suite, record.setting), []).append(record)
    headings = {"text": "{}\n", "markdown": "**{}**\n\n", "latex": "% {}\n"}
    parts = [
        headings[form].format(f"{suite} · {setting}") + _drawn(tabulate(group), form)
        for (suite, setting), group in groups.items()
    ]
    return "\n".join(parts)


def _drawn(table: pd.DataFrame, form: str) -> str:
    """The first column to the left, all others to the right."""
    others = len(table.columns) - 1
    if form == "latex":
        text: str = table.to_latex(index=False, escape=True, column_format="l" + "r" * others)
        for plain, typeset in LATEX.items():
            text = text.replace(plain, typeset)
        return text
    style = {"text": "simple", "markdown": "pipe"}[form]
    # cells are text already: tabulate would read "31.40" as a number and print 31.4
    return (
        table.to_markdown(index=False, tablefmt=style, disable_numparse=True, colalign=("left", *["right"] * others))
        + "\n"
    )


def tabulate(records: Sequence[Record]) -> pd.DataFrame:
    """The table of records with equal setting; all cells are text: VAE, compression, channels, scores with intervals, n.

    Metrics are columns, in the order of the records.  Each VAE has a row per condition (`psnr@tiled` is in the row "tiled") and
    states its mode if that is not "whole".  An unavailable metric keeps its column.
    """
    first = next((name for record in records for name in record.scores), "")
    best_first = sorted(records, key=lambda record: _rank(record.scores.get(first)))
    lines = [(record, label, scores) for record in best_first for label, scores in _by_condition(record).items()]
    metrics = list(
        dict.fromkeys([*(name for *_, scores in lines for name in scores), *(m for r in records for m in r.absent)])
    )
    displayed = {metric for record in records for metric in record.columns or metrics}
    examples = {name: score for *_, scores in lines for name, score in scores.items()}
    titles = {metric: _title(metric, examples.get(metric)) for metric in metrics if metric in displayed}
    rows = [
        [*_facts(record, label), *(show(scores.get(metric)) for metric in titles), _count(record, scores)]
        for record, label, scores in lines
    ]
    return pd.DataFrame(rows, columns=["VAE", "r_t x r_s", "Chn", "tcpr", *titles.values(), "n"])


def _by_condition(record: Record) -> dict[str, dict[str, Score]]:
    """`Score.label` -> metric -> score."""
    rows: dict[str, dict[str, Score]] = {}
    for score in record.scores.values():
        rows.setdefault(score.label, {})[score.metric] = score
    return rows


def _facts(record: Record, label: str) -> list[str]:
    vae = record.vae
    r_s = vae["spatial_compression"]
    untrained = vae.get("weights") == "random" and record.suite != "efficiency"  # cost does not depend on the weights
    name = record.name + (" (untrained)" if untrained else "")
    name += f" · {record.mode}" if record.mode != "whole" else ""
    name = f"{name} · {label}" if label else name
    if vae.get("codec"):  # it has no latent
        return [name, "—", "—", "—"]
    return [
        name,
        f"{vae['temporal_compression']}x{r_s}x{r_s}",
        str(vae["latent_channels"]),
        str(vae["temporal_compression"] * r_s**2),
    ]


def _count(record: Record, scores: dict[str, Score]) -> str:
    failed = f" ({len(record.failed)} failed)" if record.failed else ""
    return f"{max((score.n for score in scores.values()), default=0)}{failed}"


def _rank(score: Score | None) -> float:
    if score is None or score.value is None:
        return float("inf")
    return -score.value if score.better == "higher" else score.value


def _title(name: str, score: Score | None) -> str:
    if score is None:
        return name
    for shown, stored in (("_peak", "_peak_bytes"), ("_throughput", "_frames_per_s"), ("", "_s")):
        if name.endswith(stored):  # the title ends with the unit
            name = name.removesuffix(stored) + shown
            break
    unit, _ = SHOWN.get(score.unit, (score.unit, 1))
    return " ".join(part for part in (name, unit, ARROWS[score.better]) if part)


def show(score: Score | None) -> str:
    """A score as text.

    "31.42 ±0.85": the value and half the width of its 95 % interval; the value alone if there is no interval.
    "1.20 (0 to 3.5)": the ends of an interval that was clipped at 0 and is not centred on the value.  "OOM": out of memory.
    "—": no value.
    """
    if score is not None and score.status == "out of memory":
        return "OOM"
    if score is None or score.value is None:
        return "—"
    _, divisor = SHOWN.get(score.unit, ("", 1))
    value = score.value / divisor
    form = ".1e" if 0 < abs(value) < 1e-3 else f".{_digits(value)}f"
    spread = ""
    if score.low is not None and score.high is not None:
        spread = f" ±{(score.high - score.low) / 2 / divisor:{form}}"
        if score.low == 0 != value:
            spread = f" (0 to {score.high / divisor:{form}})"
    sign = "+" if score.signed and value > 0 else ""
    return f"{sign}{value:{form}}{spread}"


def _digits(value: float) -> int:
    """Digits after the point for about four significant digits: 31.42, 0.9471, 123.4, 51234."""
    size = abs(value)
    return 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0


def _plain(record: Record) -> dict[str, object]:
    scores = {name: vars(score) for name, score in record.scores.items()}
    facts = {"suite": record.suite, "setting": record.setting, "vae": record.name, "mode": record.mode}
    return {**facts, "scores": scores}


def notes(records: Sequence[Record]) -> list[str]:
    """Notes below a table: warnings of scores, notes of the protocol and about untrained VAEs, and the codecs of equal quality."""
    # note -> its metrics and its VAEs, in order
    cautions: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for record in records:
        for score in record.scores.values():
            if score.note:
                metrics, vaes = cautions.setdefault(score.note, ({}, {}))
                metrics[score.metric] = vaes[record.name] = None
    lines: dict[str, None] = {}
    for note, (metrics, vaes) in cautions.items():
        of_vaes = f" of {', '.join(vaes)}" if len(vaes) < len(records) else ""
        lines[f"{', '.join(metrics)}{of_vaes}: {note}"] = None
    for name in dict.fromkeys(record.config.get("protocol", "default") for record in records):
        if name != "default":
            lines |= dict.fromkeys(f"protocol {name}: {note}" for note in protocol.load(name).notes)
    if any(record.vae.get("weights") == "random" for record in records if record.suite != "efficiency"):
        lines["(untrained): random weights; these scores say nothing about the quality of the VAE"] = None
    lines |= dict.fromkeys(yardstick.statements(records))
    return list(lines)

"""Records -> tables: as text for the terminal, markdown, LaTeX, CSV or JSON.

A table holds the records of one suite and one setting, and nothing else: what was measured differently stands elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence

from vaebench import protocol
from vaebench.records import Record, Score

FORMATS = ("text", "markdown", "latex", "csv", "json")
ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
LATEX_ARROWS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "—": "---", "…": r"\ldots"}
# stored raw, shown in what a reader can read: unit -> (shown unit, divisor)
SHOWN = {"bytes": ("MiB", 2**20), "FLOP": ("GFLOP", 1e9), "FLOP/s": ("GFLOP/s", 1e9)}
# scores that a printed table shows, where a suite has more than fit; csv and json have them all
COLUMNS = {
    "efficiency": (
        *("encode_s", "encode_frames_per_s", "encode_peak_bytes"),
        *("decode_s", "decode_frames_per_s", "decode_peak_bytes"),
        "largest_frames",
    ),
    "diffusability": (
        *("denoising_loss", "gaussian_loss", "fvd16", "fvd16_floor", "fvd16_vs_rebuilt", "kvd16"),
        *("is_tgan_1split", "is_styleganv_10split", "is_debiased"),
        *("effective_rank", "dead_channels", "slope_space", "slope_time"),
    ),
}
Table = tuple[list[str], list[list[str]]]  # header, rows


def render(records: Sequence[Record], form: str = "text") -> str:
    """One table per suite and setting, best first; the text ends with a newline."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.suite, record.setting), []).append(record)
    if form == "json":
        return json.dumps([_plain(record) for record in records], indent=1) + "\n"
    if form == "csv":
        return _csv(records)
    draw: Callable[[Table], str] = {"text": _text, "markdown": _markdown, "latex": _latex}[form]
    parts = []
    for (suite, setting), group in groups.items():
        title = f"{suite} · {setting}"
        heading = {"text": f"{title}\n", "markdown": f"**{title}**\n\n", "latex": f"% {title}\n"}[form]
        parts.append(heading + draw(tabulate(group)))
    return "\n".join(parts)


def tabulate(records: Sequence[Record]) -> Table:
    """Header and rows of one setting's records: name, compression, channels, each score with its interval, n.

    A row names the mode of its VAE where it is not "whole".  A score called `psnr@tiled` stands in the column psnr, in a row
    "tiled" of its own below the VAE's.  A score that is unavailable has a column too: what is missing should be seen.
    """
    first = next((name for record in records for name in record.scores), "")
    best_first = sorted(records, key=lambda record: _rank(record.scores.get(first)))
    lines = [(record, *line) for record in best_first for line in _split_rows(record.scores)]
    absent = [name for record in records for names in record.absent for name in names.split(", ")]
    names = list(dict.fromkeys([*(name for *_, scores in lines for name in scores), *absent]))
    if wanted := COLUMNS.get(records[0].suite):
        names = [name for name in names if name in wanted]
    some = {name: score for *_, scores in lines for name, score in scores.items()}
    header = ["VAE", "r_t x r_s", "Chn", "tcpr", *(_title(name, some.get(name)) for name in names), "n"]
    return header, [_row(record, label, scores, names) for record, label, scores in lines]


def _split_rows(scores: dict[str, Score]) -> list[tuple[str, dict[str, Score]]]:
    rows: dict[str, dict[str, Score]] = {}
    for name, score in scores.items():
        metric, _, label = name.partition("@")
        rows.setdefault(label, {})[metric] = score
    return list(rows.items())


def _row(record: Record, label: str, scores: dict[str, Score], names: list[str]) -> list[str]:
    vae = record.vae
    r_s = vae["spatial_compression"]
    untrained = vae.get("weights") == "random" and record.suite != "efficiency"  # cost does not depend on them
    name = vae.get("name", record.name) + (" (untrained)" if untrained else "")
    name += f" · {record.mode}" if record.mode != "whole" else ""
    failed = f" ({len(record.failed)} failed)" if record.failed else ""
    most = max((score.n for score in scores.values()), default=0)
    return [
        f"{name} · {label}" if label else name,
        f"{vae['temporal_compression']}x{r_s}x{r_s}",
        str(vae["latent_channels"]),
        str(vae["temporal_compression"] * r_s**2),
        *(show(scores.get(name)) for name in names),
        f"{most}{failed}",
    ]


def _rank(score: Score | None) -> float:
    if score is None or score.value is None:
        return float("inf")
    return -score.value if score.better == "higher" else score.value


def _title(name: str, score: Score | None) -> str:
    if score is None:
        return name
    for shown, stored in (("_peak", "_peak_bytes"), ("_throughput", "_frames_per_s"), ("", "_s")):
        if name.endswith(stored):  # the unit follows anyway
            name = name.removesuffix(stored) + shown
            break
    unit, _ = SHOWN.get(score.unit, (score.unit, 1))
    return " ".join(part for part in (name, unit, ARROWS[score.better]) if part)


def show(score: Score | None) -> str:
    """ "31.42 ±0.85": the value and half the width of its 95 % interval; the bare value where there is no interval.

    "1.20 (0 to 3.5)": the ends of an interval that was cut at 0, which is not centred on the value.  "—": no score.
    """
    if score is not None and score.value is None and score.note.startswith("out of memory"):
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
    """Four significant figures or so: 31.42 dB, 0.9471, 123.4, 51234."""
    size = abs(value)
    return 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0


def _text(table: Table) -> str:
    header, rows = table
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    lines = ["  ".join(_align(cell, widths[i], i) for i, cell in enumerate(line)) for line in (header, *rows)]
    rule = "  ".join("─" * width for width in widths)
    return "\n".join([lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])]) + "\n"


def _align(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _markdown(table: Table) -> str:
    header, rows = table
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows)) + "\n"


def _latex(table: Table) -> str:
    header, rows = table
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule"]
    body = [" & ".join(_escape(cell) for cell in line) + r" \\" for line in (header, *rows)]
    return "\n".join([*lines, body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


def _escape(cell: str) -> str:
    for plain, escaped in (
        ("_", r"\_"),
        ("%", r"\%"),
        ("&", r"\&"),
        *LATEX_ARROWS.items(),
    ):
        cell = cell.replace(plain, escaped)
    return cell


def _csv(records: Sequence[Record]) -> str:
    """Long form, full precision: one line a score."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    header = [
        "suite",
        "setting",
        "vae",
        "score",
        "value",
        "unit",
        "better",
        "n",
        "stderr",
        "low",
        "high",
        "note",
        "mode",
    ]
    rows.writerow(header)
    for record in records:
        for name, s in record.scores.items():
            facts = [record.suite, record.setting, record.vae.get("name", record.name), name]
            rows.writerow([*facts, s.value, s.unit, s.better, s.n, s.stderr, s.low, s.high, s.note, record.mode])
    return text.getvalue()


def _plain(record: Record) -> dict[str, object]:
    scores = {name: vars(score) for name, score in record.scores.items()}
    facts = {"suite": record.suite, "setting": record.setting, "vae": record.vae.get("name"), "mode": record.mode}
    return {**facts, "scores": scores}


def notes(records: Sequence[Record]) -> list[str]:
    """What a reader of the table must know: each score's caution once, the protocol's, and why some rows mean nothing."""
    # note -> the scores and the VAEs that it is about, in order
    cautions: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for record in records:
        for name, score in record.scores.items():
            if score.note:
                about, whose = cautions.setdefault(score.note, ({}, {}))
                about[name.partition("@")[0]] = whose[record.vae.get("name", record.name)] = None
    said: dict[str, None] = {}
    for note, (about, whose) in cautions.items():
        who = f" of {', '.join(whose)}" if len(whose) < len(records) else ""
        said[f"{', '.join(about)}{who}: {note}"] = None
    for name in dict.fromkeys(record.config.get("protocol", "default") for record in records):
        if name != "default":
            said |= dict.fromkeys(f"protocol {name}: {note}" for note in protocol.load(name).notes)
    if any(record.vae.get("weights") == "random" for record in records if record.suite != "efficiency"):
        said["(untrained): random weights; these scores prove the plumbing and say nothing of the VAE"] = None
    return list(said)

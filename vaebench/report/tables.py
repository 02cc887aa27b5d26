"""The tables of the report: the cells of `vaebench.tables.tabulate`, each with its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vaebench import table_notes, tables
from vaebench.records import Record, Score
from vaebench.tables import Line
from vaebench.titles import setting_title

BEFORE = 4  # columns before the scores: VAE, compression, channels, tcpr


@dataclass(frozen=True)
class Cell:
    text: str
    value: float | None = None  # what the column is sorted by; None sorts last
    score: str = ""  # key in the scores of the record; "" if the cell is not a score
    best: bool = False
    hint: str = ""  # one line for the tooltip


@dataclass(frozen=True)
class Row:
    record: int  # index into the records of the page
    cells: list[Cell]  # without the name
    name: str


@dataclass(frozen=True)
class Table:
    suite: str
    setting: str  # name of the folder
    title: str  # the setting in words
    columns: list[str]
    better: list[str]  # direction of each column: "higher", "lower" or ""
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def build(group: Sequence[Record], index: Mapping[int, int]) -> Table:
    """The table of records with equal suite and setting.

    Args:
        group: the records
        index: `id` of a record -> its index in the page
    """
    text = tables.tabulate(group)
    titles, lines = tables.layout(group)
    best = {metric: tables.best_lines(lines, metric) for metric in titles}
    rows = [
        _row(
            line, [str(cell) for cell in cells], list(titles), index[id(line.record)], {m for m in best if i in best[m]}
        )
        for i, (line, cells) in enumerate(zip(lines, text.itertuples(index=False), strict=True))
    ]
    examples = {metric: score.better for line in lines for metric, score in line.scores.items()}
    better = [*[""] * BEFORE, *(examples.get(metric, "").replace("neither", "") for metric in titles), ""]
    return Table(
        group[0].suite, group[0].setting, setting_title(group[0]), list(text.columns), better, rows, _notes(group)
    )


def _row(line: Line, texts: list[str], metrics: list[str], record: int, best: set[str]) -> Row:
    vae = line.record.vae
    rate: float | None = None  # unknown for videos that were made elsewhere, and codecs have no latent
    if vae["latent_channels"]:
        rate = vae["temporal_compression"] * vae["spatial_compression"] ** 2
    facts: list[float | None] = [rate, vae["latent_channels"], rate]
    cells = [Cell(text, value) for text, value in zip(texts[1:BEFORE], facts, strict=True)]
    for metric, text in zip(metrics, texts[BEFORE:-1], strict=True):
        score = line.scores.get(metric)
        if score is None:
            reason = line.record.absent.get(metric, "")
            cells.append(Cell(text, hint=f"unavailable: {reason}" if reason else ""))
        else:
            cells.append(Cell(text, score.value, score.key, metric in best, _hint(score)))
    return Row(record, [*cells, Cell(texts[-1], max((s.n for s in line.scores.values()), default=0))], texts[0])


def _hint(score: Score) -> str:
    value = score.status if score.value is None else f"{score.value:.8g} {score.unit}".strip()
    return " · ".join(part for part in (value, f"n = {score.n}", score.note) if part)


def _notes(group: Sequence[Record]) -> list[str]:
    """Notes of the table, then failed cases and unavailable metrics, each once."""
    notes = dict.fromkeys(table_notes.notes(group))
    for record in group:
        notes |= {f"failed: {f.case} of {record.name}: {f.reason}": None for f in record.failed}
    absent: dict[tuple[str, str], list[str]] = {}
    for record in group:
        for metric, reason in record.absent.items():
            absent.setdefault((metric, reason), []).append(record.name)
    for (metric, reason), names in absent.items():
        of_vaes = "" if len(names) == len(group) else f" of {', '.join(names)}"
        notes[f"unavailable: {metric}{of_vaes}: {reason}"] = None
    return list(notes)

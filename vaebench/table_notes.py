"""The notes below a table: what a reader should know before comparing its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from vaebench import protocol, tables, yardstick
from vaebench.records import Record


def notes(records: Sequence[Record], columns: Sequence[str] = ()) -> list[str]:
    """Notes below the tables of some records, each once.

    They are warnings of scores, VAEs that were scored by other metric code, notes of the protocol and about untrained VAEs, and
    the codecs of equal quality.

    Args:
        columns: the metrics that the tables show; empty: all
    """
    lines = [*_cautions(records, columns), *_metric_code(records, columns), *_protocols(records), *_files(records)]
    if any(record.vae.get("weights") == "random" for record in records if record.suite != "efficiency"):
        lines.append("(untrained): random weights; these scores say nothing about the quality of the VAE")
    return list(dict.fromkeys([*lines, *yardstick.statements(records, columns)]))


def _cautions(records: Sequence[Record], columns: Sequence[str]) -> Iterator[str]:
    """The warnings of scores, each once with its metrics, and with its VAEs if it does not concern all."""
    # note -> its metrics and its VAEs, in order
    cautions: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for record in records:
        for score in record.scores.values():
            if score.note and (not columns or score.metric in columns):
                metrics, vaes = cautions.setdefault(score.note, ({}, {}))
                metrics[score.metric] = vaes[record.name] = None
    for note, (metrics, vaes) in cautions.items():
        of_vaes = f" of {', '.join(vaes)}" if len(vaes) < len(records) else ""
        yield f"{', '.join(metrics)}{of_vaes}: {note}"


def _metric_code(records: Sequence[Record], columns: Sequence[str]) -> Iterator[str]:
    """For each table, the VAEs that were scored by other metric code than the newest record; `compare` refuses such pairs."""
    groups = tables.grouped(records)
    for (suite, setting), group in groups.items():
        where = f"{suite} · {setting}: " if len(groups) > 1 else ""
        # (newest, VAEs) -> metrics: one line for all of them
        together: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for metric in dict.fromkeys(name for record in group for name in record.digests):
            newest, others = _scored_otherwise(metric, group, columns)
            if others:
                together.setdefault((newest, tuple(others)), []).append(metric)
        for (newest, names), metrics in together.items():
            yield (
                f"{where}{', '.join(metrics)} of {', '.join(names)}: scored by other metric code than the newest record, "
                f"{newest}, so the values are not comparable: measure {'it' if len(names) == 1 else 'them'} again"
            )


def _scored_otherwise(metric: str, group: Sequence[Record], columns: Sequence[str]) -> tuple[str, list[str]]:
    """The VAE with the newest score of a metric, and those that were scored by other code.

    The newest record is the reference, not the majority: measured again, the others agree with it.  Older records without digests
    are taken to agree, as in `compare`.
    """
    known = [record for record in group if metric in record.digests and _shows(record, metric, columns)]
    if not known:
        return "", []
    count = Counter(record.digests[metric] for record in known)
    # the other keys decide between records of the same second
    newest = max(known, key=lambda record: (record.created, count[record.digests[metric]], record.digests[metric]))
    return newest.name, [record.name for record in known if record.digests[metric] != newest.digests[metric]]


def _shows(record: Record, metric: str, columns: Sequence[str]) -> bool:
    """Whether a table shows a value of the metric, or one that is derived from it, such as "psnr_last" of the suite relay."""
    shown = [*columns] or record.columns
    values = {score.metric for score in record.scores.values() if score.value is not None}
    return any(_source(name, record) == metric for name in values if not shown or name in shown)


def _source(score: str, record: Record) -> str:
    """The metric of `Record.digests` from which a score is derived: the longest name that begins the score's name; "" if none."""
    names = [metric for metric in record.digests if score == metric or score.startswith(f"{metric}_")]
    return max(names, key=len, default="")


def _protocols(records: Sequence[Record]) -> Iterator[str]:
    """The notes of each protocol, and whether its published numbers are of other clips."""
    for name in dict.fromkeys(map(_name, records)):
        try:
            one = protocol.load(name)
        except ValueError:  # the record is of another version of vaebench
            yield f"protocol {name}: unknown in this version of vaebench; its notes are not shown"
            continue
        yield from (f"protocol {name}: {note}" for note in (one.notes if name != "default" else ()))
        configs = [record.config for record in records if _name(record) == name]
        # files that are scored as they are (`vaebench score`) have several shapes
        shapes = {
            f"{config['num_frames']}x{config['size']}"
            for config in configs
            if config.get("num_frames") and config.get("size")
        }
        if one.clip and (others := sorted(shapes - {one.clip})):
            yield (
                f"protocol {name}: published numbers are of clips {one.clip} (frames x size), these are of {', '.join(others)}"
            )


def _files(records: Sequence[Record]) -> Iterator[str]:
    """What `vaebench score` read: the codecs of the files, and that their pixels are not rounded."""
    for record in records:
        if files := record.extra.get("scored_from_files"):
            codecs = ", ".join(f"{count} {codec}" for codec, count in files["codecs"].items())
            lossy = "" if files["lossless"] else "; a lossy codec is part of the score"
            yield f"{record.name}: scored from files ({codecs}){lossy}"
            name = _name(record)
            if name in protocol.names() and (pixels := protocol.load(name).pixels) != "float32":
                yield f"{record.name}: only its reference is rounded to {pixels}; the files are scored as they are"


def _name(record: Record) -> str:
    """The name of the protocol of a record."""
    return str(record.config.get("protocol", "default"))

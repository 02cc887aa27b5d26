"""The notes below a table: what a reader should know before comparing its rows."""

from __future__ import annotations

from collections.abc import Sequence

from vaebench import protocol, yardstick
from vaebench.records import Record


def _protocol(record: Record) -> str:
    return str(record.config.get("protocol", "default"))


def notes(records: Sequence[Record], columns: Sequence[str] = ()) -> list[str]:
    """Notes below a table: warnings of scores, notes of the protocol and about untrained VAEs, and the codecs of equal quality.

    Args:
        columns: the metrics that the table shows; empty: all
    """
    # note -> its metrics and its VAEs, in order
    cautions: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for record in records:
        for score in record.scores.values():
            if score.note and (not columns or score.metric in columns):
                metrics, vaes = cautions.setdefault(score.note, ({}, {}))
                metrics[score.metric] = vaes[record.name] = None
    lines: dict[str, None] = {}
    for note, (metrics, vaes) in cautions.items():
        of_vaes = f" of {', '.join(vaes)}" if len(vaes) < len(records) else ""
        lines[f"{', '.join(metrics)}{of_vaes}: {note}"] = None
    for name in dict.fromkeys(map(_protocol, records)):
        one = protocol.load(name)
        lines |= dict.fromkeys(f"protocol {name}: {note}" for note in (one.notes if name != "default" else ()))
        configs = [record.config for record in records if _protocol(record) == name]
        # files that are scored as they are (`vaebench score`) have several shapes
        shapes = {
            f"{config['num_frames']}x{config['size']}"
            for config in configs
            if config.get("num_frames") and config.get("size")
        }
        if one.clip and shapes - {one.clip}:
            lines[
                f"protocol {name}: published numbers are of clips {one.clip} (frames x size), these are of {shapes.pop()}"
            ] = None
    for record in records:
        if files := record.extra.get("scored_from_files"):
            codecs = ", ".join(f"{count} {codec}" for codec, count in files["codecs"].items())
            lossy = "" if files["lossless"] else "; a lossy codec is part of the score"
            lines[f"{record.name}: scored from files ({codecs}){lossy}"] = None
            if (pixels := protocol.load(_protocol(record)).pixels) != "float32":
                lines[f"{record.name}: only its reference is rounded to {pixels}; the files are scored as they are"] = (
                    None
                )
    if any(record.vae.get("weights") == "random" for record in records if record.suite != "efficiency"):
        lines["(untrained): random weights; these scores say nothing about the quality of the VAE"] = None
    lines |= dict.fromkeys(yardstick.statements(records, columns))
    return list(lines)

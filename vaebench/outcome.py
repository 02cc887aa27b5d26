"""The outcome of a run and its report: records, fulfilled requirements, failures, and VAEs that could not be run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from typing import Any

from vaebench.records import Failure, Record


@dataclass
class Outcome:
    """The result of a run: its records, fulfilled requirements, failures, and VAEs that could not be run."""

    records: list[Record] = field(default_factory=list)
    met: list[tuple[str, str]] = field(default_factory=list)  # VAE and the requirement that it meets
    failed: list[tuple[str, Failure]] = field(default_factory=list)  # VAE and failure
    not_ready: dict[str, str] = field(default_factory=dict)  # VAE -> how to get its weights
    waiting: list[str] = field(default_factory=list)  # VAEs whose other shards have not finished
    # what the run did more than once or otherwise than asked, and known faults of the libraries
    notes: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Append the outcome of another run."""
        for mine in fields(self):
            ours, theirs = getattr(self, mine.name), getattr(other, mine.name)
            if isinstance(ours, dict):
                ours.update(theirs)
            else:
                ours += [item for item in theirs if item not in ours]


def report(outcome: Outcome, stream: Any = None) -> None:
    """Print notes, fulfilled requirements, failures, unavailable scores and unfinished VAEs, one line each.

    Args:
        stream: an open text file; default: stderr
    """
    stream = stream or sys.stderr
    for line in outcome.notes:
        print(f"note: {line}", file=stream)
    for name, sentence in outcome.met:
        print(f"{name}: {sentence}", file=stream)
    for (case, file, reason), names in _grouped(outcome.failed).items():
        where = f" ({file})" if file and file not in reason else ""
        who = "" if names == [case] else f" [{', '.join(names)}]"
        print(f"failed: {case}{where}: {reason}{who}", file=stream)
    for score, reason in _absent(outcome.records).items():
        print(f"absent: {score}: {reason}", file=stream)
    if outcome.waiting:
        print(f"waiting for other shards: {', '.join(outcome.waiting)}", file=stream)


def _grouped(failed: list[tuple[str, Failure]]) -> dict[tuple[str, str, str], list[str]]:
    """(case, file, reason) -> the VAEs with this failure."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, failure in failed:
        groups.setdefault((failure.case, failure.file, failure.reason), []).append(name)
    return groups


def _absent(records: list[Record]) -> dict[str, str]:
    return {score: reason for record in records for score, reason in record.absent.items()}

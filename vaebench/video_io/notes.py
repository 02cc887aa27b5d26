"""Notes for the user on stderr: which files were ignored, and which rows were merged."""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache
from pathlib import Path, PurePosixPath

from vaebench.distributed import rank_and_world

SHOWN = 6  # file types that a note names


@cache  # a source may be built more than once in a run
def note(text: str) -> None:
    """Print `text` once per process; of several processes only the first prints."""
    if rank_and_world()[0] == 0:
        print(f"note: {text}", file=sys.stderr)


class Ignored:
    """Files that a source does not read, counted by their extension, with an example of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, file: str) -> None:
        extension = PurePosixPath(file).suffix.lower() or "no extension"
        self.counts[extension] += 1
        self.examples[extension] = min(file, self.examples.get(extension, file))  # folders are listed in no order

    def print(self, root: str | Path) -> None:
        """Print the note, if any file was ignored."""
        if not self.counts:
            return
        kinds = sorted(self.counts, key=lambda extension: (-self.counts[extension], extension))
        parts = [f"{self.counts[kind]} {kind} ({self.examples[kind]})" for kind in kinds[:SHOWN]]
        more = f", and {len(kinds) - SHOWN} more types" if len(kinds) > SHOWN else ""
        note(
            f"{root}: files of other types are ignored: {sum(self.counts.values())}, of which {', '.join(parts)}{more}"
        )

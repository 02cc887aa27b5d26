"""One HTML file with the tables, figures, clips and provenance of a results folder, from records only.

The file holds everything that it shows: it needs no network, and its content security policy forbids any.  Each module makes one
part as plain data: `tables`, `charts`, `clips`, `figures`, `provenance`; `page` renders them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vaebench import records
from vaebench.files import write_atomically
from vaebench.report import page


def write(results: Path, out: Path, say: Callable[[str], object] = lambda line: None) -> Path:
    """Write the report of all records below `results`.

    Args:
        results: folder with the records
        out: the HTML file to write
        say: called with a message for each figure that is incomplete

    Returns:
        `out`

    Raises:
        ValueError: a record, a kept picture or a kept video is invalid, or there are no records
        OSError: the file cannot be written
    """
    everything = list(records.read_all(results))
    if not everything:
        raise ValueError(f"no records in {results}: run `vaebench run` first, or choose another folder with --results")
    html = page.render(results, everything, say)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, html)
    return out

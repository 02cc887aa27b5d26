"""Figures and tables from records only: the same records always give byte-identical files.

There is a module per suite, and some for single figures such as bubbles and seams.  Each lists its figures in `FIGURES`, a
tuple of functions `figure(results, style)` that yield (file stem, matplotlib figure).  Without matching records a function
yields nothing; a function that needs records of two suites draws all it can and then raises `Incomplete`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench import plot_style, records, tables
from vaebench.files import file_name, write_atomically
from vaebench.plugins import did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Drawing = Callable[[Path, str], Iterator[tuple[str, Figure]]]


class Incomplete(Exception):
    """A figure needs records that are missing; each argument is a reason, with the command that creates them."""

    def __str__(self) -> str:
        return "; ".join(self.args)

    def tell(self, figure: str, say: Callable[[str], object]) -> None:
        """Say each reason in a line of its own."""
        for reason in self.args:
            say(f"{figure}: {reason}")


def figures() -> dict[str, Drawing]:
    """Name of each figure -> its function."""
    modules = (name for _, name, _ in pkgutil.iter_modules(__path__) if not name.startswith("_"))
    by_name: dict[str, Drawing] = {}
    for name in modules:
        for function in importlib.import_module(f"{__name__}.{name}").FIGURES:
            by_name[function.__name__] = function
    return by_name


def draw(
    results: Path,
    out: Path,
    only: str = "",
    formats: tuple[str, ...] = ("png", "svg"),
    style: str = "screen",
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[Path]:
    """Draw figures and tables from records, and yield each file.

    Args:
        results: folder with the records
        out: output folder
        only: name of a single figure; "" draws all figures and tables
        formats: png, svg, pdf
        style: "screen" or "paper"
        say: called with a message for each figure that is incomplete

    Raises:
        ValueError: the figure or format is unknown, a record is invalid, or there are no records to draw
    """
    known = figures()
    if only and only not in known:
        raise ValueError(f"no figure {only!r}{did_you_mean(only, list(known))} (available: {', '.join(known)})")
    plot_style.check_formats(formats)
    # read all records first, so that an invalid one is reported before any figure is drawn
    if not list(records.read_all(results)):
        raise ValueError(f"no records in {results}: run `vaebench run` first, or choose another folder with --results")
    out.mkdir(parents=True, exist_ok=True)
    drawn, incomplete = False, ""
    with plot_style.applied(style):
        for name, function in known.items():
            if only and name != only:
                continue
            try:
                for stem, figure in function(results, style):
                    drawn = True
                    yield from plot_style.save(figure, out, stem, formats)
            except Incomplete as missing:
                incomplete = str(missing)
                if drawn or not only:
                    missing.tell(name, say)
    if not only:
        yield from _tables(results, out)
    elif not drawn:
        content = first_sentence(known[only].__doc__ or only).rstrip(".")
        raise ValueError(
            f"{only} cannot be drawn from {results}: {incomplete}"
            if incomplete
            else f"no record in {results} has the data for {only} ({content})"
        )


def first_sentence(doc: str) -> str:
    """The first sentence of a docstring."""
    return re.split(r"(?<=[a-z0-9)])\.(?:\s|$)", " ".join(doc.split()), maxsplit=1)[0].rstrip(".") + "."


def _tables(results: Path, out: Path) -> Iterator[Path]:
    """Write a markdown table per suite and setting, as in the README."""
    groups: dict[tuple[str, str], list[records.Record]] = {}
    for record in records.read_all(results):
        groups.setdefault((record.suite, record.setting), []).append(record)
    for (suite, setting), group in groups.items():
        file = out / f"{file_name(f'{suite}-{setting}')}.md"
        write_atomically(file, tables.render(group, "markdown"))
        yield file

"""Records -> figures and tables, and nothing else: drawing twice changes no byte.

One module per suite (and one each for bubbles and for the sub-bands of clips) names its figures in `FIGURES`, a tuple of
functions `figure(results, style)` that yield (file stem, matplotlib figure).  A figure without records yields nothing; one that
needs records of two suites raises `Incomplete` after what it can draw.
"""

from __future__ import annotations

import importlib
import pkgutil
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
    """Records that a figure needs are missing; the message says which, and how to make them."""


def figures() -> dict[str, Drawing]:
    """Every figure by the name of its function."""
    modules = (name for _, name, _ in pkgutil.iter_modules(__path__) if not name.startswith("_"))
    found: dict[str, Drawing] = {}
    for name in modules:
        for function in importlib.import_module(f"{__name__}.{name}").FIGURES:
            found[function.__name__] = function
    return found


def draw(
    results: Path,
    out: Path,
    only: str = "",
    formats: tuple[str, ...] = ("png", "svg"),
    style: str = "screen",
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[Path]:
    """Draw all figures (or the one called `only`) from the records below `results` into `out`; yields each file.

    `say` gets a line for each figure that leaves something out.

    Raises:
        ValueError: unknown figure or format, invalid record, no record at all, or nothing that `only` can draw
    """
    known = figures()
    if only and only not in known:
        raise ValueError(f"no figure {only!r}{did_you_mean(only, list(known))} (there are: {', '.join(known)})")
    plot_style.check_formats(formats)
    # all of them now, so that an invalid one is named before anything is drawn
    if not list(records.read_all(results)) and not any((results / "subbands").glob("*.json")):
        raise ValueError(f"no records in {results}: `vaebench run` writes them; --results names another folder")
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
                    say(f"{name}: {missing}")
    if not only:
        yield from _tables(results, out)
    elif not drawn:
        said = " ".join((known[only].__doc__ or "").split())
        raise ValueError(
            f"{only} cannot be drawn from {results}: {incomplete}"
            if incomplete
            else f"no record in {results} has what {only} draws: {said}"
        )


def _tables(results: Path, out: Path) -> Iterator[Path]:
    """One markdown table per suite and setting, as README shows them."""
    groups: dict[tuple[str, str], list[records.Record]] = {}
    for record in records.read_all(results):
        groups.setdefault((record.suite, record.setting), []).append(record)
    for (suite, setting), group in groups.items():
        file = out / f"{file_name(f'{suite}-{setting}')}.md"
        write_atomically(file, tables.render(group, "markdown"))
        yield file

"""`vaebench table`, `codecs` and `published`: tables of records, and of published numbers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.cli.verb import FORMATS, Verbs
from vaebench.config import RunConfig

if TYPE_CHECKING:
    from vaebench.records import Record


def add_table(verbs: Verbs) -> None:
    table = verbs.add_parser(
        "table",
        help="print tables from records, also for a paper (LaTeX) or a README (markdown)",
        description="Print the tables of records: no VAE is run.  LaTeX and markdown print the best value of each metric "
        "in bold; identity, codecs and untrained VAEs do not compete.",
    )
    table.examples = "table"
    table.add_argument(
        "results",
        nargs="*",
        default=[RunConfig().results],
        metavar="RESULTS",
        help="results folder, the folder of a suite or setting in it, or JSON files of records "
        f"(default: {RunConfig().results})",
    )
    table.add_argument("--suite", default="", help="only the records of this suite")
    table.add_argument("--columns", default="", metavar="NAMES", help="comma-separated metrics to show, in this order")
    table.add_argument("--format", default="text", choices=FORMATS, help="format of the tables (default: %(default)s)")
    table.add_argument(
        "--published", action="store_true", help="also print published numbers beside those of the records"
    )
    table.set_defaults(command=_table)


def add_codecs(verbs: Verbs) -> None:
    codecs = verbs.add_parser(
        "codecs",
        help="state the quality of each VAE as that of a video codec, from the records of both",
        description="State for each VAE at which CRF a video codec has the same quality, and its bits per pixel. The codecs are "
        "measured like VAEs, at several CRFs: vaebench run vaes=codec/x265-17,codec/x265-25,codec/x265-33,wfvae/tiny",
    )
    codecs.add_argument(
        "results",
        nargs="?",
        default=RunConfig().results,
        metavar="DIR",
        help="folder with the records (default: %(default)s)",
    )
    codecs.set_defaults(command=_codecs)


def add_published(verbs: Verbs) -> None:
    published = verbs.add_parser(
        "published",
        help="list published numbers with protocol, data set, source and grade",
        description="List published numbers. Values are comparable only if data set, protocol and metric are equal.\n"
        "Grade A: from the authors' paper or repository; B: from a copy; C: from a comment.\n"
        "`vaebench run ... published=true` prints them beside those measured here.",
    )
    published.add_argument(
        "vae", nargs="?", default="", metavar="VAE", help="family/variant, family or published model (default: all)"
    )
    published.add_argument(
        "--format",
        default="text",
        choices=("text", "markdown", "csv", "json"),
        help="format of the list (default: %(default)s)",
    )
    published.set_defaults(command=_published)


def _table(arguments: argparse.Namespace) -> int:
    from vaebench import table_notes, tables
    from vaebench.settings import split_list

    records = tables.select(arguments.results, arguments.suite)
    columns = split_list(arguments.columns, "--columns")
    if arguments.published:
        check_second_table("--published", arguments.format)
    print(tables.render(records, arguments.format, columns=columns, best=True), end="")
    if arguments.published:
        print_published(records, arguments.format)
    for line in table_notes.notes(records, columns):
        print(line, file=sys.stderr)
    return 0


def check_second_table(option: str, form: str) -> None:
    """Raises ValueError if the format `form` holds a single table, such as csv."""
    if form not in ("text", "markdown"):
        raise ValueError(
            f"{option} prints a second table, which --format {form} cannot have: use text or markdown, or "
            "`vaebench published --format csv|json`"
        )


def print_published(records: Sequence[Record], form: str) -> None:
    """Print the published numbers of the VAEs of `records`, as a second table."""
    from vaebench import published

    if pairs := published.beside(records):
        title = "published numbers, not measured here"
        print(f"\n**{title}**\n" if form == "markdown" else f"\n{title}")
        print(published.beside_table(pairs, form), end="")
    else:
        print(f"published: no numbers of {', '.join(dict.fromkeys(r.name for r in records))}", file=sys.stderr)


def print_published_alone(names: Sequence[str], form: str) -> None:
    """Print the published numbers of VAEs that could not be run."""
    from vaebench import published

    if known := [name for name in names if published.reconstruction_of([name])]:
        title = f"published numbers of VAEs that were not run: {', '.join(known)}"
        print(f"\n**{title}**\n" if form == "markdown" else f"\n{title}")
        print(published.listed(published.reconstruction_of(known), form), end="")
    if unknown := [name for name in names if name not in known]:
        print(f"published: no numbers of {', '.join(unknown)}", file=sys.stderr)


def _codecs(arguments: argparse.Namespace) -> int:
    from vaebench import records, yardstick

    results = Path(arguments.results)
    if not results.is_dir():
        raise ValueError(f"{results}: no such folder; expected the results folder of `vaebench run`")
    lines = yardstick.statements(list(records.read_all(results, "reconstruction")))
    if not lines:
        raise ValueError(
            f"no VAE in {arguments.results} can be compared with a codec: run `vaebench run vaes=...` with VAEs and with "
            "codecs at several CRFs, such as codec/x265-25,codec/x265-33"
        )
    print("\n".join(lines))
    return 0


def _published(arguments: argparse.Namespace) -> int:
    from vaebench import published

    rows = published.of_vae(arguments.vae) if arguments.vae else published.read()
    print(published.listed(rows, arguments.format), end="")
    return 0

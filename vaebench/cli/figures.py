"""`vaebench plot` and `vaebench report`: figures and an HTML page from records."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from vaebench.cli.verb import Verbs
from vaebench.config import RunConfig


def _add_results(options: argparse._ActionsContainer) -> None:
    options.add_argument(
        "--results",
        default=RunConfig().results,
        metavar="DIR",
        help="folder with the records (default: %(default)s, as in `vaebench run`)",
    )


def add_plot(verbs: Verbs) -> None:
    plot = verbs.add_parser(
        "plot",
        help="draw every table and figure from the records of `vaebench run`",
        description="Draw every table and figure from the records of `vaebench run`.",
    )
    plot.examples = "plot"
    select, output = plot.group("selection"), plot.group("output")
    _add_results(select)
    select.add_argument("--only", default="", metavar="NAME", help="draw one figure only, such as per_clip or bubbles")
    select.add_argument(
        "--training",
        nargs="+",
        default=[],
        metavar="DIR",
        help="draw the validation curves of these training runs instead",
    )
    select.add_argument(
        "--published",
        action="store_true",
        help="draw the published numbers of the WF-VAE paper instead (bubbles); with --only bubbles, beside the records",
    )
    output.add_argument("--out", default="", metavar="DIR", help="output folder (default: <results>/plots)")
    output.add_argument(
        "--format", default="png,svg", help="comma-separated list of png, svg and pdf (default: %(default)s)"
    )
    output.add_argument(
        "--style",
        default="screen",
        choices=("screen", "paper"),
        help="sizes and fonts of the figures (default: %(default)s)",
    )
    plot.set_defaults(command=_plot)


def add_report(verbs: Verbs) -> None:
    report = verbs.add_parser(
        "report",
        help="write one HTML file with all tables, figures, clips and provenance; it works offline",
        description="Write one HTML file with the tables, figures, clips and provenance of all records. It works offline.\n"
        "Clips can be played if they were saved: `vaebench run keep_video=N`.",
    )
    report.examples = "report"
    _add_results(report)
    report.add_argument("--out", default="", metavar="FILE", help="HTML file to write (default: <results>/report.html)")
    report.set_defaults(command=_report)


def _plot(arguments: argparse.Namespace) -> int:
    from vaebench import plots
    from vaebench.settings import split_list

    results = Path(arguments.results)
    out = Path(arguments.out) if arguments.out else results / "plots"
    formats = tuple(split_list(arguments.format, "--format"))
    say = partial(print, file=sys.stderr)
    if arguments.published:
        if arguments.only not in ("", "bubbles") or arguments.training:
            raise ValueError("--published draws bubbles: remove --training, and --only unless it is --only bubbles")
        from vaebench.plots import bubbles

        beside = results if arguments.only else None
        for file in bubbles.draw_published(out, formats, arguments.style, beside, say):
            print(file)
        return 0
    if arguments.training:
        if arguments.only:
            raise ValueError(
                "--only selects a figure of records and cannot be combined with --training: remove one of them"
            )
        from vaebench.training import plot

        for file in plot.draw([Path(run) for run in arguments.training], out, formats, arguments.style):
            print(file)
        return 0
    for file in plots.draw(results, out, arguments.only, formats, arguments.style, say):
        print(file)
    return 0


def draw_figure(results: Path, figure: str) -> int:
    """Draw one figure in all formats; returns the exit code: 1 if the records do not allow it (the reason is printed)."""
    from vaebench import plots

    try:
        for file in plots.draw(results, results / "plots", figure, say=partial(print, file=sys.stderr)):
            print(file)
    except ValueError as error:
        print(f"vaebench: {error}", file=sys.stderr)
        return 1
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from vaebench import report

    results = Path(arguments.results)
    out = Path(arguments.out) if arguments.out else results / "report.html"
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder: give the HTML file to write, such as {out / 'report.html'}")
    file = report.write(results, out, partial(print, file=sys.stderr))
    print(f"{file} ({file.stat().st_size / 2**20:.1f} MiB)")
    return 0

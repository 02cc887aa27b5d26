"""`vaebench run`: measure VAEs with one suite, or with all that a preset names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vaebench import preset
from vaebench.cli.figures import draw_figure
from vaebench.cli.results import check_second_table, print_published, print_published_alone
from vaebench.cli.train import train_all
from vaebench.cli.verb import FORMATS, HOW, Verbs
from vaebench.config import RunConfig


def add_run(verbs: Verbs) -> None:
    run = verbs.add_parser(
        "run",
        help="measure VAEs, print a table, and write records to runs/results (results=DIR: to another folder)",
        description=f"Measure VAEs, print a table, and write records.\n{HOW.format(key='vaes', items='one,two')}\n"
        "Quote an item that contains a comma: 'vaes=\"wfvae:a,b/run\",dct/4'.",
    )
    run.listed, run.examples = "run_settings", "run"
    run.group("selection").add_argument(
        "--suite", default="", help="suite to run; see `vaebench list suites` (default: reconstruction)"
    )
    run.group("selection").add_argument(
        "--config", metavar="FILE", help="YAML file with settings, or a record (JSON) to run again"
    )
    for title in ("data", "scoring", "execution"):
        run.group(title)
    run.group("output").add_argument(
        "--format",
        default="text",
        choices=FORMATS,
        help="format of the table on stdout (default: %(default)s)",
    )
    run.group("execution").add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan for this machine and run nothing: VAEs and weights, clips, finished cases, time left; the exit "
        "code is that which the run would give",
    )
    run.add_argument("settings", nargs="*", metavar="key=value", help="the settings and options below")
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from vaebench import plan

    chosen = preset.choose(arguments.settings, suite=arguments.suite, file=arguments.config)
    if any(config.published for config in chosen.runs):
        check_second_table("published=true", arguments.format)
    arguments.fail_fast = any(config.fail_fast for config in chosen.runs)
    if arguments.dry_run:
        text, code = plan.described(chosen)
        print(text, end="")
        return code
    if len(chosen.runs) > 1 and arguments.format in ("csv", "json"):
        raise ValueError(
            f"preset={chosen.name} prints {len(chosen.runs)} tables, which --format {arguments.format} cannot have: use text, "
            f"then `vaebench table --format {arguments.format}`"
        )
    if chosen.trainings:
        return train_all(chosen.trainings)
    codes = [_run_suite(config, arguments, alone=len(chosen.runs) == 1) for config in chosen.runs]
    if chosen.preset is not None and min(codes) < 2:
        codes += _draw_all(chosen.runs[0], chosen.preset.figures)
    return plan.combined(codes)


def _run_suite(config: RunConfig, arguments: argparse.Namespace, alone: bool) -> int:
    """Run one suite, print its table, and return the exit code; if it is not alone, an invalid run does not stop the others."""
    from vaebench import runner, table_notes, tables
    from vaebench.outcome import report

    try:
        outcome = runner.run(config)
    except (ValueError, OSError) as error:
        if alone or config.fail_fast:
            raise
        print(f"vaebench: {config.suite}: {error}", file=sys.stderr)
        return 2
    if outcome.records:
        print(tables.render(outcome.records, arguments.format, best=True), end="")
        if config.published:
            print_published(outcome.records, arguments.format)
        for line in table_notes.notes(outcome.records):
            print(line, file=sys.stderr)
    if config.published and config.vaes is not None:
        print_published_alone(list(outcome.not_ready), arguments.format)
    report(outcome)
    if config.vaes is not None:
        for name, how in outcome.not_ready.items():
            print(f"not ready: {name}: {how}", file=sys.stderr)
    elif outcome.not_ready:
        names = ", ".join(outcome.not_ready)
        where = "see `vaebench list adapters`, or name one with vaes=, for the reason and the remedy"
        print(f"not ready: {names}; {where}", file=sys.stderr)
    if not (outcome.records or outcome.waiting or outcome.failed):
        return 2  # nothing could be run
    return int(bool(outcome.failed) or (config.vaes is not None and bool(outcome.not_ready)))


def _draw_all(config: RunConfig, figures: Sequence[str]) -> list[int]:
    """Draw the figures of a preset from its records; returns the exit code of each."""
    from vaebench.distributed import rank_and_world

    results = Path(config.results)
    if figures and (config.shard != "auto" or rank_and_world()[1] > 1):
        print(f"figures: run `vaebench plot --results {results}` when all shards are finished", file=sys.stderr)
        return []
    return [draw_figure(results, figure) for figure in figures]

"""The command line: run, compare, score, table, plot, report, codecs, train, list, published, check, weights, manifest, data.

Each command imports its dependencies when it runs.

Exit codes: 0 success; 1 some cases failed (each is listed) and the others finished; 2 nothing could be run (one line gives the
reason); 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import codecs
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench import __version__, plugins, preset, protocol
from vaebench.config import RunConfig
from vaebench.training.recipes import recipes

if TYPE_CHECKING:
    from vaebench.records import Record

EXTRAS = {"accelerate": "train", "tensorboard": "train"}  # packages that only some commands need
FORMATS = ("text", "markdown", "latex", "csv", "json")  # of tables, as `vaebench.tables.FORMATS`
CODECS = ("codec/x264-CRF", "codec/x265-CRF", "codec/av1-CRF")  # run by name, like adapters (adapters/_codec.py)
KINDS = ("adapters", "metrics", "data", "suites")
# for output that is not UTF-8; other characters are printed as \u732b, so that different names stay different
ASCII = {"é": "e", "↑": "^", "↓": "v", "±": "+-", "─": "-", "·": "-", "—": "-", "…": "..."}


def main(words: Sequence[str] | None = None) -> int:
    """The `vaebench` command; returns the exit code."""
    _print_in_any_encoding()
    parser = _parser()
    arguments, rest = parser.parse_known_args(words)
    if strange := [word for word in rest if word.startswith("-") or not hasattr(arguments, "settings")]:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:  # argparse does not collect settings that follow an option
        arguments.settings += rest
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except KeyboardInterrupt:
        print("\nstopped; finished cases are stored: run the same command again to resume", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        print(
            f"vaebench: this command needs the package {error.name}: pip install '.[{EXTRAS[error.name]}]'",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # `vaebench list | head`
        sys.stderr.close()
        return 0
    except RuntimeError as error:
        if "home directory" not in str(error):  # raised by pathlib for a user without an entry in the password database
            raise
        print(f"vaebench: {error} Set HOME to a folder, and give paths without ~", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        if getattr(arguments, "fail_fast", False):
            raise  # fail_fast=true asks for the traceback
        print(f"vaebench: {error}", file=sys.stderr)
        return 2


def _print_in_any_encoding() -> None:
    """Replace characters that the encoding of stdout or stderr lacks, so that a finished table is always printed."""

    def replaced(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        characters = error.object[error.start : error.end]
        ascii_text = (ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters)
        return "".join(ascii_text), error.end

    codecs.register_error("vaebench", replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's stream accepts every character
            stream.reconfigure(errors="vaebench")


class _Verb(argparse.ArgumentParser):
    """A command whose help lists the settings of each argument group and ends with examples.

    Both are collected only when the help is printed.
    """

    listed = ""  # name of the function in vaebench.help that returns {title of a group: its settings}
    examples = ""  # key of vaebench.help.EXAMPLES

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self.groups: dict[str, argparse._ArgumentGroup] = {}

    def group(self, title: str) -> argparse._ArgumentGroup:
        """The argument group called `title`, created on the first call."""
        if title not in self.groups:
            self.groups[title] = self.add_argument_group(title)
        return self.groups[title]

    def format_help(self) -> str:
        from vaebench import help as texts

        if self.listed:
            for title, text in getattr(texts, self.listed)().items():
                self.group(title).description = text
        if self.examples:
            self.epilog = texts.examples(self.examples)
        return super().format_help()


HOW = (
    "Settings are key=value words. Lists: vaes=one,two or 'vaes=[one,two]'.\n"
    "Quote an item that contains a comma: 'vaes=\"wfvae:a,b/run\",dct/4'."
)

COMPARE = """\
Compare two VAEs or records clip by clip.

A and B are names of VAEs, which are measured first (finished cases are cached), or JSON files of records.  If one of them is
a record, the other is measured with the settings of that record.  Results with different settings, data or metric code are
refused (exit code 2), and each difference is named.

The change of a metric is B - A, in the unit of the metric.  The interval is Student's 95 % interval of the paired differences.

As a regression gate, A is the baseline and B the candidate; the exit code is 1 if a limit is exceeded or a clip of the
baseline has no score in the candidate:
  --fail-below psnr=-0.05    fails if the PSNR drops by more than 0.05 dB
  --fail-above lpips=0.002   fails if the LPIPS rises by more than 0.002
A limit on the side of an improvement is refused."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vaebench",
        description="The benchmark of video VAEs. Settings are key=value words; `vaebench run --help` and "
        "`vaebench train --help` list them.",
    )
    parser.add_argument("--version", action="version", version=f"vaebench {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Verb)

    run = verbs.add_parser(
        "run",
        help="measure VAEs, print a table, and write records to runs/results (results=DIR: to another folder)",
        description=f"Measure VAEs, print a table, and write records.\n{HOW}",
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

    plot = verbs.add_parser(
        "plot",
        help="draw every table and figure from the records of `vaebench run`",
        description="Draw every table and figure from the records of `vaebench run`.",
    )
    plot.examples = "plot"
    select, output = plot.group("selection"), plot.group("output")
    select.add_argument(
        "--results",
        default=RunConfig().results,
        metavar="DIR",
        help="folder with the records (default: %(default)s, as in `vaebench run`)",
    )
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

    compare = verbs.add_parser(
        "compare",
        help="compare two VAEs or records clip by clip, also as a regression gate for CI",
        description=COMPARE,
    )
    compare.examples = "compare"
    compare.add_argument(
        "settings",
        nargs="*",
        metavar="A B [key=value]",
        help="two VAEs or JSON files of records, and settings of `vaebench run` for VAEs that have to be measured",
    )
    compare.group("selection").add_argument(
        "--suite", default="", help="suite to run, if VAEs have to be measured (default: reconstruction)"
    )
    output, gate = compare.group("output"), compare.group("regression gate")
    output.add_argument(
        "--columns", default="", metavar="NAMES", help="comma-separated metrics to compare (default: all)"
    )
    output.add_argument(
        "--out",
        default="",
        metavar="DIR",
        help="also write pictures of the clips that differ most to this folder",
    )
    output.add_argument(
        "--format", default="text", choices=("text", "markdown", "json"), help="format on stdout (default: %(default)s)"
    )
    output.add_argument(
        "--video", action="store_true", help="with --out: also write these clips as side-by-side videos (mp4)"
    )
    gate.add_argument(
        "--baseline", default="", metavar="FILE", help="the record to compare with: it is A, and B is the candidate"
    )
    gate.add_argument(
        "--fail-below", action="append", default=[], metavar="METRIC=NUMBER",
        help="fail if B - A is below NUMBER (metrics where higher is better); repeatable",
    )  # fmt: skip
    gate.add_argument(
        "--fail-above", action="append", default=[], metavar="METRIC=NUMBER",
        help="fail if B - A is above NUMBER (metrics where lower is better); repeatable",
    )  # fmt: skip
    gate.add_argument(
        "--junit", default="", metavar="FILE", help="write the verdicts, or the reason of a refusal, as JUnit XML"
    )
    compare.set_defaults(command=_compare)

    score = verbs.add_parser(
        "score",
        help="score videos that were made elsewhere against their references",
        description="Score videos that were made elsewhere (closed models, other tools) against their references.\n"
        "Videos are matched by file name without extension.  A video that is missing, additional or of another length is\n"
        "listed and fails alone (exit code 1).  Store reconstructions losslessly (such as FFV1): a lossy codec is scored too.",
    )
    score.listed, score.examples = "score_settings", "score"
    score.add_argument("--reference", required=True, metavar="DIR", help="folder with the original videos")
    score.add_argument("--reconstruction", required=True, metavar="DIR", help="folder with videos of the same names")
    score.add_argument("--format", default="text", choices=FORMATS, help="format of the table (default: %(default)s)")
    score.add_argument("settings", nargs="*", metavar="key=value", help="the settings below")
    score.set_defaults(command=_score)

    table = verbs.add_parser(
        "table",
        help="print tables from records, also for a paper (LaTeX) or a README (markdown)",
        description="Print the tables of records: no VAE is run.  LaTeX and markdown print the best values in bold.",
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

    report = verbs.add_parser(
        "report",
        help="write one HTML file with all tables, figures, clips and provenance; it works offline",
        description="Write one HTML file with the tables, figures, clips and provenance of all records. It works offline.\n"
        "Clips can be played if they were saved: `vaebench run keep_video=N`.",
    )
    report.examples = "report"
    report.add_argument(
        "--results",
        default=RunConfig().results,
        metavar="DIR",
        help="folder with the records (default: %(default)s, as in `vaebench run`)",
    )
    report.add_argument("--out", default="", metavar="FILE", help="HTML file to write (default: <results>/report.html)")
    report.set_defaults(command=_report)

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

    train = verbs.add_parser(
        "train",
        help="train WF-VAE from a recipe",
        description=f"Train WF-VAE from a recipe. Run the same command again to resume.\n{HOW}\n"
        "Settings override those of the recipe; the values shown are the defaults without a recipe.",
    )
    train.listed, train.examples = "train_settings", "train"
    train.add_argument("recipe", help="name of a recipe below (`vaebench list recipes`), or a YAML file")
    train.add_argument("settings", nargs="*", metavar="key=value", help="the settings below")
    train.set_defaults(command=_train)

    show = verbs.add_parser("list", help="list all plug-ins and recipes, and which VAEs are ready on this machine")
    show.add_argument(
        "kind",
        nargs="?",
        choices=(*KINDS, "protocols", "presets", "recipes"),
        help="list one kind with details (default: the names of all kinds)",
    )
    show.add_argument(
        "--format",
        default="text",
        choices=("text", "markdown"),
        help="markdown: the list of VAEs as in results/vaes.md, without the state of this machine",
    )
    show.set_defaults(command=_list)

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

    check = verbs.add_parser(
        "check",
        help="test whether one VAE meets the contract; one line per test",
        description="Test whether one VAE meets the contract; one line per test.\nSettings are key=value words.",
    )
    check.listed = "check_settings"
    check.add_argument("name", help="family/variant, family/tiny or family:path/to/checkpoint")
    check.add_argument("settings", nargs="*", metavar="key=value", help="the settings below")
    check.set_defaults(command=_check)

    weights = verbs.add_parser("weights", help="list, download or verify the weight files of metrics and VAEs")
    weights.add_argument(
        "action", nargs="?", choices=("fetch", "verify"), help="download or verify files (default: list them all)"
    )
    weights.add_argument(
        "names", nargs="*", metavar="NAME", help="name in `vaebench weights` or `vaebench list adapters`"
    )
    weights.add_argument("--all-metrics", action="store_true", help="with fetch: download the files of all metrics")
    weights.set_defaults(command=_weights)

    manifest = verbs.add_parser("manifest", help="write a CSV with the clips of a folder and their checksums")
    manifest.add_argument("root", help="folder with videos")
    manifest.add_argument("out", help="CSV file to write")
    manifest.set_defaults(command=_manifest)

    data = verbs.add_parser(
        "data", help="list the presets of public data sets, pin their clips in a manifest, or check files"
    )
    actions = data.add_subparsers(metavar="ACTION")
    data.set_defaults(command=_data_presets)
    check_data = actions.add_parser(
        "check", help="name the clips of a manifest or preset that are missing or changed; exit code 1 if there are any"
    )
    check_data.add_argument("manifest", metavar="MANIFEST", help="CSV file, or the name of a preset")
    check_data.set_defaults(command=_data_check)
    pin = actions.add_parser("pin", help="write the clips of a preset with their checksums into a manifest")
    pin.add_argument("preset", metavar="PRESET", help="name of a preset (`vaebench data` lists them)")
    pin.set_defaults(command=_data_pin)
    for action in (check_data, pin):
        action.add_argument("root", metavar="ROOT", help="folder with the videos")
    pin.add_argument("out", metavar="OUT", help="CSV file to write")
    for action in (check_data, pin):
        action.add_argument(
            "--list", default="", metavar="FILE", help="the data set's own list, for presets that are chosen from it"
        )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from vaebench import plan

    chosen = preset.choose(arguments.settings, suite=arguments.suite, file=arguments.config)
    if any(config.published for config in chosen.runs):
        _check_second_table("published=true", arguments.format)
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
        return _train_all(chosen.trainings)
    codes = [_run_suite(config, arguments, alone=len(chosen.runs) == 1) for config in chosen.runs]
    if chosen.preset is not None and min(codes) < 2:
        codes += _draw_all(chosen.runs[0], chosen.preset.figures)
    return plan.combined(codes)


def _run_suite(config: RunConfig, arguments: argparse.Namespace, alone: bool) -> int:
    """Run one suite, print its table, and return the exit code; if it is not alone, an invalid run does not stop the others."""
    from vaebench import runner, tables

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
            _print_published(outcome.records, arguments.format)
        for line in tables.notes(outcome.records):
            print(line, file=sys.stderr)
    if config.published and config.vaes is not None:
        _print_published_alone(list(outcome.not_ready), arguments.format)
    runner.report(outcome)
    if config.vaes is not None:
        for name, how in outcome.not_ready.items():
            print(f"not ready: {name}: {how}", file=sys.stderr)
    elif outcome.not_ready:
        names = ", ".join(outcome.not_ready)
        print(f"not ready: {names}; see `vaebench list adapters` for the reason and the remedy", file=sys.stderr)
    if not (outcome.records or outcome.waiting or outcome.failed):
        return 2  # nothing could be run
    return int(bool(outcome.failed) or (config.vaes is not None and bool(outcome.not_ready)))


def _train_all(trainings: Sequence[list[str]]) -> int:
    """Run the trainings of a preset one after another, and draw their validation curves."""
    from vaebench.distributed import rank_and_world
    from vaebench.training import config, plot
    from vaebench.training.run import train

    folders = [
        Path(config.parse(recipe, words).run) for recipe, *words in trainings
    ]  # an error stops before the first one
    for recipe, *words in trainings:
        train(recipe, words)
    if rank_and_world()[0] == 0:
        for file in plot.draw(folders, Path(RunConfig().results) / "plots"):
            print(file)
    return 0


def _draw_all(config: RunConfig, figures: Sequence[str]) -> list[int]:
    """Draw the figures of a preset from its records; returns the exit code of each."""
    from vaebench.distributed import rank_and_world

    results = Path(config.results)
    if figures and (config.shard != "auto" or rank_and_world()[1] > 1):
        print(f"figures: run `vaebench plot --results {results}` when all shards are finished", file=sys.stderr)
        return []
    return [_draw(results, figure) for figure in figures]


def _draw(results: Path, figure: str) -> int:
    from vaebench import plots

    try:
        for file in plots.draw(results, results / "plots", figure, say=partial(print, file=sys.stderr)):
            print(file)
    except ValueError as error:
        print(f"vaebench: {error}", file=sys.stderr)
        return 1
    return 0


def _check_second_table(option: str, form: str) -> None:
    if form not in ("text", "markdown"):
        raise ValueError(
            f"{option} prints a second table, which --format {form} cannot have: use text or markdown, or "
            "`vaebench published --format csv|json`"
        )


def _print_published(records: Sequence[Record], form: str) -> None:
    from vaebench import published

    if pairs := published.beside(records):
        title = "published numbers, not measured here"
        print(f"\n**{title}**\n" if form == "markdown" else f"\n{title}")
        print(published.beside_table(pairs, form), end="")
    else:
        print(f"published: no numbers of {', '.join(dict.fromkeys(r.name for r in records))}", file=sys.stderr)


def _print_published_alone(names: Sequence[str], form: str) -> None:
    """Print the published numbers of VAEs that could not be run."""
    from vaebench import published

    if known := [name for name in names if published.reconstruction_of([name])]:
        title = f"published numbers of VAEs that were not run: {', '.join(known)}"
        print(f"\n**{title}**\n" if form == "markdown" else f"\n{title}")
        print(published.listed(published.reconstruction_of(known), form), end="")
    if unknown := [name for name in names if name not in known]:
        print(f"published: no numbers of {', '.join(unknown)}", file=sys.stderr)


def _published(arguments: argparse.Namespace) -> int:
    from vaebench import published

    rows = published.of_vae(arguments.vae) if arguments.vae else published.read()
    print(published.listed(rows, arguments.format), end="")
    return 0


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


def _codecs(arguments: argparse.Namespace) -> int:
    from vaebench import records, yardstick

    lines = yardstick.statements(list(records.read_all(Path(arguments.results), "reconstruction")))
    if not lines:
        raise ValueError(
            f"no VAE in {arguments.results} can be compared with a codec: run `vaebench run vaes=...` with VAEs and with "
            "codecs at several CRFs, such as codec/x265-25,codec/x265-33"
        )
    print("\n".join(lines))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from vaebench.compare import Request, compare
    from vaebench.settings import split_list

    request = Request(
        words=[*arguments.settings, *([f"suite={arguments.suite}"] if arguments.suite else [])],
        baseline=arguments.baseline,
        below=arguments.fail_below,
        above=arguments.fail_above,
        columns=split_list(arguments.columns, "--columns"),
        out=arguments.out,
        video=arguments.video,
        junit=arguments.junit,
        form=arguments.format,
    )
    return compare(request)


def _score(arguments: argparse.Namespace) -> int:
    from vaebench import score_videos

    return score_videos.command(arguments.reference, arguments.reconstruction, arguments.settings, arguments.format)


def _table(arguments: argparse.Namespace) -> int:
    from vaebench import tables
    from vaebench.settings import split_list

    records = tables.select(arguments.results, arguments.suite)
    columns = split_list(arguments.columns, "--columns")
    if arguments.published:
        _check_second_table("--published", arguments.format)
    print(tables.render(records, arguments.format, columns=columns, best=True), end="")
    if arguments.published:
        _print_published(records, arguments.format)
    for line in tables.notes(records):
        print(line, file=sys.stderr)
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


def _train(arguments: argparse.Namespace) -> int:
    from vaebench.training.run import train

    return train(arguments.recipe, arguments.settings)


def _list(arguments: argparse.Namespace) -> int:
    if arguments.format == "markdown" and arguments.kind != "adapters":
        raise ValueError("--format markdown prints the list of VAEs: vaebench list adapters --format markdown")
    if arguments.format == "markdown":
        from vaebench import listing

        print(listing.adapters_markdown(), end="")
    elif arguments.kind == "adapters":
        from vaebench import listing

        print(listing.adapters_table(), end="")
    elif arguments.kind == "protocols":
        from vaebench import listing

        print(listing.protocols_table(), end="")
    elif arguments.kind == "presets":
        from vaebench import listing

        print(listing.presets_text(), end="")
    elif arguments.kind == "recipes":
        from vaebench import listing

        print(listing.recipes_table(), end="")
    elif arguments.kind:
        from vaebench import listing

        print(listing.modules_table(arguments.kind), end="")
    else:
        for kind in KINDS:
            print(f"{kind}: {', '.join(plugins.names(kind))}")
        print(f"codecs: {', '.join(CODECS)}")
        print(f"protocols: {', '.join(protocol.names())}")
        print(f"presets: {', '.join(preset.names())}")
        print(f"recipes: {', '.join(recipes())}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from vaebench.check import check

    return check(arguments.name, arguments.settings)


def _weights(arguments: argparse.Namespace) -> int:
    from vaebench import weight_files

    if arguments.all_metrics and arguments.action != "fetch":
        raise ValueError("--all-metrics is only valid with `vaebench weights fetch`")
    if arguments.action == "fetch":
        return weight_files.fetch_command(arguments.names, arguments.all_metrics)
    if arguments.action == "verify":
        return weight_files.verify_command(arguments.names)
    print(weight_files.table(), end="")
    return 0


def _manifest(arguments: argparse.Namespace) -> int:
    from vaebench.video_io import manifest

    count, skipped = manifest.write(Path(arguments.root), Path(arguments.out))
    shortest = min(manifest.read(arguments.out), key=lambda row: row.frames - row.start)
    print(f"{arguments.out}: {count} clips; the shortest, {shortest.id}, has {shortest.frames - shortest.start} frames")
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    return 1 if skipped else 0


def _data_presets(arguments: argparse.Namespace) -> int:
    from vaebench.listing import columns
    from vaebench.video_io.presets import PRESETS

    print(columns([[name, preset.about, preset.source] for name, preset in PRESETS.items()]), end="")
    return 0


def _data_check(arguments: argparse.Namespace) -> int:
    from vaebench.video_io import checking

    states, summary = checking.check(arguments.manifest, arguments.root, arguments.list)
    for state, sentence in states:
        if state != checking.AS_PINNED:
            print(f"{state}: {sentence}")
    print(f"{arguments.manifest}: {summary}")
    return int(any(state in checking.FAULTS for state, _ in states))


def _data_pin(arguments: argparse.Namespace) -> int:
    from vaebench.video_io import checking

    count, left_out = checking.pin(arguments.preset, arguments.root, arguments.out, arguments.list)
    print(f"{arguments.out}: {count} clips")
    for reason in left_out:
        print(f"not pinned: {reason}", file=sys.stderr)
    return int(bool(left_out))


if __name__ == "__main__":
    sys.exit(main())

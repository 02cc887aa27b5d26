"""`vaebench compare` and `vaebench score`: compare results clip by clip, and score videos made elsewhere."""

from __future__ import annotations

import argparse

from vaebench.cli.verb import FORMATS, Verbs, asks_for_traceback

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
  --fail-below psnr=0.05     fails unless the PSNR rises by at least 0.05 dB
--fail-above is refused for a metric where higher is better, and --fail-below where lower is better, since such a limit
would let every regression pass."""


def add_compare(verbs: Verbs) -> None:
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


def add_score(verbs: Verbs) -> None:
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


def _compare(arguments: argparse.Namespace) -> int:
    from vaebench.compare import Request, compare
    from vaebench.settings import split_list

    arguments.fail_fast = asks_for_traceback(arguments.settings)
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

    arguments.fail_fast = asks_for_traceback(arguments.settings)
    return score_videos.command(arguments.reference, arguments.reconstruction, arguments.settings, arguments.format)

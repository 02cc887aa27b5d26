"""The command line: run, compare, score, table, plot, report, codecs, train, list, published, check, weights, manifest, data.

Each command imports its dependencies when it runs.

Exit codes: 0 success; 1 some cases failed (each is listed) and the others finished; 2 nothing could be run (one line gives the
reason); 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from vaebench import __version__
from vaebench.cli import check, compare, data, figures, listing, results, run, train, weights
from vaebench.cli.encoding import print_in_any_encoding
from vaebench.cli.verb import Verb
from vaebench.plugins import did_you_mean

EXTRAS = {"accelerate": "train", "tensorboard": "train"}  # packages that only some commands need
COMMANDS = (  # in the order of `vaebench --help`
    run.add_run,
    figures.add_plot,
    compare.add_compare,
    compare.add_score,
    results.add_table,
    figures.add_report,
    results.add_codecs,
    train.add_train,
    listing.add_list,
    results.add_published,
    check.add_check,
    weights.add_weights,
    data.add_manifest,
    data.add_data,
)


def main(words: Sequence[str] | None = None) -> int:
    """The `vaebench` command; returns the exit code."""
    print_in_any_encoding()
    parser = _parser()
    words = sys.argv[1:] if words is None else words
    arguments, rest = parser.parse_known_args(words)
    if strange := [word for word in rest if word.startswith("-") or not hasattr(arguments, "settings")]:
        if not hasattr(arguments, "settings"):
            parser.error(f"unrecognized arguments: {' '.join(strange)}")
        print(
            f"vaebench: unrecognized argument {strange[0]}{_remedy(strange[0], words, arguments.verb.format_usage())}",
            file=sys.stderr,
        )
        return 2
    if rest:  # argparse does not collect settings that follow an option
        arguments.settings += rest
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except KeyboardInterrupt as stop:  # a training says from which step it resumes
        done = str(stop) or "finished cases are stored: run the same command again to resume"
        print(f"\nstopped; {done}", file=sys.stderr)
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


def _remedy(option: str, words: Sequence[str], usage: str) -> str:
    """What to write instead of an unknown option: the option that is meant, or `clips=1` for `--clips 1` and `--clips=1`.

    Args:
        usage: the usage line of the command, which names its options
    """
    before, after = words[: words.index(option)], words[words.index(option) + 1 :]
    verb = next((word for word in before if not word.startswith("-")), "")
    if not verb:
        return ": options follow the command, see `vaebench --help`"
    name, _, value = option.partition("=")
    if near := did_you_mean(name, re.findall(r"--[a-z-]+", usage)):
        return near
    if not value and after and "=" not in after[0] and not after[0].startswith("-"):
        value = after[0]
    if not value:
        return f": settings are key=value words, see `vaebench {verb} --help`"
    return f": settings are key=value words: {name.lstrip('-').replace('-', '_')}={value}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vaebench",
        description="The benchmark of video VAEs. Settings are key=value words; `vaebench run --help` and "
        "`vaebench train --help` list them.",
    )
    parser.add_argument("--version", action="version", version=f"vaebench {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Verb)
    for add in COMMANDS:
        add(verbs)
    for verb in verbs.choices.values():
        verb.set_defaults(verb=verb)
    return parser

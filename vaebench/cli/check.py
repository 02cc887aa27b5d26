"""`vaebench check`: test whether a VAE meets the contract."""

from __future__ import annotations

import argparse

from vaebench.cli.verb import Verbs


def add_check(verbs: Verbs) -> None:
    check = verbs.add_parser(
        "check",
        help="test whether one VAE meets the contract; one line per test",
        description="Test whether one VAE meets the contract; one line per test.\nSettings are key=value words.",
    )
    check.listed = "check_settings"
    check.add_argument("name", help="family/variant, family/tiny or family:path/to/checkpoint")
    check.add_argument("settings", nargs="*", metavar="key=value", help="the settings below")
    check.set_defaults(command=_check)


def _check(arguments: argparse.Namespace) -> int:
    from vaebench.check import check

    return check(arguments.name, arguments.settings)

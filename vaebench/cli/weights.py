"""`vaebench weights`: list, download and verify the weight files of metrics and VAEs."""

from __future__ import annotations

import argparse

from vaebench.cli.verb import Verbs


def add_weights(verbs: Verbs) -> None:
    weights = verbs.add_parser("weights", help="list, download or verify the weight files of metrics and VAEs")
    weights.add_argument(
        "action", nargs="?", choices=("fetch", "verify"), help="download or verify files (default: list them all)"
    )
    weights.add_argument(
        "names", nargs="*", metavar="NAME", help="name in `vaebench weights` or `vaebench list adapters`"
    )
    weights.add_argument("--all-metrics", action="store_true", help="with fetch: download the files of all metrics")
    weights.set_defaults(command=_weights)


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

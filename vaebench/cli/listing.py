"""`vaebench list`: plug-ins, protocols, presets and recipes."""

from __future__ import annotations

import argparse

from vaebench import plugins, preset, protocol
from vaebench.cli.verb import Verbs
from vaebench.training.recipes import recipes

CODECS = ("codec/x264-CRF", "codec/x265-CRF", "codec/av1-CRF")  # run by name, like adapters (adapters/_codec.py)
KINDS = ("adapters", "metrics", "data", "suites")


def add_list(verbs: Verbs) -> None:
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


def _list(arguments: argparse.Namespace) -> int:
    if arguments.format == "markdown" and arguments.kind != "adapters":
        raise ValueError("--format markdown prints the list of VAEs: vaebench list adapters --format markdown")
    if not arguments.kind:
        for kind in KINDS:
            print(f"{kind}: {', '.join(plugins.names(kind))}")
        print(f"codecs: {', '.join(CODECS)}")
        print(f"protocols: {', '.join(protocol.names())}")
        print(f"presets: {', '.join(preset.names())}")
        print(f"recipes: {', '.join(recipes())}")
        return 0
    from vaebench import listing

    lists = {
        "adapters": listing.adapters_markdown if arguments.format == "markdown" else listing.adapters_table,
        "protocols": listing.protocols_table,
        "presets": listing.presets_text,
        "recipes": listing.recipes_table,
    }
    print(lists[arguments.kind]() if arguments.kind in lists else listing.modules_table(arguments.kind), end="")
    return 0

"""`vaebench manifest` and `vaebench data`: pin the clips of a folder or a public data set, and check files against the pins."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from vaebench import settings
from vaebench.cli.verb import Verbs


def add_manifest(verbs: Verbs) -> None:
    manifest = verbs.add_parser("manifest", help="write a CSV with the clips of a folder and their checksums")
    manifest.add_argument("root", help="folder with videos")
    manifest.add_argument("out", help="CSV file to write")
    manifest.add_argument(
        "settings", nargs="*", metavar="num_frames=N", help="frames that a clip must have; default: 33"
    )
    manifest.set_defaults(command=_manifest)


def add_data(verbs: Verbs) -> None:
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


@dataclass(frozen=True)
class _Pinned:
    num_frames: int = settings.setting(33, "frames that a clip must have", at_least=1)


def _manifest(arguments: argparse.Namespace) -> int:
    from vaebench.titles import counted
    from vaebench.video_io import manifest

    pinned = settings.parse(_Pinned, arguments.settings)
    count, skipped = manifest.write(Path(arguments.root), Path(arguments.out), pinned.num_frames)
    shortest = min(manifest.read(arguments.out), key=lambda row: row.frames - row.start)
    frames = counted(shortest.frames - shortest.start, "frame")
    print(f"{arguments.out}: {counted(count, 'clip')}; the shortest, {shortest.id}, has {frames}")
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
    from vaebench.titles import counted
    from vaebench.video_io import checking

    count, left_out = checking.pin(arguments.preset, arguments.root, arguments.out, arguments.list)
    print(f"{arguments.out}: {counted(count, 'clip')}")
    for reason in left_out:
        print(f"not pinned: {reason}", file=sys.stderr)
    return int(bool(left_out))

"""`vaebench weights`: the table of all weight files, `fetch` and `verify`; and what `fetch=true` downloads for a run.

Reads specs; torch is never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TextIO

import adapters
from vaebench import plugins, weights
from vaebench.config import RunConfig
from vaebench.listing import columns
from vaebench.weights import fetch as downloads
from vaebench.weights import verify as checks


class File(NamedTuple):
    """One file of weights: of a metric, or of a VAE."""

    name: str  # as the user writes it
    source: str  # the same for a metric; `hf:...` for a VAE
    used_by: str
    license: str
    sha256: str = ""  # of a VAE's file, where its spec states it


def metric_files() -> list[File]:
    return [File(name, name, entry.used_by, entry.license) for name, entry in weights.FILES.items()]


def vae_files() -> list[File]:
    """The files of all VAEs whose weights are not shipped with a package."""
    specs = {name: adapters.find(name) for name in adapters.names()}
    return [
        File(name, spec.source, "VAE", spec.license or "not stated", spec.sha256)
        for name, spec in specs.items()
        if spec.source and not spec.source.startswith(weights.PACKAGE)  # which is always here
    ]


def named(name: str) -> File:
    """The file called `name`: of a metric, of a VAE named family/variant, or an `hf:` source.

    Raises:
        ValueError: unknown name, or a VAE that needs no download
    """
    if name.startswith(("hf:", "github:")):
        return File(name, name, "VAE", "see its repository")
    if "/" not in name:
        entry = weights.entry_of(name)
        return File(name, name, entry.used_by, entry.license)
    spec = adapters.find(name)
    if not spec.source:
        raise ValueError(f"{name} needs no weights")
    if spec.source.startswith(weights.UNRELEASED):
        raise ValueError(f"the weights of {name} were never released")
    if spec.source.startswith(weights.PACKAGE):
        raise ValueError(f"the weights of {name} ship with the package")
    return File(name, spec.source, "VAE", spec.license or "not stated", spec.sha256)


def table() -> str:
    """Every weight file: its name, what needs it, its licence, where it is or where it comes from."""
    rows = [["name", "used by", "licence", "here"]]
    for file in [*metric_files(), *vae_files()]:
        where = weights.here(file.source)
        rows.append([file.name, file.used_by, file.license, str(where) if where else _missing(file)])
    return columns(rows)


def _missing(file: File) -> str:
    if file.source.startswith(weights.UNRELEASED):
        return (
            "no: never released, train some with `vaebench train " + file.source.removeprefix(weights.UNRELEASED) + "`"
        )
    entry = weights.FILES.get(file.source)
    get = f"`vaebench weights fetch {file.name}`" if _can_be_fetched(file) else "download it yourself"
    return f"no: {get} ({entry.url if entry else file.source})"


def _can_be_fetched(file: File) -> bool:
    """Not a metric's file without a published checksum, nor weights that were never released."""
    entry = weights.FILES.get(file.source)
    return bool(entry.checksum) if entry else file.source.startswith(("hf:", "github:"))


def fetch(files: Sequence[File], out: TextIO) -> int:
    """Print size and licence of each file to stderr, then download and verify them.  Prints the path of each to `out`.

    A file that cannot be downloaded is listed, and the others are.  Returns how many could not be downloaded or verified.
    """
    stated = [file for file in files if _listed(file, _state)]
    fetched = [file for file in stated if _listed(file, partial(_fetch, out))]
    return len(files) - len(fetched)


def _listed(file: File, step: Callable[[File], None]) -> bool:
    """Whether `step` succeeds; if not, its reason is printed to stderr."""
    try:
        step(file)
    except (ValueError, ConnectionError, FileNotFoundError) as reason:
        print(f"failed: {file.name}: {reason}", file=sys.stderr)
        return False
    return True


def _state(file: File) -> None:
    print(f"{file.name}: {_stated(file)}", file=sys.stderr)


def _fetch(out: TextIO, file: File) -> None:
    print(downloads.fetch(file.source, file.sha256), file=out, flush=True)


def _stated(file: File) -> str:
    if weights.here(file.source):
        return "already on this machine"
    size = downloads.size(file.source) if _can_be_fetched(file) else None
    return f"{size / 1e6:.1f} MB, licence {file.license}" if size else f"size not stated, licence {file.license}"


def fetch_command(names: Sequence[str], all_metrics: bool) -> int:
    """`vaebench weights fetch NAME...` or `--all-metrics`; the exit code."""
    if bool(names) == all_metrics:
        raise ValueError("weights fetch takes names, or --all-metrics; `vaebench weights` lists them")
    if names:
        return int(fetch([named(name) for name in names], sys.stdout) > 0)
    files = metric_files()
    for file in files:
        if not _can_be_fetched(file) and not weights.here(file.source):
            print(
                f"{file.name}: not fetched: no checksum is published; download {weights.FILES[file.source].url} yourself",
                file=sys.stderr,
            )
    return int(fetch([file for file in files if _can_be_fetched(file)], sys.stdout) > 0)


def fetch_for_run(config: RunConfig) -> None:
    """`fetch=true`: download what a run lacks, the files of its metrics and of the VAEs that it names.

    A file without a published checksum is not downloaded; its scores are absent, with the reason.

    Raises:
        ConnectionError: a file could not be downloaded
        ValueError: the suite reads no weight files
    """
    suite = plugins.find("suites", config.suite)
    if not hasattr(suite, "weight_files"):
        raise ValueError(f"the {config.suite} suite reads no weight files; leave fetch=true out")
    files = [named(name) for name in suite.weight_files(config)]
    if not config.weights:
        sources = {adapters.find(name).source for name in config.vaes or []}
        files += [file for file in vae_files() if file.source in sources]
    missing = [file for file in files if _can_be_fetched(file) and not weights.here(file.source)]
    if failed := fetch(missing, sys.stderr):
        raise ConnectionError(
            f"{failed} of {len(missing)} weight files could not be fetched, so nothing was run; "
            "leave fetch=true out to run without them"
        )


def verify_command(names: Sequence[str]) -> int:
    """`vaebench weights verify [NAME...]`: a verdict a line.  0 if every file checked is the published one, otherwise 1.

    Without names, all files on this machine are checked.
    """
    files = [named(name) for name in names] or [
        file for file in [*metric_files(), *vae_files()] if weights.here(file.source)
    ]
    if not files:
        print("no weight file is on this machine", file=sys.stderr)
    failed = 0
    for file in files:
        good, verdict = _verdict(file)
        print(f"{file.name}: {verdict}", flush=True)
        failed += not good
    return int(failed > 0)


def _verdict(file: File) -> tuple[bool, str]:
    place = weights.here(file.source)
    if place is None:
        return False, f"not on this machine: {_missing(file)[4:]}"
    try:
        published = checks.published(file.source, place, file.sha256)
        fault = checks.difference(place, published)
        if file.source.startswith("github:"):  # of one file or two, each pinned by the source
            checks.released(file.source)
    except OSError as reason:
        return False, f"not verified: {reason}"
    except ValueError as reason:
        return False, f"damaged or another file: {reason}"
    if fault:
        return (
            False,
            f"damaged or another file: {fault}; delete {place.resolve()}, then `vaebench weights fetch {file.name}`",
        )
    if not published.checksum:
        return False, f"not verified: no checksum is published ({place})"
    return True, f"verified, {published.checksum.partition(' ')[0]} ({place})"

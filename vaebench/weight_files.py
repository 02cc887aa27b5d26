"""`vaebench weights`: the table of all weight files, `fetch` and `verify`; and the downloads of `fetch=true` in a run.

This module reads specs and does not import torch.
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
from vaebench.vae import VAESpec
from vaebench.weights import fetch as downloads
from vaebench.weights import verify as checks


class File(NamedTuple):
    """A weight file of a metric or a VAE."""

    name: str  # name on the command line
    source: str  # the name again for a metric, `hf:...` or `github:...` for a VAE
    used_by: str
    license: str
    sha256: str = ""  # for a VAE, the digest in its spec, if any


def metric_files() -> list[File]:
    """The weight files of all metrics."""
    return [File(name, name, entry.used_by, entry.license) for name, entry in weights.FILES.items()]


def vae_files() -> list[File]:
    """The weight files of all VAEs, except those that ship with a package."""
    specs = [adapters.find(name) for name in adapters.names()]
    # those of a package are installed with it
    return [_file_of(spec) for spec in specs if spec.source and not spec.source.startswith(weights.PACKAGE)]


def _file_of(spec: VAESpec) -> File:
    return File(spec.name, spec.source, "VAE", spec.license or "not stated", spec.sha256)


def named(name: str) -> File:
    """A weight file by name.

    Args:
        name: weights of a metric, family/variant of a VAE, or an `hf:` or `github:` source

    Raises:
        ValueError: the name is unknown, or the VAE has no weights to download
    """
    if name.startswith(("hf:", "github:")):
        return File(name, name, "VAE", "see its repository")
    if "/" not in name:
        try:
            entry = weights.entry_of(name)
        except ValueError as reason:
            raise ValueError(f"{reason}; `vaebench list adapters` has the names of VAEs, such as wfvae/s") from None
        return File(name, name, entry.used_by, entry.license)
    spec = adapters.find(name)
    if not spec.source:
        raise ValueError(f"{name} needs no weights")
    if spec.source.startswith(weights.UNRELEASED):
        raise ValueError(f"the weights of {name} were never released")
    if spec.source.startswith(weights.PACKAGE):
        raise ValueError(f"the weights of {name} ship with the package")
    return _file_of(spec)


def table() -> str:
    """The table of all weight files: name, user, licence, and the path or the way to get the file."""
    rows = [["name", "used by", "licence", "here"]]
    for file in [*metric_files(), *vae_files()]:
        where = weights.here(file.source)
        rows.append([file.name, file.used_by, file.license, str(where) if where else _missing(file)])
    return columns(rows)


def _missing(file: File) -> str:
    if file.source.startswith(weights.UNRELEASED):
        return (
            "no: never released; train them with `vaebench train " + file.source.removeprefix(weights.UNRELEASED) + "`"
        )
    entry = weights.FILES.get(file.source)
    get = f"`vaebench weights fetch {file.name}`" if _can_be_fetched(file) else "download it yourself"
    return f"no: {get} ({entry.url if entry else file.source})"


def _can_be_fetched(file: File) -> bool:
    """False for files of metrics without a published checksum, and for weights that were never released."""
    entry = weights.FILES.get(file.source)
    return bool(entry.checksum) if entry else file.source.startswith(("hf:", "github:"))


def fetch(files: Sequence[File], out: TextIO) -> int:
    """Print size and licence of each file to stderr, then download and verify all files and print their paths to `out`.

    Files that fail are listed on stderr, and the others are downloaded.

    Returns:
        the number of files that could not be downloaded or verified
    """
    described = [file for file in files if _succeeds(file, _describe)]
    fetched = [file for file in described if _succeeds(file, partial(_fetch, out))]
    return len(files) - len(fetched)


def _succeeds(file: File, step: Callable[[File], None]) -> bool:
    """Whether `step` succeeds; if not, the reason is printed to stderr."""
    try:
        step(file)
    except (ValueError, ConnectionError, FileNotFoundError) as reason:
        print(f"failed: {file.name}: {reason}", file=sys.stderr)
        return False
    return True


def _describe(file: File) -> None:
    print(f"{file.name}: {_description(file)}", file=sys.stderr)


def _fetch(out: TextIO, file: File) -> None:
    print(downloads.fetch(file.source, file.sha256), file=out, flush=True)


def _description(file: File) -> str:
    if weights.here(file.source):
        return "already on this machine"
    size = downloads.size(file.source) if _can_be_fetched(file) else None
    return f"{size / 1e6:.1f} MB, licence {file.license}" if size else f"unknown size, licence {file.license}"


def fetch_command(names: Sequence[str], all_metrics: bool) -> int:
    """`vaebench weights fetch NAME...` or `--all-metrics`; returns the exit code.

    Raises:
        ValueError: a name is unknown, or there are no names and no `--all-metrics`, or both
    """
    if bool(names) == all_metrics:
        raise ValueError("weights fetch needs either names or --all-metrics; `vaebench weights` lists the names")
    if names:
        return int(fetch([named(name) for name in names], sys.stdout) > 0)
    files = metric_files()
    for file in files:
        if not _can_be_fetched(file) and not weights.here(file.source):
            print(
                f"{file.name}: not downloaded, since no checksum is published: download {weights.FILES[file.source].url} yourself",
                file=sys.stderr,
            )
    return int(fetch([file for file in files if _can_be_fetched(file)], sys.stdout) > 0)


def fetch_for_run(config: RunConfig) -> None:
    """`fetch=true`: download the missing weight files of the metrics and of the VAEs in `config.vaes`.

    Files without a published checksum are not downloaded; the record states why their scores are unavailable.  A checkpoint that
    is missing or cannot be read needs no download; the run reports it.

    Raises:
        ConnectionError: a file could not be downloaded
        ValueError: the suite uses no weight files
    """
    suite = plugins.find("suites", config.suite)
    if not hasattr(suite, "weight_files"):
        raise ValueError(f"the {config.suite} suite uses no weight files: remove fetch=true")
    files = [named(name) for name in suite.weight_files(config)]
    if not config.weights:
        files += [_file_of(spec) for name in config.vaes or [] for spec in _released(name)]
    distinct: dict[str, File] = {}
    for file in files:  # several VAEs may share one
        distinct.setdefault(file.source, file)
    missing = [file for file in distinct.values() if _can_be_fetched(file) and not weights.here(file.source)]
    if failed := fetch(missing, sys.stderr):
        raise ConnectionError(
            f"{failed} of {len(missing)} weight files could not be downloaded, and no case was run: "
            "remove fetch=true to run without them"
        )


def _released(name: str) -> list[VAESpec]:
    """The specs whose released weights a VAE reads; none for a checkpoint that is missing or cannot be read."""
    try:
        return adapters.resolve(name).released
    except (FileNotFoundError, adapters.UnreadableCheckpoint):
        return []


def verify_command(names: Sequence[str]) -> int:
    """`vaebench weights verify [NAME...]`: print one line per file; without names, check all files on this machine.

    Returns:
        the exit code: 0 if every file is the published one, otherwise 1
    """
    files = [named(name) for name in names] or [
        file for file in [*metric_files(), *vae_files()] if weights.here(file.source)
    ]
    if not files:
        print("this machine has no weight files", file=sys.stderr)
    failed = 0
    for file in files:
        good, verdict = _verdict(file)
        print(f"{file.name}: {verdict}", flush=True)
        failed += not good
    return int(failed > 0)


def _verdict(file: File) -> tuple[bool, str]:
    path = weights.here(file.source)
    if path is None:
        return False, f"not on this machine: {_missing(file)[4:]}"
    try:
        published = checks.published(file.source, path, file.sha256)
        fault = checks.difference(path, published)
        if file.source.startswith("github:"):  # may have two files; the source pins each
            checks.released(file.source)
    except OSError as reason:
        return False, f"not verified: {reason}"
    except ValueError as reason:
        return False, f"damaged, or not the published file: {reason}"
    if fault:
        return (
            False,
            f"damaged, or not the published file: {fault}; delete {path.resolve()}, then run `vaebench weights fetch "
            f"{file.name}`",
        )
    if not published.checksum:
        return False, f"not verified: no checksum is published ({path})"
    return True, f"verified, {published.checksum.partition(' ')[0]} ({path})"

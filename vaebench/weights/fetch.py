"""Downloads of weight files: only on request, verified, with progress; a failed download leaves no file.

Files of metrics come from the URLs in `registry.FILES` (through pooch), files of VAEs from the Hub (through huggingface_hub).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from vaebench.files import draft
from vaebench.weights import github
from vaebench.weights.locate import folders, here
from vaebench.weights.registry import HubFile, WeightFile, entry_of
from vaebench.weights.verify import (
    Published,
    difference,
    missing_on_hub,
    on_hub,
    published,
    unreachable,
    verify,
)

TIMEOUT = 60  # seconds without a response


def size(name: str) -> int | None:
    """Size of a download in bytes, as the server states it; None if it does not.

    Args:
        name: weights of a metric, or an `hf:` or `github:` source

    Raises:
        OSError: the Hub cannot be reached, or does not have the file
    """
    if name.startswith("hf:"):
        return on_hub(HubFile.parse(name)).size
    if name.startswith(github.KIND):
        sizes = [_size_at([file.url]) for file in github.parse(name)]
        return None if None in sizes else sum(size or 0 for size in sizes)
    entry = entry_of(name)
    return _size_at([entry.url, *entry.mirrors])


def _size_at(urls: Sequence[str]) -> int | None:
    """Size in bytes from the first URL that states it."""
    import requests

    for url in urls:
        try:
            answer = requests.head(url, allow_redirects=True, timeout=TIMEOUT)
        except OSError:  # the download reports the error
            continue
        if answer.ok and answer.headers.get("Content-Length", "").isdigit():
            return int(answer.headers["Content-Length"])
    return None


def fetch(name: str, sha256: str = "") -> Path:
    """Download weights with a progress bar, and verify them.  A file that exists is only verified.

    Args:
        name: weights of a metric, or an `hf:` or `github:` source of a VAE
        sha256: digest of the weights of a VAE, if its spec has one

    Returns:
        the file, or the folder that contains all files

    Raises:
        ConnectionError: no URL provides the published file; no file is written
        ValueError: `name` is unknown, or the existing file is not the published one
        OSError: the file cannot be written
    """
    if not name.startswith(("hf:", github.KIND)):
        entry_of(name)
    if file := here(name):
        verify(name, file, sha256)
        return file
    if name.startswith("hf:"):
        return _fetch_from_hub(name, sha256)
    return _fetch_from_github(name) if name.startswith(github.KIND) else _fetch_from_urls(name)


def _fetch_from_github(source: str) -> Path:
    """Download all files of a network; returns the file, or the folder if there are several."""
    files = []
    for file in github.parse(source):
        target = folders()[0] / file.repo.replace("/", "--") / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft(target) as part:
            _download(WeightFile(file.path, file.url, "", "", "", git_blob=file.blob), file.path, part)
        files.append(target)
    return files[0] if len(files) == 1 else files[0].parent


def _fetch_from_urls(name: str) -> Path:
    entry = entry_of(name)
    target = folders()[0] / entry.file
    if not entry.checksum:
        raise ConnectionError(
            f"{entry.file} has no published checksum, so it is not downloaded: "
            f"download {entry.url} yourself and copy it into {target.parent}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft(target) as part:
        _download(entry, name, part)
    return target


def _download(entry: WeightFile, name: str, part: Path) -> None:
    """Download `entry` to the path `part` from the first URL that provides the published file."""
    from pooch import HTTPDownloader
    from tqdm import tqdm

    failures = []
    for url in (entry.url, *entry.mirrors):
        with tqdm(total=1, unit="B", unit_scale=True, desc=name) as bar:  # pooch sets the total
            try:
                HTTPDownloader(progressbar=bar, timeout=TIMEOUT)(url, str(part), None)
            except OSError as reason:  # includes the errors of requests
                if reason.errno == errno.ENOSPC:
                    raise
                failures.append(f"{url}: {' '.join(str(reason).split())}")
                continue
        fault = difference(part, Published(entry.checksum))
        if not fault:
            return
        failures.append(f"{url}: {part.stat().st_size} bytes, {fault}")
    raise ConnectionError(
        f"{entry.file}: download failed from all URLs; no file was written ({'; '.join(failures)}); "
        f"download it elsewhere and copy it into {folders()[0]}"
    )


def _fetch_from_hub(name: str, sha256: str) -> Path:
    """Download config.json, if it exists in the folder of the weights, and the weights into the Hugging Face cache."""
    hub = HubFile.parse(name)
    _cached(hub, str(Path(hub.path).with_name("config.json")))
    file = _cached(hub, hub.path)
    if file is None:
        raise missing_on_hub(hub)
    if fault := difference(file, published(name, file, sha256)):
        file.resolve().unlink()  # the client compares only sizes and would accept the file in the next run
        file.unlink(missing_ok=True)
        raise ConnectionError(
            f"{hub.repo}@{hub.revision[:12]} {hub.path}: {fault}; the file was deleted: run the command again"
        )
    return file


def _cached(hub: HubFile, path: str) -> Path | None:
    """The path of a file in the Hugging Face cache, downloaded if necessary; None if the repository does not have it.

    Raises:
        ConnectionError: the Hub cannot be reached, or denies access
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(hub.repo, path, revision=hub.revision))
    except Exception as reason:  # the client raises many types of errors
        if isinstance(reason, OSError) and reason.errno == errno.ENOSPC:
            raise
        if isinstance(reason, EntryNotFoundError) and not isinstance(reason, LocalEntryNotFoundError):
            return None
        raise unreachable(hub, reason) from reason

"""Downloads of weight files: on demand only, verified, with progress; a failed download leaves no file.

Metric files come from the URLs of `registry.FILES` (through pooch), those of VAEs from the Hub (through huggingface_hub).
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

TIMEOUT = 60  # seconds without an answer


def size(name: str) -> int | None:
    """Bytes to download for `name` (a metric's file, or an `hf:` source), as the server states them; None if it does not.

    Raises:
        OSError: the Hub cannot be reached, or has no such file
    """
    if name.startswith("hf:"):
        return on_hub(HubFile.parse(name)).size
    if name.startswith(github.KIND):
        sizes = [_size_at([file.url]) for file in github.parse(name)]
        return None if None in sizes else sum(size or 0 for size in sizes)
    entry = entry_of(name)
    return _size_at([entry.url, *entry.mirrors])


def _size_at(urls: Sequence[str]) -> int | None:
    """Bytes of a file at the first URL that states them."""
    import requests

    for url in urls:
        try:
            answer = requests.head(url, allow_redirects=True, timeout=TIMEOUT)
        except OSError:  # the download will say why
            continue
        if answer.ok and answer.headers.get("Content-Length", "").isdigit():
            return int(answer.headers["Content-Length"])
    return None


def fetch(name: str, sha256: str = "") -> Path:
    """Download the metric's file `name`, or the VAE weights of an `hf:` source, with a progress bar, and verify them.

    A file that is on this machine is verified and not downloaded again.  `sha256`: of the VAE weights, where the spec states it.

    Raises:
        ConnectionError: no URL gives the published file; no file is written
        ValueError: another file is in its place, or `name` is unknown
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
    """All files of a network; the one file, or the folder that holds all."""
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
            f"download {entry.url} yourself and put it into {target.parent}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft(target) as part:
        _download(entry, name, part)
    return target


def _download(entry: WeightFile, name: str, part: Path) -> None:
    """The file of `entry` to `part`, from the first URL that gives the right bytes."""
    from pooch import HTTPDownloader
    from tqdm import tqdm

    failures = []
    for url in (entry.url, *entry.mirrors):
        with tqdm(total=1, unit="B", unit_scale=True, desc=name) as bar:  # pooch sets the total
            try:
                HTTPDownloader(progressbar=bar, timeout=TIMEOUT)(url, str(part), None)
            except OSError as reason:  # those of requests, too
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
    """The config.json beside the weights, where there is one, and then the weights, into the Hugging Face cache."""
    hub = HubFile.parse(name)
    _cached(hub, str(Path(hub.path).with_name("config.json")))
    file = _cached(hub, hub.path)
    if file is None:
        raise missing_on_hub(hub)
    if fault := difference(file, published(name, file, sha256)):
        file.resolve().unlink()  # the client compares sizes only, and would take it for the right file from now on
        file.unlink(missing_ok=True)
        raise ConnectionError(
            f"{hub.repo}@{hub.revision[:12]} {hub.path}: {fault}; the file was deleted, run the command again"
        )
    return file


def _cached(hub: HubFile, path: str) -> Path | None:
    """A file of the repository, downloaded into the Hugging Face cache if it is not there; None if the Hub has none.

    Raises:
        ConnectionError: the Hub cannot be reached, or refuses
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(hub.repo, path, revision=hub.revision))
    except Exception as reason:  # the client has a dozen error types of its own
        if isinstance(reason, OSError) and reason.errno == errno.ENOSPC:
            raise
        if isinstance(reason, EntryNotFoundError) and not isinstance(reason, LocalEntryNotFoundError):
            return None
        raise unreachable(hub, reason) from reason

"""Checksums of weight files: comparison with the published file, and the digest for records.

The published checksum of a metric's file is in `registry.FILES`; that of a VAE is in its spec (`VAESpec.sha256`) or on the Hub,
which publishes the size and the sha256 of large files, and the git object id of small ones.  The Hugging Face cache uses this
digest as file name, so that verification needs no network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vaebench.files import write_atomically
from vaebench.weights import github
from vaebench.weights.locate import find_all, path
from vaebench.weights.registry import HubFile, entry_of


@dataclass(frozen=True)
class Published:
    """The published checksum and size of a file."""

    checksum: str  # "sha256 <64 digits>", "git <40 digits>", or "" if none is published
    size: int | None = None  # bytes; None if unknown


def digest(file: Path) -> str:
    """sha256 of a file, cached by path, size and modification time, so that large files are hashed once."""
    status = file.stat()
    key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    cache = Path.home() / ".cache" / "vaebench" / "sha256.json"
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    if not isinstance(known.get(key), str):
        with file.open("rb") as stream:
            known[key] = _sha256(stream)
        with contextlib.suppress(OSError):  # without the cache, the next run hashes the file again
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, json.dumps(known, indent=0))
    result: str = known[key]
    return result


def _sha256(stream: IO[bytes]) -> str:
    total = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        total.update(block)
    return total.hexdigest()


def checksum(file: Path, kind: str) -> str:
    """`"sha256 <digits>"` if `kind` begins with sha256, otherwise `"git <digits>"`.

    The git digest is the object id of the file in a git repository: sha1 of "blob <length>\\0" and the bytes.
    """
    with file.open("rb") as stream:
        if kind.startswith("sha256"):
            return f"sha256 {_sha256(stream)}"
        total = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
        for block in iter(lambda: stream.read(1 << 20), b""):
            total.update(block)
    return f"git {total.hexdigest()}"


def difference(file: Path, published: Published) -> str:
    """The difference between `file` and the published file as text; "" if there is none.

    The file is always hashed, without the cache: some of these files are executed, and a file with the same size and time may have
    replaced the verified one.
    """
    size = file.stat().st_size
    if published.size is not None and size != published.size:
        return f"its size is {size} bytes, expected {published.size}"
    if published.checksum and (actual := checksum(file, published.checksum)) != published.checksum:
        kind, _, digits = actual.partition(" ")
        return f"its {kind} is {digits}, expected {published.checksum.partition(' ')[2]}"
    return ""


def published(name: str, file: Path | None = None, sha256: str = "") -> Published:
    """The published checksum of a weight file.

    Args:
        name: weights of a metric, or an `hf:` or `github:` source
        file: the downloaded file; in the Hugging Face cache its name is the digest, so that no request is needed
        sha256: the digest in the spec of the VAE, if any

    Raises:
        OSError: a request to the Hub is needed and fails, or the Hub does not have the file
    """
    if name.startswith(github.KIND):
        return Published(github.parse(name)[0].checksum)
    if not name.startswith("hf:"):
        return Published(entry_of(name).checksum)
    if sha256:
        return Published(f"sha256 {sha256}")
    if file and file.resolve().parent.name == "blobs" and (cached := as_checksum(file.resolve().name)):
        return Published(cached)
    return on_hub(HubFile.parse(name))


def on_hub(hub: HubFile) -> Published:
    """Request the size and checksum of a file from the Hub.

    Raises:
        ConnectionError: the Hub cannot be reached
        FileNotFoundError: the repository does not have the file
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        metadata = get_hf_file_metadata(hf_hub_url(hub.repo, hub.path, revision=hub.revision))
    except Exception as reason:  # the client raises many types of errors
        if isinstance(reason, EntryNotFoundError) and not isinstance(reason, LocalEntryNotFoundError):
            raise missing_on_hub(hub) from None
        raise unreachable(hub, reason) from reason
    return Published(as_checksum(metadata.etag or ""), metadata.size)


def missing_on_hub(hub: HubFile) -> FileNotFoundError:
    """The error for a file that the repository does not have."""
    return FileNotFoundError(f"{hub.repo}@{hub.revision[:12]} has no {hub.path}: see https://huggingface.co/{hub.repo}")


def unreachable(hub: HubFile, reason: Exception) -> ConnectionError:
    """The error for a failed request to the Hub."""
    return ConnectionError(
        f"{hub.repo}@{hub.revision[:12]} could not be read from the Hub: {' '.join(str(reason).split())}"
    )


def as_checksum(etag: str) -> str:
    """An ETag of the Hub as checksum: 64 digits are a sha256, 40 digits a git object id; otherwise ""."""
    if re.fullmatch(r"[0-9a-f]{64}", etag):
        return f"sha256 {etag}"
    return f"git {etag}" if re.fullmatch(r"[0-9a-f]{40}", etag) else ""


def verify(name: str, file: Path, sha256: str = "") -> None:
    """Compare `file` with the published size and checksum of `name`; without a published checksum, nothing is checked.

    Raises:
        ValueError: the file is damaged or is not the published one
        OSError: the file cannot be read, or a request to the Hub is needed and fails
    """
    if name.startswith(github.KIND):
        released(name)
        return
    if fault := difference(file, published(name, file, sha256)):
        raise ValueError(
            f"{file} is not the published {name}: {fault}; delete it and run `vaebench weights fetch {name}`"
        )


def released(source: str, override: str = "", name: str = "") -> list[Path]:
    """As `find_all`, and verify files of a `github:` source if the user did not choose others with `override`.

    Raises:
        Unavailable: a file is not on this machine
        ValueError: a file of a `github:` source is damaged or of another version
    """
    files = find_all(source, override, name)
    if source.startswith(github.KIND) and not override:
        for entry, file in zip(github.parse(source), files, strict=True):
            if difference(file, Published(entry.checksum)):
                raise ValueError(
                    f"{file} is not {entry.path} at commit {entry.commit[:7]} of github.com/{entry.repo}: delete it and run "
                    f"`vaebench weights fetch {name or source}`, or pass weights=FOLDER to run this version"
                )
    return files


def verified(name: str) -> Path:
    """The verified path of the weights `name` of a metric, so that scores are never computed with other weights.

    Raises:
        Unavailable: the file is not on this machine
        ValueError: the file is damaged or is not the published one
    """
    file = path(name)
    verify(name, file)
    return file

"""Checksums: is a file of weights the one that was published, and what is the digest of the file that a run reads.

What a file should be is stated, for a metric, in `registry.FILES`; for a VAE, by its spec (`VAESpec.sha256`) or by the Hub,
which publishes the size and the sha256 of every large file, and the git object id of a small one.  The Hugging Face cache
names the downloaded file by that digest, so a check needs no network.
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
    """What the publisher states about a file."""

    checksum: str  # "sha256 <64 digits>", "git <40 digits>", or "" where none is published
    size: int | None = None  # bytes; None where it is not stated


def digest(file: Path) -> str:
    """sha256 of a file, remembered by path, size and time of change so that gigabytes are hashed once."""
    status = file.stat()
    key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    memory = Path.home() / ".cache" / "vaebench" / "sha256.json"
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    if not isinstance(known.get(key), str):
        with file.open("rb") as stream:
            known[key] = _sha256(stream)
        with contextlib.suppress(OSError):  # a home that cannot be written only costs the next run some seconds
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(memory, json.dumps(known, indent=0))
    found: str = known[key]
    return found


def _sha256(stream: IO[bytes]) -> str:
    total = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        total.update(block)
    return total.hexdigest()


def checksum(file: Path, kind: str) -> str:
    """`"sha256 <digits>"` or `"git <digits>"` of a file, of the kind with which `kind` begins.

    git: sha1 of "blob <length>\\0" and the bytes, the object id of the file in a git repository.
    """
    with file.open("rb") as stream:
        if kind.startswith("sha256"):
            return f"sha256 {_sha256(stream)}"
        total = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
        for block in iter(lambda: stream.read(1 << 20), b""):
            total.update(block)
    return f"git {total.hexdigest()}"


def difference(file: Path, published: Published) -> str:
    """How `file` differs from what was published, "" if it does not.  The file is always read.

    Some of these files are executed, and one of the same size and time may have replaced the file that was verified before.
    """
    size = file.stat().st_size
    if published.size is not None and size != published.size:
        return f"its size is {size} bytes, expected {published.size}"
    if published.checksum and (found := checksum(file, published.checksum)) != published.checksum:
        kind, _, digits = found.partition(" ")
        return f"its {kind} is {digits}, expected {published.checksum.partition(' ')[2]}"
    return ""


def published(name: str, file: Path | None = None, sha256: str = "") -> Published:
    """What is published about a metric's file (by name) or a file of the Hub (by its `hf:` source).

    `sha256` is the digest that the VAE's spec states, if any.  `file` is the downloaded file: one in the Hugging Face cache
    bears its digest as its name.  Otherwise the Hub is asked.

    Raises:
        OSError: the Hub has to be asked, and cannot be reached or has no such file
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
    """Size and checksum that the Hub publishes with a file.

    Raises:
        ConnectionError: the Hub cannot be reached
        FileNotFoundError: it has no such file
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        metadata = get_hf_file_metadata(hf_hub_url(hub.repo, hub.path, revision=hub.revision))
    except Exception as reason:  # the client has a dozen error types of its own
        if isinstance(reason, EntryNotFoundError) and not isinstance(reason, LocalEntryNotFoundError):
            raise missing_on_hub(hub) from None
        raise unreachable(hub, reason) from reason
    return Published(as_checksum(metadata.etag or ""), metadata.size)


def missing_on_hub(hub: HubFile) -> FileNotFoundError:
    return FileNotFoundError(f"{hub.repo}@{hub.revision[:12]} has no {hub.path}: see https://huggingface.co/{hub.repo}")


def unreachable(hub: HubFile, reason: Exception) -> ConnectionError:
    return ConnectionError(
        f"{hub.repo}@{hub.revision[:12]} could not be read from the Hub: {' '.join(str(reason).split())}"
    )


def as_checksum(etag: str) -> str:
    """The Hub's ETag as a checksum: 64 digits are a sha256, 40 a git object id; "" for any other."""
    if re.fullmatch(r"[0-9a-f]{64}", etag):
        return f"sha256 {etag}"
    return f"git {etag}" if re.fullmatch(r"[0-9a-f]{40}", etag) else ""


def verify(name: str, file: Path, sha256: str = "") -> None:
    """Check `file` against the published size and checksum of `name`; nothing where none is published.

    Raises:
        ValueError: it is another file, or a damaged one
        OSError: the file cannot be read, or the Hub has to be asked and cannot be reached
    """
    if name.startswith(github.KIND):
        released(name)
        return
    if fault := difference(file, published(name, file, sha256)):
        raise ValueError(
            f"{file} is not the {name} it should be: {fault}; delete it and run `vaebench weights fetch {name}`"
        )


def released(source: str, override: str = "") -> list[Path]:
    """`find_all`, verified where the source pins the bytes of its files and the user did not choose others by `override`.

    Raises:
        Unavailable: a file is not on this machine
        ValueError: a file on GitHub of another version
    """
    files = find_all(source, override)
    if source.startswith(github.KIND) and not override:
        for entry, file in zip(github.parse(source), files, strict=True):
            if difference(file, Published(entry.checksum)):
                raise ValueError(
                    f"{file} is not {entry.path} at commit {entry.commit[:7]} of github.com/{entry.repo}: delete it and run "
                    f"`vaebench weights fetch {source}`, or pass weights=FOLDER to run this version"
                )
    return files


def verified(name: str) -> Path:
    """The metric file called `name`, verified: a score is not computed with other weights.

    Raises:
        Unavailable: it is not on this machine
        ValueError: it is another file
    """
    file = path(name)
    verify(name, file)
    return file

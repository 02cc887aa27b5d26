"""Every file of weights that a metric or a VAE may need: where it comes from, its checksum, where it is kept, is it here.

Nothing is downloaded behind a user's back: a missing file raises `Unavailable`, whose message says how to get it, and
`vaebench weights fetch NAME` gets it.  Places are looked through in this order:

    a path the user gave (`weights=PATH`)
    $VAEBENCH_WEIGHTS/<file>, $VAEBENCH_WEIGHTS/<org>--<repo>/<path in the repository>
    ~/.cache/vaebench/weights, the same two
    for a metric's file, torch's own cache; for a VAE, the Hugging Face cache, at the pinned revision
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vaebench.plugins import did_you_mean


class Unavailable(FileNotFoundError):
    """A file of weights is not on this machine; the message says how to get it."""


@dataclass(frozen=True)
class WeightFile:
    """One file that a metric needs.  `sha256` may be a prefix (torchvision publishes eight digits), or "" if unknown."""

    file: str
    url: str
    sha256: str
    used_by: str
    license: str
    git_blob: str = ""  # sha1 of the file as git hashes it, where that is what is publicly recorded


FILES: dict[str, WeightFile] = {}


@dataclass(frozen=True)
class HubFile:
    """`hf:org/repo@revision:path`, taken apart."""

    repo: str
    revision: str
    path: str

    @classmethod
    def parse(cls, source: str) -> HubFile:
        kind, _, rest = source.partition(":")
        place, _, path = rest.partition(":")
        repo, _, revision = place.partition("@")
        if kind != "hf" or not (repo and revision and path):
            raise ValueError(f"a source of weights reads hf:org/repo@revision:path, got {source!r}")
        return cls(repo, revision, path)


def folders() -> list[Path]:
    """The folders that hold weights by file name, the user's own first."""
    own = os.environ.get("VAEBENCH_WEIGHTS")
    return [*([Path(own).expanduser()] if own else []), Path.home() / ".cache" / "vaebench" / "weights"]


def path(name: str) -> Path:
    """The metric file called `name`, on this machine; Unavailable if it is not here."""
    entry = _entry(name)
    places = [folder / entry.file for folder in folders()]
    torch_home = os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch")
    places.append(Path(torch_home) / "hub" / "checkpoints" / entry.file)
    for place in places:
        if place.is_file():
            return place
    raise Unavailable(
        f"{entry.file} is not here: run `vaebench weights fetch {name}`, or put the file into {places[0].parent} ({entry.url})"
    )


def find(source: str, override: str = "") -> Path:
    """The weights file of a VAE, `source` as in `VAESpec.source`; `override` is a file, or a folder that holds it.

    Unavailable, with the ways to get it, if it is nowhere on this machine.
    """
    hub = HubFile.parse(source)
    if override:
        return _below(Path(override).expanduser(), hub)
    for folder in folders():
        with contextlib.suppress(Unavailable):
            return _below(folder / hub.repo.replace("/", "--"), hub)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(hub.repo, hub.path, revision=hub.revision)
    if isinstance(cached, str):
        return Path(cached)
    raise Unavailable(
        f"{hub.repo}/{hub.path} is not here: run `vaebench weights fetch {source}`, "
        f"or pass weights=PATH, or put it below $VAEBENCH_WEIGHTS/{hub.repo.replace('/', '--')}/"
    )


def _below(place: Path, hub: HubFile) -> Path:
    name = Path(hub.path).name
    for candidate in (place, place / hub.path, place / name):
        if candidate.is_file():
            return candidate
    raise Unavailable(
        f"{place} has no {name} (of {hub.repo}); give the file itself, or a folder that holds it"
    )


def digest(file: Path) -> str:
    """sha256 of a file, remembered by path, size and time of change so that gigabytes are hashed once."""
    status = file.stat()
    key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    memory = Path.home() / ".cache" / "vaebench" / "sha256.json"
    try:
        known: dict[str, str] = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    if key not in known:
        with file.open("rb") as stream:
            known[key] = _sha256(stream)
        with contextlib.suppress(
            OSError
        ):  # a home that cannot be written only costs the next run some seconds
            memory.parent.mkdir(parents=True, exist_ok=True)
            memory.write_text(json.dumps(known, indent=0))
    return known[key]


def _sha256(stream: IO[bytes]) -> str:
    total = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        total.update(block)
    return total.hexdigest()


def verify(name: str, file: Path) -> None:
    """ValueError if `file` is not what the entry `name` says it is."""
    entry = _entry(name)
    if entry.sha256 and not digest(file).startswith(entry.sha256):
        raise ValueError(
            f"{file} is not the {name} it should be: sha256 {digest(file)[:16]}..., expected {entry.sha256[:16]}...; "
            f"delete it and run `vaebench weights fetch {name}`"
        )
    if entry.git_blob:
        blob = hashlib.sha1(
            b"blob %d\0" % file.stat().st_size + file.read_bytes(), usedforsecurity=False
        ).hexdigest()
        if blob != entry.git_blob:
            raise ValueError(
                f"{file} is not the {name} it should be: git blob {blob}, expected {entry.git_blob}"
            )


def fetch(name: str) -> Path:
    """Download the metric file or the VAE weights called `name`, with a progress bar, and verify them.

    ValueError for a wrong checksum (nothing is kept then), ConnectionError where the origin cannot be reached.
    """
    if name.startswith("hf:"):
        return _fetch_from_hub(HubFile.parse(name))
    entry = _entry(name)
    with contextlib.suppress(Unavailable):
        return path(name)
    target = folders()[0] / entry.file
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as part:
        try:
            for block in _download(entry.url, name):
                part.write(block)
            part.close()
            verify(name, Path(part.name))
            Path(part.name).replace(target)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    return target


def _download(url: str, label: str) -> Iterator[bytes]:
    from tqdm import tqdm

    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            total = int(response.headers.get("Content-Length", 0)) or None
            with tqdm(total=total, unit="B", unit_scale=True, desc=label) as bar:
                while block := response.read(1 << 20):
                    bar.update(len(block))
                    yield block
    except urllib.error.URLError as reason:
        raise ConnectionError(
            f"{url} cannot be reached ({reason.reason}); download it elsewhere and copy it"
        ) from None


def _fetch_from_hub(hub: HubFile) -> Path:
    """The weights file, and the config.json beside it where there is one, into the Hugging Face cache."""
    from huggingface_hub import snapshot_download

    beside = str(Path(hub.path).with_name("config.json"))
    try:
        root = snapshot_download(hub.repo, revision=hub.revision, allow_patterns=[hub.path, beside])
    except (
        Exception
    ) as reason:  # the hub client has a dozen error types of its own; each is "could not be had"
        raise ConnectionError(f"{hub.repo}@{hub.revision[:12]} could not be fetched: {reason}") from reason
    return Path(root) / hub.path


def _entry(name: str) -> WeightFile:
    if name not in FILES:
        raise ValueError(
            f"no weights called {name!r}{did_you_mean(name, list(FILES))} (there are: {', '.join(FILES)})"
        )
    return FILES[name]

"""Paths of weight files on this machine.  Nothing is downloaded: a missing file raises `Unavailable`.

The search order is:

    the path in `weights=PATH`
    $VAEBENCH_WEIGHTS/<file>, $VAEBENCH_WEIGHTS/<org>--<repo>/<path in the repository>
    ~/.cache/vaebench/weights, with the same two names
    for metrics, the cache of torch; for VAEs, the Hugging Face cache at the pinned revision
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from pathlib import Path

from vaebench.weights import github
from vaebench.weights.registry import PACKAGE, UNRELEASED, HubFile, entry_of

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
LATER_SHARD = re.compile(r"-(?!0*1-)\d+-of-\d+\.\w+$")  # such as name-00002-of-00003.safetensors


HALVES = ("encoder", "decoder")  # words in the names of the two files of a VAE
HALF = re.compile(r"(?<![A-Za-z])(encoder|decoder)(?![A-Za-z])")


class Unavailable(FileNotFoundError):
    """A weight file is not on this machine; the message gives the remedy."""


def folders() -> list[Path]:
    """The folders with weight files: $VAEBENCH_WEIGHTS if it is set, then the default folder."""
    custom = os.environ.get("VAEBENCH_WEIGHTS")
    return [*([Path(custom).expanduser()] if custom else []), Path.home() / ".cache" / "vaebench" / "weights"]


def path(name: str) -> Path:
    """The path of the weights `name` of a metric.

    Raises:
        ValueError: the name is unknown
        Unavailable: the file is not on this machine
    """
    entry = entry_of(name)
    candidates = [folder / entry.file for folder in folders()]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    candidates.append(Path(os.environ.get("TORCH_HOME", cache / "torch")) / "hub" / "checkpoints" / entry.file)
    for file in candidates:
        if file.is_file():
            return file
    remedy = f"run `vaebench weights fetch {name}`, or put" if entry.checksum else "put"
    raise Unavailable(  # the message is stored in records, so it has no path of this machine
        f"{entry.file} is not here: {remedy} the file into $VAEBENCH_WEIGHTS or ~/.cache/vaebench/weights ({entry.url})"
    )


def find(source: str, override: str = "", name: str = "") -> Path:
    """The path of the weights of a VAE with a single file; `find_all` supports several files.

    Args:
        source: `VAESpec.source`; "" for a user checkpoint
        override: file, or folder that contains it, to use instead of the released weights
        name: family/variant of the VAE, for the remedy in the message; "" for the source

    Raises:
        Unavailable: the file is not on this machine; the message gives the remedy
    """
    if override and not source:
        return _only(Path(override).expanduser())
    if source.startswith(PACKAGE):
        return _only(Path(override).expanduser()) if override else _shipped(source)
    if source.startswith(UNRELEASED):
        if override:
            return _only(Path(override).expanduser())
        recipe = source.removeprefix(UNRELEASED)
        raise Unavailable(
            f"its weights were never released: train them with `vaebench train {recipe}`, or pass weights=PATH"
        )
    hub = HubFile.parse(source)
    if override:
        return _given(Path(override).expanduser(), hub)
    for folder in folders():
        with contextlib.suppress(Unavailable):
            return _below(folder / hub.repo.replace("/", "--"), hub)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(hub.repo, hub.path, revision=hub.revision)
    if isinstance(cached, str):
        return Path(cached)
    raise Unavailable(
        f"{hub.repo}/{hub.path} is not here: run `vaebench weights fetch {name or source}`, "
        f"or pass weights=PATH, or put it below $VAEBENCH_WEIGHTS/{hub.repo.replace('/', '--')}/"
    )


def find_all(source: str, override: str = "", name: str = "") -> list[Path]:
    """The paths of all weight files of a VAE.

    For sharded weights, only the index or the first shard is returned (`wfvae.shards.files_of` lists the others).

    Args:
        source, name: as in `find`
        override: folder with the files, or one file with all tensors

    Raises:
        Unavailable: a file is not on this machine; the message gives the remedy
    """
    if not source.startswith(github.KIND):
        return [find(source, override, name)]
    place = Path(override).expanduser()
    if override and place.is_file():
        return [place]
    entries = github.parse(source)
    for parent in [place] if override else folders():
        for folder in (parent / entries[0].repo.replace("/", "--"), parent):
            if all((folder / entry.path).is_file() for entry in entries):
                return [folder / entry.path for entry in entries]
    raise Unavailable(
        f"{' and '.join(entry.path for entry in entries)} of github.com/{entries[0].repo}: not here; "
        f"run `vaebench weights fetch {name or source}`, or pass weights=FOLDER, or copy the files into $VAEBENCH_WEIGHTS"
    )


def halves_of(file: Path) -> list[Path]:
    """[encoder, decoder] if `file` is one of two such files in a folder and both exist, else [file]."""
    half = half_of(file)
    halves = [file.with_name(file.stem.replace(half, other) + file.suffix) for other in HALVES] if half else []
    return halves if halves and all(part.is_file() for part in halves) else [file]


def half_of(file: Path) -> str:
    """ "encoder" or "decoder" if the file name contains exactly one of these words, such as decoder.safetensors; else ""."""
    halves = HALF.findall(file.stem.replace("_", " "))
    return halves[0] if len(halves) == 1 else ""


def _shipped(source: str) -> Path:
    module, _, path = source.removeprefix(PACKAGE).partition(":")
    package = importlib.util.find_spec(module)
    assert package is not None
    assert package.submodule_search_locations
    file = Path(package.submodule_search_locations[0]) / path
    if not file.is_file():
        raise Unavailable(f"{path} of the package {module} is missing: reinstall vaebench")
    return file


def _only(place: Path) -> Path:
    """`place` itself if it is a file, else the weight file in this folder.

    If there are several, it is the one with the standard name of the Hub.  For sharded weights it is the index, or the first shard
    if there is no index; for separate files of encoder and decoder it is the encoder.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise Unavailable(f"{place} does not exist: give a weight file, or a folder that contains one")
    files = sorted(file for file in place.iterdir() if file.suffix in SUFFIXES)
    standard = [file for file in files if file.name == "diffusion_pytorch_model.safetensors"]
    files = sorted(place.glob("*.index.json")) or [file for file in files if not LATER_SHARD.search(file.name)]
    if len(files) == 2 and halves_of(files[0]) == files[::-1]:
        return files[1]  # the encoder, which follows the decoder alphabetically
    if len(standard or files) != 1:
        names = ", ".join(file.name for file in files) or f"no {', '.join(SUFFIXES)}"
        raise Unavailable(f"{place} should contain one weight file, it contains {names}: give the path of the file")
    return (standard or files)[0]


def _given(place: Path, hub: HubFile) -> Path:
    """The released file name at the path of the user, else the only weight file there."""
    try:
        return _below(place, hub)
    except Unavailable:
        if not place.is_dir():
            raise
        with contextlib.suppress(Unavailable):
            return _only(place)
        raise


def _below(place: Path, hub: HubFile) -> Path:
    """`place` itself if it is a file, else the file of `hub` in this folder."""
    name = Path(hub.path).name
    for candidate in (place, place / hub.path, place / name):
        if candidate.is_file():
            return candidate
    raise Unavailable(f"{place} has no {name} (of {hub.repo}): give the path of the file, or a folder that contains it")


def here(name: str) -> Path | None:
    """The path of the weights of a metric (by name) or a VAE (by source); None if they are not on this machine."""
    with contextlib.suppress(Unavailable):
        return find_all(name)[0] if ":" in name else path(name)
    return None

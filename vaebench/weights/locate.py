"""Where a file of weights is on this machine.  Nothing is downloaded: a missing file raises `Unavailable`.

Places are searched in this order:

    a path the user gave (`weights=PATH`)
    $VAEBENCH_WEIGHTS/<file>, $VAEBENCH_WEIGHTS/<org>--<repo>/<path in the repository>
    ~/.cache/vaebench/weights, the same two
    for a metric's file, torch's own cache; for a VAE, the Hugging Face cache, at the pinned revision
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
LATER_SHARD = re.compile(r"-(?!0*1-)\d+-of-\d+\.\w+$")  # as in name-00002-of-00003.safetensors


HALVES = ("encoder", "decoder")  # of a VAE, in two files that differ in this word
HALF = re.compile(r"(?<![A-Za-z])(encoder|decoder)(?![A-Za-z])")


class Unavailable(FileNotFoundError):
    """A file of weights is not on this machine; the message says how to get it."""


def folders() -> list[Path]:
    """The folders that hold weights by file name, the user's own first."""
    own = os.environ.get("VAEBENCH_WEIGHTS")
    return [*([Path(own).expanduser()] if own else []), Path.home() / ".cache" / "vaebench" / "weights"]


def path(name: str) -> Path:
    """The metric file called `name`, on this machine; Unavailable if it is not here."""
    entry = entry_of(name)
    places = [folder / entry.file for folder in folders()]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    places.append(Path(os.environ.get("TORCH_HOME", cache / "torch")) / "hub" / "checkpoints" / entry.file)
    for place in places:
        if place.is_file():
            return place
    get = f"run `vaebench weights fetch {name}`, or put" if entry.checksum else "put"
    raise Unavailable(  # goes into records: no path of this machine
        f"{entry.file} is not here: {get} the file into $VAEBENCH_WEIGHTS or ~/.cache/vaebench/weights ({entry.url})"
    )


def find(source: str, override: str = "") -> Path:
    """The weights file of a VAE, `source` as in `VAESpec.source`; `override` is a file, or a folder that holds it.

    A source of one file; `find_all` takes any.  With source "", a user checkpoint: `override` is the file, or a folder with one
    file of weights.  Raises Unavailable, with the ways to get it, if it is nowhere on this machine.
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
            f"its weights were never released: train some with `vaebench train {recipe}`, or pass weights=PATH"
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
        f"{hub.repo}/{hub.path} is not here: run `vaebench weights fetch {source}`, "
        f"or pass weights=PATH, or put it below $VAEBENCH_WEIGHTS/{hub.repo.replace('/', '--')}/"
    )


def find_all(source: str, override: str = "") -> list[Path]:
    """All weights files of a VAE, as `find`; `override` is a folder that holds them, or one file with all tensors.

    Of weights in shards, one file stands for all (`wfvae.shards.files_of`).
    """
    if not source.startswith(github.KIND):
        return [find(source, override)]
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
        f"run `vaebench weights fetch {source}`, or pass weights=FOLDER, or put into $VAEBENCH_WEIGHTS"
    )


def halves_of(file: Path) -> list[Path]:
    """encoder.X and decoder.X of one folder, where `file` is either and both are there; else `file` alone."""
    half = half_of(file)
    halves = [file.with_name(file.stem.replace(half, other) + file.suffix) for other in HALVES] if half else []
    return halves if halves and all(part.is_file() for part in halves) else [file]


def half_of(file: Path) -> str:
    """ "encoder" or "decoder" for a file whose name says that it is that half, such as decoder.safetensors; else ""."""
    halves = HALF.findall(file.stem.replace("_", " "))
    return halves[0] if len(halves) == 1 else ""


def _shipped(source: str) -> Path:
    module, _, path = source.removeprefix(PACKAGE).partition(":")
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.submodule_search_locations
    file = Path(found.submodule_search_locations[0]) / path
    if not file.is_file():
        raise Unavailable(f"{path} of the package {module} is missing: install vaebench again")
    return file


def _only(place: Path) -> Path:
    """`place` itself, or the one file of weights in this folder (the one of the Hub's usual name, where there are several).

    For weights in shards it is their index, or without an index the first shard; for an encoder and a decoder, the encoder.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise Unavailable(f"{place} is not here; give a file of weights, or a folder that holds one")
    found = sorted(file for file in place.iterdir() if file.suffix in SUFFIXES)
    usual = [file for file in found if file.name == "diffusion_pytorch_model.safetensors"]
    found = sorted(place.glob("*.index.json")) or [file for file in found if not LATER_SHARD.search(file.name)]
    if len(found) == 2 and halves_of(found[0]) == found[::-1]:
        return found[1]  # the encoder, after the decoder in the alphabet
    if len(usual or found) != 1:
        names = ", ".join(file.name for file in found) or f"no {', '.join(SUFFIXES)}"
        raise Unavailable(f"{place} should hold one file of weights, it holds {names}; give the file itself")
    return (usual or found)[0]


def _given(place: Path, hub: HubFile) -> Path:
    """The release's file in a place of the user's, or the one file of weights there, whatever its name."""
    try:
        return _below(place, hub)
    except Unavailable:
        if not place.is_dir():
            raise
        with contextlib.suppress(Unavailable):
            return _only(place)
        raise


def _below(place: Path, hub: HubFile) -> Path:
    name = Path(hub.path).name
    for candidate in (place, place / hub.path, place / name):
        if candidate.is_file():
            return candidate
    raise Unavailable(f"{place} has no {name} (of {hub.repo}); give the file itself, or a folder that holds it")


def here(name: str) -> Path | None:
    """The file of a metric (its name) or of a VAE (its source) on this machine; None where it is missing."""
    with contextlib.suppress(Unavailable):
        return find_all(name)[0] if ":" in name else path(name)
    return None

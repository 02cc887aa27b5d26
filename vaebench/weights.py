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
import errno
import hashlib
import http.client
import importlib.util
import json
import os
import re
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vaebench.plugins import did_you_mean

PACKAGE = "package:"  # package:module:path is a file that ships with an installed package
UNRELEASED = "unreleased:"  # unreleased:RECIPE is a network whose authors published no weights; `vaebench train RECIPE` makes some
RANDOM = "random"  # in the place of a path: the released configuration with random weights, for what measures cost


SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
LATER_SHARD = re.compile(r"-(?!0*1-)\d+-of-\d+\.\w+$")  # as in name-00002-of-00003.safetensors


HALVES = ("encoder", "decoder")  # of a VAE, in two files that differ in this word
HALF = re.compile(r"(?<![A-Za-z])(encoder|decoder)(?![A-Za-z])")


class Unavailable(FileNotFoundError):
    """A file of weights is not on this machine; the message says how to get it."""


@dataclass(frozen=True)
class WeightFile:
    """One file that a metric needs."""

    file: str  # under which it is kept
    url: str  # its origin
    sha256: str  # "" where nobody has published it: see `checksum`
    used_by: str
    license: str
    git_blob: str = ""  # its object id in git (sha1 of "blob <length>\\0" and the bytes), where that is what is known
    mirrors: tuple[str, ...] = ()  # the same bytes elsewhere, tried when the origin fails

    @property
    def checksum(self) -> str:
        """What the file must hash to, "sha256 ..." or "git ..."; "" where it is not known, and the strict loading of its keys
        and shapes is the only check."""
        return f"sha256 {self.sha256}" if self.sha256 else f"git {self.git_blob}" if self.git_blob else ""


FILES: dict[str, WeightFile] = {
    "alexnet": WeightFile(
        file="alexnet-owt-7be5be79.pth",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        used_by="lpips",
        license="BSD-3-Clause (torchvision)",
    ),
    "vgg16": WeightFile(
        file="vgg16-397923af.pth",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        used_by="lpips_vgg",
        license="BSD-3-Clause (torchvision)",
    ),
    "i3d": WeightFile(
        file="i3d_torchscript.pt",
        url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        used_by="fvd, i3d_l2",
        license="Apache-2.0 (deepmind/kinetics-i3d)",
        mirrors=(
            "https://huggingface.co/flateon/FVD-I3D-torchscript/resolve/1c2d61711c52571ad617a1063e6fa691b212e184/i3d_torchscript.pt",
        ),
    ),
    "i3d_videogpt": WeightFile(
        file="i3d_pretrained_400.pt",
        url="https://huggingface.co/spaces/LanguageBind/Open-Sora-Plan-v1.0.0/resolve/810fa8c4bdb3a4c8eec9bd57375c29bde6fb46de/opensora/eval/fvd/videogpt/i3d_pretrained_400.pt",
        sha256="",
        git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744",
        used_by="diffusability",
        license="Apache-2.0 (deepmind/kinetics-i3d)",
    ),
    "videomae_ssv2": WeightFile(
        file="vit_g_hybrid_pt_1200e_ssv2_ft.pth",
        url="https://pjlab-gvm-data.oss-cn-shanghai.aliyuncs.com/internvideo/videomaev2/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
        sha256="",
        used_by="diffusability",
        license="as OpenGVLab/VideoMAEv2 states",
    ),
    "c3d_ucf101": WeightFile(
        file="conv3d_deepnetA_ucf.npz",
        url="https://github.com/rezoo/tgan2/releases/download/v1.0/conv3d_deepnetA_ucf.npz",
        sha256="",
        used_by="diffusability",
        license="MIT (pfnet-research/tgan2), weights fine-tuned from C3D of Tran et al. 2015",
    ),
    "c3d_mean": WeightFile(
        file="mean2.npz",
        url="https://github.com/rezoo/tgan2/releases/download/v1.0/mean2.npz",
        sha256="",
        used_by="diffusability",
        license="MIT (pfnet-research/tgan2)",
    ),
}


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

    With source "", a checkpoint of one's own: `override` is the file, or a folder with one file of weights.  Unavailable, with
    the ways to get it, if it is nowhere on this machine.
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
            memory.write_text(json.dumps(known, indent=0))
    found: str = known[key]
    return found


def _sha256(stream: IO[bytes]) -> str:
    total = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        total.update(block)
    return total.hexdigest()


def verify(name: str, file: Path) -> None:
    """ValueError if `file` is not what the entry `name` says it is; nothing where no checksum is known.

    The file is always read: some of these files are executed, and one of the same size and time may have taken its place.
    """
    expected = _entry(name).checksum
    found = _checksum(file, expected) if expected else ""
    if found != expected:
        kind, _, digits = found.partition(" ")
        raise ValueError(
            f"{file} is not the {name} it should be: its {kind} is {digits}, expected {expected.partition(' ')[2]}; "
            f"delete it and run `vaebench weights fetch {name}`"
        )


def _checksum(file: Path, like: str) -> str:
    """Of a file, of the kind that `like` is."""
    with file.open("rb") as stream:
        if like.startswith("sha256"):
            return f"sha256 {_sha256(stream)}"
        total = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
        for block in iter(lambda: stream.read(1 << 20), b""):
            total.update(block)
    return f"git {total.hexdigest()}"


def verified(name: str) -> Path:
    """The metric file called `name`, which is what it should be: a score is not computed with other weights.

    Unavailable if it is not here, ValueError if another file lies in its place.
    """
    file = path(name)
    verify(name, file)
    return file


def fetch(name: str) -> Path:
    """Download the metric file or the VAE weights called `name`, with a progress bar, and verify them.

    A file that is here already is only verified (ValueError if it is another).  ConnectionError where neither the
    origin nor a mirror gives the bytes whose checksum is known; nothing is kept then.
    """
    if name.startswith("hf:"):
        return _fetch_from_hub(HubFile.parse(name))
    entry = _entry(name)
    with contextlib.suppress(Unavailable):
        return verified(name)
    if not entry.checksum:
        raise ConnectionError(
            f"{entry.file} has no published checksum, so it is not fetched unseen: "
            f"download {entry.url} and put it into {folders()[0]}"
        )
    target = folders()[0] / entry.file
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as part:
        try:
            _download(entry, name, part)
            part.close()
            Path(part.name).chmod(0o644)  # a temporary file is private; weights are not
            Path(part.name).replace(target)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    return target


def _download(entry: WeightFile, name: str, into: IO[bytes]) -> None:
    """The file of `entry` into an open file, from the first place that gives the right bytes."""
    from tqdm import tqdm

    failures = []
    for url in (entry.url, *entry.mirrors):
        into.seek(0)
        into.truncate()
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                total = int(response.headers.get("Content-Length") or 0) or None
                with tqdm(total=total, unit="B", unit_scale=True, desc=name) as bar:
                    while block := response.read(1 << 20):
                        into.write(block)
                        bar.update(len(block))
        except (
            OSError,
            http.client.HTTPException,
        ) as reason:  # a URLError is an OSError, and so is a time-out
            if getattr(reason, "errno", None) == errno.ENOSPC:
                raise
            failures.append(f"{url}: {getattr(reason, 'reason', reason)}")
            continue
        into.flush()
        found = _checksum(Path(into.name), entry.checksum)
        if found == entry.checksum:
            return
        failures.append(f"{url}: {into.tell()} bytes of {found}, expected {entry.checksum.partition(' ')[2]}")
    raise ConnectionError(
        f"{entry.file} could not be had, and nothing was kept ({'; '.join(failures)}); "
        f"download it elsewhere and copy it into {folders()[0]}"
    )


def _fetch_from_hub(hub: HubFile) -> Path:
    """The weights file, and the config.json beside it where there is one, into the Hugging Face cache."""
    from huggingface_hub import snapshot_download

    beside = str(Path(hub.path).with_name("config.json"))
    try:
        root = snapshot_download(hub.repo, revision=hub.revision, allow_patterns=[hub.path, beside])
    except Exception as reason:  # the hub client has a dozen error types of its own; each is "could not be had"
        said = " ".join(str(reason).split())
        raise ConnectionError(f"{hub.repo}@{hub.revision[:12]} could not be fetched: {said}") from reason
    file = Path(root) / hub.path
    if not file.is_file():  # the client is content where nothing has that name
        raise ConnectionError(
            f"{hub.repo}@{hub.revision[:12]} has no {hub.path}: see https://huggingface.co/{hub.repo}"
        )
    return file


def _entry(name: str) -> WeightFile:
    if name not in FILES:
        raise ValueError(f"no weights called {name!r}{did_you_mean(name, list(FILES))} (there are: {', '.join(FILES)})")
    return FILES[name]

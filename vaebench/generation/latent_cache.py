"""The latent cache: every window encoded once, its posterior's moments kept in fp16; and how latents are standardised.

A cache is a folder of shards, `00000.safetensors` of 32 windows each, written whole or not at all.  Its name is a hash of the
VAE, its weights and the windows, so a run goes on where another was stopped, and processes that share the folder divide the
shards among them.  A window that cannot be read is left out with its reason; the others go on.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from vaebench.files import draft, sweep
from vaebench.generation.latte.batch import Batch
from vaebench.vae import VAESpec, VideoVAE, check_latent
from vaebench.video import to_model

if TYPE_CHECKING:
    from vaebench.generation.windows import Window

SHARD = 32  # windows
MEASURED = 2048  # windows that a standardisation is measured on, spread evenly over the cache
LARGEST = 65504.0  # of fp16


@dataclass(frozen=True)
class Scaling:
    """What a diffusion model sees: (z - shift) * scale, both (C, 1, 1, 1)."""

    shift: Tensor
    scale: Tensor

    def apply(self, mean: Tensor) -> Tensor:
        return (mean - self.shift) * self.scale

    def undo(self, latent: Tensor) -> Tensor:
        """float (B, C, F, H, W) as the model makes it -> as the VAE decodes it."""
        return latent / self.scale.to(latent.device) + self.shift.to(latent.device)

    def described(self) -> dict[str, list[float]]:
        return {"shift": self.shift.flatten().tolist(), "scale": self.scale.flatten().tolist()}


def published(spec: VAESpec) -> Scaling:
    """The VAE's own shift and scale, as its release says and the papers use."""
    ones = torch.ones(spec.latent_channels)
    shift, scale = (ones * torch.tensor(value, dtype=torch.float32) for value in (spec.shift, spec.scale))
    return Scaling(shift.view(-1, 1, 1, 1), scale.view(-1, 1, 1, 1))


@dataclass
class Cache:
    """Latents by row, standardised: what `vaebench.generation.latte.train` reads."""

    folder: Path
    places: list[tuple[int, int]]  # shard and position in it, by row
    labels: Tensor | None  # int64, by row
    left_out: dict[str, str]  # window -> why it could not be encoded
    windows: list[Window]  # by row
    scaling: Scaling | None = None  # None: as the VAE gives them
    files: dict[int, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: Sequence[int]) -> Batch:
        """float32 (B, C, F, H, W) moments."""
        mean = torch.stack([self._slice("mean", row) for row in rows]).float()
        std = torch.stack([self._slice("std", row) for row in rows]).float() if self.has_std else None
        labels = None if self.labels is None else self.labels[list(rows)]
        if self.scaling is None:
            return Batch(mean, std, labels)
        return Batch(self.scaling.apply(mean), None if std is None else std * self.scaling.scale, labels)

    def _file(self, shard: int) -> Any:
        if shard not in self.files:
            self.files[shard] = safe_open(_shard(self.folder, shard), "pt")
        return self.files[shard]

    def _slice(self, name: str, row: int) -> Tensor:
        shard, place = self.places[row]
        taken: Tensor = self._file(shard).get_slice(name)[place]
        return taken

    @property
    def has_std(self) -> bool:
        return "std" in self._file(self.places[0][0]).keys()  # noqa: SIM118 (not a dict)

    def of(self, clips: set[str], *, flipped: bool = True) -> list[int]:
        """The rows that show these clips."""
        return [
            row for row, window in enumerate(self.windows) if window.clip in clips and (flipped or not window.flipped)
        ]

    def only(self, rows: Sequence[int]) -> Cache:
        """The cache of these rows alone."""
        return replace(
            self,
            places=[self.places[row] for row in rows],
            labels=None if self.labels is None else self.labels[list(rows)],
            windows=[self.windows[row] for row in rows],
        )


def encode(
    vae: VideoVAE,
    windows: Sequence[Window],
    folder: Path,
    *,
    device: torch.device,
    classes: Sequence[str] = (),
    rank: int = 0,
    world: int = 1,
) -> Cache:
    """Encode what is missing in `folder` and open it; processes begin at different shards and meet in the middle.

    `classes`: the labels in their order, for a conditional model.  ValueError where no window could be encoded, or where the
    latents do not fit fp16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    shards = range(-(-len(windows) // SHARD))
    offset = rank * len(shards) // world
    mine = [*shards[offset:], *shards[:offset]]
    todo = [shard for shard in mine if not _readable(_shard(folder, shard))]
    for shard in tqdm(todo, desc=f"encode {vae.spec.name}", unit="shard", leave=False, disable=None if todo else True):
        if not _readable(_shard(folder, shard), warn=True):  # another process may have been here
            _encode_shard(vae, windows[shard * SHARD : (shard + 1) * SHARD], _shard(folder, shard), device)
    return _open(folder, shards, windows, classes)


def _shard(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.safetensors"


def _readable(file: Path, *, warn: bool = False) -> bool:
    """Whether the shard is there and not damaged."""
    try:
        with safe_open(file, "pt") as shard:
            json.loads(shard.metadata()["failed"])
            shard.get_tensor("numbers")
    except FileNotFoundError:
        return False
    except (SafetensorError, ValueError, KeyError, TypeError) as reason:
        if warn:
            warnings.warn(f"{file} is damaged ({reason}); its windows are encoded again", stacklevel=3)
        return False
    return True


@torch.inference_mode()
def _encode_shard(vae: VideoVAE, windows: Sequence[Window], file: Path, device: torch.device) -> None:
    kept: dict[str, list[Tensor]] = {"mean": [], "std": []}
    numbers: list[int] = []
    failed: dict[str, str] = {}
    for number, window in enumerate(windows):
        try:
            video = to_model(window.load().to(device)).unsqueeze(0)
        except (OSError, ValueError) as reason:
            failed[window.id] = str(reason)
            continue
        posterior = vae.encode(video)
        mean = check_latent(vae, video, posterior.mode())[0].float().cpu()
        if not bool(mean.isfinite().all()) or float(mean.abs().max()) > LARGEST:
            raise ValueError(f"{vae.spec.name}: latents of {window.id} reach {float(mean.abs().max()):g}, beyond fp16")
        kept["mean"].append(mean.half())
        if posterior.logvar is not None:
            kept["std"].append((0.5 * posterior.logvar.clamp(-30, 20)).exp()[0].float().cpu().half())
        numbers.append(number)
    tensors = {name: torch.stack(values) for name, values in kept.items() if values}
    tensors["numbers"] = torch.tensor(numbers, dtype=torch.int64)
    with draft(file) as part:
        save_file(tensors, part, metadata={"failed": json.dumps(failed)})


def _open(folder: Path, shards: range, windows: Sequence[Window], classes: Sequence[str]) -> Cache:
    places: list[tuple[int, int]] = []
    kept: list[Window] = []
    left_out: dict[str, str] = {}
    for shard in shards:
        with safe_open(_shard(folder, shard), "pt") as file:
            left_out |= json.loads(file.metadata()["failed"])
            numbers = file.get_tensor("numbers").tolist()
        places += [(shard, place) for place in range(len(numbers))]
        kept += [windows[shard * SHARD + number] for number in numbers]
    if not kept:
        reasons = "; ".join(list(left_out.values())[:1])
        raise ValueError(f"none of {len(windows)} windows could be encoded{f': {reasons}' if reasons else ''}")
    known = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([known[window.label] for window in kept]) if classes else None
    return Cache(folder, places, labels, left_out, kept)


def measured(cache: Cache) -> Scaling:
    """Zero mean in every channel and unit variance over all of them together, of the aggregated posterior.

    One scale for all channels: a scale of each would change the proportions that the VAE was trained to.
    """
    rows = some_rows(len(cache), MEASURED)
    count, total, squares = 0.0, torch.zeros(()), torch.zeros(())
    for start in range(0, len(rows), SHARD):
        batch = replace(cache, scaling=None).take(rows[start : start + SHARD])
        mean = batch.mean.double().transpose(0, 1).flatten(1)  # (C, positions)
        count += mean.shape[1]
        total = total + mean.sum(1)
        squares = squares + mean.square().sum(1)
        if batch.std is not None:
            squares = squares + batch.std.double().transpose(0, 1).flatten(1).square().sum(1)
    shift = total / count
    variance = (squares / count - shift.square()).clamp(min=0).mean()
    if not variance > 0:
        raise ValueError("all latents of the cache are equal: there is nothing to learn, and no scale to measure")
    scale = variance.rsqrt().expand_as(shift)
    return Scaling(shift.float().view(-1, 1, 1, 1), scale.float().clone().view(-1, 1, 1, 1))


def some_rows(count: int, most: int) -> list[int]:
    """At most `most` of `count` rows, evenly spread."""
    return list(range(count)) if count <= most else [row * count // most for row in range(most)]

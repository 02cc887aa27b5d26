"""Several clips in one call of a VAE, which small VAEs need to keep a GPU busy: how many, and their latents.

A network rounds differently in a batch: pixels and latents differ from those of single clips by the rounding of the dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch

from vaebench.timing import free_bytes, is_out_of_memory, peak_memory
from vaebench.vae import Posterior, VAESpec, VideoVAE, check_latent_shape, check_posterior

if TYPE_CHECKING:
    from vaebench.video import Latent, Video

MOST = 32  # clips in a batch that `auto` chooses: more are hardly faster, and all of them are decoded first
SHARE = 0.5  # of the free memory that `auto` gives to a batch; metrics, workspaces and fragments need the rest


class BatchSizes:
    """The number of clips in a batch of each VAE.  A VAE that runs out of memory gets single clips from then on.

    Args:
        wanted: number of clips; "auto" finds it from the memory that the first clip of each VAE needs on a GPU, and is 1 on a CPU
        notes: gets a line for the user for each choice and each batch that failed
    """

    def __init__(self, wanted: int | Literal["auto"], device: torch.device, notes: list[str]) -> None:
        self.device, self.notes = device, notes
        if wanted == "auto" and device.type != "cuda":
            notes.append("batch_size=auto is 1 on a CPU, where a batch is not faster")
            wanted = 1
        self.wanted = wanted
        self.found: dict[str, int] = {}  # name of the VAE -> size
        self.alone: set[tuple[str, str]] = set()  # name of the VAE and id, of clips of batches that failed

    def of(self, spec: VAESpec) -> int:
        """The number of clips for a VAE; 1 until `auto` has seen its first clip."""
        return self.found.get(spec.name, 1 if self.wanted == "auto" else self.wanted)

    @contextmanager
    def probing(self, spec: VAESpec) -> Iterator[None]:
        """A block in which a VAE reconstructs one clip, whose memory tells `auto` the size of its batches."""
        if self.wanted != "auto" or spec.name in self.found:
            yield
            return
        with peak_memory(self.device) as peak:
            yield
        self.found[spec.name] = fitting(peak.above_bytes, free_bytes(self.device))
        self.notes.append(f"batch_size=auto: {spec.name} takes {self.found[spec.name]} clips at a time")

    def failed(self, spec: VAESpec, clips: Sequence[str], error: Exception) -> None:
        """Note that a batch failed: its clips are in no other batch; if memory was short, `spec` gets no more batches."""
        self.alone |= {(spec.name, clip) for clip in clips}
        start = f"{spec.name}: a batch of {len(clips)} clips"
        if is_out_of_memory(error):
            self.found[spec.name] = 1
            self.notes.append(f"{start} ran out of memory: from then on, this VAE took one clip at a time")
            return
        reason = " ".join(str(error).split()) or repr(error)
        self.notes.append(f"{start} ({clips[0]} and the next) failed, and was reconstructed one by one: {reason}")


def fitting(clip: int, free: int) -> int:
    """The number of clips that `auto` puts into a batch, from the bytes that one clip needs and those that are free.

    >>> fitting(3 << 30, 60 << 30)
    10
    """
    return max(1, min(MOST, int(SHARE * free) // max(1, clip)))


def encode_clips(vae: VideoVAE, padded: Video, *, posterior: str, generators: Sequence[torch.Generator]) -> Latent:
    """The latents of several clips from `vae.pad`, in one call; each clip has its own noise, as alone.

    Args:
        padded: float32 (B, 3, T, H, W) in -1..1, into which the adapter may write
        posterior: "mode" or "sample"
        generators: of the noise, one per clip

    Raises:
        ValueError: the latent has a wrong shape
    """
    shape = tuple(padded.shape)
    q = check_posterior(vae, vae.encode(padded))
    check_latent_shape(vae, shape, tuple(q.mean.shape))
    if posterior == "mode":
        return q.mode().clone()
    logvars = [None] * len(q.mean) if q.logvar is None else q.logvar.split(1)
    single = zip(q.mean.split(1), logvars, generators, strict=True)
    return torch.cat([Posterior(mean, logvar).sample(generator) for mean, logvar, generator in single])

"""One VAE in whole inference and in every block-wise mode: its own modes, streamed chunks, independent chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from vaebench.timing import peak_memory
from vaebench.vae import (
    Posterior,
    StreamingVAE,
    VAESpec,
    VideoVAE,
    check_latent,
    check_posterior,
    decode_as,
    networks,
    pad,
    reconstruct,
)

if TYPE_CHECKING:
    from vaebench.video import Latent, Video


class Modes:
    """A VAE in whole inference and in its block-wise modes, each loaded when it is first needed.

    Args:
        load: mode -> the VAE in that mode
        chunks: sizes of chunks to stream, in frames; unused if the VAE cannot stream
        independent: sizes of independent chunks, in frames; rounded up to a valid length
        share: let all modes use the memory of one for equal weights; not for modules that the user goes on training
    """

    def __init__(
        self,
        load: Callable[[str], VideoVAE],
        chunks: Sequence[int] = (),
        independent: Sequence[int] = (),
        *,
        share: bool = True,
    ) -> None:
        self.load, self.share = load, share
        self.whole = load("whole")
        self.spec = self.whole.spec
        streamed = chunks if isinstance(self.whole, StreamingVAE) else []
        # modes whose decoder can also be compared on the latent of whole inference
        self.offered = [mode for mode in self.spec.modes if mode != "whole"] + [f"chunks-{n}" for n in streamed]
        self.labels = [*self.offered, *dict.fromkeys(f"independent-{self.spec.fit(n)}" for n in independent)]
        self.loaded: dict[str, VideoVAE] = {}
        self.peak_bytes: dict[tuple[int, ...], dict[str, int]] = {}  # shape of clip -> mode -> bytes

    def warm_up(self, reference: Video) -> dict[str, int]:
        """Run every mode once for each shape of clip, because first calls load kernels and grow pools.

        Returns:
            mode -> its peak memory for a clip of this shape, in bytes above what was in use before
        """
        shape = tuple(reference.shape)
        if shape not in self.peak_bytes:
            labels = ("whole", *self.labels)
            for label in labels:
                self.reconstruct(label, reference)
            self.peak_bytes[shape] = {label: self._peak_bytes(label, reference) for label in labels}
        return self.peak_bytes[shape]

    def _peak_bytes(self, label: str, reference: Video) -> int:
        with peak_memory(reference.device) as peak:
            self.reconstruct(label, reference)
        return peak.above_bytes

    def reconstruct(
        self, label: str, reference: Video, *, posterior: str = "mode", generator: torch.Generator | None = None
    ) -> tuple[Video, Latent]:
        """(1, 3, T, H, W) in -1..1 -> the reconstruction of that shape, and the latent: the mode of the posterior or a sample."""
        vae = self.get(label)
        if isinstance(vae, IndependentChunks):
            return vae.reconstruct(reference, posterior, generator)
        return reconstruct(vae, reference, posterior=posterior, generator=generator)

    def get(self, label: str) -> VideoVAE | IndependentChunks:
        """The VAE in the mode `label`: "whole", another of its modes, "chunks-4" or "independent-16"."""
        if label == "whole":
            return self.whole
        kind, _, number = label.partition("-")
        if kind == "independent":
            return IndependentChunks(self.whole, int(number))
        if kind == "chunks":
            assert isinstance(self.whole, StreamingVAE)
            return Chunked(self.whole, int(number))
        if label not in self.loaded:
            with torch.inference_mode(False):
                self.loaded[label] = share_weights(self.load(label), self.whole) if self.share else self.load(label)
        return self.loaded[label]

    def decode(self, label: str, latent: Latent) -> Video | None:
        """The video that the decoder of `label` makes of a latent; None for independent chunks, which have no common latent."""
        vae = self.get(label)
        return None if isinstance(vae, IndependentChunks) else vae.decode(latent)


class Chunked:
    """A streaming VAE that gets its input in chunks of `frames` frames, and in the corresponding chunks of latents."""

    def __init__(self, vae: StreamingVAE, frames: int) -> None:
        self.vae, self.frames = vae, frames

    @property
    def spec(self) -> VAESpec:
        return self.vae.spec

    def encode(self, video: Video) -> Posterior:
        pieces = self.vae.encode_stream(video.split(self.frames, dim=2))
        return concatenated([check_posterior(self.vae, piece) for piece in pieces])

    def decode(self, latent: Latent) -> Video:
        latents = max(1, self.frames // self.spec.temporal_compression)
        return torch.cat(list(self.vae.decode_stream(latent.split(latents, dim=2))), dim=2)


class IndependentChunks:
    """Every chunk of frames encoded and decoded as a separate video, without any state between chunks."""

    def __init__(self, vae: VideoVAE, frames: int) -> None:
        self.vae, self.frames = vae, vae.spec.fit(frames)

    def reconstruct(
        self, video: Video, posterior: str = "mode", generator: torch.Generator | None = None
    ) -> tuple[Video, Latent]:
        """(B, 3, T, H, W) in -1..1 -> the reconstruction of that shape, and the latents of the chunks, one after another.

        One sample is drawn for all chunks, so the noise is that of a whole video with a latent of the same shape.
        """
        chunks = video.split(self.frames, dim=2)
        posteriors = [self._encode(chunk) for chunk in chunks]
        q = concatenated(posteriors)
        latent = q.mode() if posterior == "mode" else q.sample(generator)
        latents = latent.split([part.mean.shape[2] for part in posteriors], dim=2)
        decoded = [decode_as(self.vae, chunk, z).clone() for chunk, z in zip(chunks, latents, strict=True)]
        return torch.cat(decoded, dim=2), latent

    def _encode(self, chunk: Video) -> Posterior:
        """A copy of the posterior, because the next call may reuse the memory of the result."""
        padded = pad(chunk, self.vae.spec)
        q = check_posterior(self.vae, self.vae.encode(padded))
        mean = check_latent(self.vae, padded, q.mean).clone()
        return Posterior(mean, None if q.logvar is None else q.logvar.clone())


def concatenated(posteriors: Sequence[Posterior]) -> Posterior:
    """The posterior of a video from those of its chunks (B, c, t, h, w), along time."""
    logvars = [q.logvar for q in posteriors if q.logvar is not None]
    mean = torch.cat([q.mean for q in posteriors], dim=2)
    return Posterior(mean, torch.cat(logvars, dim=2) if logvars else None)


def share_weights(vae: VideoVAE, other: VideoVAE) -> VideoVAE:
    """`vae`, whose parameters share memory with equal ones of `other`, so that all modes of a VAE need the memory of one."""
    if vae is other:
        return vae
    for mine, theirs in zip(networks(vae), networks(other), strict=False):
        shared = dict(theirs.named_parameters())
        for name, parameter in mine.named_parameters():
            same = shared.get(name)
            if same is not None and same.dtype == parameter.dtype and torch.equal(same, parameter):
                parameter.data = same.data
    return vae

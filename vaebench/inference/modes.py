"""One VAE in whole inference and in every block-wise mode: its own modes, streamed chunks, independent chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from vaebench.vae import Posterior, StreamingVAE, VAESpec, VideoVAE, networks, reconstruct

if TYPE_CHECKING:
    from vaebench.video import Latent, Video


class Modes:
    """A VAE in whole inference and in its block-wise modes, each loaded when it is first needed.

    Args:
        load: mode -> the VAE in that mode
        chunks: sizes of chunks to stream, in frames; unused if the VAE cannot stream
        independent: sizes of independent chunks, in frames; rounded up to a valid length
    """

    def __init__(
        self, load: Callable[[str], VideoVAE], chunks: Sequence[int] = (), independent: Sequence[int] = ()
    ) -> None:
        self.load = load
        self.whole = load("whole")
        self.spec = self.whole.spec
        streamed = chunks if isinstance(self.whole, StreamingVAE) else []
        # modes whose decoder can also be compared on the latent of whole inference
        self.offered = [mode for mode in self.spec.modes if mode != "whole"] + [f"chunks-{n}" for n in streamed]
        self.labels = [*self.offered, *dict.fromkeys(f"independent-{self.spec.fit(n)}" for n in independent)]
        self.loaded: dict[str, VideoVAE] = {}
        self.warm: set[tuple[int, ...]] = set()  # shapes of clips

    def warm_up(self, reference: Video) -> None:
        """Run every mode once for each shape of clip, because first calls load kernels and grow memory pools."""
        if tuple(reference.shape) not in self.warm:
            for label in ("whole", *self.labels):
                self.reconstruct(label, reference)
            self.warm.add(tuple(reference.shape))

    def reconstruct(self, label: str, reference: Video) -> tuple[Video, Latent]:
        """(1, 3, T, H, W) in -1..1 -> the reconstruction of that shape, and the latent."""
        vae = self.get(label)
        return vae.reconstruct(reference) if isinstance(vae, IndependentChunks) else reconstruct(vae, reference)

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
                self.loaded[label] = share_weights(self.load(label), self.whole)
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
        chunks = list(self.vae.encode_stream(video.split(self.frames, dim=2)))
        logvars = [q.logvar for q in chunks if q.logvar is not None]
        return Posterior(torch.cat([q.mean for q in chunks], dim=2), torch.cat(logvars, dim=2) if logvars else None)

    def decode(self, latent: Latent) -> Video:
        latents = max(1, self.frames // self.spec.temporal_compression)
        return torch.cat(list(self.vae.decode_stream(latent.split(latents, dim=2))), dim=2)


class IndependentChunks:
    """Every chunk of frames encoded and decoded as a separate video, without any state between chunks."""

    def __init__(self, vae: VideoVAE, frames: int) -> None:
        self.vae, self.frames = vae, vae.spec.fit(frames)

    def reconstruct(self, video: Video) -> tuple[Video, Latent]:
        pixels, latents = [], []
        for chunk in video.split(self.frames, dim=2):
            reconstruction, latent = reconstruct(self.vae, chunk)
            pixels.append(reconstruction.clone())  # the next call may reuse the memory of this result
            latents.append(latent)
        return torch.cat(pixels, dim=2), torch.cat(latents, dim=2)


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

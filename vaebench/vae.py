"""The contract: what a video VAE is to the bench, and the checks at its door.

A VAE is a pair of pure functions and a spec.  An adapter (`adapters/<family>.py`) is a module with

    VARIANTS: dict[str, VAESpec]
    load(spec, *, weights="", device="cpu", dtype=torch.float32, mode="whole") -> VideoVAE
    tiny(*, device="cpu", dtype=torch.float32, mode="whole") -> VideoVAE      a small one with random weights, for tests

`load(..., weights="random")` builds the released configuration, at its full size, with random weights: what a VAE costs does
not depend on them.  Only suites that measure cost ask for it.

This module and every adapter import torch inside functions only, so that listing all VAEs takes a blink.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

    from vaebench.video import Latent, Video


# how far a mode that claims to be lossless may be from "whole", by dtype: the largest difference, relative to the largest value
LOSSLESS_TOLERANCE = {"float32": 2e-5, "bfloat16": 0.1, "float16": 0.02}


@dataclass(frozen=True)
class FrameRule:
    """The legal numbers of frames: `offset + k * stride`, at least `minimum`.  CogVideoX is (8, 1), Allegro (4, 0)."""

    stride: int = 1
    offset: int = 0
    minimum: int = 1

    def allows(self, num_frames: int) -> bool:
        return num_frames >= self.minimum and (num_frames - self.offset) % self.stride == 0

    def fit(self, num_frames: int) -> int:
        """The shortest legal length that holds `num_frames`."""
        least = max(num_frames, self.minimum)
        return least + (self.offset - least) % self.stride

    def __str__(self) -> str:
        rule = "any" if self.stride == 1 else f"{self.stride}k" + (f"+{self.offset}" if self.offset else "")
        return rule if self.minimum <= max(1, self.offset) else f"{rule} >= {self.minimum}"


@dataclass(frozen=True)
class VAESpec:
    """What is known of a VAE before any weight is read.

    `source` is "hf:org/repo@commit:path/to/file" of the released weights, `github:...` as in `vaebench.weights.github`,
    "unreleased:RECIPE" where nobody published any, or "" where none are needed.
    `modes` are the ways this family can be run: "whole" (one pass over the whole video), "native" (what the authors' code does
    by default), "diffusers" (what that library does by default, where it is something else), "tiled", "streamed", ...
    `reference_mode` is the one that it was released to be used in: "whole" where the authors' own code runs a video in one pass
    by default, "native" where it always works in tiles or chunks.  Suites use it by default.
    The normalised latent, which a diffusion model sees, is `(z - shift) * scale`, per channel where a tuple.
    """

    family: str
    variant: str
    temporal_compression: int
    spatial_compression: int
    latent_channels: int
    causal: bool  # the encoder never looks ahead
    frames: FrameRule = field(default_factory=FrameRule)
    size_multiple: int = 1  # of height and width
    modes: tuple[str, ...] = ("whole",)
    reference_mode: str = ""  # one of `modes`; empty: the first
    source: str = ""
    sha256: str = ""  # of the released weights file, where known
    license: str = ""  # of the code; of the weights, where it differs
    reference: str = ""  # paper or repository
    parameters: int = 0  # trainable, encoder and decoder; 0 where there are none
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    frames_per_piece: int = 0  # the encoder starts afresh after so many frames; 0: never
    lossless_modes: tuple[str, ...] = ()  # modes that claim to give exactly what "whole" gives
    latent_space: str = ""  # a name shared with other VAEs that read and write the same latents (`adapters/_cross.py`)
    clamps: bool = False  # decode clamps pixels to -1..1, as its release does
    note: str = ""  # hazards that a user must know: precision, silent padding, ...

    def __post_init__(self) -> None:
        if not self.reference_mode:
            object.__setattr__(self, "reference_mode", self.modes[0])
        if self.reference_mode not in self.modes:
            raise ValueError(
                f"{self.name}: reference_mode={self.reference_mode!r} is not one of its modes ({', '.join(self.modes)})"
            )

    @property
    def name(self) -> str:
        return f"{self.family}/{self.variant}"

    @property
    def tcpr(self) -> int:
        """Token compression rate r_t * r_s**2: 256 for 4x8x8 (WF-VAE, arXiv 2411.17459, section 4.1)."""
        return self.temporal_compression * self.spatial_compression**2

    @property
    def compression(self) -> str:
        return f"{self.temporal_compression}x{self.spatial_compression}x{self.spatial_compression}"

    def fit(self, num_frames: int) -> int:
        """The shortest legal number of frames that holds `num_frames`."""
        return self.frames.fit(num_frames)

    def latent_frames(self, num_frames: int) -> int:
        piece = self.frames_per_piece or num_frames
        full, rest = divmod(num_frames, piece)
        per_piece = math.ceil(piece / self.temporal_compression)
        return full * per_piece + math.ceil(rest / self.temporal_compression)

    def latent_shape(self, video: torch.Size | tuple[int, ...]) -> tuple[int, ...]:
        """(B, C, T, H, W) of a video of legal length and size -> (B, c, t, h, w) of its latent."""
        batch, _, frames, height, width = video
        r = self.spatial_compression
        return (
            batch,
            self.latent_channels,
            self.latent_frames(frames),
            math.ceil(height / r),
            math.ceil(width / r),
        )


@dataclass(frozen=True)
class Posterior:
    """q(z|x), diagonal Gaussian.  `mean` and `logvar` (B, c, t, h, w); FSQ and plain autoencoders leave logvar empty."""

    mean: Latent
    logvar: Latent | None = None

    def mode(self) -> Latent:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Latent:
        """One draw; the mean where there is no variance.  The noise is drawn on the generator's own device."""
        if self.logvar is None:
            return self.mean
        import torch

        device = generator.device if generator is not None else self.mean.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + (0.5 * self.logvar.clamp(-30, 20)).exp() * noise.to(self.mean.device)


class VideoVAE(Protocol):
    """Pure: a result depends on the argument alone.  float32 in -1..1 in, float32 out; the adapter casts inside."""

    @property
    def spec(self) -> VAESpec: ...

    def encode(self, video: Video) -> Posterior:
        """float32 (B, 3, T, H, W) in -1..1, T and H, W legal for `spec` -> posterior over (B, c, t, h, w), unscaled."""
        ...

    def decode(self, latent: Latent) -> Video:
        """float32 (B, c, t, h, w), unscaled -> float32 (B, 3, T, H, W), about -1..1; clamped only if the spec says `clamps`."""
        ...


@runtime_checkable
class StreamingVAE(VideoVAE, Protocol):
    """A VAE that takes a video in pieces.  State lives in the call, so two streams never disturb each other."""

    def encode_stream(self, pieces: Iterable[Video]) -> Iterator[Posterior]: ...

    def decode_stream(self, pieces: Iterable[Latent]) -> Iterator[Video]: ...


def networks(vae: object) -> list[torch.nn.Module]:
    """The torch modules that a VAE consists of: itself, or those among its attributes, also in lists and dictionaries.

    Parameters are counted, weights shared and memory formats changed through this list; it is empty for a VAE without weights.
    """
    import torch

    if isinstance(vae, torch.nn.Module):
        return [vae]
    attributes = list(vars(vae).values()) if hasattr(vae, "__dict__") else []
    for value in list(attributes):
        attributes += list(value.values()) if isinstance(value, dict) else []
        attributes += list(value) if isinstance(value, list | tuple) else []
    unique = {id(value): value for value in attributes if isinstance(value, torch.nn.Module)}
    return list(unique.values())


def pad(video: Video, spec: VAESpec) -> Video:
    """(B, C, T, H, W) -> a new tensor of the smallest legal size: the last frame, bottom row and right column are repeated."""
    import torch.nn.functional as F

    _, _, frames, height, width = video.shape
    multiple = spec.size_multiple
    more = (spec.fit(frames) - frames, -height % multiple, -width % multiple)
    if not any(more):
        return video.clone()
    return F.pad(video, (0, more[2], 0, more[1], 0, more[0]), mode="replicate")


def check_latent(vae: VideoVAE, video: Video, latent: Latent) -> Latent:
    """`latent`; ValueError with both shapes if it does not have the shape that the spec promises."""
    expected = vae.spec.latent_shape(video.shape)
    if tuple(latent.shape) != expected:
        raise ValueError(
            f"{vae.spec.name}: a video {tuple(video.shape)} should give a latent {expected}, "
            f"the adapter gave {tuple(latent.shape)}; correct its spec or its encode"
        )
    return latent


def check_reconstruction(vae: VideoVAE, video: Video, reconstruction: Video) -> Video:
    """`reconstruction`; ValueError if it does not have the shape of the video, or has non-finite pixels."""
    if reconstruction.shape != video.shape:
        raise ValueError(
            f"{vae.spec.name}: a video {tuple(video.shape)} came back as {tuple(reconstruction.shape)}; "
            "correct the adapter's decode or the spec's frame rule"
        )
    if not reconstruction.isfinite().all():
        raise ValueError(f"{vae.spec.name}: the reconstruction has NaN or infinite pixels; {_remedy(vae)}")
    return reconstruction


def _remedy(vae: VideoVAE) -> str:
    """What to do about non-finite pixels: replace damaged weights, or else take a wider dtype if there is one."""
    import torch

    model = getattr(vae, "model", None)
    state = model.state_dict() if isinstance(model, torch.nn.Module) else {}
    damaged = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if damaged:
        return f"{len(damaged)} tensors of its weights are NaN or infinite ({damaged[0]}): replace the file of weights"
    if getattr(vae, "dtype", None) == torch.float32:
        return "it ran in float32 with finite weights: check that these weights belong to this VAE"
    return "try dtype=float32" + (f" ({vae.spec.note})" if vae.spec.note else "")


def reconstruct(
    vae: VideoVAE, video: Video, *, posterior: str = "mode", generator: torch.Generator | None = None
) -> tuple[Video, Latent]:
    """Encode and decode with both checks.  (B, 3, T, H, W) in -1..1 of any size -> (the same shape, the latent).

    A clip that does not fit the VAE is padded first and cropped back, so every VAE is scored on the same frames.  The adapter
    gets copies: whatever it writes into its arguments, neither `video` nor the returned latent changes.
    """
    padded = pad(video, vae.spec)
    q = vae.encode(padded)
    given = check_latent(vae, padded, q.mode() if posterior == "mode" else q.sample(generator))
    latent = given.clone()
    return _decoded(vae, video, padded, given), latent


def decode_as(vae: VideoVAE, video: Video, latent: Latent) -> Video:
    """Decode a stored latent of `video` (B, 3, T, H, W), as `reconstruct` does, with both checks."""
    padded = pad(video, vae.spec)
    return _decoded(vae, video, padded, check_latent(vae, padded, latent.clone()))


def _decoded(vae: VideoVAE, video: Video, padded: Video, latent: Latent) -> Video:
    _, _, frames, height, width = video.shape
    reconstruction = check_reconstruction(vae, padded, vae.decode(latent))
    return reconstruction[:, :, :frames, :height, :width]

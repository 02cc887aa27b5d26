"""The contract of a video VAE, and the validation of its outputs.

A VAE has two pure functions, `encode` and `decode`, and a spec.  An adapter (`adapters/<family>.py`) is a module with

    VARIANTS: dict[str, VAESpec]
    load(spec, *, weights="", device="cpu", dtype=torch.float32, mode="whole") -> VideoVAE
    tiny(*, device="cpu", dtype=torch.float32, mode="whole") -> VideoVAE      a small network with random weights, for tests

`load(..., weights="random")` builds the released configuration at full size with random weights, for suites that measure cost,
which does not depend on the weights.

This module and every adapter import torch inside functions only, so that listing all VAEs is fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vaebench.video import WINDOW

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vaebench.video import Latent, Video


# dtype -> largest difference between a lossless mode and "whole", relative to the largest value
LOSSLESS_TOLERANCE = {"float32": 2e-5, "bfloat16": 0.1, "float16": 0.02}


@dataclass(frozen=True)
class FrameRule:
    """The valid numbers of frames: `offset + k * stride`, at least `minimum`.  CogVideoX has (8, 1), Allegro (4, 0)."""

    stride: int = 1
    offset: int = 0
    minimum: int = 1

    def allows(self, num_frames: int) -> bool:
        """Whether `num_frames` is a valid length."""
        return num_frames >= self.minimum and (num_frames - self.offset) % self.stride == 0

    def fit(self, num_frames: int) -> int:
        """The shortest valid length of at least `num_frames`."""
        least = max(num_frames, self.minimum)
        return least + (self.offset - least) % self.stride

    def __str__(self) -> str:
        rule = "any" if self.stride == 1 else f"{self.stride}k" + (f"+{self.offset}" if self.offset else "")
        return rule if self.minimum <= max(1, self.offset) else f"{rule} >= {self.minimum}"


@dataclass(frozen=True)
class VAESpec:
    """The facts of a VAE that are known without its weights.

    `source` locates the released weights: "hf:org/repo@commit:path/to/file", "github:..." as in `vaebench.weights.github`,
    "unreleased:RECIPE" if no weights were published, or "" if the VAE has no weights.
    `modes` are the inference modes: "whole" (one pass over the whole video), "native" (the default of the authors' code),
    "diffusers" (the default of that library, if it differs), "tiled", "streamed", ...
    `reference_mode` is the mode in which the VAE was released: "whole" if the authors' code runs a video in one pass by default,
    "native" if it always uses tiles or chunks.  Suites use it by default.
    The normalised latent, the input of a diffusion model, is `(z - shift) * scale`; tuples are per channel.
    """

    family: str
    variant: str
    temporal_compression: int
    spatial_compression: int
    latent_channels: int
    causal: bool  # no latent frame depends on later video frames
    frames: FrameRule = field(default_factory=FrameRule)
    size_multiple: int = 1  # height and width must be multiples of it
    modes: tuple[str, ...] = ("whole",)
    reference_mode: str = ""  # one of `modes`; empty: the first
    source: str = ""
    sha256: str = ""  # sha256 of the released weight file, if known
    license: str = ""  # licence of the code, and of the weights if it differs
    reference: str = ""  # paper or repository
    parameters: int = 0  # number of trainable parameters of encoder and decoder
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    frames_per_chunk: int = 0  # the encoder restarts after this number of frames; 0: never
    lossless_modes: tuple[str, ...] = ()  # modes that claim the same output as "whole"
    latent_space: str = ""  # equal for VAEs with interchangeable latents (`adapters/_cross.py`)
    clamps: bool = False  # decode clamps pixels to -1..1, as its release does
    codec: bool = False  # a video codec, a `CodedVAE`: its latent is a buffer of bytes, which no model can learn
    note: str = ""  # warnings for users: precision, silent padding, ...

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
        """The shortest valid number of frames of at least `num_frames`."""
        return self.frames.fit(num_frames)

    def latent_frames(self, num_frames: int) -> int:
        """The number of latent frames of a video with a valid number of frames."""
        chunk = self.frames_per_chunk or num_frames
        full, rest = divmod(num_frames, chunk)
        per_chunk = math.ceil(chunk / self.temporal_compression)
        return full * per_chunk + math.ceil(rest / self.temporal_compression)

    def latent_shape(self, video: torch.Size | tuple[int, ...]) -> tuple[int, ...]:
        """(B, C, T, H, W) of a video with valid length and size -> (B, c, t, h, w) of its latent."""
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
    """q(z|x), a diagonal Gaussian: `mean` and `logvar` (B, c, t, h, w).  `logvar` is None for FSQ and plain autoencoders."""

    mean: Latent
    logvar: Latent | None = None

    def mode(self) -> Latent:
        """The mode of the Gaussian, which is its mean."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Latent:
        """A random sample, or the mean if there is no variance.  The noise is drawn on the device of the generator."""
        return self.mean if self.logvar is None else self.at(self.noise(tuple(self.mean.shape), generator))

    def noise(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Standard normal noise for a latent of `shape`, of which this posterior may be a part."""
        import torch

        device = generator.device if generator is not None else self.mean.device
        drawn = torch.randn(shape, generator=generator, device=device, dtype=self.mean.dtype)
        return drawn.to(self.mean.device)

    def at(self, noise: Tensor) -> Latent:
        """The sample with this noise (B, c, t, h, w); the mean if there is no variance."""
        return self.mean if self.logvar is None else self.mean + (0.5 * self.logvar.clamp(-30, 20)).exp() * noise


class VideoVAE(Protocol):
    """Results depend on the argument only.  Inputs and outputs are float32; the adapter casts to the dtype of the network."""

    @property
    def spec(self) -> VAESpec: ...

    def encode(self, video: Video) -> Posterior:
        """float32 (B, 3, T, H, W) in -1..1 with T, H, W valid for `spec` -> posterior over (B, c, t, h, w), unscaled."""
        ...

    def decode(self, latent: Latent) -> Video:
        """float32 (B, c, t, h, w), unscaled -> float32 (B, 3, T, H, W), about -1..1; clamped only if `spec.clamps`."""
        ...


@runtime_checkable
class StreamingVAE(VideoVAE, Protocol):
    """A VAE that processes a video in chunks.  Each call has its own state: several streams can run at the same time.

    In mode "streamed", an attribute `chunk` may state how many latent frames the VAE takes at a time (`stream_chunk`).
    """

    def encode_stream(self, chunks: Iterable[Video]) -> Iterator[Posterior]:
        """Encode consecutive chunks of one video, (B, 3, T_i, H, W) each; yields the posterior of each chunk."""
        ...

    def decode_stream(self, chunks: Iterable[Latent]) -> Iterator[Video]:
        """Decode consecutive chunks of one latent, (B, c, t_i, h, w) each; yields the frames of each chunk."""
        ...


@runtime_checkable
class CodedVAE(VideoVAE, Protocol):
    """A VAE whose latent is compressed data, so that a clip has a size in bits.  Its spec has `codec=True`."""

    def bits(self, latent: Latent) -> torch.Tensor:
        """(B, c, t, h, w), as `encode` returns it -> int64 (B,), the number of bits of each compressed clip."""
        ...


def networks(vae: object) -> list[torch.nn.Module]:
    """The torch modules of a VAE: the VAE itself, or modules among its attributes, including those in lists and dictionaries.

    It is used to count parameters, share weights and change memory formats.  It is empty for a VAE without weights.
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


def stream_chunk(vae: StreamingVAE) -> int:
    """The number of latent frames that a streaming VAE takes at a time: its attribute `chunk`, else those of one window."""
    return getattr(vae, "chunk", 0) or max(1, WINDOW // vae.spec.temporal_compression)


def padded_shape(shape: tuple[int, ...], spec: VAESpec) -> tuple[int, ...]:
    """(B, C, T, H, W) of a video -> that of `pad`: the smallest valid length, height and width."""
    batch, channels, frames, height, width = shape
    multiple = spec.size_multiple
    return batch, channels, spec.fit(frames), height + -height % multiple, width + -width % multiple


def pad(video: Video, spec: VAESpec) -> Video:
    """(B, C, T, H, W) -> a new tensor with the smallest valid size; the last frame, row and column are repeated."""
    import torch.nn.functional as F

    frames, height, width = (b - a for a, b in zip(video.shape[2:], padded_shape(video.shape, spec)[2:], strict=True))
    if not (frames or height or width):
        return video.clone()
    return F.pad(video, (0, width, 0, height, 0, frames), mode="replicate")


def check_posterior(vae: VideoVAE, posterior: Posterior) -> Posterior:
    """Return what `vae.encode` returned if it is a posterior.

    Raises:
        ValueError: it is something else, such as the latent itself
    """
    import torch

    if isinstance(getattr(posterior, "mean", None), torch.Tensor):  # of a tensor, `mean` is a method
        return posterior
    given = type(posterior).__name__
    if isinstance(posterior, torch.Tensor):
        wrong = f"{given}: return Posterior(latent)"
    else:
        wrong = f"{given} without a tensor `mean`: return Posterior(mean) or Posterior(mean, logvar)"
    raise ValueError(f"{vae.spec.name}: encode should return a vaebench.Posterior, got {wrong}")


def check_latent(vae: VideoVAE, video: Video, latent: Latent) -> Latent:
    """Return `latent` if its shape is the one that the spec defines for `video` (B, 3, T, H, W).

    Raises:
        ValueError: the shape is wrong; the message has both shapes
    """
    check_latent_shape(vae, tuple(video.shape), tuple(latent.shape))
    return latent


def check_latent_shape(vae: VideoVAE, video: tuple[int, ...], latent: tuple[int, ...]) -> None:
    """As `check_latent`, for the shapes of both."""
    expected = vae.spec.latent_shape(video)
    if latent != expected:
        raise ValueError(
            f"{vae.spec.name}: the latent of a video {video} should have the shape {expected}, "
            f"got {latent}; correct the spec or encode of the adapter"
        )


def check_reconstruction(vae: VideoVAE, video: Video, reconstruction: Video) -> Video:
    """Return `reconstruction` if it has the shape of `video` and all pixels are finite.

    Raises:
        ValueError: the shape is wrong, or pixels are NaN or infinite
    """
    check_shape(vae, tuple(video.shape), tuple(reconstruction.shape))
    return check_finite(vae, reconstruction)


def check_shape(vae: VideoVAE, video: tuple[int, ...], reconstruction: tuple[int, ...]) -> None:
    """Raises ValueError if the reconstruction of a video does not have its shape."""
    if reconstruction != video:
        raise ValueError(
            f"{vae.spec.name}: the reconstruction of a video {video} has the shape "
            f"{reconstruction}; correct decode of the adapter or the frame rule of the spec"
        )


def check_finite(vae: VideoVAE, reconstruction: Video) -> Video:
    """Return `reconstruction` if all pixels are finite.

    Raises:
        ValueError: pixels are NaN or infinite
    """
    import torch

    # NaN carries over to both; `isfinite` of all pixels would take the memory of another video
    if not torch.stack(torch.aminmax(reconstruction)).isfinite().all():
        raise ValueError(f"{vae.spec.name}: the reconstruction has NaN or infinite pixels; {_remedy(vae)}")
    return reconstruction


def _remedy(vae: VideoVAE) -> str:
    """The remedy for non-finite pixels: other weights if they are damaged, else a dtype with a wider range, if it may help."""
    import torch

    model = getattr(vae, "model", None)
    state = model.state_dict() if isinstance(model, torch.nn.Module) else {}
    damaged = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if damaged:
        return (
            f"{len(damaged)} tensors of the weights have NaN or infinite values ({damaged[0]}): replace the weight file"
        )
    dtype = getattr(vae, "dtype", None)
    if dtype == torch.float32:
        return "dtype and weights are valid (float32, finite): check that the weights belong to this VAE"
    wider = "try dtype=float32" + (f" ({vae.spec.note})" if vae.spec.note else "")
    return wider if dtype else f"{wider}, or check encode and decode of the adapter"


def reconstruct(
    vae: VideoVAE, video: Video, *, posterior: str = "mode", generator: torch.Generator | None = None
) -> tuple[Video, Latent]:
    """Encode and decode a video of any size, and validate the latent and the reconstruction.

    The video is padded to a valid size and the result is cropped, so that every VAE is scored on the same frames.  The adapter
    gets copies: if it writes into its arguments, neither `video` nor the returned latent changes.

    Args:
        video: float32 (B, 3, T, H, W) in -1..1
        posterior: "mode" or "sample"
        generator: random generator for "sample"

    Returns:
        the reconstruction, with the shape of `video`, and the latent (B, c, t, h, w) of the padded video

    Raises:
        ValueError: encode returns no posterior, the latent or the reconstruction has a wrong shape, or pixels are NaN or infinite
    """
    latent = encode_padded(vae, pad(video, vae.spec), posterior=posterior, generator=generator)
    return decode_as(vae, video, latent), latent


def encode_padded(
    vae: VideoVAE, padded: Video, *, posterior: str = "mode", generator: torch.Generator | None = None
) -> Latent:
    """The latent that `reconstruct` decodes, of a video from `pad`, into which the adapter may write."""
    shape = tuple(padded.shape)
    q = check_posterior(vae, vae.encode(padded))
    latent = q.mode() if posterior == "mode" else q.sample(generator)
    check_latent_shape(vae, shape, tuple(latent.shape))
    return latent.clone()


def decode_as(vae: VideoVAE, video: Tensor, latent: Latent) -> Video:
    """Decode a stored latent of `video` with the validation and cropping of `reconstruct`.

    Args:
        video: (B, 3, T, H, W) in any range; only its shape is used
        latent: (B, c, t, h, w) of the padded video
    """
    _, _, frames, height, width = video.shape
    shape = padded_shape(video.shape, vae.spec)
    check_latent_shape(vae, shape, tuple(latent.shape))
    reconstruction = vae.decode(latent.clone())
    check_shape(vae, shape, tuple(reconstruction.shape))
    return check_finite(vae, reconstruction)[:, :, :frames, :height, :width]

"""Encode with one VAE and decode with another that shares its latent space: `wan/2.1+taehv/taew2_1`.

A spec names its space (`latent_space`).  Latents are exchanged normalised, as a diffusion model sees them, unless `FORMS` says
otherwise.  VAEs of different spaces cannot be combined.  Suites compare a cross with the encoder's own decoder (`CrossVAE.own`).
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from adapters import ResolvedVAE
from vaebench.vae import FrameRule, Posterior, VAESpec, VideoVAE

if TYPE_CHECKING:
    from types import ModuleType

    import torch
    from torch import Tensor

    from vaebench.video import Latent, Video

Form = Callable[["Latent", VAESpec], "Latent"]


def normalise(latent: Latent, spec: VAESpec) -> Latent:
    """(B, c, t, h, w) as `spec`'s encode gives it -> what a diffusion model sees: (z - shift) * scale."""
    return (latent - _by_channel(spec.shift, latent)) * _by_channel(spec.scale, latent)


def denormalise(latent: Latent, spec: VAESpec) -> Latent:
    """The inverse: z / scale + shift, as `spec`'s decode reads it."""
    return latent / _by_channel(spec.scale, latent) + _by_channel(spec.shift, latent)


def raw(latent: Latent, spec: VAESpec) -> Latent:
    """(B, c, t, h, w), unchanged."""
    return latent


def normalise_flux2(latent: Latent, spec: VAESpec) -> Latent:
    """FLUX.2: the VAE gives 2x2 patches as 128 channels, which its statistics refer to; taesd/flux2 reads 32 channels."""
    from adapters.flux2 import channels_as_patches

    normalised = normalise(latent, spec)
    return channels_as_patches(normalised) if spec.latent_channels == 128 else normalised


def denormalise_flux2(latent: Latent, spec: VAESpec) -> Latent:
    """The inverse."""
    from adapters.flux2 import patches_as_channels

    return denormalise(patches_as_channels(latent) if spec.latent_channels == 128 else latent, spec)


def _by_channel(values: float | tuple[float, ...], like: Latent) -> Tensor:
    return like.new_tensor(values).view(-1, 1, 1, 1)


# to and from the form in which VAEs of a latent space exchange latents
NORMALISED, RAW = (normalise, denormalise), (raw, raw)
FORMS: dict[str, tuple[Form, Form]] = {
    "cogvideox": RAW,  # taecvx reads latents as the parent gives them; its author is not sure
    "flux.2": (normalise_flux2, denormalise_flux2),
}  # all others: NORMALISED


class CrossVAE:
    """A VideoVAE made of two: the latents of `encoder`, converted before `decoder` reads them."""

    def __init__(self, spec: VAESpec, encoder: VideoVAE, decoder: VideoVAE) -> None:
        import torch

        from vaebench.vae import networks

        self.spec, self.encoder, self.decoder = spec, encoder, decoder
        self.to_shared, self.from_shared = FORMS.get(spec.latent_space, NORMALISED)
        self.model = torch.nn.ModuleList([*networks(encoder), *networks(decoder)])
        self.own = OwnDecoder(spec, encoder)

    def encode(self, video: Video) -> Posterior:
        return self.encoder.encode(video)

    def decode(self, latent: Latent) -> Video:
        shared = self.to_shared(latent, self.encoder.spec)
        return self.decoder.decode(self.from_shared(shared, self.decoder.spec))


class OwnDecoder:
    """The encoder's own decoder, for videos of the lengths and sizes of the cross."""

    def __init__(self, spec: VAESpec, vae: VideoVAE) -> None:
        self.spec, self.vae = spec, vae

    def encode(self, video: Video) -> Posterior:
        return self.vae.encode(video)

    def decode(self, latent: Latent) -> Video:
        return self.vae.decode(latent)


@dataclass(frozen=True)
class ResolvedCross(ResolvedVAE):
    """Two VAEs by name, `encoder+decoder`."""

    encoder: ResolvedVAE = field(kw_only=True)
    decoder: ResolvedVAE = field(kw_only=True)

    @property
    def released(self) -> list[VAESpec]:
        return [*self.encoder.released, *self.decoder.released]

    @cached_property
    def weights(self) -> str:
        """sha256 of both; "random" if one is untrained."""
        both = self.encoder.weights, self.decoder.weights
        return "random" if "random" in both else hashlib.sha256("\n".join(both).encode()).hexdigest()

    @cached_property
    def config_sha256(self) -> str:
        both = self.encoder.config_sha256, self.decoder.config_sha256
        return hashlib.sha256("\n".join(both).encode()).hexdigest() if any(both) else ""

    @cached_property
    def label(self) -> str:
        return f"{self.encoder.label}+{self.decoder.label}"

    @cached_property
    def unavailable(self) -> str:
        return "; ".join(filter(None, (self.encoder.unavailable, self.decoder.unavailable)))

    @property
    def code(self) -> list[ModuleType]:
        return [*self.encoder.code, *self.decoder.code, sys.modules[__name__]]

    def load(
        self,
        mode: str = "",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        random_weights: bool = False,
    ) -> CrossVAE:
        mode = mode or self.spec.reference_mode
        if mode not in self.spec.modes:
            raise ValueError(f"{self.spec.name} has no mode {mode!r} (it has: {', '.join(self.spec.modes)})")
        half = "" if mode == EACH else mode
        encoder, decoder = (
            vae.load(half, device=device, dtype=dtype, random_weights=random_weights)
            for vae in (self.encoder, self.decoder)
        )
        # scale and shift of some VAEs are in their weights
        spec = replace(self.spec, scale=encoder.spec.scale, shift=encoder.spec.shift)
        return CrossVAE(spec, encoder, decoder)


EACH = "each-reference"  # the mode in which both run in their own reference mode


def resolve(encoder: ResolvedVAE, decoder: ResolvedVAE) -> ResolvedCross:
    """The cross of two VAEs.

    Raises:
        ValueError: they share no latent space, or no number of frames
    """
    a, b = encoder.spec, decoder.spec
    name = f"{encoder.name}+{decoder.name}"
    if not a.latent_space or a.latent_space != b.latent_space:
        spaces = [f"{spec.name}: {spec.latent_space or 'unknown'}" for spec in (a, b)]
        raise ValueError(f"{name}: the two do not share a latent space ({', '.join(spaces)})")
    if a.latent_space not in FORMS and (a.compression, a.latent_channels) != (b.compression, b.latent_channels):
        shapes = [f"{spec.compression}, {spec.latent_channels} channels" for spec in (a, b)]
        raise ValueError(f"{name}: the latents have different shapes ({'; '.join(shapes)})")
    spec = replace(
        a,
        variant=f"{a.variant}+{b.name}",
        frames=_common(a.frames, b.frames, name),
        size_multiple=math.lcm(a.size_multiple, b.size_multiple),
        modes=("whole", EACH),
        reference_mode=EACH,
        lossless_modes=(),
        source="",
        sha256="",
        license="; ".join(dict.fromkeys((a.license, b.license))),
        reference="; ".join(dict.fromkeys((a.reference, b.reference))),
        parameters=a.parameters + b.parameters,
        clamps=b.clamps,
        note=f"latents of {a.name}, decoded by {b.name}; parameters are those of both VAEs",
    )
    return ResolvedCross(
        name, spec, encoder.module, untrained=encoder.untrained or decoder.untrained, encoder=encoder, decoder=decoder
    )


def _common(a: FrameRule, b: FrameRule, name: str) -> FrameRule:
    """The rule of the numbers of frames that both allow."""
    stride = math.lcm(a.stride, b.stride)
    least = max(a.minimum, b.minimum)
    legal = [n for n in range(least, least + stride) if a.allows(n) and b.allows(n)]
    if not legal:
        raise ValueError(f"{name}: no number of frames is legal for both ({a} and {b})")
    return FrameRule(stride, legal[0] % stride, least if legal[0] - stride > 0 else 1)

"""Kandinsky 6 SR: 4x16x16, 64 channels, causal, from the super-resolution stage; the released code works in segments of 16 frames.

github.com/kandinskylab.  Its convolutions pass on their padding and no norm spans time, so segments change only the memory. The
released pipeline feeds it pixels of 0..255 as x / 128 - 1 instead of x / 127.5 - 1, and so does this adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adapters._diffusers import EVERYTHING, DiffusersVAE, Family, moments, sample
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

VARIANTS = {
    "6.0": VAESpec(
        family="kandinsky6sr",
        variant="6.0",
        temporal_compression=4,
        spatial_compression=16,
        latent_channels=64,
        causal=True,
        frames=FrameRule(4, 1),
        size_multiple=16,
        modes=("whole", "native"),
        reference_mode="native",
        lossless_modes=("native",),
        source="hf:kandinskylab/Kandinsky-6.0-VSR-distilled2steps-5s-Diffusers@main:vae/diffusion_pytorch_model.safetensors",
        license="unknown; see the model card",
        reference="github.com/kandinskylab",
        parameters=1_738_878_243,
        scale=0.910344004631042,
        note="native works in segments of 16 frames, which its caches make equal to whole; it has no spatial tiling",
    )
}
PIXELS = 127.5 / 128


@contextmanager
def _segments(vae: DiffusersVAE) -> Iterator[None]:
    """Changes the length of a segment, a constant of the library's module, for one call."""
    from diffusers.models.autoencoders import autoencoder_kandinsky6_sr as library

    released = library.SEGMENT_FRAMES
    library.SEGMENT_FRAMES = EVERYTHING if vae.mode == "whole" else released
    try:
        yield
    finally:
        library.SEGMENT_FRAMES = released


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    with _segments(vae):
        return moments(vae, (pixels + 1) * PIXELS - 1)


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    with _segments(vae):
        return (sample(vae, latent) + 1) / PIXELS - 1


FAMILY = Family(
    cls="Kandinsky6SRVAE",
    variants=VARIANTS,
    configs={},
    small={
        "encoder_block_out_channels": (8, 8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8, 8),
        "layers_per_block": 1,
    },
    diffusers="0.42",
    encode=_encode,
    decode=_decode,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

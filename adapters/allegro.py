"""Allegro: 4x8x8, 4 channels, not causal.  diffusers runs it only in tiles of 24 frames x 320 x 320 pixels.

Zhou et al., Allegro, arXiv 2410.15458.  Whole inference is one tile as large as the video, which gives exactly what its encoder and
decoder give.  In `native` the released grid of tiles leaves uncovered frames, rows and columns at zero; here the video is padded
to the next grid that covers it (repeating edges) and the result is cropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters._diffusers import DiffusersVAE, Family
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

TIME, SPACE = 4, 8
HALF = (
    "its round trip loses 7 to 15 % rms (2 to 3 % in the latent) against float32; the release runs the VAE in float32"
)
VARIANTS = {
    "1.0": VAESpec(
        family="allegro",
        variant="1.0",
        temporal_compression=TIME,
        spatial_compression=SPACE,
        latent_channels=4,
        causal=False,
        frames=FrameRule(4),
        size_multiple=8,
        modes=("whole", "native"),
        reference_mode="native",
        source="hf:rhymes-ai/Allegro@8b25708398d034f4306a4cf5667972dbf3e7e3cb:vae/diffusion_pytorch_model.safetensors",
        license="Apache-2.0",
        reference="arXiv 2410.15458",
        parameters=174_955_751,
        scale=0.13,
        note="native is tiled: 24 frames x 320 x 320 pixels, overlapping by 8, 120 and 80; a video that the tiles do not cover is "
        "padded to the next size that they do and cropped back; the release runs the VAE in float32",
    )
}


def _covered(size: int, kernel: int, stride: int) -> int:
    """The smallest kernel + k * stride that is at least `size`."""
    return kernel + max(0, -(-(size - kernel) // stride)) * stride


def _pad_to_grid(x: Tensor, model: Any, unit: tuple[int, int, int]) -> Tensor:
    """(B, C, T, H, W), repeating edges; `unit` is 1 for pixels and the compression for latents."""
    import torch.nn.functional as F

    sizes = zip(x.shape[2:], model.kernel, model.stride, unit, strict=True)
    t, h, w = (_covered(size, k // u, s // u) - size for size, k, s, u in sizes)
    return F.pad(x, (0, w, 0, h, 0, t), mode="replicate")


def _encode(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor]:
    _, _, frames, height, width = pixels.shape
    if vae.mode == "whole":
        vae.model.kernel = (frames, height, width)
    else:
        pixels = _pad_to_grid(pixels, vae.model, (1, 1, 1))
    q = vae.model.encode(pixels).latent_dist
    keep = (..., slice(frames // TIME), slice(height // SPACE), slice(width // SPACE))
    return q.mean[keep], q.logvar[keep]


def _decode(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    _, _, t, h, w = latent.shape
    if vae.mode == "whole":
        vae.model.kernel = (t * TIME, h * SPACE, w * SPACE)
    else:
        latent = _pad_to_grid(latent, vae.model, (TIME, SPACE, SPACE))
    video = vae.model.decode(latent).sample.transpose(1, 2)  # the library returns (B, T, C, H, W)
    return video[..., : t * TIME, : h * SPACE, : w * SPACE]


FAMILY = Family(
    cls="AutoencoderKLAllegro",
    variants=VARIANTS,
    configs={},
    small={
        "block_out_channels": (4, 4, 4, 4),
        "norm_num_groups": 2,
        "layers_per_block": 1,
        "sample_size": 128,
    },
    set_mode=lambda model, mode: model.enable_tiling(),  # the class does not run without tiles
    encode=_encode,
    decode=_decode,
    one_by_one=True,  # a tile is a batch of one
    dtype_warnings={"bfloat16": HALF},
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

"""Mochi 1: 6x8x8, 12 channels, causal; the encoder reads Fourier features of the pixels.

Genmo, Mochi 1, 2024 (github.com/genmoai/mochi).  The features multiply a pixel, and its rounding error, by up to 2 pi 128: 8-bit
frames in bfloat16 change the latent by 52 % rms.  Here pixels stay float32 up to the features, whatever the dtype of the network.

After each of its temporal expansions by 3 and 2 the authors' decoder drops the first 2 frames and 1 frame, which have no real
predecessor.  The decoder of diffusers instead drops the first 5 frames of its output: other frames result.
Every mode but `diffusers` computes the authors' function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters._diffusers import Family, tile
from adapters._layouts import mochi as mochi_layouts
from vaebench.vae import FrameRule, VAESpec

if TYPE_CHECKING:
    from torch import Tensor

MEAN = (-0.06730895953510081, -0.038011381506090416, -0.07477820912866141, -0.05565264470995561, 0.012767231469026969,
        -0.04703542746246419, 0.043896967884726704, -0.09346305707025976, -0.09918314763016893, -0.008729793427399178,
        -0.011931556316503654, -0.0321993391887285)  # fmt: skip
STD = (0.9263795028493863, 0.9248894543193766, 0.9393059390890617, 0.959253732819592, 0.8244560132752793, 0.917259975397747,
       0.9294154431013696, 1.3720942357788521, 0.881393668867029, 0.9168315692124348, 0.9185249279345552,
       0.9274757570805041)  # fmt: skip
VARIANTS = {
    "1": VAESpec(
        family="mochi",
        variant="1",
        temporal_compression=6,
        spatial_compression=8,
        latent_channels=12,
        causal=True,
        frames=FrameRule(6, 1),
        size_multiple=8,
        modes=("whole", "native", "tiled", "diffusers"),
        lossless_modes=("native",),
        source="hf:genmo/mochi-1-preview@14be5fcea23095ed330cb214647916a451e38b6e:vae/diffusion_pytorch_model.safetensors",
        license="Apache-2.0",
        reference="github.com/genmoai/mochi",
        parameters=459_748_611,
        scale=tuple(1 / std for std in STD),
        shift=MEAN,
        note="native is whole; diffusers decodes as that library does, which is not the authors' function: it drops "
        "the first 5 frames of its output instead of the first 2 and 1 after each temporal expansion; 6k+1 frames (the library "
        "silently returns 31 of 33); tiles of 256 pixels overlapping by 64; the release runs in float32",
    )
}
HALF = "the release runs in float32; with Fourier features in float32, as here, {} still changes the latent by about {} rms"


def _keep_features_exact(model: Any, spec: VAESpec) -> VAESpec:
    dtype = model.dtype

    def cast(module: Any, arguments: Any, features: Tensor) -> Tensor:
        return features.to(dtype)

    model.encoder.fourier_features.register_forward_hook(cast)
    return spec


def _set_mode(model: Any, mode: str) -> None:
    tile(model, mode)
    if mode == "diffusers":
        return
    model.drop_last_temporal_frames = False
    for block in model.decoder.up_blocks:
        block.register_forward_hook(_drop_first_frames)


def _drop_first_frames(block: Any, arguments: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    """(B, C, r T, H, W) -> (B, C, r T - (r - 1), H, W), where `block` expands time by r."""
    frames, caches = output
    return frames[:, :, block.temporal_expansion - 1 :], caches


FAMILY = Family(
    cls="AutoencoderKLMochi",
    variants=VARIANTS,
    layouts=mochi_layouts.LAYOUTS,
    configs={},
    small={
        "encoder_block_out_channels": (32, 32, 32, 32),
        "decoder_block_out_channels": (32, 32, 32, 32),
        "layers_per_block": (1, 1, 1, 1, 1),
    },
    set_mode=_set_mode,
    describe=_keep_features_exact,
    float32_pixels=True,
    dtype_warnings={"bfloat16": HALF.format("bfloat16", "2 %"), "float16": HALF.format("float16", "0.3 %")},
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

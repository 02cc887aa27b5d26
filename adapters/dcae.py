"""DC-AE, frame by frame: an image autoencoder of 32x32 with 32 channels and no variance, as Sana uses it.

Chen et al., Deep Compression Autoencoder for Efficient High-Resolution Diffusion Models, arXiv 2410.10733.
"""

from __future__ import annotations

from adapters._diffusers import Family
from adapters._image import decode, encode, set_mode
from vaebench.vae import VAESpec

LEVELS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
CONFIG = {
    "encoder_block_types": LEVELS,
    "decoder_block_types": LEVELS,
    "upsample_block_type": "interpolate",
    "downsample_block_type": "conv",
    "scaling_factor": 0.41407,
}
VARIANTS = {
    "f32c32-sana": VAESpec(
        family="dcae",
        variant="f32c32-sana",
        temporal_compression=1,
        spatial_compression=32,
        latent_channels=32,
        causal=True,
        size_multiple=32,
        modes=("whole", "native", "sliced"),
        lossless_modes=("native", "sliced"),
        source="hf:mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers@8589aeeb0a1ab152a305081d83d3794e089c0326:diffusion_pytorch_model.safetensors",
        latent_space="dc-ae-f32c32-sana-1.0",
        license="see LICENSE.txt beside the weights",
        reference="arXiv 2410.10733",
        parameters=312_250_275,
        scale=0.41407,
        note="whole and native are all frames as one batch, sliced one frame at a time; no posterior",
    )
}
FAMILY = Family(
    cls="AutoencoderDC",
    variants=VARIANTS,
    configs={"f32c32-sana": CONFIG},
    small={
        "encoder_block_out_channels": (8, 8, 8, 8, 16, 32),
        "decoder_block_out_channels": (8, 8, 8, 8, 16, 32),
        "encoder_layers_per_block": (1,) * 6,
        "decoder_layers_per_block": (1,) * 6,
        "attention_head_dim": 8,
    },
    set_mode=set_mode,
    encode=encode,
    decode=decode,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

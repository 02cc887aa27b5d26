"""HunyuanVideo-1.5: 4x16x16, 32 channels, causal; its attention takes one video at a time.

Tencent Hunyuan, HunyuanVideo 1.5, arXiv 2511.18870.
"""

from __future__ import annotations

from adapters._diffusers import Family, tile
from adapters._layouts import hunyuanvideo15 as hunyuanvideo15_layouts
from vaebench.vae import FrameRule, VAESpec

VARIANTS = {
    "1.5": VAESpec(
        family="hunyuanvideo15",
        variant="1.5",
        temporal_compression=4,
        spatial_compression=16,
        latent_channels=32,
        causal=True,
        frames=FrameRule(4, 1),
        size_multiple=16,
        modes=("whole", "native", "tiled"),
        lossless_modes=("native",),
        source="hf:hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v@main:vae/diffusion_pytorch_model.safetensors",
        latent_space="hunyuanvideo-1.5",
        license="Tencent Hunyuan community licence (not for the EU, the UK and South Korea)",
        reference="arXiv 2511.18870",
        parameters=1_260_634_115,
        scale=1.03682,
        note="native is whole; each attention builds its mask in a Python loop over all positions, which its timing includes; "
        "tiles of 256 pixels, 25 % overlap",
    )
}
FAMILY = Family(
    cls="AutoencoderKLHunyuanVideo15",
    variants=VARIANTS,
    layouts=hunyuanvideo15_layouts.LAYOUTS,
    configs={},
    small={"block_out_channels": (16, 16, 16, 32, 64), "layers_per_block": 1},
    diffusers="0.36",
    set_mode=tile,
    one_by_one=True,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

"""FLUX.1's image VAE, frame by frame: 8x8 with 16 channels, the network of Stable Diffusion 3 with other weights.

Black Forest Labs, FLUX.1, 2024 (github.com/black-forest-labs/flux).
"""

from __future__ import annotations

from dataclasses import replace

from adapters import sd
from adapters._diffusers import Family
from adapters._image import decode, encode, set_mode

VARIANTS = {
    "1": replace(
        sd.VARIANTS["3"],
        family="flux",
        variant="1",
        latent_space="flux.1",
        source="hf:black-forest-labs/FLUX.1-schnell@768d12a373ed5cc9ef9a9dea7504dc09fcc14842:vae/diffusion_pytorch_model.safetensors",
        license="Apache-2.0",
        reference="github.com/black-forest-labs/flux",
        scale=0.3611,
        shift=0.1159,
    )
}
FAMILY = Family(
    cls="AutoencoderKL",
    variants=VARIANTS,
    configs={"1": {**sd.SIXTEEN_CHANNELS, "scaling_factor": 0.3611, "shift_factor": 0.1159}},
    small=sd.FAMILY.small,
    layouts=sd.FAMILY.layouts,  # ae.safetensors has CompVis' names
    set_mode=set_mode,
    encode=encode,
    decode=decode,
)
load = FAMILY.load
tiny = FAMILY.tiny
requires = FAMILY.requires

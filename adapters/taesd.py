"""TAESD: tiny image autoencoders for the latents of Stable Diffusion, FLUX and Sana, run frame by frame.

Ollin Boer Bohan, github.com/madebyollin/taesd.  Its latent is what a diffusion model sees: the parent's, already normalised.  The
released code does not clamp pixels.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters._local import OwnFamily, OwnVAE
from vaebench.vae import VAESpec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from adapters._layouts import State
    from adapters._nets.taesd import TAESD, TAESDConfig

SOURCE = "github:madebyollin/taesd@5cccb12dc72074a4be35680c3b108548a7c69978:{0}_encoder.pth#{1}+{0}_decoder.pth#{2}"


def _source(file: str, encoder: str, decoder: str) -> str:
    return SOURCE.format(file, encoder, decoder)


SD = VAESpec(
    family="taesd",
    variant="sd",
    temporal_compression=1,
    spatial_compression=8,
    latent_channels=4,
    causal=True,
    size_multiple=8,
    source=_source("taesd", "65f85afc58480128926e52086fbf0fdc61c2c9b5", "5915a429fc08eba4adf62bf74f96705b8b0d5c1f"),
    latent_space="sd",
    license="MIT",
    reference="github.com/madebyollin/taesd@5cccb12",
    parameters=2_445_063,
    note="frame by frame, without a posterior; the latent is the normalised one of Stable Diffusion 1 and 2",
)
SD3 = replace(
    SD,
    variant="sd3",
    latent_space="sd3",
    latent_channels=16,
    source=_source("taesd3", "9678667c0e3e4b648a36daaa8094b1732ae4fb67", "7943be72a9151d0b330c5d8a4fbb885d889b60a1"),
    parameters=2_458_899,
    note="frame by frame, without a posterior; the latent is the normalised one of Stable Diffusion 3",
)
VARIANTS = {
    "sd": SD,
    "sdxl": replace(
        SD,
        variant="sdxl",
        latent_space="sdxl",
        source=_source(
            "taesdxl", "56dfb7ed13ac774bc28dcd981f072f26eb7c5e99", "477bc7e9604f418029508e72ac8719bb9d048291"
        ),
        note="frame by frame, without a posterior; the latent is the normalised one of Stable Diffusion XL",
    ),
    "sd3": SD3,
    "flux1": replace(
        SD3,
        variant="flux1",
        latent_space="flux.1",
        source=_source("taef1", "d8ee13fa3a1ff9a92643669d718e4b0827daafa5", "b772c9c4e6d3b79d06b277be59296389591783d3"),
        note="frame by frame, without a posterior; the latent is the normalised one of FLUX.1",
    ),
    "flux2": replace(
        SD,
        variant="flux2",
        latent_space="flux.2",
        latent_channels=32,
        source=_source("taef2", "8d738aba02f7ba9d156712489322dc5c43d5db1c", "f4da1ec48cb805b5ee8deb22cfad03f48fe52f64"),
        parameters=2_677_027,
        note="frame by frame, without a posterior; the latent is FLUX.2's after the batch norm of its 2x2-packed channels; a group "
        "norm spans the frame: results depend on its size, and tiling is not exact; bfloat16 loses up to 0.8 dB, float16 0.04 dB",
    ),
    "sana": replace(
        SD,
        variant="sana",
        latent_space="dc-ae-f32c32-sana-1.0",
        spatial_compression=32,
        latent_channels=32,
        size_multiple=32,
        source=_source(
            "taesana", "7e6354ea9e818c2fe56d3e80070a9e5e8a37be2f", "aa645f9d0a0a1c6b5ed1fc5b446e764af4843a9f"
        ),
        parameters=9_558_051,
        note="frame by frame, without a posterior; the latent is the normalised one of DC-AE f32c32 (Sana 1.0)",
    ),
}
DTYPE_WARNINGS = {"bfloat16": "it loses up to 0.8 dB (measured on flux2); prefer float32 or float16"}


def config_of(variant: str) -> TAESDConfig:
    """The released network of a variant."""
    from adapters._nets.taesd import TAESDConfig

    if variant == "sana":
        return TAESDConfig(32, stem=(32,), widths=(256, 128, 64, 64, 64, 64))
    return TAESDConfig(VARIANTS[variant].latent_channels, pool=256 if variant == "flux2" else 0)


def _small(variant: str) -> TAESDConfig:
    released = config_of(variant)
    return replace(
        released,
        stem=tuple(width // 8 for width in released.stem),
        widths=tuple(width // 8 for width in released.widths),
        encoder_width=released.encoder_width // 8,
        pool=released.pool // 8,
    )


def _network(config: TAESDConfig) -> TAESD:
    from adapters._nets.taesd import TAESD

    return TAESD(config)


def _read(file: Path) -> State:
    """Encoder and decoder, from the two released files or from one whose keys begin with `encoder.` and `decoder.`."""
    from adapters._layouts.reading import read_vae

    return read_vae(file)


def _tensors(state: State) -> State:
    """`state` under the released keys, also from those of diffusers' AutoencoderTiny, which the Hub has.

    They are `encoder.layers.K` and `decoder.layers.K`, where the decoder does not count the clamp, which has no weights.
    """
    from adapters._layouts import renamed

    def name(key: str) -> str:
        match = re.match(r"(encoder|decoder)\.layers\.(\d+)\.", key)
        return f"{match[1]}.{int(match[2]) + (match[1] == 'decoder')}.{key[match.end() :]}" if match else key

    return renamed(state, name)


def _enlarge_weights(model: TAESD) -> None:
    from adapters._nets.taesd import enlarge_weights

    enlarge_weights(model)


def _vae(spec: VAESpec, model: TAESD, mode: str, **placement: Any) -> OwnVAE:
    def encode(video: Tensor) -> Tensor:
        return model.encode((video + 1) / 2)

    def decode(latent: Tensor) -> Tensor:
        return model.decode(latent) * 2 - 1

    return OwnVAE(spec, model, encode, decode, dtype_warnings=DTYPE_WARNINGS, has_variance=False, **placement)


OWN = OwnFamily(
    variants=VARIANTS,
    config=config_of,
    small=_small,
    network=_network,
    vae=_vae,
    read=_read,
    tensors=_tensors,
    initialise=_enlarge_weights,
)
load = OWN.load
tiny = OWN.tiny
spec_of = OWN.spec_of
expected_shapes = OWN.expected_shapes
shapes_in = OWN.shapes_in

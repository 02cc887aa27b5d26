"""Stable Diffusion: CompVis' names, the attention names of diffusers before 0.17, and attention as 1x1 convolutions.

    decoder.up.3.block.0.nin_shortcut, mid.attn_1.q         CompVis; levels of the decoder count from the pixels
    mid_block.attentions.0.query, key, value, proj_attn     diffusers before 0.17, as the releases on the Hub still have them
    mid_block.attentions.0.to_q, to_k, to_v, to_out.0       diffusers today

Attention is Linear (C, C) in diffusers and a convolution (C, C, 1, 1) in CompVis' code and in files that other tools converted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adapters._layouts import Layout, State, levels, renamed, substitute

if TYPE_CHECKING:
    from torch import Tensor

OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
ATTENTION = re.compile(r"(?:encoder|decoder)\.mid_block\.attentions\.\d+\.(?:to_[qkv]|to_out\.0)\.weight")
BLOCKS = (  # CompVis' modules, shared by all families that descend from its autoencoder
    (r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1."),
    (r"^(encoder\.down_blocks\.\d+|decoder\.up_blocks\.\d+)\.block\.", r"\1.resnets."),
    (r"^(encoder\.down_blocks\.\d+)\.downsample\.", r"\1.downsamplers.0."),
    (r"^(decoder\.up_blocks\.\d+)\.upsample\.", r"\1.upsamplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
)
IMAGE = (
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
)


def count_from_the_latent(key: str, count: int) -> str:
    """decoder.up.I counts from the pixels, decoder.up_blocks.J from the latent."""
    return re.sub(r"^decoder\.up\.(\d+)\.", lambda match: f"decoder.up_blocks.{count - 1 - int(match[1])}.", key)


def from_compvis(state: State) -> dict[str, Tensor]:
    count = levels(state, "decoder.up")
    rules = (*BLOCKS, *IMAGE)
    return linear_attention(renamed(state, lambda key: substitute(count_from_the_latent(key, count), rules)))


def from_diffusers(state: State) -> dict[str, Tensor]:
    """Old names of the attention, or weights of 1x1 convolutions, to those of today."""
    old = "|".join(OLD_NAMES)

    def name(key: str) -> str:
        return re.sub(
            rf"(\.mid_block\.attentions\.\d+)\.({old})\.", lambda match: f"{match[1]}.{OLD_NAMES[match[2]]}.", key
        )

    return linear_attention(renamed(state, name))


def linear_attention(state: State) -> dict[str, Tensor]:
    """(C, C, 1, 1) -> (C, C) for the weights of the attention."""
    return {
        key: value.flatten(1) if ATTENTION.fullmatch(key) and value.shape[2:].numel() == 1 else value
        for key, value in state.items()
    }


LAYOUTS = (
    Layout("CompVis' latent-diffusion", r"(?:encoder\.down|decoder\.up|(?:encoder|decoder)\.mid)\.", from_compvis),
    Layout("diffusers", r"(?:encoder|decoder)\.mid_block\.attentions\.", from_diffusers),
)

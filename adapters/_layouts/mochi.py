"""Mochi: the names of Genmo's encoder.safetensors and decoder.safetensors.

The reader puts `encoder.` and `decoder.` before the keys of the two files, as merged files of mirrors have them.  The encoder is
one flat list of layers: a projection, residual blocks, groups that have `layers`, residual blocks.  The decoder's list has the
same parts.  Query, key and value are one matrix (3C, C).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adapters._layouts import Layout, State, levels, renamed, substitute

if TYPE_CHECKING:
    from torch import Tensor

INSIDE = (  # of a residual block and of its attention
    (r"\.(block_in|block_out|(?:down|up)_blocks\.\d+)\.(\d+)\.stack\.0\.", r".\1.resnets.\2.norm1.norm_layer."),
    (r"\.(block_in|block_out|(?:down|up)_blocks\.\d+)\.(\d+)\.stack\.2\.", r".\1.resnets.\2.conv1.conv."),
    (r"\.(block_in|block_out|(?:down|up)_blocks\.\d+)\.(\d+)\.stack\.3\.", r".\1.resnets.\2.norm2.norm_layer."),
    (r"\.(block_in|block_out|(?:down|up)_blocks\.\d+)\.(\d+)\.stack\.5\.", r".\1.resnets.\2.conv2.conv."),
    (r"\.(block_out|down_blocks\.\d+)\.(\d+)\.attn_block\.norm\.", r".\1.norms.\2.norm_layer."),
    (r"\.(block_out|down_blocks\.\d+)\.(\d+)\.attn_block\.attn\.out\.", r".\1.attentions.\2.to_out.0."),
    (r"\.(block_out|down_blocks\.\d+)\.(\d+)\.attn_block\.attn\.", r".\1.attentions.\2."),
    (r"^encoder\.output_norm\.", "encoder.norm_out.norm_layer."),
    (r"^(encoder|decoder)\.output_proj\.", r"\1.proj_out."),
)


def from_genmo(state: State) -> dict[str, Tensor]:
    """Raises ValueError if only one of the two files is given."""
    halves = {key.partition(".")[0] for key in state}
    if missing := {"encoder", "decoder"} - halves:
        absent = missing.pop()
        raise ValueError(
            f"the {absent} is missing; Genmo's files are encoder.safetensors and decoder.safetensors: put them into one folder, "
            "under these names, and give either"
        )
    grouped = [re.match(r"encoder\.layers\.(\d+)\.layers\.", key) for key in state]
    groups = sorted({int(match[1]) for match in grouped if match})
    first, after = (groups[0], groups[-1] + 1) if groups else (1, 1)
    last = levels(state, "decoder.blocks") - 1

    def encoder(match: re.Match[str]) -> str:
        number = int(match[1])
        if number == 0:
            return "encoder.proj_in."
        if number < first:
            return f"encoder.block_in.{number - 1}."
        return f"encoder.down_blocks.{number - first}." if number < after else f"encoder.block_out.{number - after}."

    def grouped_layer(match: re.Match[str]) -> str:
        number = int(match[2])
        return f"{match[1]}.{number - 1}." if number else f"{match[1]}.conv_in.conv."

    def decoder_input(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"decoder.block_in.{number - 1}." if number else "decoder.conv_in."

    def name(key: str) -> str:
        key = re.sub(r"^encoder\.layers\.(\d+)\.", encoder, key)
        key = re.sub(r"^(encoder\.down_blocks\.\d+)\.layers\.(\d+)\.", grouped_layer, key)
        key = re.sub(r"^decoder\.blocks\.0\.(\d+)\.", decoder_input, key)
        key = re.sub(rf"^decoder\.blocks\.{last}\.(?=\d)", "decoder.block_out.", key)
        key = re.sub(r"^decoder\.blocks\.(\d+)\.", lambda m: f"decoder.up_blocks.{int(m[1]) - 1}.", key)
        key = re.sub(r"^(decoder\.up_blocks\.\d+)\.blocks\.", r"\1.", key)
        return substitute(key, INSIDE)

    return renamed(_split_attention(state), name)


def _split_attention(state: State) -> dict[str, Tensor]:
    """qkv (3C, C) -> to_q, to_k, to_v (C, C)."""
    parts: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(".attn.qkv.weight") and len(value) % 3 == 0:
            stem = key.removesuffix("qkv.weight")
            parts |= {
                f"{stem}{part}.weight": matrix
                for part, matrix in zip(("to_q", "to_k", "to_v"), value.chunk(3), strict=True)
            }
        else:
            parts[key] = value
    return parts


LAYOUTS = (Layout("Genmo's", r"(?:encoder\.)?layers\.\d+\.(?:layers|stack)\.|(?:decoder\.)?blocks\.\d+\.", from_genmo),)

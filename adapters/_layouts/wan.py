"""Wan 2.1 and 2.2: the names of Wan2.1_VAE.pth and Wan2.2_VAE.pth.

Both number the parts of a block (`residual.0`, `.2`, `.3`, `.6`).  2.1 keeps both halves as flat lists, which diffusers keeps for
the encoder and groups for the decoder: an upsampling ends a group.  2.2 has the groups itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adapters._layouts import Layout, State, levels, renamed, substitute

if TYPE_CHECKING:
    from torch import Tensor

PARTS = (
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"^(encoder|decoder)\.head\.0\.", r"\1.norm_out."),
    (r"^(encoder|decoder)\.head\.2\.", r"\1.conv_out."),
    (r"^(encoder|decoder)\.middle\.0\.", r"\1.mid_block.resnets.0."),
    (r"^(encoder|decoder)\.middle\.1\.", r"\1.mid_block.attentions.0."),
    (r"^(encoder|decoder)\.middle\.2\.", r"\1.mid_block.resnets.1."),
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
)
RESAMPLES = r"(?:resample\.1|time_conv)\."


def from_21(state: State) -> dict[str, Tensor]:
    place, group, block = {}, 0, 0
    for number in range(levels(state, "decoder.upsamples")):
        if any(re.match(rf"decoder\.upsamples\.{number}\.{RESAMPLES}", key) for key in state):
            place[number] = f"decoder.up_blocks.{group}.upsamplers.0."
            group, block = group + 1, 0
        else:
            place[number] = f"decoder.up_blocks.{group}.resnets.{block}."
            block += 1

    def name(key: str) -> str:
        key = re.sub(r"^decoder\.upsamples\.(\d+)\.", lambda match: place[int(match[1])], key)
        return substitute(re.sub(r"^encoder\.downsamples\.", "encoder.down_blocks.", key), PARTS)

    return renamed(state, name)


def from_22(state: State) -> dict[str, Tensor]:
    groups = (
        (rf"^encoder\.downsamples\.(\d+)\.downsamples\.\d+\.(?={RESAMPLES})", r"encoder.down_blocks.\1.downsampler."),
        (r"^encoder\.downsamples\.(\d+)\.downsamples\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2."),
        (rf"^decoder\.upsamples\.(\d+)\.upsamples\.\d+\.(?={RESAMPLES})", r"decoder.up_blocks.\1.upsampler."),
        (r"^decoder\.upsamples\.(\d+)\.upsamples\.(\d+)\.", r"decoder.up_blocks.\1.resnets.\2."),
    )
    return renamed(state, lambda key: substitute(key, (*groups, *PARTS)))


LAYOUTS = (
    Layout("Wan2.2_VAE.pth", r"decoder\.upsamples\.\d+\.upsamples\.|encoder\.downsamples\.\d+\.downsamples\.", from_22),
    Layout("Wan2.1_VAE.pth", r"decoder\.upsamples\.|encoder\.downsamples\.", from_21),
)

"""LTX-Video and LTX-2: the names of Lightricks' single files.

Each half is one flat list of blocks: stacks of residual blocks, resamplings, and single residual blocks that change the width.
diffusers groups them into levels.  A stack of the decoder ends its level, one of the encoder begins it; the first stack of the
decoder and the last of the encoder are the `mid_block`.  The keys of a block show its kind, so one rule reads every version and
width.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adapters._layouts import Layout, State, levels, renamed, substitute, without

if TYPE_CHECKING:
    from torch import Tensor

UNUSED = r"per_channel_statistics\.(?:channel|mean-of-stds|mean-of-stds_over_std-of-means)"
SHARED = (
    (r"\.res_blocks\.", ".resnets."),
    (r"^per_channel_statistics\.mean-of-means$", "latents_mean"),
    (r"^per_channel_statistics\.std-of-means$", "latents_std"),
)
LTX1 = (
    (r"\.conv_shortcut\.", ".conv_shortcut.conv."),
    (r"\.norm3\.norm\.", ".norm3."),
    (r"^decoder\.last_time_embedder\.", "decoder.time_embedder."),
    (r"^decoder\.last_scale_shift_table$", "decoder.scale_shift_table"),
)


def from_ltx(state: State) -> dict[str, Tensor]:
    return _from_lightricks(state, (*SHARED, *LTX1))


def from_ltx2(state: State) -> dict[str, Tensor]:
    return _from_lightricks(state, SHARED)


def _from_lightricks(state: State, rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    place = {**_encoder_blocks(state), **_decoder_blocks(state)}

    def name(key: str) -> str:
        match = re.match(r"(?:encoder\.down_blocks|decoder\.up_blocks)\.\d+\.", key)
        if match and match[0] in place:
            key = place[match[0]] + key[match.end() :]
        return substitute(key, rules)

    return renamed(without(state, UNUSED), name)


def _kinds(state: State, part: str) -> list[str]:
    """ "stack", "resample" or "width" for each block of `part`."""
    kinds = []
    for number in range(levels(state, part)):
        rest = [key.removeprefix(f"{part}.{number}.") for key in state if key.startswith(f"{part}.{number}.")]
        if any(key.startswith("res_blocks.") for key in rest):
            kinds.append("stack")
        else:
            kinds.append("resample" if all(key.startswith("conv.") for key in rest) else "width")
    return kinds


def _encoder_blocks(state: State) -> dict[str, str]:
    kinds, place, level = _kinds(state, "encoder.down_blocks"), {}, -1
    last = max((i for i, kind in enumerate(kinds) if kind == "stack"), default=-1)
    for number, kind in enumerate(kinds):
        level += kind == "stack"
        below = {"stack": "", "resample": "downsamplers.0.", "width": "conv_out."}[kind]
        new = "encoder.mid_block." if number == last else f"encoder.down_blocks.{level}.{below}"
        place[f"encoder.down_blocks.{number}."] = new
    return place


def _decoder_blocks(state: State) -> dict[str, str]:
    kinds, place, level = _kinds(state, "decoder.up_blocks"), {}, 0
    for number, kind in enumerate(kinds):
        below = {"stack": "", "resample": "upsamplers.0.", "width": "conv_in."}[kind]
        new = "decoder.mid_block." if number == 0 else f"decoder.up_blocks.{level}.{below}"
        place[f"decoder.up_blocks.{number}."] = new
        level += kind == "stack" and number > 0
    return place


MARK = r"(?:encoder\.down_blocks|decoder\.up_blocks)\.\d+\.res_blocks\.|per_channel_statistics\."
LAYOUTS = (Layout("Lightricks' LTX-Video", MARK, from_ltx),)
LAYOUTS2 = (Layout("Lightricks' LTX-2", MARK, from_ltx2),)

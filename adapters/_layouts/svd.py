"""Stable Video Diffusion: CompVis' names with a stack along time in every block of the decoder.

The original has no `quant_conv`; diffusers' class has one, and the identity makes them the same network.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adapters._layouts import Layout, State, renamed, sd

if TYPE_CHECKING:
    from torch import Tensor

TIME = {"in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2", "out_layers.3": "conv2"}
RESNET = re.compile(r"(decoder\.(?:mid_block|up_blocks\.\d+)\.resnets\.\d+)\.(.+)")


def from_sgm(state: State) -> dict[str, Tensor]:
    import torch

    converted = renamed(sd.from_compvis(state), _with_time)
    out = converted.get("encoder.conv_out.weight")
    if out is not None and "quant_conv.weight" not in converted:
        channels = len(out)
        converted["quant_conv.weight"] = torch.eye(channels, dtype=out.dtype, device=out.device).view(
            channels, channels, 1, 1
        )
        converted["quant_conv.bias"] = torch.zeros(channels, dtype=out.dtype, device=out.device)
    return converted


def _with_time(key: str) -> str:
    if key.startswith("decoder.conv_out.time_mix_conv."):
        return key.replace("conv_out.time_mix_conv", "time_conv_out")
    match = RESNET.fullmatch(key)
    if not match:
        return key
    block, rest = match.groups()
    if rest == "mix_factor":
        return f"{block}.time_mixer.mix_factor"
    if rest.startswith("time_stack."):
        module, _, kind = rest.removeprefix("time_stack.").rpartition(".")
        return f"{block}.temporal_res_block.{TIME.get(module, module)}.{kind}"
    return f"{block}.spatial_res_block.{rest}"


LAYOUTS = (
    Layout("Stability's generative-models", r"decoder\.mid\.block_\d\.mix_factor", from_sgm),
    *sd.LAYOUTS,
)

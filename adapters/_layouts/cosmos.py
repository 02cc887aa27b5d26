"""Cosmos tokenizer: the names inside NVIDIA's autoencoder.jit.

The archive has a downsampling and an upsampling that its forward never calls (12 tensors), and three constant buffers; these are
dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters._layouts import Layout, State, levels, renamed, substitute, without
from adapters._layouts.sd import BLOCKS, count_from_the_latent

if TYPE_CHECKING:
    from torch import Tensor

UNUSED = (
    r"encoder\.down\.1\.downsample\.conv[123]\.conv3d\.(?:weight|bias)"
    r"|decoder\.up\.2\.upsample\.conv[123]\.conv3d\.(?:weight|bias)"
    r"|.*(?:wavelets|_arange|patch_size_buffer)"
)
PAIRS = (  # a convolution over space, then one over time
    (r"\.0\.conv3d\.", ".conv_s."),
    (r"\.1\.conv3d\.", ".conv_t."),
    (r"\.mid\.attn_1\.0\.", ".mid_block.attentions.0."),
    (r"\.mid\.attn_1\.1\.", ".mid_block.temp_attentions.0."),
    (r"attentions\.0\.([qkv])\.conv3d\.", r"attentions.0.to_\1."),
    (r"attentions\.0\.proj_out\.conv3d\.", "attentions.0.to_out.0."),
    (r"\.conv3d\.", "."),
)


def from_nvidia(state: State) -> dict[str, Tensor]:
    count = levels(state, "decoder.up")
    rules = (*BLOCKS, *PAIRS)
    return renamed(without(state, UNUSED), lambda key: substitute(count_from_the_latent(key, count), rules))


LAYOUTS = (Layout("NVIDIA's Cosmos-Tokenizer", r".*\.conv3d\.", from_nvidia),)

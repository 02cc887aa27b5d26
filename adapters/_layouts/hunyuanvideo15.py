"""HunyuanVideo-1.5: the names of Tencent's VAE folder: those of CompVis, with the decoder's levels counted from the latent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters._layouts import Layout, State, renamed, substitute
from adapters._layouts.sd import BLOCKS

if TYPE_CHECKING:
    from torch import Tensor

RULES = (
    (r"^decoder\.up\.(\d+)\.", r"decoder.up_blocks.\1."),
    *BLOCKS,
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
)


def from_tencent(state: State) -> dict[str, Tensor]:
    return renamed(state, lambda key: substitute(key, RULES))


LAYOUTS = (
    Layout("Tencent's HunyuanVideo-1.5", r"(?:encoder\.down|decoder\.up|(?:encoder|decoder)\.mid)\.", from_tencent),
)

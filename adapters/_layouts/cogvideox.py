"""CogVideoX: the names of the authors' `3d-vae.pt`: those of CompVis, with another resampling and no attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters._layouts import Layout, State, levels, renamed, substitute
from adapters._layouts.sd import BLOCKS, count_from_the_latent

if TYPE_CHECKING:
    from torch import Tensor


def from_sat(state: State) -> dict[str, Tensor]:
    count = levels(state, "decoder.up")
    return renamed(state, lambda key: substitute(count_from_the_latent(key, count), BLOCKS))


LAYOUTS = (Layout("CogVideoX' sat", r"(?:encoder\.down|decoder\.up|(?:encoder|decoder)\.mid)\.", from_sat),)

"""WF-VAE by itself: the model of arXiv 2411.17459, its weights and its training.  Knows nothing of the benchmark.

`load` and `WFVAE` import torch when they are first used, so that `wfvae.config` and the other settings stay fast to import.
"""

from typing import TYPE_CHECKING, Any

from wfvae.config import WFVAEConfig

if TYPE_CHECKING:
    from wfvae.checkpoint import load
    from wfvae.model import WFVAE

__all__ = ["WFVAE", "WFVAEConfig", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from wfvae.checkpoint import load

        return load
    if name == "WFVAE":
        from wfvae.model import WFVAE

        return WFVAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""WF-VAE (arXiv 2411.17459) as a library: the model, its weights and its training.  It does not import the benchmark.

`load` and `WFVAE` import torch at first use, so that `wfvae.config` and the other settings are fast to import.
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

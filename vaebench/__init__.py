"""The benchmark of video VAEs.

    import vaebench

    vae = vaebench.load("wfvae/tiny")                                     # or any object that meets the contract of vaebench.vae
    record = vaebench.evaluate(vae, suite="reconstruction", data="bundle", num_frames=17)
    table = vaebench.results("runs/results")                              # all records of a folder as a pandas DataFrame

Importing this package imports neither torch nor pandas: public names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["FrameRule", "Posterior", "Record", "VAESpec", "VideoVAE", "evaluate", "load", "results"]

if TYPE_CHECKING:
    from adapters import load
    from vaebench.evaluation import evaluate
    from vaebench.records import Record
    from vaebench.tables import results
    from vaebench.vae import FrameRule, Posterior, VAESpec, VideoVAE

_HOME = {
    "evaluate": "vaebench.evaluation",
    "load": "adapters",
    "results": "vaebench.tables",
    "Record": "vaebench.records",
    **dict.fromkeys(("FrameRule", "Posterior", "VAESpec", "VideoVAE"), "vaebench.vae"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in ("metrics", "long_video"):  # vaebench.metrics.torchmetric, vaebench.long_video.plan
        return import_module(f"vaebench.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'vaebench' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value

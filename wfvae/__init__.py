"""WF-VAE by itself: the model of arXiv 2411.17459, its weights and its training.  Knows nothing of the benchmark."""

from wfvae.checkpoint import load
from wfvae.config import WFVAEConfig
from wfvae.model import WFVAE

__all__ = ["WFVAE", "WFVAEConfig", "load"]

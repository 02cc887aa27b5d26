"""One training pass through the model, from clips to reconstruction, as a module for DDP and torch.compile."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wfvae.blocks import ResnetBlock
from wfvae.model import WFVAE, Posterior, Reconstruction
from wfvae.regularizers import LatentMask


class Pass(nn.Module):
    """Clips (B, 3, T, H, W) -> reconstruction, moments and wavelet coefficients, as one module for DDP and torch.compile.

    Args:
        model: the autoencoder
        mask: latent masking, or None
    """

    def __init__(self, model: WFVAE, mask: LatentMask | None) -> None:
        super().__init__()
        self.model, self.mask = model, mask

    def forward(self, video: Tensor, noise: Tensor, hidden: Tensor | None) -> tuple[Tensor, ...]:
        encoded = self.model.encode_with_coefficients(video)
        mean, logvar = encoded.posterior.mean, encoded.posterior.logvar
        latent = mean + torch.exp(0.5 * logvar) * noise.to(mean.dtype)
        if self.mask is not None and hidden is not None:
            latent = self.mask(latent, hidden)
        decoded = self.model.decode_with_coefficients(latent)
        return decoded.video, mean, logvar, encoded.w2, encoded.w3, decoded.w2, decoded.w3


def named(parts: tuple[Tensor, ...]) -> Reconstruction:
    """The tuple that `Pass` returns, with 16-bit tensors in float32."""
    half = (torch.float16, torch.bfloat16)
    video, mean, logvar, *coefficients = (part.float() if part.dtype in half else part for part in parts)
    return Reconstruction(video, Posterior(mean, logvar), *coefficients)


def keep_buffers() -> None:
    """Lets a compiled pass be differentiated several times, for the adaptive weights: backward overwrites no saved tensor."""
    from torch._functorch import config

    if hasattr(config, "donated_buffer"):  # since torch 2.6
        config.donated_buffer = False


def checkpoint_blocks(model: WFVAE) -> None:
    """Activation checkpointing: residual blocks store only their input, and run again in the backward pass."""
    for block in model.modules():
        if isinstance(block, ResnetBlock):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]

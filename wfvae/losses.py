"""The training objective of WF-VAE: reconstruction, LPIPS, KL, wavelet and adversarial terms (arXiv 2411.17459, section 3.4).

There are two reductions.  `official` is that of the released code, with which the released weights were trained: pixel errors are
summed over a frame and averaged over frames, but the KL and wavelet terms are summed over the full video, so their relative weight
grows with the length of the clip.  `mean` averages every term over its elements, so the weights do not depend on the number of
frames or the frame size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from wfvae.objective import LossConfig

Perceptual = Callable[[Tensor, Tensor], Tensor]  # two batches of images (N, 3, H, W) in -1..1 -> distances (N,)


class Gaussian(Protocol):
    """The posterior of the model: `mean` and `logvar`, (B, c, t, h, w) each."""

    @property
    def mean(self) -> Tensor: ...
    @property
    def logvar(self) -> Tensor: ...


class Output(Protocol):
    """What `WFVAE.forward` returns; the wavelet coefficients are (B, 12 or 24, t, h, w)."""

    @property
    def video(self) -> Tensor: ...
    @property
    def posterior(self) -> Gaussian: ...
    @property
    def encoder_w2(self) -> Tensor: ...
    @property
    def encoder_w3(self) -> Tensor: ...
    @property
    def decoder_w2(self) -> Tensor: ...
    @property
    def decoder_w3(self) -> Tensor: ...


@dataclass(frozen=True)
class GeneratorLoss:
    """`total` is the loss to minimize; `terms` are the unweighted terms, detached scalars, for the log."""

    total: Tensor
    nll: Tensor  # pixel and LPIPS terms; its graph can be differentiated several times, for the adaptive weights
    terms: dict[str, Tensor]


def frames(video: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B*T, C, H, W)."""
    return video.transpose(1, 2).flatten(0, 1)


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(q || N(0, 1)) in nats of each element, same shape as `mean`."""
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar)


def reconstruction_loss(
    video: Tensor, reconstruction: Tensor, config: LossConfig, perceptual: Perceptual | None
) -> dict[str, Tensor]:
    """The pixel and LPIPS terms.

    With the reduction `official`, the LPIPS of a frame is added to each of its pixels before the sum, as in the released code, so
    its weight is multiplied by C*H*W.

    Args:
        video: (B, 3, T, H, W) in -1..1
        reconstruction: same shape and range
        config: weights of the terms
        perceptual: LPIPS, or None if its weight is 0

    Returns:
        the scalars `pixel`, `perceptual` (0 if its weight is 0) and `nll`, their weighted sum

    Raises:
        ValueError: the weight of LPIPS is not 0 and `perceptual` is None
    """
    error = (video - reconstruction).abs() if config.reconstruction == "l1" else (video - reconstruction).square()
    scale = video[0, :, 0].numel() if config.reduction == "official" else 1
    pixel = error.mean() * scale
    distance = torch.zeros_like(pixel)
    if config.perceptual:
        if perceptual is None:
            raise ValueError(
                f"loss.perceptual is {config.perceptual} but there are no LPIPS weights; "
                "get them, or set `loss.perceptual: 0` to train without LPIPS"
            )
        distance = perceptual(frames(video), frames(reconstruction)).mean()
    return {"pixel": pixel, "perceptual": distance, "nll": pixel + config.perceptual * scale * distance}


def wavelet_loss(output: Output, reduction: Literal["official", "mean"]) -> Tensor:
    """L1 between the wavelet coefficients of encoder and decoder, levels 2 and 3; a scalar (paper, equation 2)."""
    pairs = ((output.encoder_w2, output.decoder_w2), (output.encoder_w3, output.decoder_w3))
    if reduction == "official":
        batch = output.encoder_w2.shape[0]
        return torch.stack([(a - b).abs().sum() / batch for a, b in pairs]).sum()
    return torch.stack([(a - b).abs().mean() for a, b in pairs]).sum()


def balance(main: Tensor, other: Tensor, delta: float, limit: float) -> Tensor:
    """The ratio of two gradient norms, |main| / (|other| + delta), at most `limit`; a detached scalar."""
    return (main.norm() / (other.norm() + delta)).clamp(0.0, limit).detach()


class _KnownGradient(torch.autograd.Function):
    """A scalar with a precomputed gradient with respect to `pixels`."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return factor * gradient, None, None


def differentiate_once(value: Tensor, pixels: Tensor, scale: float = 1.0) -> Tensor:
    """Computes the gradient of a scalar with respect to `pixels` once, for several later backward passes.

    The network between them (LPIPS, the discriminator) is differentiated only once, and its activations are freed.  The result is
    the same scalar with the stored gradient.

    Args:
        value: scalar loss
        pixels: the tensor at which its gradient is stored
        scale: multiplies the scalar in this pass and divides the gradient, because small gradients would become 0 in float16
    """
    if not value.requires_grad:
        return value
    (gradient,) = torch.autograd.grad(value * scale, pixels)
    known: Tensor = _KnownGradient.apply(pixels, value.detach(), gradient / scale)
    return known


def adaptive_weight(
    main: Tensor,
    other: Tensor,
    layer: Tensor,
    delta: float,
    limit: float,
    reduce: Callable[[Tensor], Tensor] | None = None,
    scale: float = 1.0,
) -> Tensor:
    """`balance` of the gradients of two scalar losses with respect to `layer`; both graphs are retained.

    `reduce` averages a gradient over processes, so that all of them use the weight of the batch of all processes.  `scale` is that
    of `differentiate_once`.  Where the gradient of `main` overflows in float16, the weight may be 0: the scaler skips such a step.
    """
    gradients = [torch.autograd.grad(loss * scale, layer, retain_graph=True)[0] / scale for loss in (main, other)]
    if reduce is not None:
        gradients = [reduce(gradient) for gradient in gradients]
    weight = balance(gradients[0], gradients[1], delta, limit)
    return weight if scale == 1 else weight.nan_to_num(0.0)


def generator_loss(
    video: Tensor,
    output: Output,
    config: LossConfig,
    *,
    perceptual: Perceptual | None = None,
    fake_logits: Tensor | None = None,
    last_layer: Tensor | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
    scale: float = 1.0,
) -> GeneratorLoss:
    """The loss of the autoencoder for `video` (B, 3, T, H, W) in -1..1.

    Args:
        video: the training clips
        output: the output of the model for them
        config: weights of the terms
        perceptual: LPIPS
        fake_logits: logits of the discriminator for `output.video`, with their graph; None = no adversarial term
        last_layer: the weight at which the adaptive weight compares gradients (`decoder.conv_out.weight`)
        reduce: see `adaptive_weight`
        scale: see `differentiate_once`

    Raises:
        ValueError: LPIPS has a weight and `perceptual` is None, or `fake_logits` is given without `last_layer`
    """
    parts = reconstruction_loss(video, output.video, config, perceptual)
    nll = differentiate_once(parts["nll"], output.video, scale)
    kl = kl_divergence(output.posterior.mean, output.posterior.logvar)
    kl = kl.sum() / video.shape[0] if config.reduction == "official" else kl.mean()
    total = nll + config.kl * kl
    terms = {**parts, "kl": kl}
    if config.wavelet:
        terms["wavelet"] = wavelet_loss(output, config.reduction)
        total = total + config.wavelet * terms["wavelet"]
    if fake_logits is not None and config.adversarial:
        if last_layer is None:
            raise ValueError("fake_logits needs last_layer, the weight at which the adaptive weight compares gradients")
        adversarial = differentiate_once(-fake_logits.mean(), output.video, scale)
        weight = config.adversarial * adaptive_weight(
            nll, adversarial, last_layer, config.delta, config.adaptive_limit, reduce, scale
        )
        total = total + weight * adversarial
        terms |= {"adversarial": adversarial, "adversarial_weight": weight}
    terms["total"] = total
    return GeneratorLoss(total, nll, {name: value.detach() for name, value in terms.items()})


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The hinge loss of the discriminator, a scalar: real patches above 1, reconstructed ones below -1."""
    return 0.5 * (F.relu(1.0 - real_logits).mean() + F.relu(1.0 + fake_logits).mean())

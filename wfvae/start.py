"""The weights that a run starts from: those of another run or release, or an initialization by wavelet coefficients.

`start_from` copies weights.  `carry_wavelets` sets weights that already reconstruct: the coarsest wavelet coefficients pass through
the network unchanged.

From random weights, a short run spends most of its steps learning a low-pass filter.  Here the 24 coefficients W3 of a position are
rotated to their principal components on the training clips, and the strongest `latent_channels` of them become the latent.  The
decoder's two coefficient heads are fitted by least squares to predict W3, and then the residual of W2, from the latent and its
neighbours; every residual branch and the last layer start at zero.  Released models were not initialized this way; it is for short
trainings.

A component passes the norm and the SiLU before the encoder's last convolution as the pair (+v, -v), because silu(v) - silu(-v) = v.
A constant pair beside it is so large that the norm divides by about the same number at every position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from wfvae import sharding, state
from wfvae.checkpoint import CONFIG, load, read_config
from wfvae.config import WFVAEConfig
from wfvae.model import WFVAE, Decoded, Encoded

if TYPE_CHECKING:
    from wfvae.trainer import Trainer

CONSTANT = 30.0  # value of the constant pair; the components have a standard deviation of about 1


@torch.no_grad()
def principal_components(model: WFVAE, videos: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Videos (B, 3, T, H, W) in -1..1 -> standard deviations (24,), descending, and directions (24, 24), as columns, of W3."""
    total = torch.zeros(24, 24, dtype=torch.float64)
    for video in videos:
        w3 = model.encode_with_coefficients(video).w3.movedim(1, -1).flatten(0, -2).double()
        total += w3.T @ w3 / len(w3)
    values, vectors = torch.linalg.eigh(total / len(videos))
    return values.flip(0).clamp_min(0).sqrt().float(), vectors.flip(1).float()


@torch.no_grad()
def carry_wavelets(model: WFVAE, videos: Sequence[Tensor]) -> None:
    """Initializes a model by wavelet coefficients, as described above.

    Args:
        model: its weights are changed in place
        videos: training clips, each (B, 3, T, H, W) in -1..1

    Raises:
        ValueError: the model has too few channels, or uses group normalization
    """
    config = model.config
    latent, c = config.latent_channels, config.base_channels
    flow = min(config.encoder_flow_channels, config.decoder_flow_channels // 2)
    if config.norm != "layernorm" or 2 * latent + 2 > 4 * c or latent > min(24, flow):
        raise ValueError(
            "initial: wavelets needs model.norm=layernorm, 2 * base_channels > latent_channels, latent_channels <= 24, "
            "encoder_flow_channels >= latent_channels and decoder_flow_channels >= 2 * latent_channels; "
            f"got {config}"
        )
    deviations, directions = principal_components(model, videos)
    scale = deviations[:latent].clamp_min(deviations[0] * 0.02)
    w = model.state_dict()
    for name in w:
        if ".conv2." in name or "mid.1.proj_out" in name:
            w[name].zero_()
    _carry_in(w, (directions[:, :latent] / scale).T, c)
    _carry_out(w, latent, c)
    heads = [f"decoder.connect_l{level}.{config.connect_res_blocks}" for level in (2, 1)]
    for name in (*heads, "decoder.conv_out"):
        w[name + ".weight"].zero_()
        w[name + ".bias"].zero_()
    _fit(model, heads[0], videos, lambda encoded, decoded: encoded.w3)
    _fit(model, heads[1], videos, lambda encoded, decoded: encoded.w2 - decoded.w2)


def _carry_in(w: dict[str, Tensor], analysis: Tensor, c: int) -> None:
    """Sets the encoder: `analysis` (latent, 24) times W3 becomes the mean of the posterior."""
    latent = len(analysis)
    eye = torch.arange(latent)
    w["encoder.connect_l2.weight"].zero_()[:latent, :, 1, 1] = analysis
    w["encoder.connect_l2.bias"].zero_()
    shortcut = w["encoder.mid.0.nin_shortcut.conv.weight"]  # (4C, 2C + flow, 1, 1, 1)
    shortcut[: 2 * latent + 2] = 0
    shortcut[eye, 2 * c + eye] = 1
    shortcut[latent + eye, 2 * c + eye] = -1
    bias = w["encoder.mid.0.nin_shortcut.conv.bias"].zero_()
    bias[2 * latent], bias[2 * latent + 1] = CONSTANT, -CONSTANT
    w["encoder.norm_out.norm.weight"][: 2 * latent] = math.sqrt(2 * (CONSTANT**2 + latent) / (4 * c))
    outward = w["encoder.conv_out.conv.weight"].zero_()
    outward[eye, eye, 2, 1, 1] = 1
    outward[eye, latent + eye, 2, 1, 1] = -1
    w["encoder.conv_out.conv.bias"].zero_()[latent:] = -8  # a narrow posterior


def _carry_out(w: dict[str, Tensor], latent: int, c: int) -> None:
    """Sets the decoder: the latent, and that of the time step before, reach the inputs of both heads unchanged."""
    eye, wide, both = torch.arange(latent), torch.arange(4 * c), torch.arange(2 * latent)
    inward = w["decoder.conv_in.conv.weight"]  # (4C, latent, 3, 3, 3), the last tap in time is the current step
    inward[: 2 * latent] = 0
    inward[eye, eye, 2, 1, 1] = 1
    inward[latent + eye, eye, 1, 1, 1] = 1
    w["decoder.conv_in.conv.bias"].zero_()
    upward = w[next(name for name in w if name.startswith("decoder.up2.") and name.endswith(".conv.conv.weight"))]
    upward[: 2 * latent] = 0
    upward[both, both, 2, 1, 1] = 1
    for name in w:
        if name.startswith(("decoder.mid.2.nin_shortcut", "decoder.up2.")) and "nin_shortcut.conv.weight" in name:
            w[name].zero_()[wide, wide] = 1  # (4C + flow, 4C, 1, 1, 1)
            w[name][4 * c + both, both] = 1
        elif name.startswith(("decoder.mid.2.nin_shortcut", "decoder.up2.")) and name.endswith(
            "nin_shortcut.conv.bias"
        ):
            w[name].zero_()


def _fit(model: WFVAE, head: str, videos: Sequence[Tensor], target: Callable[[Encoded, Decoded], Tensor]) -> None:
    """Fits a 3 x 3 convolution by ridge regression of `target` (B, N, t, h, w) on its inputs in the model.

    The weight of a clip is one over its energy outside the low band, so that all clips gain about the same in dB.
    """
    layer = model.get_submodule(head)
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    left: Tensor | float = 0.0
    right: Tensor | float = 0.0
    for video in videos:
        encoded = model.encode_with_coefficients(video)
        decoded = model.decode_with_coefficients(encoded.posterior.mode())
        images = seen.pop().flatten(0, 1).movedim(-1, 1)  # (B * t, in, h, w)
        x = F.unfold(images, 3, padding=1).transpose(1, 2).flatten(0, 1).double()
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        y = target(encoded, decoded).movedim(1, -1).reshape(len(x), -1).double()
        weight = 1 / (len(x) * (encoded.w2[:, 3:].square().mean().double() + 1e-3))
        left, right = left + weight * x.T @ x, right + weight * x.T @ y
    handle.remove()
    assert isinstance(left, Tensor)
    ridge = 1e-4 * left.diagonal().mean() * torch.eye(len(left), dtype=left.dtype)
    solution = torch.linalg.solve(left + ridge, right).T.float()  # (out, in * 9 + 1)
    w = layer.state_dict()
    w["weight"].copy_(solution[:, :-1].view_as(w["weight"]))
    w["bias"].copy_(solution[:, -1])


@torch.no_grad()
def close_flow(model: WFVAE, levels: Sequence[int]) -> None:
    """Closes the energy flow at levels 1 (W2) or 2 (W3), an ablation: its inputs to the encoder and from the decoder are zero.

    Raises:
        ValueError: another level
    """
    for level in levels:
        if level not in (1, 2):
            raise ValueError(f"without_flow should hold levels 1 and 2 only, got {level}")
        for name, parameter in model.named_parameters():
            if f"coder.connect_l{level}." in name:
                parameter.requires_grad_(False)
                if name.startswith("encoder") or f".{model.config.connect_res_blocks}." in name:
                    parameter.zero_()


def start_from(
    trainer: Trainer, source: Path, refresh_discriminator: bool, described: WFVAEConfig | None = None
) -> None:
    """Starts a run with the weights at `source`; a resumed run is not changed.

    From a checkpoint of a run come its raw weights, EMA and discriminator; frozen weights start from the EMA.  A released folder or
    file has weights only, which also initialize the EMA.  Optimizers and the step count start from zero.

    Args:
        trainer: the run
        source: checkpoint folder of a run, or released folder or file
        refresh_discriminator: start with a new discriminator
        described: configuration of the weights, if there is no config.json beside them

    Raises:
        ValueError: `source` holds another network, or no discriminator of the size that the run needs
    """
    if trainer.step:
        return
    if (source / state.TRAINING).is_file():
        training, config = state.read(source), read_config(source / CONFIG)
        start, discriminator = training["model"], training["discriminator"]
        average = start | training["ema"]  # raw weights where there is no EMA: a run without it, a frozen encoder
        _check_same_networks(trainer, source, config, discriminator, refresh_discriminator)
    else:
        released = described or read_config((source if source.is_dir() else source.parent) / CONFIG)
        _check_same_networks(trainer, source, released, {}, refresh_discriminator)
        weights = load(source, released).state_dict()
        start, discriminator = {f"model.{name}": value for name, value in weights.items()}, {}
        average = start
    held = trainer.passes.state_dict()  # the mask token exists in runs with masking only
    frozen = [name for name, value in trainer.passes.named_parameters() if not value.requires_grad]
    # the checkpoint was validated and exported with the EMA, which does not move these
    start |= {name: average[name] for name in frozen if name in average}
    start = {name: value for name, value in start.items() if name in held}
    trainer.passes.load_state_dict(sharding.scatter_weights(start, trainer.passes), strict=not trainer.lmr.active)
    if trainer.ema is not None:
        for name, value in trainer.ema.averages.items():
            if name in average:
                value.copy_(sharding.scatter(average[name], value))
    if trainer.discriminator is not None and not refresh_discriminator:
        trainer.discriminator.load_state_dict(discriminator)


def _check_same_networks(
    trainer: Trainer, source: Path, held: WFVAEConfig, discriminator: dict[str, Tensor], refresh_discriminator: bool
) -> None:
    own, theirs = asdict(trainer.model.config), asdict(held)
    unlike = [
        name for name in own if own[name] != theirs[name] and name not in ("scale", "shift")
    ]  # unused in training
    if unlike:
        raise ValueError(
            f"{source} holds another model than this recipe trains: set {' '.join(f'model.{n}={theirs[n]}' for n in unlike)}, "
            f"or start from weights with {' '.join(f'model.{n}={own[n]}' for n in unlike)}"
        )
    if trainer.discriminator is not None and not refresh_discriminator:
        there, here = (
            {name: value.shape for name, value in weights.items()}
            for weights in (discriminator, trainer.discriminator.state_dict())
        )
        if there != here:
            raise ValueError(
                f"{source} holds {'a discriminator of another size' if discriminator else 'no discriminator'}: "
                "set refresh_discriminator=true to start with a new one"
            )

"""What the decoder tolerates: PSNR of the decoded video against noise on the latent, and against masked positions.

A generated latent has errors that the decoder never saw in training.  Noise is white, in units of the standard deviation of each
channel.  `added` is z + s eps; `mixed` is (1 - s) z + s eps around the channel means, the path of flow matching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaebench.metrics.psnr import PSNR
from vaebench.video import to_score

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Latent, Video


def curves(
    decode: Callable[[Latent], Video],
    reference: Video,
    latent: Latent,
    scale: tuple[Tensor, Tensor],
    noise: Sequence[float],
    masks: Sequence[float],
    generator: torch.Generator,
) -> dict[str, NDArray]:
    """The curves of one clip, all PSNR in dB on 8-bit pixels.

    Args:
        decode: latent (1, C, t, h, w) -> float32 (1, 3, T, H, W) in -1..1
        reference: (1, 3, T, H, W) in -1..1
        latent: (1, C, t, h, w)
        scale: mean and standard deviation (C,) of the channels; unused without noise and masks
        noise: noise levels s, ascending
        masks: shares of positions to replace by the channel means
        generator: on the CPU; all levels have the same noise, and a larger mask contains the smaller ones

    Returns:
        "psnr" () of the decoded latent against the reference; for "added" and "mixed": (levels,) against the reference, and with
        the suffix "_self" against the decoded latent; "noise_gain" (); "masked" (shares,) against the reference
    """
    clean = decode(latent)
    statistics = {"psnr": np.array(psnr(reference, clean))}
    if not noise and not masks:
        return statistics
    mean, std = (value.to(latent).view(1, -1, 1, 1, 1) for value in scale)
    eps = std * torch.randn(latent.shape, generator=generator).to(latent)
    order = torch.randperm(latent[0, 0].numel(), generator=generator).to(latent.device)
    found: dict[str, list[float]] = {name: [] for name in ("added", "added_self", "mixed", "mixed_self", "masked")}
    for i, level in enumerate(noise):
        added = decode(latent + level * eps)
        if i == 0:
            statistics["noise_gain"] = np.array(float((added - clean).double().square().mean()) / level**2)
        mixed = decode(mean + (1 - level) * (latent - mean) + level * eps)
        for name, video in (("added", added), ("mixed", mixed)):
            found[name].append(psnr(reference, video))
            found[f"{name}_self"].append(psnr(clean, video))
    for share in masks:
        hidden = torch.zeros(order.numel(), dtype=torch.bool, device=latent.device)
        hidden[order[: round(share * order.numel())]] = True
        found["masked"].append(psnr(reference, decode(torch.where(hidden.view(latent.shape[2:]), mean, latent))))
    return statistics | {name: np.array(values) for name, values in found.items() if values}


def psnr(reference: Video, video: Video) -> float:
    """PSNR in dB, as in the reconstruction suite, of two videos (1, 3, T, H, W) in -1..1."""
    return float(PSNR().measure(to_score(reference), to_score(video)))


def crossing(levels: NDArray, values: NDArray, target: float) -> float:
    """The noise level at which a falling curve (levels,) reaches `target`, by interpolation over the logarithm of the level.

    Raises:
        ValueError: the curve is above or below the target at all levels
    """
    below = np.flatnonzero(values <= target)
    if not len(below):
        raise ValueError(f"more than {levels[-1]:g}, the largest noise level")
    if below[0] == 0:
        raise ValueError(f"less than {levels[0]:g}, the smallest noise level")
    i = int(below[0])
    share = (values[i - 1] - target) / (values[i - 1] - values[i])
    return float(levels[i - 1] * (levels[i] / levels[i - 1]) ** share)

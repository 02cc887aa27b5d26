"""Two optional regularizers of the latent, from SSVAE (arXiv 2512.05394; zai-org/SSVAE at 0b141f7).

Local correlation (LCR) increases the correlation of neighbouring latent positions across channels; latent masking (LMR) hides
positions from the decoder.  The released code masks positions (`LMRConfig.mask = "positions"`); "channels" follows secondary
descriptions of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wfvae.objective import LCRConfig, LMRConfig


@dataclass(frozen=True)
class LocalCorrelation:
    """Mean correlations in -1..1 (with `pearson`), scalars."""

    image: Tensor  # of the first latent frame
    video: Tensor | None  # of the other frames; None for an image
    average: Tensor


def _window_correlation(z: Tensor, window: tuple[int, int, int], pearson: bool) -> Tensor:
    """Mean over non-overlapping windows of z (B, D, t, h, w) of the correlation over D of each pair of positions inside."""
    batch, channels, t, h, w = z.shape
    a, b, c = window
    z = z.reshape(batch, channels, t // a, a, h // b, b, w // c, c)
    z = z.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(-1, a * b * c, channels)  # (windows, positions, D)
    if pearson:
        z = z - z.mean(-1, keepdim=True)
        z = z / (z.norm(dim=-1, keepdim=True) + 1e-8)
    # the sum over pairs i < j is (|sum of vectors|^2 - sum of their squares) / 2, without a (positions, positions) matrix
    pairs = (z.sum(1).square().sum(-1) - z.square().sum((1, 2))) / 2
    count = a * b * c * (a * b * c - 1) / 2
    return pairs.mean() / count / (1 if pearson else channels)


def local_correlation(mean: Tensor, config: LCRConfig) -> LocalCorrelation:
    """Posterior mean (B, D, t, h, w) -> the correlation of neighbouring positions.

    Channels are standardized first, by statistics over (B, t, h, w) of the batch of this process, without gradients.

    Raises:
        ValueError: the latent cannot be divided into windows
    """
    mean = mean.float()
    spread, centre = torch.std_mean(mean.detach(), dim=(0, 2, 3, 4), keepdim=True)
    return windows_correlation((mean - centre) / (spread + 1e-6), config)


def windows_correlation(z: Tensor, config: LCRConfig) -> LocalCorrelation:
    """Standardized latent (B, D, t, h, w) -> the correlation of neighbouring positions.

    Raises:
        ValueError: the latent cannot be divided into windows
    """
    t, h, w = z.shape[2:]
    a, b, c = config.window
    if h % b or w % c or (t - 1) % a:
        raise ValueError(
            f"local correlation with windows {config.window} needs h and w divisible by {b} and {c} and (t - 1) by {a}; "
            f"got a latent of {t} x {h} x {w} (with 4x temporal compression and windows of 2: clips of 1 + 8k frames)"
        )
    image = _window_correlation(z[:, :, :1], (1, b, c), config.pearson)
    if t == 1:
        return LocalCorrelation(image, None, image)
    video = _window_correlation(z[:, :, 1:], config.window, config.pearson)
    if config.average == "average":
        return LocalCorrelation(image, video, (image + video) / 2)
    return LocalCorrelation(image, video, (image + (t - 1) * video) / t)


def local_correlation_loss(mean: Tensor, config: LCRConfig) -> tuple[Tensor, LocalCorrelation]:
    """The hinge `max(0, threshold - correlation)`, a scalar, and the correlations for the log."""
    correlation = local_correlation(mean, config)
    return F.relu(config.threshold - correlation.average), correlation


def mask_blocks(shape: tuple[int, int, int], chosen: Tensor, config: LMRConfig) -> Tensor:
    """bool (t, h, w): True where a block of `chosen` (flat indices into the block grid) is."""
    grid = _grid(shape, config)
    mask = torch.zeros(grid[0] * grid[1] * grid[2], dtype=torch.bool, device=chosen.device)
    mask[chosen] = True
    mask = mask.view(grid)
    for axis, size in enumerate(config.block):
        mask = mask.repeat_interleave(size, dim=axis)
    full = torch.zeros(shape, dtype=torch.bool, device=chosen.device)
    t, h, w = (min(a, b) for a, b in zip(mask.shape, shape, strict=True))
    full[:t, :h, :w] = mask[:t, :h, :w]
    return full


def _grid(shape: tuple[int, int, int], config: LMRConfig) -> tuple[int, int, int]:
    up = config.last_block == "pad"
    t, h, w = (-(-size // block) if up else size // block for size, block in zip(shape, config.block, strict=True))
    return t, h, w


def num_masked_blocks(shape: tuple[int, int, int], ratio: float, config: LMRConfig) -> int:
    """The number of blocks that cover `ratio` of the positions: at least one if ratio > 0, at most all."""
    grid = _grid(shape, config)
    total = grid[0] * grid[1] * grid[2]
    volume = config.block[0] * config.block[1] * config.block[2]
    wanted = max(1, int(shape[0] * shape[1] * shape[2] * ratio // volume)) if ratio > 0 else 0
    return min(wanted, total)


class LatentMask(nn.Module):
    """Replaces a part of a latent (B, c, t, h, w) by a learned token, one value per channel; one mask for the whole batch."""

    def __init__(self, channels: int, config: LMRConfig) -> None:
        super().__init__()
        self.config = config
        self.mask_token = nn.Parameter(torch.randn(1, channels, 1, 1, 1))

    def draw(self, latent: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random mask, bool and broadcastable to `latent`; True = hidden.  `generator` is on the CPU."""
        config = self.config
        weights = torch.tensor(config.probabilities)
        ratio = config.ratios[int(torch.multinomial(weights, 1, generator=generator))]
        if config.mask == "channels":
            hidden = torch.randperm(latent.shape[1], generator=generator)[: int(latent.shape[1] * ratio)]
            mask = torch.zeros(latent.shape[1], dtype=torch.bool)
            mask[hidden] = True
            return mask.view(1, -1, 1, 1, 1).to(latent.device)
        shape = (latent.shape[2], latent.shape[3], latent.shape[4])
        grid = _grid(shape, config)
        order = torch.randperm(grid[0] * grid[1] * grid[2], generator=generator)
        mask = mask_blocks(shape, order[: num_masked_blocks(shape, ratio, config)], config)
        return mask[None, None].to(latent.device)

    def forward(self, latent: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, self.mask_token.to(latent.dtype), latent)
